"""Where a database's proposals come from: itself, a file, or the built-in proposer, whose boxes are kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from caffe_compat.datasets.imdb import ImageDatabase, ProposalSource
from caffe_compat.datasets.proposal_file import (
    ProposalFile,
    is_npz,
    read_proposal_file,
    read_proposal_stamp,
    write_proposal_file,
)
from caffe_compat.datasets.proposals import fit_boxes, read_any
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.depth.io import read_raw
from caffe_compat.detection.motion import Proposer
from caffe_compat.detection.proposer import DEPTH, VERSION, propose
from caffe_compat.devices import cores
from caffe_compat.errors import DataError, UsageError, in_file, nearest
from caffe_compat.frames import Source, map_jobs
from caffe_compat.media import read_picture
from caffe_compat.stamps import file_digest, stamp_text

__all__ = ["BUILTIN", "Computed", "keep_proposals", "proposal_source"]

BUILTIN = "builtin"
"""The choice of the built-in proposer."""
_FEW = 8
"""Images that are not worth starting processes for."""


def proposal_source(
    imdb: ImageDatabase, choice: str | None, cache: Path, *, workers: int | None = None, progress: bool = True
) -> ProposalSource:
    """The proposals of a database's images.

    Args:
        imdb: the database.
        choice: None: its own; ``builtin``: of the built-in proposer on its modalities, computed now; else a file or
            folder that :func:`~caffe_compat.datasets.proposals.read_any` reads.
        cache: folder in which the built-in proposer's boxes are kept, in ``proposals/`` below it.
        workers, progress: as :meth:`Computed.make`.

    Raises:
        UsageError: it has none of its own.
        MissingFileError, DataError: a file or a picture is missing or cannot be used.
    """
    if choice == BUILTIN:
        computed = Computed(imdb, imdb.modalities, cache / "proposals")
        computed.make(workers, progress)
        return computed
    if choice is not None:
        return read_any(choice, [record.name for record in imdb.records])
    if imdb.proposals is None:
        raise UsageError(
            f"{imdb.name}: has no proposals of its own: give --proposals FILE, or --proposals {BUILTIN}, which "
            "computes some"
        )
    return imdb.proposals


def keep_proposals(
    computed: Proposer, imdb: ImageDatabase, path: Path, workers: int | None = None, progress: bool = True
) -> int:
    """Write all proposals of a database into one file, unless there is one of these settings and pictures.

    Args:
        computed: its folder, if it has one, is removed at the end.
        path: the file; another is written over.
        workers, progress: as :meth:`Computed.make`.

    Returns:
        The number of boxes; 0 if it was there.

    Raises:
        MissingFileError, DataError: a picture cannot be used.
        WriteError: the file cannot be written.
    """
    if path.exists() and is_npz(path) and read_proposal_stamp(path) == computed.settings:
        return 0
    computed.make(workers, progress)
    content = computed.gather(imdb.records)
    write_proposal_file(path, content)
    if computed.folder is not None:
        shutil.rmtree(computed.folder, ignore_errors=True)
    return sum(map(len, content.boxes))


@dataclasses.dataclass(frozen=True)
class _Job:
    """An image whose proposals are wanted; goes to worker processes."""

    name: str
    size: tuple[int, int] | None
    inputs: tuple[tuple[str, str | Source], ...]
    settings: dict[str, Any]
    target: Path


class Computed:
    """Proposals of the built-in proposer, kept in a folder, one file an image.

    What is there is found by the content of the pictures and the proposer's version and settings, so a picture that
    changed is done anew, and databases that share pictures share their proposals.

    Args:
        imdb: the database.
        modalities: what the proposer sees; ``depth`` is the record's file of that name, else what its source gives.
        folder: where the boxes are kept.
        count: boxes of an image at most.

    Attributes:
        folder: as given.
        settings: what they all are made with, and of which pictures, in JSON's terms.

    Raises:
        UsageError: no modality, or a count below 1.
        MissingFileError, DataError: a picture is missing, or an image lacks a modality.
    """

    def __init__(self, imdb: ImageDatabase, modalities: Sequence[str], folder: Path, count: int = 2000) -> None:
        if not modalities or count < 1:
            raise UsageError(f"{count} proposals on {len(modalities)} modalities, expected 1 or more of both")
        kinds, self.folder = sorted(set(modalities)), folder
        self._jobs = {record.name: _job(imdb.name, record, kinds, count, folder) for record in imdb.records}
        pictures = hashlib.sha1(usedforsecurity=False)
        for job in self._jobs.values():
            pictures.update(f"{job.name}\0{job.target.name}\n".encode())
        self.settings = {"format": "caffe_compat.proposals", "proposer": VERSION, "count": count, "modalities": kinds}
        self.settings |= {"images": len(self._jobs), "pictures": pictures.hexdigest()}

    def make(self, workers: int | None = None, progress: bool = True) -> None:
        """Compute what is not there.  Each file is written whole: after Ctrl-C or a kill the same call goes on.

        Args:
            workers: processes; 0 works in this one; None: as many as there are cores, where there is enough to do.
            progress: show a bar (on a terminal).

        Raises:
            MissingFileError, DataError: a picture cannot be used; names it.
            WriteError: the folder cannot be written.
        """
        jobs = {job.target: job for job in reversed(self._jobs.values())}  # pictures that are twice there, once
        pending = [job for job in reversed(jobs.values()) if not job.target.exists()]
        if workers is None:
            workers = 0 if len(pending) < _FEW else cores()
        hidden = None if progress and pending else True
        with tqdm(total=len(pending), unit="frame", desc="proposals", disable=hidden) as bar:
            for _ in map_jobs(_make, pending, workers):
                bar.update()

    def __call__(self, record: FrameRecord) -> np.ndarray:
        """Boxes of a frame: float32 [N, 4], x1 y1 x2 y2 from 0, best first.

        Raises:
            MissingFileError, DataError: none were computed, or the file was damaged since.
        """
        return self.read(record)[0]

    def read(self, record: FrameRecord) -> tuple[np.ndarray, np.ndarray]:
        """The same with their scores, float32 [N]."""
        if record.name not in self._jobs:
            raise DataError(f"image {record.name}: its proposals were not asked for")
        path = self._jobs[record.name].target
        content = read_proposal_file(path)
        if len(content.boxes) != 1 or content.scores is None:
            raise DataError(f"{path}: holds proposals of {len(content.boxes)} images, expected 1, with scores")
        return fit_boxes(content.boxes[0], record, str(path)), content.scores[0]

    def gather(self, records: Sequence[FrameRecord]) -> ProposalFile:
        """All of them in one."""
        found = [self.read(record) for record in records]
        names = [record.name for record in records]
        return ProposalFile(names, [boxes for boxes, _ in found], [scores for _, scores in found], self.settings)


def _job(database: str, record: FrameRecord, modalities: Sequence[str], count: int, folder: Path) -> _Job:
    inputs: list[tuple[str, str | Source]] = []
    prints: dict[str, Any] = {}
    for name in modalities:
        if name in record.paths:
            inputs.append((name, record.paths[name]))
            prints[name] = {"sha1": file_digest(record.paths[name])}
        elif name in DEPTH and record.depth is not None:
            inputs.append((name, record.depth))
            prints[name] = record.depth.fingerprint()
        else:
            known = [*record.paths, *(["depth"] if record.depth is not None else [])]
            has = ", ".join(known) or "none"
            raise DataError(f"{database}: image {record.name} has no {name}{nearest(name, known)}; it has {has}")
    settings = {"proposer": VERSION, "count": count, "pictures": prints}
    key = hashlib.sha1(stamp_text(settings).encode(), usedforsecurity=False).hexdigest()
    return _Job(record.name, record.size, tuple(inputs), settings, folder / key[:2] / f"{key}.npz")


def _make(job: _Job) -> None:
    """Compute and write the proposals of an image."""
    pictures = dict(_pictures(job))
    with in_file(f"image {job.name}"):
        boxes, scores = propose(pictures, job.settings["count"])
    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_proposal_file(job.target, ProposalFile([job.name], [boxes], [scores], job.settings))


def _pictures(job: _Job) -> Iterator[tuple[str, np.ndarray]]:
    for name, source in job.inputs:
        if not isinstance(source, str):
            picture, where = np.asarray(source.read().depth), source.name
        elif name in DEPTH:
            picture, where = read_raw(source), source
        else:
            picture, where = read_picture(source), source
        if job.size is not None and picture.shape[:2] != tuple(job.size):
            raise DataError(
                f"{where}: is {picture.shape[1]} x {picture.shape[0]} pixels, expected {job.size[1]} x {job.size[0]} "
                f"of image {job.name}"
            )
        yield name, picture
