"""How long the built-in proposer takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from caffe_compat.commands.measurements.timing import alternate
from caffe_compat.datasets.motorcycle import MotorcycleSource
from caffe_compat.detection import proposer

__all__ = ["proposals"]

Row = tuple[str, float, float, float, str]


def proposals(rounds: int) -> Iterator[Row]:
    """The built-in proposer on one real frame, against no more than the calls of scikit-image's segmentation in it."""
    reading = MotorcycleSource().read()
    frame = {
        "images": np.ascontiguousarray(reading.color[:480, :640, ::-1]),  # type: ignore[index]
        "depth": reading.depth[:480, :640],
    }
    for kinds in (("images",), ("depth",), ("images", "depth")):
        pictures = {kind: frame[kind] for kind in kinds}
        size = proposer.working_size(480, 640)
        calls = [
            partial(proposer.segment, view, scale)
            for kind, picture in pictures.items()
            for view, scales in proposer.views(kind, picture, size)
            for scale in scales
        ]
        boxes, _ = proposer.propose(pictures)
        times = alternate(partial(proposer.propose, pictures), partial(_call_all, calls), min(rounds, 5))
        yield f"{len(boxes)} proposals from {' and '.join(kinds)}, 480 x 640", *times, "<= 2.50"


def _call_all(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        call()
