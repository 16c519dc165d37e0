"""Mixed precision: which layers of a net compute in 16 bits, and which in 32.

Layers say it themselves (``Layer.precision``).  Those that multiply matrices run under torch's autocast: weights stay
float32, are rounded for the product, and get float32 gradients.  Those that only move, choose or add numbers take what
they get.  All others, losses, softmax, LRN, statistics of batches, scores and what pools boxes among them, get float32
and compute in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.errors import UsageError
from caffe_compat.net.plan import Node

__all__ = ["KINDS", "Precision", "widened"]

KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Names of the 16-bit types."""


class Precision:
    """Gives each layer its bottoms in the type that it computes in.

    Args:
        kind: ``"bf16"`` or ``"fp16"``.

    Attributes:
        dtype: the 16-bit type.
        loss_scale: what losses are multiplied by before the backward pass, a power of two as Tensor[] on the net's
            device, or None.

    Raises:
        UsageError: another kind.
    """

    def __init__(self, kind: str) -> None:
        if kind not in KINDS:
            raise UsageError(f"amp is '{kind}', expected {' or '.join(KINDS)}")
        self.kind, self.dtype = kind, KINDS[kind]
        self.loss_scale: Tensor | None = None

    def computes(self, node: Node, device: torch.device) -> contextlib.AbstractContextManager[None]:
        """The context that a layer runs in."""
        if node.layer.precision != "half":
            return contextlib.nullcontext()
        return torch.autocast(device.type, self.dtype)

    def taken(self, node: Node, bottoms: Sequence[Tensor]) -> list[Tensor]:
        """Bottoms as the layer takes them; losses are summed in float32 whatever layer makes them."""
        narrow = node.layer.precision == "half" or (
            node.layer.precision == "any" and not node.losses and all(b.dtype == self.dtype for b in bottoms)
        )
        return list(bottoms) if narrow else [widened(bottom) for bottom in bottoms]


def widened(value: Tensor) -> Tensor:
    """A 16-bit floating tensor as float32, any other as it is."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
