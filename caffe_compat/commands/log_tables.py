"""Tables of a training log: what ``parse_log`` writes and ``plot_training_log`` draws.

Source: BVLC Caffe 1.0, ``tools/extra/parse_log.py``, ``extract_seconds.py`` (behaviour only).
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from caffe_compat.errors import DataError
from caffe_compat.files import open_existing, write_file

__all__ = ["LogTables", "read_log", "write_tables"]

Row = dict[str, float]

HEAD = ("NumIters", "Seconds", "LearningRate")
_NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf))"
_ITERATION = re.compile(r"Iteration (\d+)")
_OUTPUT = re.compile(rf"(Train|Test) net output #\d+: (\S+) = {_NUMBER}", re.IGNORECASE)
_RATE = re.compile(rf"lr = {_NUMBER}")
_STAMP = re.compile(r"[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?")


@dataclass
class LogTables:
    """What a log says of training and of tests.

    Attributes:
        path: of the log.
        train, test: a row for each iteration that was displayed or tested: ``NumIters``, ``Seconds`` since the line
            with "Solving", ``LearningRate``, and the outputs of the net by name.
    """

    path: str
    train: list[Row] = field(default_factory=list)
    test: list[Row] = field(default_factory=list)


def read_log(path: str | os.PathLike[str]) -> LogTables:
    """Read the log of a training, of this package or of Caffe.

    As in Caffe's script the learning rate of a row is the one displayed before it, and that of the first row, before
    which there is none, that of the second.  Unlike there nan and inf are values too, and a training over New Year's
    Eve takes no negative time.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is no log of a training.
    """
    with open_existing(path, "log") as stream:
        lines = stream.read().decode("utf-8", "replace").splitlines()
    if not any("Solving" in line for line in lines):
        raise DataError(f"{os.fspath(path)}: no line says 'Solving', expected the log of a training")
    tables, iteration, rate = LogTables(os.fspath(path)), -1, float("nan")
    for seconds, line in _timed(lines):
        if found := _ITERATION.search(line):
            iteration = int(found[1])
        if iteration < 0:
            continue
        if found := _RATE.search(line):
            rate = float(found[1])
        if found := _OUTPUT.search(line):
            rows = tables.train if found[1].lower() == "train" else tables.test
            if not rows or rows[-1]["NumIters"] != iteration:
                rows.append(dict(zip(HEAD, (iteration, seconds, rate), strict=True)))
            rows[-1][found[2]] = float(found[3])
    for rows in (tables.train, tables.test):
        if len(rows) > 1 and rows[0]["LearningRate"] != rows[0]["LearningRate"]:
            rows[0]["LearningRate"] = rows[1]["LearningRate"]
    return tables


def _timed(lines: list[str]) -> Iterator[tuple[float, str]]:
    """Lines with a time stamp, and the seconds since the line with "Solving"; the stamps say no year."""
    year, before, start = 2000, None, None
    for line in lines:
        found = _STAMP.match(line)
        if not found:
            continue
        month, day, hour, minute, second = (int(part) for part in found.groups()[:5])
        micro = int((found[6] or "0").ljust(6, "0"))
        if before is not None and month < before.month:
            year += 1
        before = datetime(year, month, day, hour, minute, second, micro)
        start = before if start is None and "Solving" in line else start
        if start is not None:
            yield (before - start).total_seconds(), line


def write_tables(tables: LogTables, folder: str | os.PathLike[str], delimiter: str = ",") -> list[str]:
    """Write ``LOG.train`` and ``LOG.test``.

    Returns:
        Their paths.

    Raises:
        DataError: the log has no row of one kind.
        WriteError: a file cannot be written.
    """
    written = []
    for ending, rows in (("train", tables.train), ("test", tables.test)):
        if not rows:
            continue
        names = list(dict.fromkeys([*HEAD, *(name for row in rows for name in row)]))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "NumIters": float(row["NumIters"])} for row in rows)
        path = str(Path(folder) / f"{Path(tables.path).name}.{ending}")
        write_file(path, text.getvalue())
        written.append(path)
    if not written:
        raise DataError(f"{tables.path}: no outputs of a net, neither of training nor of a test")
    return written
