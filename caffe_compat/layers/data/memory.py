"""MemoryData: batches from arrays of the caller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.source import DataLayer
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["MemoryData"]


@register
class MemoryData(DataLayer):
    """Consecutive batches of the arrays given to :meth:`reset`, over and over.

    Tops: (batch, channels, height, width), and labels of shape (batch) until the first forward pass, (batch, 1, 1, 1)
    from then on.  ``transform_param`` does not touch arrays, as in Caffe.
    """

    caffe_type = "MemoryData"
    labelled = True
    top_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("memory_data_param")
        self.shape = (int(section.channels), int(section.height), int(section.width))
        self.size = int(section.batch_size)
        if min(self.size, *self.shape) < 1:
            raise self.error(
                "batch_size, channels, height and width of memory_data_param are "
                f"{self.size}, {', '.join(map(str, self.shape))}, expected positive numbers"
            )
        params.section("transform_param").ignore(
            "scale", "mirror", "crop_size", "mean_file", "mean_value", "force_color", "force_gray"
        )
        self.shapes = [(self.size, *self.shape), (self.size,)]
        self._data: Tensor | None = None
        self._labels: Tensor | None = None

    def reset(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Take new arrays and start at their beginning.

        They are referenced: what the caller changes later is seen by later batches.  A batch is a copy, so that no
        layer writes into them.

        Args:
            data: float32 (n, channels, height, width), C-contiguous; n is a multiple of the batch size.
            labels: float32 (n) or (n, 1, 1, 1), C-contiguous.

        Raises:
            LayerError: the arrays are not like this.
        """
        for what, array in (("data", data), ("labels", labels)):
            if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not array.flags.c_contiguous:
                raise self.error(f"the {what} array must be a C-contiguous float32 array")
        if data.ndim != 4 or data.shape[1:] != self.shape:
            names = ("number of channels", "height", "width")
            wrong = [name for name, have, want in zip(names, data.shape[1:], self.shape, strict=False) if have != want]
            raise self.error(
                f"the data array has the wrong {wrong[0] if wrong and data.ndim == 4 else 'number of axes'}: its shape "
                f"is {list(data.shape)}, expected [n, {', '.join(map(str, self.shape))}]"
            )
        if labels.shape not in ((len(data),), (len(data), 1, 1, 1)):
            raise self.error(
                f"data and labels must have the same first dimension: their shapes are {list(data.shape)} and "
                f"{list(labels.shape)}, expected one label per image"
            )
        if len(data) == 0 or len(data) % self.size:
            raise self.error(f"the first dimension {len(data)} must be a positive multiple of batch size {self.size}")
        self._data = torch.from_numpy(data if data.flags.writeable else data.copy())
        self._labels = torch.from_numpy(labels if labels.flags.writeable else labels.copy()).view(-1, 1, 1, 1)
        self.seek(0)

    def _read_tensors(self, number: int) -> tuple[Tensor, ...]:
        if self._data is None or self._labels is None:
            raise self.error("has no data yet: call set_input_arrays (or reset) before the forward pass")
        start = number * self.size % len(self._data)
        batch = slice(start, start + self.size)
        return self._data[batch].clone(), self._labels[batch].clone()

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``."""
        return tuple(tensor.numpy() for tensor in self._read_tensors(number))
