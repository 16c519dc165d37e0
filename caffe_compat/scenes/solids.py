"""Solids as unions of convex parts, and the eight object classes built from them.

A part is the set of points p with ``normals @ p <= offsets`` and, where given, ``q(p) = a.p^2 + b.p + c <= 0``.  Object
coordinates are metres, Y up, the floor at y = 0, the axis of the object at x = z = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSES", "Hits", "Part", "bounding_radius", "intersect", "make_object", "occluded", "scaled"]

Array = NDArray[np.floating]
_BOX = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
_FAR = np.float32(1e9)


@dataclass(frozen=True)
class Part:
    """A convex part.

    Attributes:
        normals: outward normals of the half-spaces, (K, 3).
        offsets: their offsets, (K,).
        quadric: rows a, b and (c, 0, 0) of the quadric, (3, 3), or None.
    """

    normals: Array
    offsets: Array
    quadric: Array | None = None


@dataclass(frozen=True)
class Hits:
    """Where N rays meet a union of parts.

    Attributes:
        t: ray parameter of the first hit, (N,), 1e9 where there is none.
        normals: outward unit normals there, (N, 3), zero where there is none.
    """

    t: Array
    normals: Array


def _span(part: Part, origin: Array, direction: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    """Entry and exit parameter of rays (3, N) and the face of entry (K for the quadric); empty if entry >= exit."""
    slope = part.normals @ direction
    slope = np.where(np.abs(slope) < 1e-7, np.float32(1e-7), slope)
    t = (part.offsets[:, None] - part.normals @ origin) / slope
    entries = np.where(slope < 0, t, -_FAR)
    face = entries.argmax(0)
    enter = entries.max(0)
    leave = np.where(slope > 0, t, _FAR).min(0)
    if part.quadric is None:
        return enter, leave, face
    near, far = _quadric_span(part.quadric, origin, direction)
    face = np.where(near > enter, len(part.offsets), face)
    return np.maximum(enter, near), np.minimum(leave, far), face


def _quadric_span(quadric: Array, origin: Array, direction: Array) -> tuple[Array, Array]:
    """The stretch of rays (3, N) inside a quadric; of a double cone, the half that opens downwards."""
    a, b, c = quadric[0][:, None], quadric[1][:, None], quadric[2, 0]
    two = (a * direction * direction).sum(0)
    two = np.where(np.abs(two) < 1e-7, np.float32(1e-7), two)
    one = ((2 * a * origin + b) * direction).sum(0)
    none = ((a * origin + b) * origin).sum(0) + c
    square = one * one - 4 * two * none
    root = np.sqrt(np.maximum(square, 0))
    first = (-one - np.sign(two) * root) / (2 * two)
    second = (-one + np.sign(two) * root) / (2 * two)
    down = direction[1] < 0
    near = np.where(two > 0, first, np.where(down, second, -_FAR))
    far = np.where(two > 0, second, np.where(down, _FAR, first))
    missed = (square <= 0) & (two > 0)
    return np.where(missed, _FAR, near), np.where(missed, -_FAR, far)


def intersect(parts: list[Part], origin: Array, direction: Array) -> Hits:
    """First hits of rays ``origin + t direction`` (t > 0; each (3, N) or (3, 1)) with a union of parts."""
    (count,) = np.broadcast_shapes(origin.shape[1:], direction.shape[1:])
    best = np.full(count, _FAR, np.float32)
    normals = np.zeros((count, 3), np.float32)
    for part in parts:
        enter, leave, face = _span(part, origin, direction)
        hit = np.flatnonzero((enter < leave) & (enter > 1e-4) & (enter < best))
        best[hit] = enter[hit]
        face = face[hit]
        flat = face < len(part.offsets)
        normals[hit[flat]] = part.normals[face[flat]]
        if part.quadric is not None and not flat.all():
            curved = hit[~flat]
            points = origin + direction * enter
            gradient = (2 * part.quadric[0][:, None] * points[:, curved] + part.quadric[1][:, None]).T
            normals[curved] = gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)
    return Hits(best, normals)


def occluded(parts: list[Part], origin: Array, direction: Array) -> NDArray[np.bool_]:
    """Whether rays ``origin + t direction``, t > 0, meet any part; (N,)."""
    blocked = np.zeros(np.broadcast_shapes(origin.shape[1:], direction.shape[1:]), bool)
    for part in parts:
        enter, leave, _ = _span(part, origin, direction)
        blocked |= (enter < leave) & (leave > 0)
    return blocked


def bounding_radius(parts: list[Part], centre: Array, limit: float = 2.0) -> float:
    """Radius of a sphere about ``centre`` that holds every part, from rays shot inwards (with 5 % to spare)."""
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    tilts = np.linspace(-np.pi / 2, np.pi / 2, 13)
    turn, tilt = (grid.ravel() for grid in np.meshgrid(turns, tilts))
    outwards = np.stack([np.cos(tilt) * np.cos(turn), np.sin(tilt), np.cos(tilt) * np.sin(turn)]).astype(np.float32)
    t = intersect(parts, centre[:, None] + limit * outwards, -outwards).t
    return float(1.05 * (limit - t.min()))


def _box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Part:
    offsets = np.array([high[0], -low[0], high[1], -low[1], high[2], -low[2]], np.float32)
    return Part(_BOX, offsets)


def _slab(width: float, depth: float, low: float, high: float, at: tuple[float, float] = (0.0, 0.0)) -> Part:
    """An upright box of given width (x) and depth (z) between two heights, centred at (x, z)."""
    x, z = at
    return _box((x - width / 2, low, z - depth / 2), (x + width / 2, high, z + depth / 2))


def _legs(width: float, depth: float, height: float, thick: float) -> list[Part]:
    x, z = (width - thick) / 2, (depth - thick) / 2
    return [_slab(thick, thick, 0, height, (sx * x, sz * z)) for sx in (-1, 1) for sz in (-1, 1)]


def _round(a: tuple[float, float, float], b: float, c: float, height: float) -> Part:
    quadric = np.array([a, (0, b, 0), (c, 0, 0)], np.float32)
    return Part(_BOX[2:4], np.array([height, 0], np.float32), quadric)


def _make_box(rng: np.random.Generator) -> list[Part]:
    return [_slab(rng.uniform(0.55, 0.95), rng.uniform(0.55, 0.95), 0, rng.uniform(0.45, 0.9))]


def _make_ball(rng: np.random.Generator) -> list[Part]:
    radius = rng.uniform(0.36, 0.5)
    return [_round((1, 1, 1), -2 * radius, 0, 2 * radius)]


def _make_cylinder(rng: np.random.Generator) -> list[Part]:
    return [_round((1, 0, 1), 0, -(rng.uniform(0.25, 0.42) ** 2), rng.uniform(0.6, 1.0))]


def _make_cone(rng: np.random.Generator) -> list[Part]:
    height, slope = rng.uniform(0.75, 1.05), rng.uniform(0.45, 0.6)
    return [_round((1, -(slope**2), 1), 2 * slope**2 * height, -((slope * height) ** 2), height)]


def _make_pyramid(rng: np.random.Generator) -> list[Part]:
    height, half = rng.uniform(0.65, 0.95), rng.uniform(0.38, 0.5)
    length = np.hypot(height, half)
    up, out = half / length, height / length
    faces = np.array([[out, up, 0], [-out, up, 0], [0, up, out], [0, up, -out], [0, -1, 0]], np.float32)
    return [Part(faces, np.array([up * height] * 4 + [0], np.float32))]


def _make_chair(rng: np.random.Generator) -> list[Part]:
    width, depth, seat, thick = rng.uniform((0.45, 0.45, 0.38, 0.07), (0.65, 0.6, 0.5, 0.11))
    back = _slab(width, thick, seat, rng.uniform(0.9, 1.1), (0, (depth - thick) / 2))
    if rng.random() < 0.35:
        return [_slab(width, depth, 0, seat), back]
    return [_slab(width, depth, seat - thick, seat), back, *_legs(width, depth, seat, 0.07)]


def _make_table(rng: np.random.Generator) -> list[Part]:
    width, depth, height, thick = rng.uniform((0.8, 0.6, 0.5, 0.06), (1.15, 0.85, 0.75, 0.1))
    top = _slab(width, depth, height - thick, height)
    if rng.random() < 0.35:
        return [top, _slab(0.14, 0.14, 0, height), _slab(0.45, 0.4, 0, 0.06)]
    return [top, *_legs(width, depth, height, 0.08)]


def _make_stairs(rng: np.random.Generator) -> list[Part]:
    width, depth, height = rng.uniform((0.6, 0.8, 0.6), (0.9, 1.0, 0.85))
    run, rise = depth / 3, height / 3
    return [_slab(width, (3 - k) * run, 0, (k + 1) * rise, (0, k * run / 2)) for k in range(3)]


_MAKERS: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "ball": _make_ball,
    "box": _make_box,
    "chair": _make_chair,
    "cone": _make_cone,
    "cylinder": _make_cylinder,
    "pyramid": _make_pyramid,
    "stairs": _make_stairs,
    "table": _make_table,
}

CLASSES: tuple[str, ...] = tuple(_MAKERS)
"""Names of the object classes; the label of an image is the position in this tuple."""


def make_object(label: int, rng: np.random.Generator) -> list[Part]:
    """Random parts of an object of class ``CLASSES[label]``, about 1 m across."""
    return _MAKERS[CLASSES[label]](rng)


def scaled(parts: list[Part], factor: float) -> list[Part]:
    """The same parts, ``factor`` times as large."""
    powers = np.array([[1.0], [factor], [factor**2]], np.float32)
    return [
        Part(p.normals, np.float32(factor) * p.offsets, None if p.quadric is None else powers * p.quadric)
        for p in parts
    ]
