"""What ``infer_onnx`` and ``predict`` write: json, npz, h5, drawn pictures, a sheet, and a journal to go on from."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from caffe_compat.commands.infer_sheet import Sheet
from caffe_compat.commands.infer_tasks import Answer, Task
from caffe_compat.deploy.feed import Sample
from caffe_compat.deploy.journal import Journal
from caffe_compat.documents import read_json
from caffe_compat.errors import CaffeCompatError, DataError, MissingFileError, UsageError, printable
from caffe_compat.files import ZIP_ERRORS, atomic_write, open_existing, write_file
from caffe_compat.frames.report import Report
from caffe_compat.media import encode
from caffe_compat.proto.hdf5_file import create_hdf5, open_hdf5
from caffe_compat.ranks import Ranks
from caffe_compat.stamps import check_stamp, file_digest, parse_stamp, stamp_text

__all__ = ["Results", "write_arrays", "write_arrays_hdf5", "write_records"]

HINT = "--overwrite replaces it"


class Results:
    """Where results go.

    Args:
        args: ``json``, ``npz``, ``h5``, ``draw``, ``sheet``, ``sheet_pictures`` and ``overwrite`` are read.
        settings: on which results depend.
        about: what begins the JSON file: the model.
        task: reads pictures again for the sheet.
        ranks: of several processes this one, which has a journal of its own; rank 0 writes.

    Attributes:
        target: the first of the files, for messages.
        journal_path: of the journal beside it; empty: nothing is kept.
        failed_before: whether the results that are there name pictures that failed.

    Raises:
        DataError: with other files to write, a sheet that is there.
        UsageError: of several processes a sheet alone, for which they would have to meet.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        settings: Mapping[str, Any],
        about: Mapping[str, Any],
        task: Task,
        ranks: Ranks | None = None,
    ) -> None:
        self.json, self.npz, self.h5, self.draw, self.overwrite = (
            args.json,
            args.npz,
            args.h5,
            args.draw,
            args.overwrite,
        )
        self.about, self.settings, self.task = about, dict(settings), task
        self.target = self.json or self.npz or self.h5 or ""
        self.failed_before = False
        self._ranks = ranks or Ranks()
        if self._ranks.several and args.sheet and not self.target:
            raise UsageError("--sheet goes with --json, --npz or --h5 where several processes work")
        self._journal = Journal(f"{self.target}.part", settings, self._ranks.rank) if self.target else None
        self.journal_path = str(self._journal.path) if self._journal is not None else ""
        self._keys: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._sheet_there = bool(args.sheet) and os.path.exists(args.sheet)
        self._sheet = args.sheet and partial(Sheet, args.sheet, args.sheet_pictures, args.overwrite)
        self._tiles: Sheet | None = None

    @property
    def keeps_arrays(self) -> bool:
        """Whether outputs are written."""
        return bool(self.npz or self.h5)

    def finished(self, samples: Sequence[Sample]) -> bool:
        """Whether all files that are wanted are there, made of these pictures with these settings.

        Raises:
            DataError: one is there that was made otherwise, or a sheet that says nothing of that.
        """
        readers = ((self.json, _stamp_of_json), (self.npz, _stamp_of_npz), (self.h5, _stamp_of_hdf5))
        files = [(path, stamp_of) for path, stamp_of in readers if path]
        there = [(path, stamp_of) for path, stamp_of in files if os.path.exists(path)]
        if there and not self.overwrite:
            wanted = {**self.settings, "pictures": [[sample.name, self._key(sample)] for sample in samples]}
            for path, stamp_of in there:
                check_stamp(path, stamp_of(path), _brief(wanted), HINT)
            if self.json in [path for path, _ in there]:
                content = read_json(self.json)
                self.failed_before = bool(content.get("failed")) if isinstance(content, dict) else False
            if len(there) == len(files) and (self._sheet_there or not self._sheet):
                return True
        if self._sheet:
            self._tiles = self._sheet()
        return False

    def known(self, sample: Sample) -> bool:
        """Whether an earlier run that was stopped has looked at a scene."""
        return self._journal is not None and self._journal.get(self._key(sample)) is not None

    def take(self, sample: Sample, answer: Answer) -> None:
        """Draw, and keep or print what was found.

        Raises:
            DataError: a drawing of that name is there.
        """
        if self.draw and answer.draw is not None:
            write_drawn(Path(self.draw) / f"{sample.name}.png", answer.draw(), self.overwrite)
        if self._tiles is not None and not self._ranks.several:
            self._tiles.offer(sample, answer.record, answer.shown)
        if self._journal is not None:
            self._journal.append(self._key(sample), answer.record, answer.arrays if self.keeps_arrays else {})
        elif not self.draw:
            with tqdm.external_write_mode():
                print(printable(f"{sample.shown}: {answer.line}"), flush=True)

    def finish(self, samples: Sequence[Sample], report: Report) -> list[str]:
        """Write the files; the journal is not needed any more.

        Returns:
            What was written.
        """
        drawn = [f"{len(report.written)} pictures into {self.draw}"] if self.draw and report.written else []
        written = [] if self._journal is None else self._finish_files(samples, report, self._journal)
        sheet = self._tiles.write(self.task.shown) if self._tiles is not None else []
        return [*(written or drawn), *sheet]

    def _finish_files(self, samples: Sequence[Sample], report: Report, journal: Journal) -> list[str]:
        if self._ranks.several:
            journal.read_others()
        found = [(sample, journal.get(self._key(sample))) for sample in samples]
        done = [(sample, *held) for sample, held in found if held is not None]
        stamp = _brief({**self.settings, "pictures": [[sample.name, self._key(sample)] for sample in samples]})
        if self.json:
            pictures = [{**_named(sample), **record} for sample, record, _ in done]
            failed = [{"picture": name, "error": reason} for name, reason in report.failed]
            write_records(self.json, {**self.about, "made_with": stamp, "pictures": pictures, "failed": failed})
        names, arrays = [sample.shown for sample, *_ in done], [held for *_, held in done]
        for path, write in ((self.npz, write_arrays), (self.h5, write_arrays_hdf5)):
            if path:
                write(path, names, arrays, stamp)
        if self._tiles is not None:
            before = set(report.skipped + report.written if self._ranks.several else report.skipped)
            for sample, record, _ in done:
                if sample.shown in before:
                    self._tiles.offer(sample, record, None)
        journal.remove()
        return [path for path in (self.json, self.npz, self.h5) if path]

    def _key(self, sample: Sample) -> str:
        """All that the result of a scene depends on, by content."""
        if sample.name not in self._keys:
            told = hashlib.sha1(usedforsecurity=False)
            for file in (sample.name, sample.shown, *filter(None, (*sample.pictures, sample.color))):
                known = file in sample.pictures or file == sample.color
                told.update(f"{self._digest(file) if known else file}\n".encode(errors="surrogateescape"))
            self._keys[sample.name] = told.hexdigest()
        return self._keys[sample.name]

    def _digest(self, file: str) -> str:
        """Of a file that may be asked for often, as a video is for each of its frames."""
        if file not in self._digests:
            self._digests[file] = _digest(file)
        return self._digests[file]


def write_records(path: str, content: Mapping[str, Any]) -> None:
    """Write what was found as JSON.

    Raises:
        WriteError: it cannot be written.
    """
    write_file(path, json.dumps(dict(content), indent=1, allow_nan=False) + "\n")


def write_arrays(
    path: str, names: Sequence[str], arrays: Sequence[Mapping[str, np.ndarray]], stamp: Mapping[str, Any]
) -> None:
    """Write outputs: ``pictures`` holds the names, ``BLOB`` the numbers of all of them; where pictures have different
    shapes, ``BLOB/0``, ``BLOB/1``, ... those of each.

    Raises:
        WriteError: it cannot be written.
    """
    out: dict[str, np.ndarray] = {"pictures": np.array(list(names), np.str_), "made_with": np.array(stamp_text(stamp))}
    with atomic_write(path) as stream:
        np.savez(stream, **out, **_together(arrays))  # type: ignore[arg-type]


def write_arrays_hdf5(
    path: str, names: Sequence[str], arrays: Sequence[Mapping[str, np.ndarray]], stamp: Mapping[str, Any]
) -> None:
    """The same as datasets of an HDF5 file; texts are UTF-8 of fixed length.

    Raises:
        WriteError: it cannot be written.
    """
    texts = [printable(name).encode() for name in names]
    told = stamp_text(stamp).encode()
    with create_hdf5(path) as file:
        kind = h5py.string_dtype("utf-8", max(map(len, texts), default=1))
        file.create_dataset("pictures", data=np.array(texts, kind))
        file.create_dataset("made_with", data=np.array(told, h5py.string_dtype("utf-8", len(told))))
        for name, value in _together(arrays).items():
            file.create_dataset(name, data=value)


def _together(arrays: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The outputs of all pictures; of those of different shapes each with its number."""
    out: dict[str, np.ndarray] = {}
    for blob in dict.fromkeys(name for one in arrays for name in one):
        every = [one[blob] for one in arrays]
        if len({value.shape for value in every}) == 1:
            out[blob] = np.stack(every)
        else:
            out |= {f"{blob}/{number}": value for number, value in enumerate(every)}
    return out


def _named(sample: Sample) -> dict[str, Any]:
    """How a record of the JSON file begins."""
    if sample.frame is None:
        return {"picture": sample.shown}
    found: dict[str, Any] = {"picture": sample.shown, "frame": sample.frame}
    return found if sample.time is None else {**found, "seconds": round(sample.time, 3)}


def write_drawn(path: Path, picture: np.ndarray, overwrite: bool) -> None:
    """Write a drawn picture.

    Raises:
        DataError: there is a file of that name, which is not to be replaced.
        WriteError: it cannot be written.
    """
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists; {HINT}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, encode(picture, "png", str(path)))


def _brief(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the pictures as one checksum."""
    pictures = hashlib.sha1(json.dumps(settings["pictures"]).encode(), usedforsecurity=False).hexdigest()
    return {**settings, "pictures": pictures}


def _digest(file: str) -> str:
    try:
        return file_digest(file)
    except MissingFileError:
        return "missing"


def _stamp_of_json(path: str) -> dict[str, Any] | None:
    content = read_json(path)
    found = content.get("made_with") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else None


def _stamp_of_npz(path: str) -> dict[str, Any] | None:
    with open_existing(path) as stream:
        data = stream.read()
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return parse_stamp(str(stored["made_with"]), path) if "made_with" in stored.files else None
    except (*ZIP_ERRORS, TypeError, DataError):
        return None


def _stamp_of_hdf5(path: str) -> dict[str, Any] | None:
    try:
        with open_hdf5(path) as file:
            return parse_stamp(bytes(file["made_with"][()]).decode(), path) if "made_with" in file else None
    except CaffeCompatError:
        return None
