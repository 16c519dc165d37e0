"""The one home of what tests need to run on a GPU: a mark, the device, and how near its numbers must come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import caffe_compat.pycaffe as caffe
from caffe_compat.devices import full_precision
from caffe_compat.proto import caffe_pb2

__all__ = ["DEVICE", "cases", "needs_gpu", "on_gpu", "same", "weights_in"]

DEVICE = torch.device("cuda", 0)
if torch.cuda.is_available():
    full_precision()
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def cases(every: Sequence[Any]) -> list[Any]:
    """The cases of a test marked ``needs_gpu``; without a GPU one of them, which says that they are skipped."""
    return list(every) if torch.cuda.is_available() else list(every[:1])


@contextlib.contextmanager
def on_gpu() -> Iterator[None]:
    """pycaffe's nets and solvers run on the GPU within the block."""
    caffe.set_mode_gpu()
    try:
        yield
    finally:
        caffe.set_mode_cpu()


def same(what: str, got: Any, wanted: Any, rtol: float = 1e-4) -> None:
    """Fail unless no value differs by more than ``rtol`` times the largest; infinities and NaN must stand alike."""
    arrays = [a.detach().cpu().numpy() if isinstance(a, torch.Tensor) else a for a in (got, wanted)]
    mine, theirs = (np.asarray(array, np.float64) for array in arrays)
    assert mine.shape == theirs.shape, f"{what}: shape {mine.shape}, expected {theirs.shape}"
    finite = np.isfinite(theirs)
    odd = ~((mine == theirs) | (np.isnan(mine) & np.isnan(theirs)) | finite)
    assert not odd.any() and np.isfinite(mine[finite]).all(), f"{what}: not finite elsewhere"
    error = np.abs(np.where(finite, mine, 0) - np.where(finite, theirs, 0))
    limit = rtol * np.abs(theirs[finite]).max(initial=0) + 1e-7
    far = error > limit
    assert not far.any(), f"{what}: {far.sum()} of {far.size} differ by up to {error.max():.3g}, {limit:.3g} is allowed"


def weights_in(path: Path) -> list[np.ndarray]:
    """All blobs of a ``.caffemodel``, flat, in their order."""
    model = caffe_pb2.NetParameter.FromString(path.read_bytes())
    return [np.array(blob.data, np.float32) for layer in model.layer for blob in layer.blobs]
