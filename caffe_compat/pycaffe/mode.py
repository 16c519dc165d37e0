"""Where nets run: what ``set_mode_cpu``, ``set_mode_gpu``, ``set_device`` and ``set_arithmetic`` choose.

As in Caffe the choice is one per thread, and a net follows it when it runs next.
"""

from __future__ import annotations

from contextvars import ContextVar

import torch

from caffe_compat.devices import choose
from caffe_compat.errors import UsageError

__all__ = ["current_device", "set_arithmetic", "set_device", "set_mode_cpu", "set_mode_gpu", "uses_gemm"]

_gpu: ContextVar[bool] = ContextVar("gpu", default=False)
_device: ContextVar[int] = ContextVar("device", default=0)
_gemm: ContextVar[bool] = ContextVar("gemm", default=True)


def set_mode_cpu() -> None:
    """Run on the CPU (the default)."""
    _gpu.set(False)


def set_mode_gpu() -> None:
    """Run on the GPU that ``set_device`` chose (the first, if none was chosen).

    Raises:
        UsageError: there is no such GPU.
    """
    choose(_device.get(), "set_mode_gpu")
    _gpu.set(True)


def set_device(device_id: int) -> None:
    """Choose a GPU by number.

    Raises:
        UsageError: there is no such GPU.
    """
    _device.set(choose(int(device_id), "set_device").index)


def current_device() -> torch.device:
    """Where a net of this thread runs now."""
    return torch.device("cuda", _device.get()) if _gpu.get() else torch.device("cpu")


def set_arithmetic(kind: str) -> None:
    """How nets made by ``Net(...)`` from now on convolve on the CPU before a backward pass.

    ``"gemm"`` (the default) unfolds images and multiplies matrices, as Caffe does, so that roundings are nearest to
    Caffe's and gradients take the same way where two values are nearly equal.  ``"fast"`` lets oneDNN choose, as
    solvers and nets without a backward pass always do.

    Raises:
        UsageError: another word.
    """
    if kind not in ("gemm", "fast"):
        raise UsageError(f"set_arithmetic('{kind}'): expected 'gemm' or 'fast'")
    _gemm.set(kind == "gemm")


def uses_gemm() -> bool:
    """Whether nets of this thread convolve as Caffe does."""
    return _gemm.get()
