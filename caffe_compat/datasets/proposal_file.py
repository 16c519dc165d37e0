"""Proposals of many images in one ``.npz`` file.

=========  ===============================================================================
array      holds
=========  ===============================================================================
boxes      float32 [M, 4], x1 y1 x2 y2 in pixels from 0, last pixel included; image by image, best first
images     names of the N images
counts     int64 [N], how many of the boxes are each image's; their sum is M
scores     float32 [M], falling within an image; may be left out
settings   JSON text, what the boxes were made with; may be left out
=========  ===============================================================================
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caffe_compat.datasets.npz import read_npz
from caffe_compat.errors import DataError, in_file
from caffe_compat.files import atomic_write, open_existing
from caffe_compat.stamps import parse_stamp, stamp_text

__all__ = ["ProposalFile", "check_rows", "is_npz", "read_proposal_file", "read_proposal_stamp", "write_proposal_file"]

PathLike = str | os.PathLike[str]


class ProposalFile:
    """The content of such a file.

    Args:
        images: names.
        boxes: of each image float32 [n, 4].
        scores: of each image float32 [n], or None.
        settings: what they were made with.

    Raises:
        DataError: not as the table above says; names the image.
    """

    def __init__(
        self,
        images: Sequence[str],
        boxes: Sequence[np.ndarray],
        scores: Sequence[np.ndarray] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.images, self.boxes, self.scores = tuple(images), list(boxes), None if scores is None else list(scores)
        self.settings = dict(settings or {})
        lengths = {len(self.images), len(self.boxes), len(self.images if self.scores is None else self.scores)}
        if len(lengths) != 1:
            raise DataError(
                f"{len(self.images)} images with {len(self.boxes)} sets of boxes or scores, expected one each"
            )
        twice = len(self.images) - len(set(self.images))
        if twice:
            raise DataError(
                f"{twice} of its {len(self.images)} images are there more than once, expected one entry each"
            )
        for index, (name, rows) in enumerate(zip(self.images, self.boxes, strict=True)):
            self.boxes[index] = check_rows(rows, f"boxes of {name}")
            if self.scores is not None:
                found = self.scores[index]
                if found.shape != (len(rows),) or not np.isfinite(found).all():
                    raise DataError(f"scores of {name}: shape {found.shape}, expected {len(rows)} finite numbers")


def is_npz(path: PathLike) -> bool:
    """Whether a file is an archive, as ``.npz`` files are.

    Raises:
        MissingFileError: no such file.
    """
    with open_existing(path, "proposals") as stream:
        return stream.read(4) == b"PK\x03\x04"


def write_proposal_file(path: PathLike, content: ProposalFile) -> None:
    """Write such a file, whole or not at all; the same content gives the same bytes.

    Raises:
        WriteError: it cannot be written.
    """
    arrays = {
        "boxes": np.concatenate([np.zeros((0, 4), np.float32), *content.boxes]).astype(np.float32),
        "counts": np.array([len(rows) for rows in content.boxes], np.int64),
        "images": np.array(content.images, str),
        "settings": np.array(stamp_text(content.settings)),
    }
    if content.scores is not None:
        arrays["scores"] = np.concatenate([np.zeros(0, np.float32), *content.scores]).astype(np.float32)
    with atomic_write(path) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def read_proposal_file(path: PathLike) -> ProposalFile:
    """Read such a file; nothing in it is executed.

    Raises:
        MissingFileError: no such file.
        DataError: not such a file, or boxes that are none; names the file and the image.
    """
    where = os.fspath(path)
    held = read_npz(path, "proposals")
    for name in ("boxes", "counts", "images"):
        if name not in held:
            more = f" and {len(held) - 5} more" if len(held) > 5 else ""
            raise DataError(
                f"{where}: no array '{name}', it has {', '.join(sorted(held)[:5]) or 'none'}{more}; expected proposals"
            )
    boxes, counts, images = held["boxes"], held["counts"], held["images"]
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "uif":
        raise DataError(
            f"{where}: boxes are {boxes.dtype} of shape {boxes.shape}, expected M x 4 numbers (x1 y1 x2 y2)"
        )
    if images.ndim != 1 or images.dtype.kind != "U":
        raise DataError(f"{where}: images are {images.dtype} of shape {images.shape}, expected a list of names")
    if counts.shape != images.shape or counts.dtype.kind not in "ui":
        raise DataError(
            f"{where}: counts are {counts.dtype} of shape {counts.shape}, expected {len(images)} whole numbers"
        )
    if (counts.astype(np.int64) < 0).any() or sum(counts.tolist()) != len(boxes):
        raise DataError(f"{where}: counts add up to {sum(counts.tolist())}, but there are {len(boxes)} boxes")
    ends = np.cumsum(counts.astype(np.int64))[:-1]
    scores = held.get("scores")
    if scores is not None and (scores.shape != (len(boxes),) or scores.dtype.kind != "f"):
        raise DataError(f"{where}: scores are {scores.dtype} of shape {scores.shape}, expected {len(boxes)} numbers")
    settings = _settings(held, where)
    with in_file(path):
        return ProposalFile(
            images.tolist(),
            _split(boxes.astype(np.float32), ends, len(images)),
            None if scores is None else _split(scores.astype(np.float32), ends, len(images)),
            settings,
        )


def read_proposal_stamp(path: PathLike) -> dict[str, Any]:
    """Only the settings in such a file; empty if it has none.

    Raises:
        MissingFileError, DataError: as :func:`read_proposal_file`.
    """
    return _settings(read_npz(path, "proposals", ("settings",)), os.fspath(path))


def _settings(held: Mapping[str, np.ndarray], where: str) -> dict[str, Any]:
    if "settings" not in held:
        return {}
    if held["settings"].shape != () or held["settings"].dtype.kind != "U":
        raise DataError(f"{where}: settings are {held['settings'].dtype}, expected JSON text")
    return parse_stamp(str(held["settings"]), f"{where}: settings")


def _split(rows: np.ndarray, ends: np.ndarray, images: int) -> list[np.ndarray]:
    return np.split(rows, ends) if images else []


def check_rows(boxes: np.ndarray, where: str, shown: np.ndarray | None = None) -> np.ndarray:
    """Boxes x1 y1 x2 y2 from 0; what is less than a pixel above or left of the image is moved to its edge.

    Args:
        boxes: of one image.
        where: begins the message.
        shown: the boxes as the file has them, for the message.

    Returns:
        float32 [N, 4].

    Raises:
        DataError: not N x 4, not finite, inside out, or a pixel or more outside; names the first, counted from 1.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "uif":
        raise DataError(f"{where}: {boxes.dtype} of shape {boxes.shape}, expected N x 4 numbers")
    good = np.isfinite(boxes).all(1) & (boxes > -1).all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        values = (boxes if shown is None else shown)[row].tolist()
        raise DataError(
            f"{where}: {int((~good).sum())} are not x1 <= x2, y1 <= y2 within the image; number {row + 1} is {values}"
        )
    return np.asarray(np.maximum(boxes, 0), np.float32)
