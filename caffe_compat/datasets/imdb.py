"""Image databases: records with boxes and class names, found by a name such as ``nyud2_images+hha_2015_test``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from caffe_compat.datasets.record import FrameRecord

__all__ = ["ImageDatabase", "ProposalSource"]

ProposalSource = Callable[[FrameRecord], np.ndarray]
"""Boxes of a frame that may hold objects: float32 [N, 4], x1 y1 x2 y2 in pixels from 0, last pixel included, best
first."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDatabase:
    """What a detector is trained or tested on.

    Args:
        name: names the folder of its results.
        classes: without the background; ``classes[k]`` is label k + 1.
        modalities: keys of every record's ``paths``; blobs ``data``, ``data_1``, ... hold them in this order.
        records: of different names, with ``size``, and with ``boxes`` and ``classes`` where the objects are known.
        proposals: the data set's own; None: it has none.
        metric: the rule by which it is evaluated: ``nyud2``, ``voc07`` (11 points), ``voc`` or ``coco``.
    """

    name: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    records: Sequence[FrameRecord]
    proposals: ProposalSource | None = None
    metric: str = "nyud2"
