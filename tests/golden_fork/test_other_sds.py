"""The comparison on a file of other options and odd sizes, which a slow retelling of the branch makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from golden_fork.sds import check

FACTS = {"TARGET_SIZE": 50, "MAX_SIZE": 71, "FEAT_SCALE": 8, "MASK_SIZE": 20, "ov_thresh": 0.6, "samples": 3}
FACTS |= {"classes": 2, "seed": 11}
SIZE = (41, 67)


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.integers(0, [SIZE[1] - 30, SIZE[0] - 20], (count, 2))
    return np.hstack((low, low + rng.integers(10, 20, (count, 2)))).astype(float)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    inside = max(w, 0) * max(h, 0)
    return inside / (sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)) - inside)


def _image(rng: np.random.Generator) -> dict[str, Any]:
    """Three objects, one of which the others hide, with boxes beside them."""
    truth = _boxes(rng, 3)
    truth[2] = truth[1]
    instances = np.zeros(SIZE, np.uint16)
    for number, (x1, y1, x2, y2) in ((7, truth[0]), (9, truth[2]), (8, truth[1])):
        instances[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = number
    near = np.clip(np.repeat(truth, 5, 0) + rng.integers(-2, 3, (15, 4)), 0, [SIZE[1] - 1, SIZE[0] - 1] * 2)
    return {
        "image": rng.integers(0, 256, (*SIZE, 3), np.uint8),
        "gt_boxes": truth,
        "gt_classes": np.array([1, 2, 2]),
        "instance_id": np.array([7, 8, 9]),
        "instances": instances,
        "proposals": np.vstack((truth, near)),
    }


def _draws(images: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    pools: list[list[tuple[int, int, int]]] = [[], []]
    for i, image in enumerate(images):
        for j, label in enumerate(image["gt_classes"]):
            for row, box in enumerate(image["proposals"]):
                if _iou(box, image["gt_boxes"][j]) >= FACTS["ov_thresh"]:
                    pools[label - 1].append((i, j, row))
    random, found = np.random.RandomState(FACTS["seed"]), {}
    side = FACTS["MASK_SIZE"]
    for number in range(9):
        category = random.choice(2)
        pool = pools[category]
        chosen = pool[random.choice(len(pool))][0]
        places = [k for k, entry in enumerate(pool) if entry[0] == chosen]
        entries = [pool[k] for k in random.choice(places, FACTS["samples"])]
        image = images[chosen]
        boxes = np.array([image["proposals"][row] for _, _, row in entries])
        labels = np.zeros((len(boxes), 1, side, side), np.uint8)
        for k, (x1, y1, x2, y2) in enumerate(boxes):
            for row in range(side):
                for column in range(side):
                    y, x = round(y1 + row / (side - 1) * (y2 - y1)), round(x1 + column / (side - 1) * (x2 - x1))
                    labels[k, 0, row, column] = image["instances"][y, x] == image["instance_id"][entries[k][1]]
        weights = [min((x2 - x1 + 1) * (y2 - y1 + 1) / 224**2, 1) for x1, y1, x2, y2 in boxes]
        parts = (boxes + [-0.5, -0.5, 0.5, 0.5]) / [SIZE[1] - 1, SIZE[0] - 1, SIZE[1] - 1, SIZE[0] - 1]
        head = np.tile([[0.0, category]], (len(boxes), 1))
        found |= {
            f"batch_{number}/normalizedboxes": np.hstack((head, parts)).reshape(-1, 6, 1, 1),
            f"batch_{number}/categids": np.full((len(boxes), 1, 1, 1), float(category)),
            f"batch_{number}/labels": labels,
            f"batch_{number}/instance_wts": np.reshape(weights, (-1, 1, 1, 1)),
        }
    return found


def _paste(rng: np.random.Generator, boxes: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of one value, so that a region's mean is the part of it in the box."""
    sp = np.kron(np.arange(1, 61).reshape(6, 10), np.ones((7, 7), int))[: SIZE[0], : SIZE[1]].astype(np.uint16)
    value = rng.random(len(boxes)).astype(np.float32)
    inside = np.zeros((len(boxes), *SIZE))
    for mask, (x1, y1, x2, y2), own in zip(inside, boxes.astype(int), value, strict=True):
        mask[y1 : y2 + 1, x1 : x2 + 1] = own
    values = np.array([[mask[sp == label].mean() for label in range(1, sp.max() + 1)] for mask in inside])
    inst = rng.integers(0, 3, SIZE).astype(np.uint16)
    regions = (values >= 0.25).T
    pixels = [np.isin(sp, 1 + np.flatnonzero(region)) for region in regions.T]
    overlaps = [[((inst == k) & mask).sum() / ((inst == k) | mask).sum() for mask in pixels] for k in (1, 2)]
    return {
        "sp": sp,
        "inst": inst,
        "boxes": boxes,
        "output": np.tile(value[:, None, None, None], (1, 1, 50, 50)),
        "values": values[:, None],
        "regions": regions,
        "overlaps": np.array(overlaps).reshape(2, -1),
    }


def _apr() -> dict[str, np.ndarray]:
    """Of two objects one is found, then again; an image without objects, one without regions of any kind."""
    images = [
        ([1, 2], [[0.8, 0.75, 0.1], [0.9, 0.9, 0.9]], [0.5, 0.9, 0.7]),
        ([], np.zeros((0, 1)), [0.8]),
        ([1], np.zeros((1, 0)), []),
    ]
    curve = {"prec": np.array([1, 1 / 2, 1 / 3, 1 / 4]), "rec": np.full(4, 0.5), "ap": np.array(0.5)}
    arrays = {f"{name}_{threshold}": value for name, value in curve.items() for threshold in (0.5, 0.7)}
    arrays["images"] = np.array(3)
    for k, (classes, overlaps, scores) in enumerate(images):
        arrays |= {f"{k}/classes": np.array(classes, int), f"{k}/overlaps": np.array(overlaps)}
        arrays[f"{k}/scores"] = np.array(scores, float)
    return arrays


def test_other_options_sizes_and_empty_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    images = [_image(rng) for _ in range(3)]
    parts = {f"draws/{i}": image for i, image in enumerate(images)} | {"draws": _draws(images), "apr/0": _apr()}
    parts |= {"paste/0": _paste(rng, _boxes(rng, 5)), "paste/1": _paste(rng, _boxes(rng, 1))}
    arrays = {f"{prefix}/{name}": value for prefix, part in parts.items() for name, value in part.items()}
    np.savez(tmp_path / "sds.npz", config=np.array(json.dumps(FACTS)), **arrays)
    found = list(check(tmp_path))
    assert {name for name, _ in found} == {"config", *arrays}
    assert not [f"{name}: {problem}" for name, problem in found if problem]
