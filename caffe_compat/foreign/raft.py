"""Optical flow by RAFT, as torchvision has it, with weights from a file that is there: nothing is downloaded."""

from __future__ import annotations

import dataclasses
import functools
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from caffe_compat.errors import DataError, UsageError, WeightsError
from caffe_compat.flow.methods import check_frames
from caffe_compat.foreign.state import copy_state, read_state
from caffe_compat.stamps import file_digest

__all__ = ["RaftMethod", "raft_method"]

UPDATES = 12
"""How often the flow is updated: what the paper and torchvision take."""
_STEP, _LEAST = 8, 128
"""RAFT's net needs sides of a multiple of 8 pixels, and 128 or more."""
_FIRST = "feature_encoder.convnormrelu.0.weight"
_NETS = {64: "raft_large", 32: "raft_small"}
"""By the channels of the first convolution."""


@dataclasses.dataclass(frozen=True)
class RaftMethod:
    """RAFT, as a :class:`~caffe_compat.flow.Method`; made by :func:`raft_method`.

    Args:
        net: ``raft_large`` or ``raft_small``.
        weights: file of its weights.
        digest: of their bytes.
        updates: how often the flow is updated.
        device: where it runs.
    """

    net: str
    weights: str
    digest: str
    updates: int = UPDATES
    device: str = "cpu"

    def settings(self) -> dict[str, Any]:
        return {"method": "raft", "net": self.net, "weights_sha1": self.digest, "updates": self.updates}

    def flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        check_frames(first, second)
        height, width = first.shape[:2]
        (top, bottom), (left, right) = _margins(height), _margins(width)
        images = [
            functional.pad(_normalised(frame, self.device), (left, right, top, bottom), mode="replicate")
            for frame in (first, second)
        ]
        with torch.inference_mode():
            found = _loaded(self.net, self.weights, self.device)(*images, num_flow_updates=self.updates)[-1]
        cut: Tensor = found[0, :, top : top + height, left : left + width]
        return np.ascontiguousarray(cut.permute(1, 2, 0).float().cpu().numpy())


def raft_method(weights: str, updates: int = UPDATES, device: str = "cpu") -> RaftMethod:
    """RAFT with the weights of a file, which say whether it is the large or the small net.

    Args:
        weights: torchvision's ``raft_large_*.pth`` or ``raft_small_*.pth``, or another state dict of these nets
            (``.pth`` or ``.safetensors``).
        updates: how often the flow is updated.
        device: as torch names it.

    Raises:
        MissingFileError: no such file.
        WeightsError: they are none of RAFT, or do not fit it.
        UsageError: fewer than one update, or no torchvision.
    """
    if updates < 1:
        raise UsageError(f"updates is {updates}, expected 1 or more")
    first = read_state(weights).get(_FIRST)
    net = _NETS.get(int(first.shape[0]) if first is not None and first.ndim == 4 else 0)
    if net is None:
        raise WeightsError(f"{weights}: holds no weights of torchvision's raft_large or raft_small (no '{_FIRST}')")
    _loaded(net, weights, "cpu")  # so that what does not fit is said before the work
    return RaftMethod(net, weights, file_digest(weights), updates, device)


@functools.lru_cache(maxsize=1)
def _loaded(net: str, weights: str, device: str) -> nn.Module:
    """The net with its weights, once a process."""
    try:
        module: nn.Module = getattr(import_module("torchvision.models.optical_flow"), net)(weights=None)
    except ImportError as error:
        raise UsageError("method 'raft' needs torchvision: pip install torchvision") from error
    copy_state(module, read_state(weights), weights, f"torchvision's {net}")
    return module.eval().requires_grad_(False).to(device)


def _normalised(frame: np.ndarray, device: str) -> Tensor:
    """A frame (blue first) as RAFT takes it: float32 [1, 3, H, W], red first, -1 to 1."""
    pixels = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).to(device)
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def _margins(length: int) -> tuple[int, int]:
    """Pixels before and after, so that the length fits."""
    if length < 1:
        raise DataError("frames without pixels")
    wanted = max(_LEAST, -(-length // _STEP) * _STEP)
    before = (wanted - length) // 2
    return before, wanted - length - before
