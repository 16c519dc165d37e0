"""What the slow loops of YOLO's losses share."""

from __future__ import annotations

import math

Box = list[float]
"""Centre, width and height."""


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def iou_of(a: Box, b: Box) -> float:
    sides = [
        min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    ]
    both = 0 if min(sides) < 0 else sides[0] * sides[1]
    return both / (a[2] * a[3] + b[2] * b[3] - both)
