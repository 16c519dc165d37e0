"""What ``detect_windows`` does.

Source: BVLC Caffe 1.0, ``python/detect.py`` (behaviour only).
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from caffe_compat.commands.classifying import channel_swap, read_mean_file, set_mode
from caffe_compat.detection.proposer import propose
from caffe_compat.errors import DataError, UsageError, in_file
from caffe_compat.files import open_existing, write_file
from caffe_compat.media import read_picture
from caffe_compat.proto.hdf5_file import create_hdf5
from caffe_compat.pycaffe.detector import Detector

__all__ = ["Scored", "read_windows", "score_windows", "write_table"]

SIDES = ("ymin", "xmin", "ymax", "xmax")
BATCH = 256
"""Windows that are cut out at once, which bounds what is in memory."""


@dataclass(frozen=True)
class Scored:
    """Windows with what the net says of them.

    Attributes:
        files: picture of each.
        windows: float64 [N, 4], ymin xmin ymax xmax in pixels.
        scores: float32 [N, classes].
    """

    files: list[str]
    windows: np.ndarray
    scores: np.ndarray


def score_windows(args: argparse.Namespace) -> tuple[int, float]:
    """Score as the arguments say, and write the table.

    Returns:
        The number of windows, and the seconds that it took.

    Raises:
        CaffeCompatError: naming the option, line, picture or file that does not serve.
    """
    start = time.perf_counter()
    ending = Path(args.output_file).suffix.lower()
    if ending not in (".csv", ".h5", ".hdf5"):
        raise UsageError(f"{args.output_file}: expected a name that ends in .csv or .h5")
    swap = channel_swap(args.channel_swap)
    pairs = list(_images_windows(args))
    set_mode(args.gpu)
    mean = None
    if args.mean_file:
        mean = read_mean_file(args.mean_file)
        mean = mean.reshape(len(mean), -1).mean(1)
    try:
        net = Detector(
            args.model_def, args.pretrained_model, mean, args.input_scale, args.raw_scale, swap, args.context_pad
        )
    except ValueError as error:  # the names that pycaffe's scripts expect
        raise UsageError(f"{args.model_def}: {error}") from error
    scored = _score(net, pairs)
    write_table(args.output_file, scored)
    return len(scored.files), time.perf_counter() - start


def read_windows(path: str) -> list[tuple[str, np.ndarray]]:
    """Windows of a .csv: each picture once, in the order of the file, with its windows, float64 [N, 4].

    Raises:
        DataError: a column is missing, or a value is no number, or a window has no area; names the line.
    """
    found: dict[str, list[list[float]]] = {}
    with open_existing(path, "windows") as stream:
        rows = csv.reader(io.StringIO(stream.read().decode("utf-8-sig", "replace")), skipinitialspace=True)
        head = [name.strip() for name in next(rows, [])]
        if missing := [name for name in ("filename", *SIDES) if name not in head]:
            raise DataError(
                f"{path}:1: has no column {', '.join(missing)}, expected the header filename,{','.join(SIDES)}"
            )
        columns = [head.index(name) for name in SIDES]
        for row in filter(None, rows):
            where = f"{path}:{rows.line_num}"
            try:
                window = [float(row[column]) for column in columns]
                name = row[head.index("filename")].strip()
            except (ValueError, IndexError) as error:
                raise DataError(f"{where}: expected numbers in {', '.join(SIDES)}, found {','.join(row)}") from error
            if not np.isfinite(window).all() or window[2] <= window[0] or window[3] <= window[1]:
                raise DataError(f"{where}: window {window} has no area, expected ymin < ymax and xmin < xmax")
            found.setdefault(name, []).append(window)
    if not found:
        raise DataError(f"{path}: has no windows")
    return [(name, np.array(windows)) for name, windows in found.items()]


def write_table(path: str, scored: Scored) -> None:
    """Write a row for each window, as .csv, or data sets in .h5.

    Raises:
        WriteError: it cannot be written.
    """
    if Path(path).suffix.lower() != ".csv":
        with create_hdf5(path) as file:
            file.create_dataset("filename", data=scored.files, dtype=h5py.string_dtype())
            file["window"], file["prediction"] = scored.windows, scored.scores
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["filename", *SIDES, *(f"class{number}" for number in range(scored.scores.shape[1]))])
    for name, window, scores in zip(scored.files, scored.windows, scored.scores, strict=True):
        table.writerow([name, *(f"{side:.10g}" for side in window), *(f"{score:.9g}" for score in scores)])
    write_file(path, text.getvalue())


def _images_windows(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    listed = Path(args.input_file).suffix.lower() == ".csv"
    mode = args.crop_mode or ("list" if listed else "selective_search")
    if mode == "list":
        if not listed:
            raise UsageError(f"{args.input_file}: --crop_mode list reads windows from a .csv")
        yield from read_windows(args.input_file)
        return
    names = _names(args.input_file, listed)
    if mode == "builtin":
        for name in names:
            with in_file(name):
                boxes = propose({"images": read_picture(name)})[0]
            yield name, np.asarray(boxes, np.float64)[:, [1, 0, 3, 2]]
    else:
        yield from zip(names, Detector.selective_search(names), strict=True)


def _names(path: str, listed: bool) -> list[str]:
    if listed:
        return [name for name, _ in read_windows(path)]
    with open_existing(path, "pictures") as stream:
        names = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines()]
    names = [name for name in names if name]
    if not names:
        raise DataError(f"{path}: names no picture")
    return names


def _score(net: Detector, pairs: list[tuple[str, np.ndarray]]) -> Scored:
    total = sum(len(windows) for _, windows in pairs)
    files: list[str] = []
    scores: list[np.ndarray] = []
    with tqdm(total=total, unit="window", disable=not sys.stderr.isatty(), leave=False) as bar:
        for name, windows in pairs:
            for first in range(0, len(windows), BATCH):
                part = windows[first : first + BATCH]
                with in_file(name):
                    found = net.detect_windows([(name, part)])
                files += [name] * len(found)
                scores += [one["prediction"] for one in found]
                bar.update(len(part))
    sides = np.concatenate([windows for _, windows in pairs]) if pairs else np.zeros((0, 4))
    return Scored(files, sides, np.stack(scores) if scores else np.zeros((0, 0), np.float32))
