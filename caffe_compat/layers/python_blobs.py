"""Blobs as a user's Python layer sees them: ``bottom[i]``, ``top[i]`` and ``self.blobs[i]``.

Source: BVLC Caffe 1.0, ``python_layer.hpp`` and ``_caffe.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from caffe_compat.errors import NetError
from caffe_compat.layers.base import Layer, Shape, count

__all__ = ["LayerBlob", "LayerBlobs", "LegacySizes", "ParamBlob", "RawBlobVec"]


class LegacySizes:
    """What Caffe's blobs tell about their size besides ``shape``."""

    shape: Any  # a property of the blob: sizes of its axes

    @property
    def count(self) -> int:
        """Number of values."""
        return count(self.shape)

    num = property(lambda self: self._legacy(0), doc="Size of axis 0, or 1.")
    channels = property(lambda self: self._legacy(1), doc="Size of axis 1, or 1.")
    height = property(lambda self: self._legacy(2), doc="Size of axis 2, or 1.")
    width = property(lambda self: self._legacy(3), doc="Size of axis 3, or 1.")

    def _legacy(self, axis: int) -> int:
        shape: Shape = self.shape
        if len(shape) > 4:
            raise NetError(
                f"num, channels, height and width need a blob of at most 4 axes, this one has the shape {list(shape)}"
            )
        return shape[axis] if axis < len(shape) else 1


class LayerBlob(LegacySizes):
    """What ``bottom[i]`` and ``top[i]`` of a user's layer are: ``data`` and ``diff`` as numpy arrays, and a shape."""

    def __init__(self, shape: Shape = (), dtype: Any = np.float32) -> None:
        self._shape, self._dtype = tuple(shape), np.dtype(dtype)
        self._data: np.ndarray | None = None
        self._diff: np.ndarray | None = None

    @property
    def data(self) -> np.ndarray:
        """The values, writable."""
        if self._data is None:
            self._data = np.zeros(self._shape, self._dtype)
        return self._data

    @property
    def diff(self) -> np.ndarray:
        """The gradient, writable."""
        if self._diff is None:
            self._diff = np.zeros(self._shape, self._dtype)
        return self._diff

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        return self._shape

    def reshape(self, *shape: int) -> None:
        """Give the blob another shape.  Values stay where the blob does not grow, and are 0 where it does."""
        wanted = tuple(int(dim) for dim in shape)
        if any(dim < 0 for dim in wanted) or len(wanted) > 32:
            raise NetError(f"a blob cannot have the shape {list(wanted)}")
        if wanted == self.shape:
            return
        size = count(wanted)
        self._data, self._diff = (
            None if array is None or array.size < size else array.reshape(-1)[:size].reshape(wanted)
            for array in (self._data, self._diff)
        )
        self._shape = wanted

    def set_data(self, array: np.ndarray) -> None:
        """Let the blob show these values."""
        self._data, self._dtype = array, array.dtype
        if array.shape != self._shape:
            self._shape, self._diff = array.shape, None

    def set_diff(self, array: np.ndarray | None) -> None:
        """Let the blob show this gradient; ``None``: zeros."""
        self._diff = array


class ParamBlob(LayerBlob):
    """A blob that became a parameter of the layer: its data are the parameter, its diff is the parameter's ``grad``."""

    def __init__(self, layer: Layer, index: int) -> None:
        super().__init__(layer.blob_shapes[index])
        self._layer, self._index = layer, index
        self._copy: np.ndarray | None = None

    @property
    def data(self) -> np.ndarray:
        """The values, shared with the parameter (on a GPU: a copy; changes are written back after the pass)."""
        if self._copy is not None:
            return self._copy
        parameter = self._layer.blob(self._index).detach()
        if parameter.device.type == "cpu":
            return parameter.numpy()
        self._copy = parameter.cpu().numpy()
        self._unchanged = self._copy.copy()
        return self._copy

    @property
    def diff(self) -> np.ndarray:
        """The accumulated gradient, shared likewise: what the user's code adds to it or puts there stays."""
        if self._diff is not None:
            return self._diff
        parameter = self._layer.blobs[self._index]
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad.device.type == "cpu":
            return parameter.grad.numpy().reshape(self.shape)
        self._diff = parameter.grad.cpu().numpy().reshape(self.shape)
        return self._diff

    def write_back(self) -> None:
        """Bring what the user's code did to copies to the parameter and its gradient."""
        if self._copy is not None and not np.array_equal(self._copy, self._unchanged):
            self._layer.blob(self._index).detach().copy_(torch.from_numpy(self._copy))
        if self._diff is not None:
            gradient = self._layer.blobs[self._index].grad
            assert gradient is not None
            gradient.copy_(torch.from_numpy(self._diff).view(gradient.shape))
        self._copy = self._diff = None

    def reshape(self, *shape: int) -> None:
        """Parameters keep their shape."""
        if tuple(shape) != self.shape:
            raise NetError(f"a parameter of shape {list(self.shape)} cannot be reshaped to {list(shape)}")


class LayerBlobs(Sequence[LayerBlob]):
    """``self.blobs`` of a user's layer."""

    def __init__(self) -> None:
        self._blobs: list[LayerBlob] = []
        self.frozen = False

    def add_blob(self, *shape: int) -> None:
        """Append a learnable blob of that shape, filled with zeros.

        Raises:
            NetError: not called from ``setup``.
        """
        if self.frozen:
            raise NetError("blobs.add_blob can be called in setup only")
        blob = LayerBlob()
        blob.reshape(*shape)
        self._blobs.append(blob)

    def replace(self, blobs: Sequence[LayerBlob]) -> None:
        """Put the parameters in place of what ``setup`` made."""
        self._blobs, self.frozen = list(blobs), True

    def __getitem__(self, index: Any) -> Any:
        return self._blobs[index]

    def __len__(self) -> int:
        return len(self._blobs)

    def __iter__(self) -> Iterator[LayerBlob]:
        return iter(self._blobs)


class RawBlobVec(list[LayerBlob]):
    """The ``bottom`` or the ``top`` of a user's layer."""
