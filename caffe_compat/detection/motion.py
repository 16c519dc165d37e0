"""Motion-salient proposals: of any proposer's boxes those stay in which much of a frame's motion is.

Source: ``motion_saliency/get_motion_salient_boxes.m`` of ActionTubes.  The length m of the flow, as its picture keeps
it, (code - 128) / 128, is averaged over 5 x 5 pixels (what lies beyond the edge is 0) and multiplied by m / max m.
Where that reaches 0.2, or 0.7 of its largest value if that is less, something moves.  A box stays if 0.3 or more of
these pixels are in it.

Two things differ.  The order of the boxes, best first, is kept (the source sorts them by their corners), and of equal
ones the first stays.  In a frame where nothing moves at all there is nothing to choose by, and all boxes stay (in the
source 0 / 0 leaves none).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from tqdm import tqdm

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.proposal_file import ProposalFile
from caffe_compat.datasets.proposals import read_any
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, MissingFileError, UsageError, nearest
from caffe_compat.media import read_picture
from caffe_compat.stamps import file_digest

__all__ = ["FlowPictures", "MotionSalient", "Proposer", "StoredProposals", "in_motion", "read_length", "salient"]

VERSION = 1
"""Raise it when the same pictures and boxes begin to leave other boxes."""
_WINDOW = 5
_THRESHOLD, _OF_LARGEST = 0.2, 0.7
_INCLUDED = 0.3
_ZERO = 128
"""The code of no motion."""
_LOWEST = 120
"""Lengths of flow are codes from 128 on; lossy files may have some a little below."""


def in_motion(length: np.ndarray) -> np.ndarray:
    """Where something moves.

    Args:
        length: uint8 [H, W], of the flow as a picture keeps it: 128 + 16 x pixels.

    Returns:
        bool [H, W]; nowhere if the largest length is 0.
    """
    codes = np.maximum(length.astype(np.int32) - _ZERO, 0)
    largest = int(codes.max(initial=0))
    if not largest:
        return np.zeros(length.shape, bool)
    # whole numbers, so that what lies at a threshold does not depend on rounding: 25 * 128 * largest is 1
    window = cv2.boxFilter(
        codes.astype(np.float32), cv2.CV_32F, (_WINDOW, _WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    saliency = np.rint(window).astype(np.int64) * codes
    one = _WINDOW * _WINDOW * _ZERO * largest
    least = min(_THRESHOLD * one, _OF_LARGEST * int(saliency.max()))
    return np.asarray(saliency >= least)


def salient(boxes: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Which boxes hold enough of what moves, and are no copy of one before.

    Args:
        boxes: [N, 4], x1 y1 x2 y2 in pixels from 0, last pixel included; what lies out of the picture is not looked at.
        moving: bool [H, W].

    Returns:
        bool [N]; all different ones if nothing moves.
    """
    height, width = moving.shape
    total = int(moving.sum())
    _, first = np.unique(boxes, axis=0, return_index=True)
    kept = np.zeros(len(boxes), bool)
    kept[first] = True
    if not total:
        return kept
    sums = np.zeros((height + 1, width + 1), np.int64)
    sums[1:, 1:] = moving.cumsum(0).cumsum(1)
    x1, y1, x2, y2 = np.rint(boxes).astype(np.int64).T + np.array([[0], [0], [1], [1]])
    x1, x2 = x1.clip(0, width), x2.clip(0, width)
    y1, y2 = y1.clip(0, height), y2.clip(0, height)
    inside = sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]
    return np.asarray(kept & (inside / total >= _INCLUDED))


def read_length(path: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """The length of the flow that a picture keeps: uint8 [H, W], 128 + 16 x pixels.

    Args:
        path: of the picture, as :func:`caffe_compat.flow.encode` makes it.
        size: that it must have: height, width.

    Raises:
        MissingFileError: no such file.
        DataError: no picture, another size, or lengths below 0: no picture of flow.
    """
    length = read_picture(path)[..., 0]  # blue is the third channel of the file
    if size is not None and length.shape != tuple(size):
        raise DataError(f"{path}: is {length.shape[1]} x {length.shape[0]} pixels, expected {size[1]} x {size[0]}")
    lowest = int(length.min())
    if lowest < _LOWEST:
        raise DataError(
            f"{path}: is no picture of flow: its blue, 128 + 16 x the length of the flow, goes down to {lowest}, "
            f"expected {_ZERO} or more"
        )
    return length


class FlowPictures:
    """The picture of flow of each frame of a database.

    The last frame of a clip has none; what moves there is told by the flow that leads to it, from the frame before.

    Args:
        imdb: the database.
        where: a modality of it, or a folder that has ``NAME.png`` of its frames.

    Raises:
        MissingFileError, DataError: frames without a picture; names the first five.
    """

    def __init__(self, imdb: ImageDatabase, where: str) -> None:
        self._paths: dict[str, str] = {}
        absent: list[str] = []
        before, last = None, {record.scene: record.name for record in imdb.records if record.scene}
        if where not in imdb.modalities and not Path(where).is_dir():
            hint = nearest(where, imdb.modalities)
            raise MissingFileError(
                where, f"neither a modality of {imdb.name}{hint} ({', '.join(imdb.modalities)}) nor a folder of flow"
            )
        for record in imdb.records:
            path = record.paths[where] if where in imdb.modalities else str(Path(where) / f"{record.name}.png")
            if not Path(path).exists():
                ends = (
                    before is not None and before.scene == record.scene and last.get(record.scene or "") == record.name
                )
                if ends and before is not None and before.name not in absent:
                    path = self._paths[before.name]
                else:
                    absent.append(record.name)
            self._paths[record.name] = path
            before = record
        if absent:
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            raise DataError(
                f"{imdb.name}: {len(absent)} frames have no flow in {where}: {', '.join(absent[:5])}{more} (the last "
                "frame of a clip needs none)"
            )

    def __getitem__(self, record: FrameRecord) -> str:
        return self._paths[record.name]

    def digest(self) -> str:
        """Of the names and contents of all."""
        found = hashlib.sha1(usedforsecurity=False)
        known: dict[str, str] = {}
        for name, path in self._paths.items():
            known[path] = known.get(path) or file_digest(path)
            found.update(f"{name}\0{known[path]}\n".encode())
        return found.hexdigest()


class Proposer(Protocol):
    """What gives the proposals of a database's images, each once."""

    @property
    def settings(self) -> dict[str, Any]:
        """What they are made with, and of which pictures, in JSON's terms."""

    @property
    def folder(self) -> Path | None:
        """A folder of its own, for what is not finished; None: it needs none."""

    def make(self, workers: int | None = None, progress: bool = True) -> None:
        """Compute what is not there."""

    def gather(self, records: Sequence[FrameRecord]) -> ProposalFile:
        """All of them in one."""


class StoredProposals:
    """The proposals of a file, or a folder of files, as a :class:`Proposer`.

    Args:
        path: of any form that :func:`~caffe_compat.datasets.proposals.read_any` reads.
        imdb: the database.
        count: at most so many of an image, its first.

    Raises:
        UsageError: a count below 1.
        MissingFileError, DataError: no such file, or one that does not serve.
    """

    folder: Path | None = None

    def __init__(self, path: str, imdb: ImageDatabase, count: int) -> None:
        if count < 1:
            raise UsageError(f"{count} proposals of an image, expected 1 or more")
        names = [record.name for record in imdb.records]
        self._read = read_any(path, names, count)
        digest = hashlib.sha1("\n".join(names).encode(), usedforsecurity=False)
        files = [Path(path)] if Path(path).is_file() else sorted(Path(path).rglob("*.mat"))
        for file in files:
            digest.update(f"{file.name}\0{file_digest(file)}\n".encode())
        self.settings: dict[str, Any] = {
            "format": "caffe_compat.proposals",
            "proposer": {"files": len(files), "digest": digest.hexdigest()},
            "count": count,
            "images": len(names),
        }

    def make(self, workers: int | None = None, progress: bool = True) -> None:
        """They are there."""

    def gather(self, records: Sequence[FrameRecord]) -> ProposalFile:
        """All of them in one.

        Raises:
            MissingFileError, DataError: a file of the folder cannot be used.
        """
        names = [record.name for record in records]
        return ProposalFile(names, [self._read(record) for record in records], None, self.settings)


@dataclasses.dataclass(eq=False)
class MotionSalient:
    """The proposals of another :class:`Proposer` in which much of the motion is, as a :class:`Proposer`.

    Args:
        base: whose boxes are looked at.
        flow: of the same database.

    Attributes:
        still: frames in which nothing moves; all of their boxes stayed.
        bare: frames of which no box stayed.
        before: boxes that there were.
    """

    base: Proposer
    flow: FlowPictures
    still: list[str] = dataclasses.field(default_factory=list, init=False)
    bare: list[str] = dataclasses.field(default_factory=list, init=False)
    before: int = dataclasses.field(default=0, init=False)
    progress: bool = dataclasses.field(default=True, init=False)

    def __post_init__(self) -> None:
        self._settings = self.base.settings | {"motion": {"version": VERSION, "flow": self.flow.digest()}}

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the base, and the rule with a digest of the pictures of flow."""
        return self._settings

    @property
    def folder(self) -> Path | None:
        """The base's."""
        return self.base.folder

    def make(self, workers: int | None = None, progress: bool = True) -> None:
        """Compute what the base lacks."""
        self.progress = progress
        self.base.make(workers, progress)

    def gather(self, records: Sequence[FrameRecord]) -> ProposalFile:
        """All boxes that stay, in one; see also the attributes.

        Raises:
            MissingFileError, DataError: a picture of flow that is none, or of another size than its frame.
        """
        found = self.base.gather(records)
        boxes, scores = [], None if found.scores is None else list[np.ndarray]()
        hidden = None if self.progress else True
        for index, record in enumerate(tqdm(records, desc="motion", unit="frame", disable=hidden)):
            moving = in_motion(read_length(self.flow[record], record.size))
            kept = salient(found.boxes[index], moving)
            self.before += len(kept)
            boxes.append(found.boxes[index][kept])
            if scores is not None and found.scores is not None:
                scores.append(found.scores[index][kept])
            if not moving.any():
                self.still.append(record.name)
            if not kept.any():
                self.bare.append(record.name)
        return ProposalFile(found.images, boxes, scores, self.settings)
