"""How depth became the pictures that a net was trained on: the settings of ``make_hha`` and ``make_disparity``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from caffe_compat.errors import UsageError

__all__ = ["Encoding"]


@dataclass(frozen=True)
class Encoding:
    """What depth must be encoded with to give such pictures.

    Attributes:
        kind: ``hha`` or ``disparity``.
        fill: how holes are filled before: ``nearest``, ``colorization`` or ``none``.
        scale: of the disparity channel, over depth in centimetres (255 cm is 100 ``near``).
        min_depth, max_depth: metres; what lies outside counts as not measured (None: nothing is too far).
        camera: fx, fy, cx, cy in pixels of the pictures; None where pictures of several cameras were seen.
        origin: coordinate of the centre of the first pixel for ``cx, cy``, 0 or 1.
        gravity: of the search for it: (threshold in degrees, iterations) of each stage.
        version: of the encoder; another one may give other pixels.

    Raises:
        UsageError: a number that makes no sense.
    """

    kind: str = "hha"
    fill: str = "nearest"
    scale: float = 31000.0
    min_depth: float = 0.0
    max_depth: float | None = None
    camera: tuple[float, float, float, float] | None = None
    origin: int = 0
    gravity: tuple[tuple[float, float], ...] = ()
    version: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("hha", "disparity"):
            raise UsageError(f"encoding: kind '{self.kind}', expected hha or disparity")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UsageError(f"encoding: scale {self.scale}, expected a positive number")
        far = math.inf if self.max_depth is None else self.max_depth
        if not 0 <= self.min_depth < far:
            raise UsageError(f"encoding: depth from {self.min_depth} to {self.max_depth} m, expected 0 or more, the "
                             "first to be the smaller")  # fmt: skip
        if self.camera is not None and not (len(self.camera) == 4 and all(map(math.isfinite, self.camera))):
            raise UsageError(f"encoding: camera {list(self.camera)}, expected fx, fy, cx, cy")
        if self.origin not in (0, 1):
            raise UsageError(f"encoding: origin {self.origin}, expected 0 or 1")
        if any(len(stage) != 2 for stage in self.gravity):
            raise UsageError(
                f"encoding: gravity {[list(s) for s in self.gravity]}, expected [degrees, iterations] each"
            )
