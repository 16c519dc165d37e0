"""The proposals of pairs of images."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence

import numpy as np

from caffe_compat.media import Pair

__all__ = ["PairBoxes"]


class PairBoxes:
    """The proposals of all pairs of a list, from which every batch draws some.

    Args:
        path: of the proposals, of any form that :func:`~caffe_compat.datasets.read_any` reads.
        count: boxes of a pair at most.
        top_k: the first so many proposals are drawn from; 0: all.

    Raises:
        MissingFileError: no such file.
        DataError: one that does not serve, or that lacks the proposals of some pairs: names them.
    """

    def __init__(self, path: str | os.PathLike[str], pairs: Sequence[Pair], count: int, top_k: int) -> None:
        self.count = count
        # half a second to import, which nets without boxes need not wait for
        datasets = importlib.import_module("caffe_compat.datasets.picture_proposals")
        self.boxes: list[np.ndarray] = datasets.picture_proposals(
            path, [(pair.first, pair.second) for pair in pairs], top_k
        )
