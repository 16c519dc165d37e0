"""Sections of a page for which a run's test net is run again: confusion of classifiers, and sample predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from caffe_compat.errors import MissingFileError
from caffe_compat.media.pictures import encode
from caffe_compat.net import BlobNet, load_net
from caffe_compat.reports.html import group, paragraph, picture, table
from caffe_compat.reports.nets import net_path, snapshots
from caffe_compat.transfer.curves import Group
from caffe_compat.transfer.runs import Run

__all__ = ["confusion", "tested"]

SAMPLES = 8
CLASSES = 40
"""Of more classes no table is made."""
WIDTH = 160
"""Pixels that a sample is wide, about."""


@dataclass
class _Found:
    """What test pictures gave: labels and guesses, and the first pictures, float [3 or 1, H, W], blue first."""

    labels: list[int]
    guesses: list[int]
    pictures: list[np.ndarray]


def tested(groups: Sequence[Group], most: int, classes: Sequence[str] = ()) -> list[str]:
    """Confusion and samples of the first run of every group whose test net has labels, and whose data is there.

    Args:
        most: pictures that are shown to a net; 0: nothing is run.
        classes: names of the labels, from 0.
    """
    parts = []
    for one in groups if most else ():
        run = one.runs[0]
        found = _run_test(run, most)
        if isinstance(found, str):
            parts += [group(one.name if len(groups) > 1 else "", paragraph(found))] if found else []
        elif found.labels:
            parts.append(group(one.name if len(groups) > 1 else "", *_shown(run, found, classes)))
    return parts


def confusion(labels: Sequence[int], guesses: Sequence[int], count: int) -> np.ndarray:
    """int64 [count, count]: how many of each label (row) were taken for each class (column)."""
    places = np.asarray(labels, np.int64) * count + np.asarray(guesses, np.int64)
    return np.bincount(places, minlength=count * count).reshape(count, count)


def _run_test(run: Run, most: int) -> _Found | str:
    """Show a test net as many pictures; a sentence says why that cannot be, an empty one that nothing is to be seen."""
    model, weights = net_path(run), snapshots(run)
    if not model or not weights:
        return ""
    try:
        net = load_net(model, weights[-1], "TEST")
    except MissingFileError as error:
        return f"No predictions are shown: {error}"
    nodes = [node for node in net.nodes if node.layer.judges_classes]
    if not nodes:
        return ""
    scores, label = nodes[0].bottom_ids[:2]
    engine, found = BlobNet(net), _Found([], [], [])
    batches = run.solver.test_iter[0] if run.solver is not None and run.solver.test_iter else 1
    for _ in range(batches):
        with torch.no_grad():
            engine.forward()
        values, truth = engine.blobs[scores].tensor.detach().cpu(), engine.blobs[label].tensor.detach().cpu()
        if values.ndim < 2 or values.shape[0] != truth.numel():  # a label for every pixel
            return ""
        found.labels += truth.reshape(-1).long().tolist()
        found.guesses += values.reshape(len(values), values.shape[1], -1).mean(-1).argmax(1).tolist()
        if len(found.pictures) < SAMPLES:
            found.pictures += _pictures(engine)[: SAMPLES - len(found.pictures)]
        if len(found.labels) >= most:
            break
    return found


def _pictures(engine: BlobNet) -> list[np.ndarray]:
    """The pictures of the last batch: the first blob that holds some."""
    for blob in engine.blobs:
        if blob.tensor.ndim == 4 and blob.tensor.shape[1] in (1, 3):
            return list(blob.tensor.detach().cpu().numpy().astype(np.float32))
    return []


def _shown(run: Run, found: _Found, classes: Sequence[str]) -> list[str]:
    count = 1 + max(*found.labels, *found.guesses, len(classes) - 1)
    names = [classes[k] if k < len(classes) else str(k) for k in range(count)]
    right = sum(label == guess for label, guess in zip(found.labels, found.guesses, strict=True))
    said = (
        f"{right} of {len(found.labels)} test pictures are labelled rightly ({100 * right / len(found.labels):.1f} %)."
    )
    parts = [paragraph(said)]
    if count <= CLASSES:
        matrix = confusion(found.labels, found.guesses, count)
        rows = [[name, *map(str, row), _share(row, k)] for k, (name, row) in enumerate(zip(names, matrix, strict=True))]
        head = ["label", *names, "right, %"]
        parts.append(table(head, rows, "Confusion: pictures of each label (row) that were taken for each class"))
    samples = [
        _sample(picture_, names[label], names[guess], run)
        for picture_, label, guess in zip(found.pictures, found.labels, found.guesses, strict=False)
    ]
    return [*parts, group("Sample predictions", *samples, beside=True)] if samples else parts


def _share(row: np.ndarray, k: int) -> str:
    return f"{100 * row[k] / row.sum():.0f}" if row.sum() else ""


def _sample(values: np.ndarray, label: str, guess: str, run: Run) -> str:
    low, high = float(values.min()), float(values.max())
    scaled = np.clip((values - low) / ((high - low) or 1) * 255, 0, 255) if math.isfinite(high - low) else 0 * values
    pixels = np.repeat(np.repeat(scaled.transpose(1, 2, 0), _times(values), 0), _times(values), 1).astype(np.uint8)
    verdict = "right" if label == guess else f"wrong, it is {label}"
    alt = f"A test picture that {run.name} takes for {guess}: {verdict}"
    return picture(encode(np.ascontiguousarray(pixels), "png", alt), "png", alt, f"{guess}: {verdict}", "pixels")


def _times(values: np.ndarray) -> int:
    return max(1, WIDTH // max(1, int(values.shape[2])))
