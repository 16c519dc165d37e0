"""Image databases on trees laid out as NYUD2 is: NYUD2 itself, and the drawn scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffe_compat.datasets.imdb import ImageDatabase, register_imdb
from caffe_compat.datasets.nyud2 import CLASSES
from caffe_compat.datasets.proposals import read_proposals
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.datasets.tree import NYUD2Tree

__all__ = ["MatProposals", "nyud2", "tree_records"]


class MatProposals:
    """Proposals of one file such as ``nyud2_mcg_boxes.mat``, read when the first are asked for.

    Args:
        path: the file; see :func:`~caffe_compat.datasets.proposals.read_proposals`.
        names: of the frames, all of which it must have.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self._names = names
        self._boxes: dict[str, np.ndarray] | None = None

    def __call__(self, record: FrameRecord) -> np.ndarray:
        """Boxes of a frame: float32 [N, 4], x1 y1 x2 y2 from 0, best first.

        Raises:
            MissingFileError, DataError: no such file, or one that does not serve.
        """
        if self._boxes is None:
            self._boxes = read_proposals(self.path, self._names)
        return self._boxes[record.name]


@register_imdb(
    r"nyud2_(?P<modalities>[^_:/]+(?:\+[^_:/]+)*)_2015_(?P<split>\w+)",
    [f"nyud2_{kind}_2015_{split}" for kind in ("images", "hha", "images+hha") for split in ("trainval", "test")],
)
def nyud2(root: Path, modalities: str, split: str) -> ImageDatabase:
    """NYUD2 on the tree ``data/nyud2`` with the proposals ``data/nyud2_mcg_boxes.mat``.

    Args:
        root: the folder that holds ``data/``.
        modalities: folders of ``data/nyud2/data`` joined by ``+``.
        split: train, val, trainval or test; the records have the order of its numbers in the file.

    Raises:
        MissingFileError, DataError: pictures or boxes are missing (named) or cannot be used.
    """
    tree = NYUD2Tree(root / "data" / "nyud2")
    records = tree_records(tree, modalities, split, CLASSES)
    return ImageDatabase(
        name=f"nyud2_{modalities}_2015_{split}",
        classes=CLASSES,
        modalities=tuple(modalities.split("+")),
        records=records,
        proposals=MatProposals(root / "data" / "nyud2_mcg_boxes.mat", [record.name for record in records]),
    )


def tree_records(tree: NYUD2Tree, modalities: str, split: str, classes: Sequence[str]) -> list[FrameRecord]:
    """The frames of a split with their boxes.

    Raises:
        MissingFileError, DataError: no such split, files of it are missing (named), or cannot be used.
    """
    tree.check(split, modalities)
    return [tree.record(number, modalities, classes=classes) for number in tree.splits()[split]]
