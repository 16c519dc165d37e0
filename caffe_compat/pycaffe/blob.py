"""Blobs and layers as scripts see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from caffe_compat.errors import NetError
from caffe_compat.layers.python_blobs import LegacySizes
from caffe_compat.net import Blob

__all__ = ["BlobVec", "BlobView", "LayerView"]


class BlobView(LegacySizes):
    """A blob as pycaffe shows it: ``data`` and ``diff`` as live numpy views."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob

    @property
    def data(self) -> np.ndarray:
        """Values, float32, writable."""
        return self._blob.data

    @property
    def diff(self) -> np.ndarray:
        """Gradient, float32, writable."""
        return self._blob.diff

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._blob.shape

    def reshape(self, *shape: int) -> None:
        """Change the shape; the net follows at its next forward or reshape."""
        self._blob.reshape(*shape)


class BlobVec(Sequence[BlobView]):
    """The learnable blobs of a layer."""

    def __init__(self, layer: str, blobs: Sequence[BlobView]) -> None:
        self._layer, self._blobs = layer, tuple(blobs)

    def add_blob(self, *shape: int) -> None:
        """Only layers written in Python may add blobs, in their ``setup``.

        Raises:
            NetError: always, as this layer is built already.
        """
        raise NetError(
            f"layer '{self._layer}' cannot get another blob {list(shape)}: add_blob is for the setup of a Python layer"
        )

    def __getitem__(self, index: Any) -> Any:
        return self._blobs[index]

    def __len__(self) -> int:
        return len(self._blobs)

    def __iter__(self) -> Iterator[BlobView]:
        return iter(self._blobs)


class LayerView:
    """A layer as pycaffe shows it: ``type`` and ``blobs``."""

    def __init__(self, type_name: str, blobs: BlobVec) -> None:
        self.type, self.blobs = type_name, blobs
