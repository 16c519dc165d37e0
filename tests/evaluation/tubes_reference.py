"""ActionTubes' ``zero_jump_link.m`` and ``get_ROC_curve_JHMDB.m``, loop by loop; indices count from 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

EPS = np.finfo(float).eps


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """rectint over the union, of x y w h."""
    width = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    inside = width * height
    return inside / (a[2] * a[3] + b[2] * b[3] - inside + EPS)


def bounds(box: Sequence[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0] + 1, box[3] - box[1] + 1]


def zero_jump_link(frames: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """All paths through boxes x1 y1 x2 y2 score: total score, boxes."""
    left = [[list(map(float, row)) for row in frame] for frame in frames]
    paths: list[dict[str, Any]] = []
    while all(left):
        count = len(left)
        scores: list[list[float]] = [[0.0] * len(frame) for frame in left]
        index: list[list[int]] = [[-1] * len(frame) for frame in left]
        for i in range(count - 2, -1, -1):
            for a, one in enumerate(left[i]):
                edges = [
                    one[4] + other[4] + overlap(bounds(one), bounds(other)) + scores[i + 1][b]
                    for b, other in enumerate(left[i + 1])
                ]
                index[i][a] = max(range(len(edges)), key=lambda b, edges=edges: (edges[b], -b))
                scores[i][a] = edges[index[i][a]]
        at = max(range(len(left[0])), key=lambda b: (scores[0][b], -b))
        total, chosen = scores[0][at] / count, [at]
        for j in range(count - 1):
            at = index[j][at]
            chosen.append(at)
        paths.append({"total_score": total, "boxes": [left[j][k][:4] for j, k in enumerate(chosen)]})
        for j, k in enumerate(chosen):
            del left[j][k]
    return paths


def roc_curve_jhmdb(videos: Sequence[dict[str, Any]], actions: int, threshold: float) -> dict[str, Any]:
    """``videos``: action (index), truth (boxes [T][4]), paths[action] (lists of paths); sorted by name."""
    table: list[list[tuple[float, int]]] = [[] for _ in range(actions)]
    covered: list[list[int]] = [[] for _ in range(actions)]
    num_gt = [0] * actions
    for i, video in enumerate(videos):
        num_gt[video["action"]] += 1
        for a in range(actions):
            found = []
            for path in video["paths"][a]:
                shares = [overlap(bounds(t), bounds(p)) for t, p in zip(video["truth"], path["boxes"], strict=True)]
                found.append((path["total_score"], sum(shares) / len(shares)))
            order = sorted(range(len(found)), key=lambda k, found=found: -found[k][0])[:3]
            for k in order:
                if found[k][1] >= threshold and i not in covered[a] and a == video["action"]:
                    table[a].append((found[k][0], 1))
                    covered[a].append(i)
                else:
                    table[a].append((found[k][0], 0))
    auc, tpr, fpr = [], [], []
    for a in range(actions):
        area, true_rate, false_rate = get_roc_curve(table[a], num_gt[a])
        auc.append(area)
        tpr.append(true_rate)
        fpr.append(false_rate)
    return {"auc": auc, "mean": get_average_roc_curve(tpr, fpr), "num_gt": num_gt, "tubes": [len(t) for t in table]}


def get_roc_curve(rows: Sequence[tuple[float, int]], num_pos: int) -> tuple[float, list[float], list[float]]:
    ordered = sorted(rows, key=lambda row: -row[0])
    negatives = sum(label == 0 for _, label in rows)
    tpr, fpr, tp, fp = [], [], 0, 0
    for _, label in ordered:
        tp, fp = tp + (label == 1), fp + (label == 0)
        if fp / negatives <= 0.6:
            tpr.append(tp / num_pos)
            fpr.append(fp / negatives)
    return area(tpr, fpr), tpr, fpr


def area(tpr: Sequence[float], fpr: Sequence[float]) -> float:
    return sum((fpr[i] - fpr[i - 1]) * tpr[i] for i in range(1, len(fpr)) if fpr[i] != fpr[i - 1])


def get_average_roc_curve(
    tpr: Sequence[Sequence[float]], fpr: Sequence[Sequence[float]]
) -> tuple[float, list[float], list[float]]:
    every = sorted({value for curve in fpr for value in curve})
    mean = [0.0] * len(every)
    for true_rate, false_rate in zip(tpr, fpr, strict=True):
        for i, value in enumerate(every):
            distances = [abs(value - other) for other in false_rate]
            first = distances.index(min(distances))
            second = first + 1 if false_rate[first] <= value else first - 1
            if second < 0 or second >= len(true_rate) or distances[first] == 0:
                second = first
            mean[i] += max(true_rate[first], true_rate[second])
    mean = [value / len(tpr) for value in mean]
    return area(mean, every), mean, every
