"""Evaluation in parity with the branch: its random cases, and the ends of its test runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from caffe_compat.datasets.imdb import find_imdb
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.evaluation.average import AveragePrecision
from caffe_compat.evaluation.curves import average_precision, precision_recall
from caffe_compat.evaluation.result import Evaluation
from caffe_compat.evaluation.tables import branch_text

Arrays = Mapping[str, np.ndarray]
NAMES = {"ap": "ap", "prec": "precision", "rec": "recall"}
RUNS = (
    ("fastrcnn.npz", "test", "nyud2_hha_2015_test"),
    ("trace/trace.npz", "test_single", "nyud2_hha_2015_test"),
    ("trace/trace.npz", "test_fused", "nyud2_images+hha_2015_test"),
)


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """``eval/...`` of fastrcnn.npz, and ``ap``, ``prec``, ``rec`` and ``eval_txt`` of every test run."""
    arrays = np.load(folder / "fastrcnn.npz", allow_pickle=False)
    numbers = sorted({int(key.split("/")[1]) for key in arrays.files if key.startswith("eval/")})
    for number in numbers:
        yield from _random_case(arrays, f"eval/{number}")
    for file, run, imdb in RUNS:
        if (folder / file).exists():
            arrays = np.load(folder / file, allow_pickle=False)
            if any(key.startswith(f"{run}/") for key in arrays.files):
                yield from _test_run(arrays, run, find_imdb(imdb, folder / "tree"))


def _random_case(arrays: Arrays, case: str) -> Iterator[tuple[str, str]]:
    judge = AveragePrecision(("thing",), parity=True)
    for image in range(int(arrays[f"{case}/images"])):
        dets, gt = (arrays[f"{case}/{image}/{name}"].reshape(-1, n) for name, n in (("dets", 5), ("gt", 4)))
        judge.process(FrameRecord(str(image), boxes=gt, classes=("thing",) * len(gt)), [dets])
        yield f"{case}/{image}/dets", ""
        yield f"{case}/{image}/gt", ""
    yield f"{case}/images", ""
    found = judge.evaluate()
    for name in NAMES:
        if f"{case}/{name}" in arrays:
            yield f"{case}/{name}", _compare(found, 0, name, arrays[f"{case}/{name}"])


def _test_run(arrays: Arrays, run: str, imdb) -> Iterator[tuple[str, str]]:
    judge = AveragePrecision(imdb.classes, parity=True)
    none = np.zeros((0, 5), np.float32)
    keys = set(arrays)
    for i, record in enumerate(imdb.records):
        wanted = [f"{run}/nms_boxes/{c + 1}/{i}" for c in range(len(imdb.classes))]
        judge.process(record, [arrays[key].reshape(-1, 5) if key in keys else none for key in wanted])
    found = judge.evaluate()
    right: dict[int, float] = {}
    for key in sorted(keys):
        match = re.fullmatch(rf"{run}/(ap|prec|rec)/(\d+)", key)
        if match is None:
            continue
        name, label = match[1], int(match[2]) - 1
        if not 0 <= label < len(imdb.classes):
            yield key, f"there are {len(imdb.classes)} classes"
            continue
        problem = _compare(found, label, name, arrays[key])
        if name == "ap" and not problem:
            right[label] = float(arrays[key])
        yield key, problem
    if f"{run}/eval_txt" in keys:
        yield f"{run}/eval_txt", _text(str(arrays[f"{run}/eval_txt"]), imdb.classes, right)


def _compare(found: Evaluation, label: int, name: str, wanted: np.ndarray) -> str:
    """What is wrong with one class's figures.

    The branch leaves the order of equal scores to numpy's unstable sort, so only the last point of each run of them is
    said, and of the average precision the range that their orders span.
    """
    mine = np.asarray(getattr(found, NAMES[name])[label])
    wanted = np.asarray(wanted, np.float64).reshape(mine.shape if np.size(wanted) == mine.size else -1)
    if mine.shape != wanted.shape:
        return f"shape {mine.shape}, expected {wanted.shape}"
    if np.allclose(mine, wanted, rtol=1e-5, atol=1e-7, equal_nan=True):
        return ""
    if not found.ground_truth[label] and name == "ap" and np.all(np.isnan(wanted)):
        return ""  # with neither ground truth nor detections the curve is empty: 0 or, as with detections, NaN
    scores = found.scores[label]
    ends = np.append(scores[1:] != scores[:-1], True)
    if ends.all():
        return f"{mine.ravel()[:5]}, expected {wanted.ravel()[:5]}"
    if name == "ap":
        low, high = _span(found, label, ends)
        return "" if low - 1e-7 <= float(wanted) <= high + 1e-7 else f"{mine}, expected {wanted}"
    close = np.allclose(mine[ends], wanted[ends], rtol=1e-5, atol=1e-7, equal_nan=True)
    return "" if close else f"{mine[ends][:5]}, expected {wanted[ends][:5]}"


def _span(found: Evaluation, label: int, ends: np.ndarray) -> tuple[float, float]:
    """Average precision with the wrong ones of equal scores first, and with the right ones first."""
    truths = int(found.ground_truth[label])
    hits = np.diff(np.round(found.recall[label] * truths), prepend=0.0) > 0
    group = np.concatenate([[0], np.cumsum(ends)[:-1]])
    spans = [hits[np.lexsort((key, group))] for key in (hits, ~hits)]
    low, high = (average_precision(*precision_recall(order, truths)) for order in spans)
    return low, high


def _text(wanted: str, classes: Sequence[str], ap: Mapping[int, float]) -> str:
    """What is wrong with the table: it is to be that of the figures that agreed, but for the last digit of a mean."""
    if len(ap) < len(classes):
        return "average precisions that do not agree, or are missing"
    values = np.array([ap[label] for label in range(len(classes))])
    mine = branch_text(classes, values, float(np.mean(values)))
    pairs = list(zip(mine.splitlines(), wanted.splitlines(), strict=False))
    same = mine.count("\n") == wanted.count("\n") and all(_same_line(*pair) for pair in pairs)
    return "" if same else f"{mine!r}, expected {wanted!r}"


def _same_line(mine: str, wanted: str) -> bool:
    if mine == wanted:
        return True
    (name, _, value), (other, _, number) = mine.partition(":"), wanted.partition(":")
    if name != other or re.fullmatch(r" *(nan|\d+\.\d{6})", number) is None:
        return False
    width = len(value) == len(number) or float(value) >= 100
    return width and np.isclose(float(value), float(number), rtol=0, atol=2e-6, equal_nan=True)
