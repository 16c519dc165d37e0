"""How far flow is from the true one: Middlebury's measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.flow.checks import first_bad

__all__ = ["FlowError", "flow_error", "mean_error"]


@dataclasses.dataclass(frozen=True)
class FlowError:
    """The error of flow where the true one is known.

    Attributes:
        end_point: pixels between where the two flows end, mean.
        angle: degrees between (u, v, 1) and the true one, mean.
        over_3: share of the pixels that are off by more than 3 pixels, 0 to 1.
        pixels: how many are known.
    """

    end_point: float
    angle: float
    over_3: float
    pixels: int

    def __str__(self) -> str:
        return (
            f"end-point error {self.end_point:.3f} px, angular error {self.angle:.2f} degrees, "
            f"{100 * self.over_3:.1f} % off by more than 3 px ({self.pixels} pixels with known flow)"
        )


def flow_error(flow: np.ndarray, truth: np.ndarray) -> FlowError:
    """Compare flow with the true one, both [H, W, 2]; where the true one is NaN nothing is asked.

    Raises:
        DataError: different shapes, flow that is not finite, a true one that is infinite, or nowhere known.
    """
    if flow.ndim != 3 or flow.shape[2] != 2 or flow.shape != truth.shape:
        raise DataError(f"flow {list(flow.shape)}, the true one {list(truth.shape)}: expected the same [H, W, 2]")
    bad = first_bad(flow[..., 0], flow[..., 1])
    if bad:
        raise DataError(bad)
    known = ~np.isnan(truth).any(-1)
    mine, true = flow[known].astype(np.float64), truth[known].astype(np.float64)
    if not len(true):
        raise DataError("the true flow is nowhere known")
    if not np.isfinite(true).all():
        raise DataError("the true flow is infinite in places")
    off = np.hypot(*(mine - true).T)
    cosine = (1 + (mine * true).sum(1)) / np.sqrt((1 + (mine**2).sum(1)) * (1 + (true**2).sum(1)))
    angle = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return FlowError(float(off.mean()), float(angle.mean()), float((off > 3).mean()), len(true))


def mean_error(errors: Sequence[FlowError]) -> FlowError:
    """The error over several frames, every pixel counted alike.

    Raises:
        DataError: there is none.
    """
    pixels = sum(error.pixels for error in errors)
    if not pixels:
        raise DataError("no frame with a true flow")
    end_point, angle, over_3 = (
        sum(getattr(error, name) * error.pixels for error in errors) / pixels
        for name in ("end_point", "angle", "over_3")
    )
    return FlowError(end_point, angle, over_3, pixels)
