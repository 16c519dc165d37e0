"""The numbers of the encoding, and what is refused as flow."""

from __future__ import annotations

import numpy as np

from caffe_compat.errors import DataError

__all__ = ["LONG", "MEAN", "MOST", "SCALE", "check_shapes", "first_bad"]

MOST = 8.0
"""Pixels a frame that the picture can hold: u and v from -8 to 7.94, the length up to 7.94."""
MEAN = 128.0
"""Stands for no flow, and is subtracted from all three channels."""
SCALE = MEAN / MOST
"""16: what a pixel a frame is worth."""
LONG = 1e9
"""Flow that is longer is cut to this before its square is taken: it is far beyond what the picture holds."""


def check_shapes(u: tuple[int, ...], v: tuple[int, ...]) -> None:
    """Refuse components of flow that do not belong together.

    Raises:
        DataError: other than two of one shape [..., H, W].
    """
    if tuple(u) != tuple(v) or len(u) < 2:
        raise DataError(f"flow of shapes {list(u)} and {list(v)}: expected two of one shape [..., H, W]")


def first_bad(u: np.ndarray, v: np.ndarray) -> str:
    """What is said of flow that is not finite everywhere; empty if it is."""
    bad = ~(np.isfinite(u) & np.isfinite(v))
    if not bad.any():
        return ""
    at = np.unravel_index(int(bad.argmax()), bad.shape)
    *_, row, column = (int(index) for index in at)
    return (
        f"flow is NaN or infinite at {int(bad.sum())} of {bad.size} pixels, the first at row {row}, column {column}: "
        f"({float(u[at])}, {float(v[at])})"
    )
