"""Small folders of the golden form: a tree, and what a slow retelling of the branch's training draws from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.io import savemat

CLASSES = ("bathtub", "bed", "bookshelf", "box", "chair")
DEFAULTS = {"FG_FRACTION": 0.25, "FG_THRESH": 0.5, "BG_THRESH_HI": 0.5, "BBOX_THRESH": 0.5}
DEFAULTS |= {"USE_FLIPPED": True, "BBOX_REG": True}
MEANS = np.array([102.9801, 115.9465, 122.7717])
EPS = 1e-14
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """A seed, options of training, and of the images in turn: their sizes, and numbers of objects and proposals.

    Beside each object lie ``near`` proposals, and ``copies`` equal to it.
    """

    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: Sequence[tuple[int, int]] = ((53, 70),)
    objects: Sequence[int] = (2, 1, 0)
    proposals: Sequence[int] = (20,)
    near: int = 3
    copies: int = 0
    images: int = 5


def write_folder(folder: Path, base: Mapping[str, Any], form: Folder) -> Arrays:
    """Writes the tree and fastrcnn.npz (``config``, ``train``, ``batch_*``), and returns the arrays."""
    options = {**base, **form.options}
    entries = _write_tree(folder / "tree" / "data", np.random.default_rng(form.seed), form)
    train = DEFAULTS | options
    roidb, means, stds = _roidb(entries, train)
    arrays: Arrays = {"config": np.array(json.dumps({"RNG_SEED": form.seed, "TRAIN": options}))}
    arrays |= {"train/count": np.array(len(roidb)), "train/means": means.ravel(), "train/stds": stds.ravel()}
    for i, entry in enumerate(roidb):
        arrays |= {f"train/{i}/{key}": np.asarray(value) for key, value in entry.items() if key != "paths"}
    for modalities in (1, 2):
        for i, batch in enumerate(_batches(roidb, train, form.seed, modalities)):
            arrays |= {f"batch_{modalities}/{i}/{key}": value for key, value in batch.items()}
    np.savez(folder / "fastrcnn.npz", **arrays)
    return arrays


def _write_tree(data: Path, rng: np.random.Generator, form: Folder) -> list[Arrays]:
    root = data / "nyud2"
    for name in ("data/hha", "data/images", "benchmarkData/metadata", "benchmarkData/gt_box_cache_dir"):
        (root / name).mkdir(parents=True)
    count = form.images
    ids = {"train": range(count), "val": [count], "trainval": range(count + 1), "test": [count + 1]}
    splits = {name: np.array([[5001.0 + i] for i in held]) for name, held in ids.items()}
    savemat(root / "benchmarkData/metadata/nyusplits.mat", splits)
    cells, names = (np.empty((1, count + 2), object) for _ in range(2))
    entries = []
    for i in range(count + 2):
        (h, w), name = form.sizes[i % len(form.sizes)], f"img_{5001 + i}"
        paths = [str(root / "data" / kind / f"{name}.png") for kind in ("hha", "images")]
        for path in paths:
            cv2.imwrite(path, rng.integers(0, 256, (h, w, 3), np.uint8))
        truth = _boxes(rng, form.objects[i % len(form.objects)], h, w)
        labels = rng.integers(1, len(CLASSES) + 1, len(truth))
        objects = np.zeros((1, len(truth) + 1), [(key, object) for key in ("class", "bbox", "difficult")])
        for k, box in enumerate([*truth, np.array([1, 1, 30, 30])]):
            objects[0, k] = (CLASSES[labels[k] - 1] if k < len(truth) else "wall", box[None].astype(float), False)
        rec = {"rec": {"imgsize": np.array([[h, w]], float), "objects": objects}}
        savemat(root / f"benchmarkData/gt_box_cache_dir/{name}.mat", rec)
        near = np.repeat(truth, form.near, 0) + rng.integers(-3, 4, (len(truth) * form.near, 4))
        near = np.clip(near, 1, [w, h, w, h])
        found = np.vstack((near, np.repeat(truth, form.copies, 0), _boxes(rng, 40, h, w)))
        found = found[: form.proposals[i % len(form.proposals)]].astype(float)
        cells[0, i], names[0, i] = found[:, [1, 0, 3, 2]], name
        entries.append({"boxes": np.vstack((truth, found)) - 1.0, "truth": labels, "paths": paths})
    savemat(data / "nyud2_mcg_boxes.mat", {"bboxes": cells, "imnames": names})
    return entries[:count]


def _boxes(rng: np.random.Generator, count: int, h: int, w: int) -> np.ndarray:
    corners = rng.integers(1, [w * 2 // 3, h * 2 // 3], (count, 2))
    return np.hstack((corners, np.minimum(corners + rng.integers(8, 30, (count, 2)), [w, h])))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    areas = [(x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in (a, b)]
    return w * h / (sum(areas) - w * h) if w > 0 and h > 0 else 0.0


def _roidb(entries: Sequence[Arrays], train: Mapping[str, Any]) -> tuple[list[Arrays], np.ndarray, np.ndarray]:
    roidb = [_entry(entry, train, False) for entry in entries]
    if train["USE_FLIPPED"]:
        roidb += [_entry(entry, train, True) for entry in entries]
    count, total, squares = np.full((20, 1), EPS), np.zeros((20, 4)), np.zeros((20, 4))
    picks = [(c, e["bbox_targets"], e["bbox_targets"][:, 0] == c) for e in roidb for c in range(1, 20)]
    for c, targets, rows in picks:
        count[c] += rows.sum()
        total[c] += targets[rows, 1:].sum(0)
        squares[c] += (targets[rows, 1:] ** 2).sum(0)
    with np.errstate(all="ignore"):
        means = total / count
        stds = np.sqrt(squares / count - means**2)
        for c, targets, rows in picks:
            targets[rows, 1:] = ((targets[rows, 1:] - means[c].astype(np.float32)) / stds[c]).astype(np.float32)
    return roidb, means, stds


def _entry(entry: Arrays, train: Mapping[str, Any], flipped: bool) -> Arrays:
    boxes, truth = entry["boxes"].copy(), entry["truth"]
    if flipped:
        boxes[:, [2, 0]] = cv2.imread(entry["paths"][0]).shape[1] - boxes[:, [0, 2]] - 1
    overlaps, targets = np.zeros((len(boxes), 20), np.float32), np.zeros((len(boxes), 5), np.float32)
    for i, box in enumerate(boxes):
        each = [_iou(box, other) for other in boxes[: len(truth)]]
        if i < len(truth):
            overlaps[i, truth[i]] = 1
        elif each and max(each) > 0:
            overlaps[i, truth[int(np.argmax(each))]] = max(each)
        if overlaps[i].max() >= train["BBOX_THRESH"]:
            targets[i] = [overlaps[i].argmax(), *_regress(box, boxes[int(np.argmax(each))])]
    classes = np.concatenate((truth, np.zeros(len(boxes) - len(truth)))).astype(np.int32)
    found = {"boxes": boxes, "gt_classes": classes, "overlaps": overlaps, "flipped": flipped, "paths": entry["paths"]}
    return found | {
        "max_overlaps": overlaps.max(1), "max_classes": overlaps.argmax(1), "bbox_targets": targets
    }  # fmt: skip


def _regress(box: np.ndarray, truth: np.ndarray) -> list[float]:
    (w, h), (tw, th) = (each[2:] - each[:2] + EPS for each in (box, truth))
    shift = truth[:2] + 0.5 * np.array([tw, th]) - box[:2] - 0.5 * np.array([w, h])
    return [shift[0] / w, shift[1] / h, np.log(tw / w), np.log(th / h)]


def _batches(roidb: Sequence[Arrays], train: Mapping[str, Any], seed: int, modalities: int) -> list[Arrays]:
    rng, each = np.random.RandomState(seed), train["IMS_PER_BATCH"]
    low, high = train["BG_THRESH_LO"], train["BG_THRESH_HI"]
    tops = [entry["max_overlaps"] for entry in roidb]
    valid = [(top > train["FG_THRESH"]).any() and ((top > low) & (top < high)).any() for top in tops]
    order, at, batches = [i for i in rng.permutation(len(roidb)) if valid[i]], 0, []
    for _ in range(10):
        if at + each >= len(order):
            order, at = [i for i in rng.permutation(len(roidb)) if valid[i]], 0
        images = order[at : at + each]
        at += each
        batches.append({"images": np.array(images)} | _batch([roidb[i] for i in images], train, rng, modalities))
    return batches


def _batch(entries: Sequence[Arrays], train: Mapping[str, Any], rng: np.random.RandomState, modalities: int) -> Arrays:
    sizes = [train["SCALES"][i] for i in rng.randint(0, len(train["SCALES"]), len(entries))]
    kinds = ("hha",) if modalities == 1 else ("images", "hha")
    blobs: Arrays = {}
    for m, kind in enumerate(kinds):
        images = [_image(entry, kind, pair, train["MAX_SIZE"]) for entry, pair in zip(entries, sizes, strict=True)]
        corner = np.max([image.shape for image, _ in images], 0)
        data = np.zeros((len(images), *corner), np.float32)
        for i, (image, _) in enumerate(images):
            data[i, : image.shape[0], : image.shape[1]] = image
        blobs[f"data_{m}" if m else "data"] = data.transpose(0, 3, 1, 2)
    regions, rows = train["BATCH_SIZE"] // len(entries), []
    for i, entry in enumerate(entries):
        top = entry["max_overlaps"]
        pools = (top >= train["FG_THRESH"], (top < train["BG_THRESH_HI"]) & (top >= train["BG_THRESH_LO"]))
        kept: list[int] = []
        for pool, most in zip(pools, (int(np.round(train["FG_FRACTION"] * regions)), regions), strict=True):
            among, objects = np.flatnonzero(pool), len(kept)
            if len(among):
                kept += list(rng.choice(among, size=min(most - objects, len(among)), replace=False))
        for place, k in enumerate(kept):
            label = entry["max_classes"][k] if place < objects else 0
            rows.append((np.array([i, *entry["boxes"][k] * images[i][1]]), label, entry["bbox_targets"][k]))
    blobs |= {
        "rois": np.array([row[0] for row in rows], np.float32),
        "labels": np.array([row[1] for row in rows], float),
    }
    if train["BBOX_REG"]:
        targets, weights = (np.zeros((len(rows), 80), np.float32) for _ in range(2))
        for i, (_, _, row) in enumerate(rows):
            if row[0] > 0:
                cells = slice(4 * int(row[0]), 4 * int(row[0]) + 4)
                targets[i, cells], weights[i, cells] = row[1:], 1
        blobs |= {"bbox_targets": targets, "bbox_loss_weights": weights}
    return blobs


def _image(entry: Arrays, kind: str, size: int, most: int) -> tuple[np.ndarray, float]:
    image = cv2.imread(next(path for path in entry["paths"] if f"/{kind}/" in path))
    image = image[:, ::-1] if entry["flipped"] else image
    scale = size / min(image.shape[:2])
    if np.round(scale * max(image.shape[:2])) > most:
        scale = most / max(image.shape[:2])
    image = image.astype(np.float32) - MEANS.astype(np.float32)
    return cv2.resize(image, None, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), scale
