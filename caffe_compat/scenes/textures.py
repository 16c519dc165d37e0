"""Random solid textures: colour as a function of the point in space, so no surface needs a parametrisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Texture", "random_texture"]

Array = NDArray[np.floating]
_KINDS = ("plain", "plain", "stripes", "checks", "clouds", "spots")


@dataclass(frozen=True)
class Texture:
    """Two colours mixed by a pattern.

    Attributes:
        kind: one of plain, stripes, checks, clouds, spots.
        colours: the two reflectances, (2, 3), RGB in [0, 1].
        waves: wave vectors of the pattern in radians per metre, (4, 3).
        phases: their phases, (4,).
    """

    kind: str
    colours: Array
    waves: Array
    phases: Array

    def at(self, points: Array) -> Array:
        """Reflectance, (N, 3), at points (N, 3) in metres."""
        if self.kind == "plain":
            return np.broadcast_to(self.colours[0], points.shape)
        count = {"stripes": 1, "checks": 3}.get(self.kind, 4)
        waves = np.sin(points @ self.waves[:count].T + self.phases[:count])
        if self.kind == "stripes":
            mix = waves[:, 0] * 4
        elif self.kind == "checks":
            mix = waves.prod(1) * 12
        else:
            mix = waves.sum(1) * (0.5 if self.kind == "clouds" else 3) - (0 if self.kind == "clouds" else 3)
        mix = np.clip(0.5 + 0.5 * mix, 0, 1)[:, None]
        return np.asarray((1 - mix) * self.colours[0] + mix * self.colours[1])


def random_texture(rng: np.random.Generator, brightness: tuple[float, float], contrast: float = 0.3) -> Texture:
    """A random, rather grey texture.

    Args:
        rng: source of everything random.
        brightness: range of the reflectance.
        contrast: in [0, 1], how far the second colour may lie from the first.
    """
    first, second = (rng.uniform(*brightness) * rng.uniform(0.85, 1.15, 3) for _ in range(2))
    second = first + contrast * (second - first)
    kind = _KINDS[rng.integers(len(_KINDS))]
    length = 2 * np.pi / np.exp(rng.uniform(np.log(0.12), np.log(0.5)))
    waves = rng.normal(size=(4, 3))
    if kind == "checks":
        waves[:3] = np.eye(3)
    waves *= length / np.linalg.norm(waves, axis=1, keepdims=True)
    phases = rng.uniform(0, 2 * np.pi, 4)
    return Texture(kind, np.stack([first, second]).astype(np.float32), *(a.astype(np.float32) for a in (waves, phases)))
