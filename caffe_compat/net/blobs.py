"""Blobs: data and diff that live between calls, in buffers that several blobs may share.

Source: BVLC Caffe 1.0, ``blob.cpp`` and ``syncedmem.cpp``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from caffe_compat.errors import NetError
from caffe_compat.layers import Layer, Shape, count
from caffe_compat.memory import SMALL, available_memory, human_size
from caffe_compat.net.exhausted import asked, in_blob, is_out_of_memory
from caffe_compat.net.precision import widened

__all__ = ["Blob", "Buffer", "ParamBlob", "accumulate", "gradient_of"]

CPU = torch.device("cpu")


class Buffer:
    """Values that one or several blobs show, each in its own shape.

    Nothing is allocated before somebody asks.  As long as nobody has a numpy view, results replace the tensor; once a
    view was handed out it stays live: results are copied into its memory.  A buffer that does not grow keeps its
    values, one that grows starts at zero.

    Args:
        size: number of values.
        what: it is, for errors.

    Attributes:
        initial: what the values are at first; of a diff a loss weight.
    """

    __slots__ = ("capacity", "device", "initial", "values", "view", "what")

    def __init__(self, size: int, device: torch.device = CPU, what: str = "a blob") -> None:
        self.capacity, self.device, self.initial, self.what = size, device, 0.0, what
        self.values: Tensor | None = None
        self.view: np.ndarray | None = None

    def reserve(self, size: int) -> None:
        """Make room for ``size`` values."""
        if size > self.capacity:
            self.capacity, self.initial, self.values, self.view = size, 0.0, None, None

    def tensor(self, shape: Shape) -> Tensor:
        """The first values, in a shape, on the buffer's device."""
        size = count(shape)
        if self.values is None or self.values.numel() < size:
            self._allocate(max(size, self.capacity))
        assert self.values is not None
        if self.view is not None and self.device.type != "cpu":
            unseen(self.values).copy_(torch.from_numpy(self.view).view(self.values.shape))
        if self.values.shape == shape:
            return self.values
        if not self.values.is_contiguous():
            self.values = self.values.contiguous()
        return self.values.view(-1)[:size].view(shape)

    def numpy(self, shape: Shape) -> np.ndarray:
        """The first values as an array, float32, writable and live."""
        if self.view is None or self.values is None:
            self.values = self.tensor(shape).contiguous() if self.values is None else self.values.contiguous()
            if self.values.numel() < count(shape):
                self.tensor(shape)
            self.values = widened(self.values)
            self.view = self.values.detach().view(-1).cpu().numpy()
        return self.view[: count(shape)].reshape(shape)

    def set(self, value: Tensor) -> None:
        """Take a result."""
        size = value.numel()
        keep = bool(self.initial) and size < self.capacity  # what is behind a smaller batch keeps its loss weight
        if keep and self.view is None:  # the values may be a result that others hold
            self.values = self.tensor((self.capacity,)).clone(memory_format=torch.contiguous_format)
        self.capacity = max(self.capacity, size)
        if self.values is None or (not keep and (self.view is None or self.view.size < size)):
            self.values, self.view = value, None
            return
        own = self.values.view(-1)[:size]
        if own.data_ptr() != value.data_ptr():
            own.copy_(value.reshape(-1))
        if value.device.type != "cpu" and self.view is not None:
            self.view[:size] = widened(value).reshape(-1).cpu().numpy()

    def to(self, device: torch.device) -> None:
        """Keep the values on another device from now on; views that were handed out stay live."""
        if self.values is not None:
            keep = device.type == "cpu" and self.view is not None
            self.values = torch.from_numpy(self.view) if keep else self.values.to(device)
        self.device = device

    def _allocate(self, size: int) -> None:
        needed = 4 * size
        if self.device.type == "cpu" and needed > SMALL and needed > (left := available_memory()):
            raise in_blob(self.what, size, f"{human_size(left)} are free")
        before = self.values
        try:
            values = torch.full((size,), 0.0 if before is not None else self.initial, device=self.device)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise in_blob(self.what, size, f"{self.device} ran out of memory{asked(error)}") from error
        self.values, self.capacity, self.view = values, size, None
        if before is not None:
            self.values[: before.numel()] = before.reshape(-1)


class Blob:
    """Data and diff of one blob.

    Args:
        name: of the blob, for errors.

    ``data`` and ``diff`` are numpy views that stay live: later passes write their results into the same memory as long
    as the blob does not grow.  A blob that nobody looked at is never copied.

    Attributes:
        memory, diff_memory: the buffers, which other blobs may show too.
    """

    def __init__(self, shape: Shape, device: torch.device | None = None, name: str = "") -> None:
        self._shape = shape
        which = f" of blob '{name}'" if name else " of a blob"
        self.memory = Buffer(count(shape), device or CPU, "data" + which)
        self.diff_memory = Buffer(count(shape), device or CPU, "diff" + which)

    # -- what scripts see -------------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        return self._shape

    @property
    def data(self) -> np.ndarray:
        """The values, float32, writable."""
        return self.memory.numpy(self._shape)

    @property
    def diff(self) -> np.ndarray:
        """The gradient, float32, writable."""
        return self.diff_memory.numpy(self._shape)

    def reshape(self, *shape: int) -> None:
        """Give the blob another shape; what was in it is lost if it grows."""
        shape = tuple(int(dim) for dim in shape)
        if any(dim < 0 for dim in shape) or len(shape) > 32:
            raise NetError(f"a blob cannot have the shape {list(shape)}")
        if shape == self._shape:
            return
        self.memory.reserve(count(shape))
        self.diff_memory.reserve(count(shape))
        self._shape = shape

    # -- what the net uses ------------------------------------------------------------------------------------

    @property
    def tensor(self) -> Tensor:
        """The values as a tensor on the net's device."""
        return self.memory.tensor(self._shape)

    @property
    def gradient(self) -> Tensor:
        """The gradient as a tensor on the net's device; a loss starts with its weight."""
        return self.diff_memory.tensor(self._shape)

    @property
    def exposed(self) -> bool:
        """Whether a numpy view of the values was handed out."""
        return self.memory.view is not None

    def set_data(self, value: Tensor) -> None:
        """Take the result of a forward pass."""
        self.reshape(*value.shape)
        self.memory.set(value)

    def set_diff(self, value: Tensor) -> None:
        """Take the result of a backward pass."""
        self.diff_memory.set(value)


class ParamBlob(Blob):
    """A learnable blob: its data are the parameter, its diff is the parameter's ``grad``.

    On the CPU the numpy views share its memory.  On a GPU they are copies that are fetched when asked for, and that
    :meth:`write_back` takes over before the net runs next.
    """

    def __init__(self, layer: Layer, index: int) -> None:
        super().__init__(())
        self._layer, self._index = layer, index
        self._copies: dict[str, Tensor] = {}

    @property
    def shape(self) -> Shape:
        """Sizes of the axes, as the layer sees them."""
        return self._layer.blob_shapes[self._index]

    @property
    def parameter(self) -> nn.Parameter:
        """The torch parameter (of the owner, if the blob is shared)."""
        return self._layer.blobs[self._index]

    @property
    def data(self) -> np.ndarray:
        """The values, float32, writable."""
        return self._numpy("data", self.parameter.detach())

    @property
    def diff(self) -> np.ndarray:
        """The accumulated gradient, float32, writable."""
        return self._numpy("diff", gradient_of(self.parameter))

    def _numpy(self, what: str, value: Tensor) -> np.ndarray:
        if value.device.type != "cpu":
            if what not in self._copies:
                self._copies[what] = value.cpu()
            value = self._copies[what]
        return value.numpy().reshape(self.shape)

    def write_back(self) -> None:
        """Take over what was written into views of a blob on a GPU."""
        for what, copy in self._copies.items():
            unseen(self.parameter if what == "data" else gradient_of(self.parameter)).copy_(copy)
        self._copies.clear()

    def reshape(self, *shape: int) -> None:
        """Give the parameter another shape; its values stay as far as they fit, more become 0."""
        wanted = tuple(int(dim) for dim in shape)
        if any(dim < 0 for dim in wanted) or len(wanted) > 32:
            raise NetError(f"a blob cannot have the shape {list(wanted)}")
        if wanted != self.shape:
            self.write_back()
            self._layer.reshape_blob(self._index, wanted)


def unseen(values: Tensor) -> Tensor:
    """The same memory, to be written without autograd's knowledge, as what scripts write into views on the CPU: a graph
    that holds the values goes on with the new ones instead of refusing to."""
    return values.data


def accumulate(parameter: nn.Parameter, gradient: Tensor) -> None:
    """Add to ``parameter.grad``, which never shares its memory with a blob."""
    if parameter.grad is None:
        parameter.grad = gradient.detach().clone(memory_format=torch.contiguous_format)
    else:
        parameter.grad.add_(gradient)


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """``parameter.grad``, made of zeros if there is none yet."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
