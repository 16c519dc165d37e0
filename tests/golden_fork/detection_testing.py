"""Test time in parity with the branch: suppression, single images, whole runs, and the runs on real Caffe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from caffe_compat.config import Config, load_config
from caffe_compat.datasets import FrameRecord, ImageDatabase, find_imdb
from caffe_compat.detection.images import read_modalities
from caffe_compat.detection.inference import Answer, Detector, Question, im_detect
from caffe_compat.detection.nms import nms
from caffe_compat.detection.roidb import roi_image
from caffe_compat.detection.testing import TestRun, detect_all
from caffe_compat.net import load_net

Arrays = Mapping[str, np.ndarray]
IMDBS = {1: "nyud2_hha_2015_test", 2: "nyud2_images+hha_2015_test"}
RUNS = {
    "test_single": (IMDBS[1], "test.prototxt", ""),
    "test_fused": (IMDBS[2], "test_fused.prototxt", "init.caffemodel"),
}
"""Database, net and weights ("": the snapshot) of the runs on real Caffe."""
NONE = np.zeros((0, 5), np.float32)


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """``nms``, ``detect_*`` and the boxes of ``test`` in fastrcnn.npz, and those of ``test_*`` in trace.npz."""
    arrays = _load(folder / "fastrcnn.npz")
    config = golden_config(arrays)
    for key in [key for key in arrays if re.fullmatch(r"nms/\d+/dets", key)]:
        yield from _nms_case(arrays, key.removesuffix("/dets"))
    for modalities in IMDBS:
        yield from _detect_cases(arrays, f"detect_{modalities}", modalities, config, folder)
    yield from _suppressed(arrays, "test", config)
    for key in [key for key in arrays if key.startswith("test/all_boxes/")]:
        yield key, ""  # drawn anew in every run: what becomes of them is compared
    yield from _runs(folder)


def golden_config(arrays: Arrays) -> Config:
    """The options that a file was made with, in parity."""
    pairs: list[str] = []
    for key, value in json.loads(str(arrays["config"])).items():
        for name, held in value.items() if isinstance(value, dict) else [("", value)]:
            if key.isupper():  # others, such as "iters", are no options
                pairs += [f"{key}.{name}".rstrip("."), repr(held)]
    return load_config(pairs=pairs, parity=True)


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {key: _rows(stored[key]) if "_boxes/" in key else stored[key] for key in stored.files}


def _rows(boxes: np.ndarray) -> np.ndarray:
    """The branch writes cells without boxes as empty lists, which become arrays of one axis."""
    return boxes if boxes.size else NONE


def _same(found: np.ndarray, wanted: np.ndarray, atol: float = 0.0, rtol: float = 0.0) -> str:
    if found.shape != wanted.shape:
        return f"shape {found.shape}, expected {wanted.shape}"
    close = np.isclose(found, wanted, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return ""
    return f"{(~close).sum()} of {close.size} numbers differ, by up to {np.abs(found - wanted).max():.3g}"


def _nms_case(arrays: Arrays, case: str) -> Iterator[tuple[str, str]]:
    kept = nms(_rows(arrays[f"{case}/dets"]), float(arrays[f"{case}/threshold"]))
    yield f"{case}/dets", ""
    yield f"{case}/threshold", ""
    yield f"{case}/keep", _same(kept, arrays[f"{case}/keep"])


class _Table:
    """A net that answers from a table, and notes what it was asked."""

    def __init__(self, scores: np.ndarray, deltas: np.ndarray | None) -> None:
        self.said = (scores, deltas)
        self.question: Question | None = None

    def __call__(self, question: Question) -> Answer:
        self.question = question
        return self.said


def _detect_cases(
    arrays: Arrays, name: str, modalities: int, config: Config, folder: Path
) -> Iterator[tuple[str, str]]:
    numbers = sorted({int(key.split("/")[1]) for key in arrays if key.startswith(f"{name}/")})
    imdb: ImageDatabase | None = find_imdb(IMDBS[modalities], folder / "tree") if numbers else None
    for number in numbers:
        case = f"{name}/{number}"
        record = imdb.records[number]
        images = read_modalities([record.paths[kind] for kind in imdb.modalities], record.size)
        answers = [arrays.get(f"{case}/net_{blob}") for blob in ("cls_prob", "cls_score", "bbox_pred")]
        table = _Table(answers[1] if answers[0] is None else answers[0], answers[2])
        scores, boxes = im_detect(table, images, arrays[f"{case}/boxes"], config)
        found = {"scores": scores, "pred_boxes": boxes, "net_rois": table.question.blobs["rois"]}
        found |= {f"net_{blob}": value for blob, value in table.question.blobs.items()}
        for key in [key for key in arrays if key.startswith(f"{case}/")]:
            short = key.removeprefix(f"{case}/")
            if short == "boxes":
                yield key, _given(arrays, case, imdb, record)
            elif short in found:
                yield key, _same(found[short], arrays[key], atol=1e-4 if short == "pred_boxes" else 1e-5)
            else:
                yield key, ""  # what the net was to answer, or what is checked with the boxes


def _given(arrays: Arrays, case: str, imdb: ImageDatabase, record: FrameRecord) -> str:
    """The branch asks for the ground truth too."""
    image = roi_image(record, imdb.classes, imdb.proposals(record), parity=True)
    problem = _same(image.gt_classes, arrays[f"{case}/gt_classes"])
    return f"classes: {problem}" if problem else _same(image.boxes, arrays[f"{case}/boxes"])


def _suppressed(arrays: Arrays, run: str, config: Config) -> Iterator[tuple[str, str]]:
    """``nms_boxes`` of a run are what suppression leaves of its ``all_boxes``; cells that are absent are empty."""
    cells = {key.split("/", 2)[2] for key in arrays if re.match(rf"{run}/(all|nms)_boxes/", key)}
    for cell in sorted(cells):
        every, left = (arrays.get(f"{run}/{kind}_boxes/{cell}", NONE) for kind in ("all", "nms"))
        mine = every[nms(every, config.test.nms, parity=True)]
        problem = suppression_problem(every, left, config.test.nms) or suppression_problem(every, mine, config.test.nms)
        if not problem and len(np.unique(every[:, 4])) == len(every):
            problem = _same(mine, left)
        if f"{run}/nms_boxes/{cell}" in arrays:
            yield f"{run}/nms_boxes/{cell}", problem


def _runs(folder: Path) -> Iterator[tuple[str, str]]:
    """The runs on real Caffe: nets, tree and options to boxes."""
    file = folder / "trace" / "trace.npz"
    arrays = _load(file) if file.exists() else {}
    for run, (imdb, prototxt, weights) in RUNS.items():
        if not any(key.startswith(f"{run}/") for key in arrays):
            continue
        config = golden_config(arrays)
        yield from _suppressed(arrays, run, config)
        trace = folder / "trace"
        weights = weights or max(
            (path.name for path in trace.glob("fast_rcnn*_iter_*.caffemodel")),
            key=lambda name: int(name.split("_")[-1][:-11]),
        )
        database = find_imdb(imdb, folder / "tree")
        net = load_net(trace / prototxt, trace / weights)
        detector = Detector(net, len(database.classes) + 1, len(database.modalities), config)
        found = detect_all(TestRun(database, detector, config))
        counts = [len(database.proposals(record)) for record in database.records]
        for c, row in enumerate(found.boxes, start=1):
            wanted = [arrays.get(f"{run}/all_boxes/{c}/{i}", NONE) for i in range(len(row))]
            for i, problem in enumerate(compare_class(row, wanted, counts, config)):
                key = f"{run}/all_boxes/{c}/{i}"
                if key in arrays:
                    yield key, problem
                elif problem:
                    yield key, f"{problem}; it is not in {file.name}, so it should have none"


def compare_class(
    found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], counts: Sequence[int], config: Config
) -> list[str]:
    """What is wrong with the boxes of a class in each image, which another program computed with another rounding.

    They are to pair up, within 0.02 pixels and a score within 1e-3; scores that are all but equal come in any order.
    Where boxes were left out, because an image or the set had more than is kept, those with the lowest scores may be
    others.
    """
    per_image, per_set = config.test.max_per_image, config.test.max_per_set_f * len(counts)
    full = sum(min(count, per_image) for count in counts) > per_set
    scores = [boxes[:, 4].min() for boxes in (*found, *wanted) if len(boxes)]
    lowest = min(scores) * (1 + 1e-4) if full and scores else -np.inf
    problems = []
    for mine, theirs, count in zip(found, wanted, counts, strict=True):
        cut = max(lowest, theirs[:, 4].min() * (1 + 1e-4) if len(theirs) == per_image < count else -np.inf)
        problems.append(_pair_up(mine, theirs, cut))
    return problems


def _pair_up(found: np.ndarray, wanted: np.ndarray, cut: float) -> str:
    free = np.ones(len(wanted), bool)
    for row in found:
        near = free & (np.abs(wanted[:, :4] - row[:4]) < 0.02).all(1) & np.isclose(wanted[:, 4], row[4], rtol=1e-3)
        if near.any():
            free[np.flatnonzero(near)[0]] = False
        elif row[4] > cut:
            return f"{row.tolist()} is not among the {len(wanted)} expected"
    missing = wanted[free & (wanted[:, 4] > cut)]
    return f"{missing[0].tolist()} is missing" if len(missing) else ""


def suppression_problem(dets: np.ndarray, left: np.ndarray, threshold: float) -> str:
    """Whether greedy suppression leaves these rows, for some order of equal scores.

    That is so if no two of them overlap by the threshold or more, and each other row overlaps one of them that has a
    score as high.
    """
    kept = np.zeros(len(dets), bool)
    for row in left:
        same = np.flatnonzero((dets == row).all(1) & ~kept)
        if not len(same):
            return f"{row.tolist()} is none of the boxes before suppression"
        kept[same[0]] = True
    if (np.diff(left[:, 4]) > 0).any():
        return "not by descending score"
    close = _overlaps32(dets) >= np.float64(threshold)
    for i in range(len(dets)):
        above = kept & close[i] & (np.arange(len(dets)) != i)
        if kept[i] and above.any():
            return f"{dets[i].tolist()} overlaps another that stays"
        if not kept[i] and not (above & (dets[:, 4] >= dets[i, 4])).any():
            return f"{dets[i].tolist()} is missing"
    return ""


def _overlaps32(dets: np.ndarray) -> np.ndarray:
    """Overlaps as the compiled version computes them, one by one, in float32."""
    one = np.float32(1)
    table = np.zeros((len(dets), len(dets)), np.float32)
    area = [(x2 - x1 + one) * (y2 - y1 + one) for x1, y1, x2, y2 in dets[:, :4]]
    for i, a in enumerate(dets):
        for j, b in enumerate(dets):
            width = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]) + one)
            height = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]) + one)
            table[i, j] = width * height / (area[i] + area[j] - width * height)
    return table
