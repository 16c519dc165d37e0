"""What ``infer_onnx`` writes: json, npz, drawn pictures, and a journal to go on from."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from caffe_compat.commands.infer_tasks import Answer
from caffe_compat.deploy.feed import Sample
from caffe_compat.deploy.journal import Journal
from caffe_compat.documents import read_json
from caffe_compat.errors import DataError, MissingFileError, printable
from caffe_compat.files import ZIP_ERRORS, atomic_write, open_existing, write_file
from caffe_compat.frames.report import Report
from caffe_compat.media import encode
from caffe_compat.stamps import check_stamp, file_digest, parse_stamp, stamp_text

__all__ = ["Results", "write_arrays", "write_records"]

HINT = "--overwrite replaces it"


class Results:
    """Where results go.

    Args:
        args: ``json``, ``npz``, ``draw``, ``overwrite`` are read.
        settings: on which results depend.

    Attributes:
        target: the first of the files, for messages.
        journal_path: of the journal beside it; empty: nothing is kept.
        failed_before: whether the results that are there name pictures that failed.
    """

    def __init__(self, args: argparse.Namespace, settings: Mapping[str, Any]) -> None:
        self.json, self.npz, self.draw, self.overwrite = args.json, args.npz, args.draw, args.overwrite
        self.model, self.settings = args.model, dict(settings)
        self.target = self.json or self.npz or ""
        self.journal_path = f"{self.target}.part" if self.target else ""
        self.failed_before = False
        self._journal = Journal(self.journal_path, settings) if self.journal_path else None
        self._keys: dict[str, str] = {}

    def finished(self, samples: Sequence[Sample]) -> bool:
        """Whether all files that are wanted are there, made of these pictures with these settings.

        Raises:
            DataError: one is there that was made otherwise.
        """
        there = [path for path in (self.json, self.npz) if path and os.path.exists(path)]
        if self.overwrite or not there:
            return False
        wanted = {**self.settings, "pictures": [[sample.name, self._key(sample)] for sample in samples]}
        for path in there:
            found = _stamp_of_json(path) if path == self.json else _stamp_of_npz(path)
            check_stamp(path, found, _brief(wanted), HINT)
        if self.json in there:
            content = read_json(self.json)
            self.failed_before = bool(content.get("failed")) if isinstance(content, dict) else False
        return len(there) == sum(bool(path) for path in (self.json, self.npz))

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
        if self._journal is not None:
            self._journal.append(self._key(sample), answer.record, answer.arrays if self.npz else {})
        elif not self.draw:
            with tqdm.external_write_mode():
                print(printable(f"{sample.shown}: {answer.line}"), flush=True)

    def finish(self, samples: Sequence[Sample], report: Report) -> list[str]:
        """Write the files; the journal is not needed any more.

        Returns:
            What was written.
        """
        if self._journal is None:
            return [f"{len(report.written)} pictures into {self.draw}"] if self.draw and report.written else []
        found = [(sample, self._journal.get(self._key(sample))) for sample in samples]
        done = [(sample, *held) for sample, held in found if held is not None]
        stamp = _brief({**self.settings, "pictures": [[sample.name, self._key(sample)] for sample in samples]})
        if self.json:
            pictures = [{"picture": sample.shown, **record} for sample, record, _ in done]
            failed = [{"picture": name, "error": reason} for name, reason in report.failed]
            write_records(self.json, {"model": self.model, "made_with": stamp, "pictures": pictures, "failed": failed})
        if self.npz:
            write_arrays(self.npz, [sample.shown for sample, *_ in done], [arrays for *_, arrays in done], stamp)
        self._journal.remove()
        return [path for path in (self.json, self.npz) if path]

    def _key(self, sample: Sample) -> str:
        """All that the result of a scene depends on, by content."""
        if sample.name not in self._keys:
            files = [file for file in (*sample.pictures, sample.color) if file]
            told = hashlib.sha1(usedforsecurity=False)
            for file in (sample.name, sample.shown, *files):
                told.update(f"{_digest(file) if file in files else file}\n".encode(errors="surrogateescape"))
            self._keys[sample.name] = told.hexdigest()
        return self._keys[sample.name]


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
    for blob in dict.fromkeys(name for one in arrays for name in one):
        every = [one[blob] for one in arrays]
        if len({value.shape for value in every}) == 1:
            out[blob] = np.stack(every)
        else:
            out |= {f"{blob}/{number}": value for number, value in enumerate(every)}
    with atomic_write(path) as stream:
        np.savez(stream, **out)  # type: ignore[arg-type]


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
