"""FlowNet2's kernels as loops, number by number, after the text of its ``.cu`` files."""

from __future__ import annotations

import math

import numpy as np


def correlate(a: np.ndarray, b: np.ndarray, p: dict[str, int], flat: bool = False) -> np.ndarray:
    """CorrelateData and CorrelateDataSubtract; ``flat``: those of Correlation1D."""
    (number, channels, high, wide), pad, md, k = a.shape, p["pad"], p["md"], p["k"]
    s1, s2, rows = p.get("s1", 1), p.get("s2", 1), 0 if flat else pad
    one, two = (np.zeros((number, channels, high + 2 * rows, wide + 2 * pad)) for _ in range(2))
    one[:, :, rows : rows + high, pad : pad + wide], two[:, :, rows : rows + high, pad : pad + wide] = a, b
    edge, radius = 0 if flat else md, md // s2
    border = edge + (k - 1) // 2
    top_high = math.ceil((one.shape[2] - 2 * border) / s1)
    top_wide = math.ceil((one.shape[3] - 2 * (md + (k - 1) // 2)) / s1)
    way = p.get("way", 0)
    grid = radius + 1 if way else 2 * radius + 1
    shift = {0: -radius, -1: -grid, 1: 0}[way]
    top = np.zeros((number, grid if flat else grid * grid, top_high, top_wide))
    for n, c, y, x in np.ndindex(top.shape):
        s2o = (c % grid + shift) * s2
        s2p = 0 if flat else (c // grid - radius) * s2
        total = 0.0
        for j, i, channel in np.ndindex(k, k, channels):
            y1, x1 = y * s1 + edge + j, x * s1 + md + i
            before = x1 + s2o < 0  # the padding of the row before
            other = 0.0 if before else two[n, channel, y1 + s2p, x1 + s2o]
            mine = one[n, channel, y1, x1]
            total += abs(mine - other) if p.get("subtract") else mine * other
        top[n, c, y, x] = total / (k * k * channels)
    return top


def subtract_gradient(a: np.ndarray, b: np.ndarray, seed: np.ndarray, p: dict[str, int]) -> tuple[np.ndarray, ...]:
    """CorrelateDataBackward0Subtract and 1."""
    channels, pad, md, k = a.shape[1], p["pad"], p["md"], p["k"]
    s1, s2, r = p.get("s1", 1), p.get("s2", 1), (p["k"] - 1) // 2
    one, two = (np.pad(value, ((0, 0), (0, 0), (pad, pad), (pad, pad))) for value in (a, b))
    radius, diffs = md // s2, (np.zeros(a.shape), np.zeros(a.shape))
    grid, (top_high, top_wide) = 2 * (md // s2) + 1, seed.shape[2:]
    for which, diff in enumerate(diffs):
        for item, n, m0, l0 in np.ndindex(a.shape):
            m, column, total = m0 + pad, l0 + pad, 0.0
            for p_, o in np.ndindex(grid, grid):
                s2p, s2o = (p_ - radius) * s2, (o - radius) * s2
                down, right = (0, 0) if which == 0 else (s2p, s2o)
                xs = [x for x in range(top_wide) if column - 2 * r - md - right <= x * s1 <= column - md - right]
                ys = [y for y in range(top_high) if m - 2 * r - md - down <= y * s1 <= m - md - down]
                if not xs or not ys:
                    continue
                at = (item, n, m + s2p, column + s2o) if which == 0 else (item, n, m - s2p, column - s2o)
                sign = 1.0 if one[at] >= two[at] else -1.0
                sign = sign if which == 0 else -sign
                total += sign * sum(seed[item, p_ * grid + o, y, x] for y in ys for x in xs)
            diff[item, n, m0, l0] = total / (k * k * channels)
    return diffs


def warp(image: np.ndarray, flow: np.ndarray, fill: float) -> np.ndarray:
    """flow_warp_kernel_smem."""
    number, channels, high, wide = image.shape
    top = np.full(image.shape, fill)
    for n, y, x in np.ndindex(number, high, wide):
        x2, y2 = np.float32(x) + flow[n, 0, y, x], np.float32(y) + flow[n, 1, y, x]
        if not (x2 >= 0 and y2 >= 0 and x2 < wide and y2 < high):
            continue
        left, up = int(x2), int(y2)
        right, down = min(left + 1, wide - 1), min(up + 1, high - 1)
        alpha, beta = float(x2) - left, float(y2) - up
        for c in range(channels):
            top[n, c, y, x] = (
                (1 - alpha) * (1 - beta) * image[n, c, up, left]
                + alpha * (1 - beta) * image[n, c, up, right]
                + (1 - alpha) * beta * image[n, c, down, left]
                + alpha * beta * image[n, c, down, right]
            )
    return top


def _round(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return x * x * (1.5 * x - 2.5) + 1
    return x * (x * (-0.5 * x + 2.5) - 4) + 2 if x < 2 else 0.0


def _triangle(x: float) -> float:
    return x + 1 if -1 <= x < 0 else 1 - x if 0 <= x <= 1 else 0.0


def resample(image: np.ndarray, made: tuple[int, int], kind: str, antialias: bool) -> np.ndarray:
    """InterpolationKernel and NearestNeighborKernel."""
    number, channels, high, wide = image.shape
    one = np.float32
    fx, fy = one(wide) / one(made[1]), one(high) / one(made[0])
    stretched = antialias and (fx > 1 or fy > 1)
    weigh, width = (_cubic, 4) if kind == "CUBIC" else (_triangle, 2)
    ax, ay = (one(1) / (f if stretched else one(1)) for f in (fx, fy))
    rx, ry = (2 if f < 1 else math.ceil(one(width) / a) for f, a in ((fx, ax), (fy, ay)))
    top = np.zeros((number, channels, *made))
    for y_out, x_out in np.ndindex(made):
        x_in = one(x_out) * fx + fy / one(2) - one(0.5)
        y_in = one(y_out) * fy + fx / one(2) - one(0.5)
        middle_x, middle_y = _round(float(x_in)), _round(float(y_in))
        if kind == "NEAREST":
            top[:, :, y_out, x_out] = image[:, :, middle_y, middle_x]
            continue
        total, weights = np.zeros((number, channels)), 0.0
        for y in range(middle_y - ry, middle_y + ry + 1):
            for x in range(middle_x - rx, middle_x + rx + 1):
                if 0 <= y < high and 0 <= x < wide:
                    weight = (
                        float(ax) * weigh(float(ax * (x_in - one(x)))) * float(ay) * weigh(float(ay * (y_in - one(y))))
                    )
                    total, weights = total + weight * image[:, :, y, x], weights + weight
        top[:, :, y_out, x_out] = total / weights if weights else 0
    return top


def downsample(image: np.ndarray, made: tuple[int, int]) -> np.ndarray:
    """DownsampleFeatures."""
    high, wide = image.shape[2:]
    if (high, wide) == made:
        return image
    down, across = (high - 1) / (made[0] - 1), (wide - 1) / (made[1] - 1)
    top = np.zeros((*image.shape[:2], *made))
    for n, c, desty, destx in np.ndindex(top.shape):
        at_x, at_y = destx / (made[1] - 1) * (wide - 1), desty / (made[0] - 1) * (high - 1)
        value = weight = missing = 0.0
        for dy in range(-math.ceil(down), math.ceil(down) + 1):
            for dx in range(-math.ceil(across), math.ceil(across) + 1):
                y, x = _round(at_y) + dy, _round(at_x) + dx
                if not (0 <= x < wide and 0 <= y < high):
                    continue
                part = max(0.0, 1 - abs(x - at_x) / across) * max(0.0, 1 - abs(y - at_y) / down)
                sample = image[n, c, y, x]
                if np.isnan(sample):
                    missing += part
                else:
                    value, weight = value + sample * part, weight + part
        unknown = weight == 0 or missing / weight > 0.5
        top[n, c, desty, destx] = math.nan if unknown else value / weight
    return top


def upscale(image: np.ndarray, made: tuple[int, int]) -> np.ndarray:
    """UpscaleFeatures, of Accum."""
    high, wide = image.shape[2:]
    top = np.zeros((*image.shape[:2], *made))
    for y, x in np.ndindex(made):
        at_x, at_y = x / (made[1] - 1) * (wide - 1), y / (made[0] - 1) * (high - 1)
        left, up = math.floor(at_x), math.floor(at_y)
        right, down = min(left + 1, wide - 1), min(up + 1, high - 1)
        dx, dy = at_x - left, at_y - up
        top[:, :, y, x] = (
            (1 - dx) * (1 - dy) * image[:, :, up, left]
            + dx * dy * image[:, :, down, right]
            + (1 - dx) * dy * image[:, :, down, left]
            + dx * (1 - dy) * image[:, :, up, right]
        )
    return top


def l1_loss(difference: np.ndarray, p: dict[str, float]) -> tuple[float, np.ndarray]:
    """The loss of L1Loss and the diff of the difference, for a top diff of 1."""
    number, channels = difference.shape[:2]
    known = ~np.isnan(difference)
    divisor = known.sum() / channels if p.get("entries") else number
    plateau, diff, total = p.get("plateau", 0.0), np.zeros(difference.shape), 0.0
    if not p.get("by_place"):
        for at in np.ndindex(difference.shape):
            if known[at] and not abs(difference[at]) < plateau:
                total += abs(difference[at])
                diff[at] = (1 if difference[at] > 0 else -1) / divisor
        return total / divisor, diff
    factor, epsilon = 1 / channels if p.get("prescale") else 1.0, p.get("epsilon", 0.01)
    for n, y, x in np.ndindex(number, *difference.shape[2:]):
        values = np.where(known[n, :, y, x], difference[n, :, y, x], 0)
        squares = factor * float((values**2).sum())
        flat = plateau > 0 and squares < plateau**2
        root = math.sqrt((0 if flat else squares) + epsilon)
        total += root
        if not flat:
            diff[n, :, y, x] = factor * values / root / divisor * known[n, :, y, x]
    return total / divisor, diff


def lpq_loss(difference: np.ndarray, p: dict[str, float]) -> tuple[float, np.ndarray]:
    """The loss of LpqLoss and the diff of the difference, for a top diff of 1."""
    number, channels = difference.shape[:2]
    known = ~np.isnan(difference)
    divisor = known.sum() / channels if p.get("entries") else number
    factor = 1 / channels if p.get("prescale") else 1.0
    diff, total = np.zeros(difference.shape), 0.0
    for n, y, x in np.ndindex(number, *difference.shape[2:]):
        values = np.where(known[n, :, y, x], difference[n, :, y, x], 0)
        bases = np.abs(values) + p["p_epsilon"]
        inner = factor * float((bases ** p["p"]).sum()) + p["q_epsilon"]
        total += inner ** p["q"]
        outer = p["q"] * inner ** p["q"] / inner / divisor * factor
        diff[n, :, y, x] = outer * p["p"] * bases ** p["p"] / bases * np.where(values > 0, 1, -1) * known[n, :, y, x]
    return total / divisor, diff
