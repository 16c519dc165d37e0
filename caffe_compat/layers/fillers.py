"""How Caffe initialises blobs.

Source: BVLC Caffe 1.0, ``filler.hpp``.  Distributions are Caffe's, the numbers are not; see :mod:`caffe_compat.random`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffe_compat import random
from caffe_compat.errors import CaffeCompatError, LayerError, nearest

__all__ = ["CONSTANT_ZERO", "Filler"]

TYPES = (
    "constant",
    "uniform",
    "gaussian",
    "positive_unitball",
    "xavier",
    "msra",
    "bilinear",
    "gaussian_unitball",
    "diagonal",
)
VARIANCE_NORM = ("FAN_IN", "FAN_OUT", "AVERAGE")


@dataclass(frozen=True)
class Filler:
    """A ``FillerParameter``.

    fan_in is ``count / shape[0]`` and fan_out ``count / shape[1]`` for every kind of blob, as in Caffe.
    ``gaussian_unitball`` (rows of length 1) and ``alpha`` of msra, the slope of the leaky ReLU behind, are
    happynear/caffe-windows'.  ``diagonal`` (``diag_val`` over the area of the kernel where output and input channel are
    the same, 1 for those that are not given) is lmb-freiburg/flownet2's.
    """

    type: str = "constant"
    value: float = 0.0
    min: float = 0.0
    max: float = 1.0
    mean: float = 0.0
    std: float = 1.0
    sparse: int = -1
    variance_norm: str = "FAN_IN"
    alpha: float = 0.0
    diagonal: tuple[float, ...] = ()

    @classmethod
    def from_message(
        cls, message: Any, error: Callable[[str], CaffeCompatError] | None = None, field: str = "filler"
    ) -> Filler:
        """Read a ``FillerParameter``; ``error`` makes the exception for what Caffe refuses."""

        def fail(reason: str) -> CaffeCompatError:
            return error(f"{field}: {reason}") if error else LayerError("", "", f"{field}: {reason}")

        if message.type not in TYPES:
            raise fail(
                f"unknown filler type '{message.type}', expected one of {', '.join(TYPES)}"
                + nearest(message.type, TYPES)
            )
        if message.type == "gaussian" and not message.std > 0:
            raise fail(f"std is {message.std:g}, expected a positive number")
        if message.type == "uniform" and not message.min <= message.max:
            raise fail(f"min is {message.min:g} and max is {message.max:g}, expected min to be at most max")
        if message.sparse != -1 and message.type != "gaussian":
            raise fail(f"sparse is for the gaussian filler, not for '{message.type}'")
        return cls(
            message.type,
            message.value,
            message.min,
            message.max,
            message.mean,
            message.std,
            message.sparse,
            VARIANCE_NORM[message.variance_norm],
            message.alpha,
            tuple(float(value) for value in message.diag_val),
        )

    @property
    def draws(self) -> bool:
        """Whether numbers are drawn at random."""
        return self.type not in ("constant", "bilinear", "diagonal")

    @torch.no_grad()
    def fill_(self, blob: Tensor) -> Tensor:
        """Fill ``blob`` in place.

        Raises:
            ValueError: the blob is empty or its shape does not suit the filler; the caller names the layer.
        """
        if blob.numel() == 0:
            raise ValueError(f"a blob of shape {list(blob.shape)} has nothing to fill")
        if blob.dim() == 0 and (
            self.type in ("xavier", "msra", "positive_unitball", "gaussian_unitball") or self.sparse >= 0
        ):
            raise ValueError(f"filler '{self.type}' needs a blob with at least one axis")
        getattr(self, f"_{self.type}")(blob)
        return blob

    def _constant(self, blob: Tensor) -> None:
        blob.fill_(self.value)

    def _uniform(self, blob: Tensor) -> None:
        blob.uniform_(self.min, self.max, generator=random.generator(blob.device))

    def _gaussian(self, blob: Tensor) -> None:
        blob.normal_(self.mean, self.std, generator=random.generator(blob.device))
        if self.sparse >= 0:
            keep = self.sparse / blob.shape[0]  # Caffe divides by the number of outputs, whatever its comment says
            if keep > 1:
                raise ValueError(f"sparse is {self.sparse}, expected at most shape[0] = {blob.shape[0]}")
            blob.mul_(torch.empty_like(blob).bernoulli_(keep, generator=random.generator(blob.device)))

    def _positive_unitball(self, blob: Tensor) -> None:
        rows = blob.uniform_(0, 1, generator=random.generator(blob.device)).view(blob.shape[0], -1)
        rows.div_(rows.sum(1, keepdim=True))

    def _gaussian_unitball(self, blob: Tensor) -> None:
        rows = blob.normal_(0, 1, generator=random.generator(blob.device)).view(blob.shape[0], -1)
        rows.div_((rows.square().sum(1, keepdim=True) + 1e-12).sqrt())

    def _xavier(self, blob: Tensor) -> None:
        bound = math.sqrt(3 / self._fan(blob))
        blob.uniform_(-bound, bound, generator=random.generator(blob.device))

    def _msra(self, blob: Tensor) -> None:
        blob.normal_(0, math.sqrt(2 / self._fan(blob) / (1 + self.alpha**2)), generator=random.generator(blob.device))

    def _bilinear(self, blob: Tensor) -> None:
        if blob.dim() != 4 or blob.shape[2] != blob.shape[3]:
            raise ValueError(f"filler 'bilinear' needs a blob of 4 axes with square kernels, not {list(blob.shape)}")
        size = blob.shape[3]
        factor = math.ceil(size / 2)
        centre = (size - 1) / (2 * factor)
        ramp = 1 - (torch.arange(size, dtype=blob.dtype, device=blob.device) / factor - centre).abs()
        blob.copy_((ramp[:, None] * ramp).expand_as(blob))

    def _diagonal(self, blob: Tensor) -> None:
        if blob.dim() != 4:
            raise ValueError(f"filler 'diagonal' needs a blob of 4 axes, not {list(blob.shape)}")
        blob.zero_()
        for index in range(min(blob.shape[:2])):
            value = self.diagonal[index] if index < len(self.diagonal) else 1.0
            blob[index, index] = value / (blob.shape[2] * blob.shape[3])

    def _fan(self, blob: Tensor) -> float:
        fan_in = blob.numel() / blob.shape[0]
        fan_out = blob.numel() / blob.shape[1] if blob.dim() > 1 else blob.numel()
        return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[self.variance_norm]


CONSTANT_ZERO = Filler()
