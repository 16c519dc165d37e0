"""A net whose blobs keep data and diff between calls, as Caffe's do.

torch's module call forgets everything but its result.  Caffe's scripts, solvers and debug output look at blobs, write
into them, and run parts of a net.  :class:`BlobNet` runs the same layers one by one, each under an autograd graph of
its own, so that forward and backward can start and end anywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from caffe_compat.description import naming
from caffe_compat.errors import NetError, ShapeError
from caffe_compat.layers import Layer, Shape, count
from caffe_compat.memory import SMALL, available_memory, human_size
from caffe_compat.net import debug
from caffe_compat.net.build import Node
from caffe_compat.net.net import Net, run_layer

__all__ = ["Blob", "BlobNet", "ParamBlob"]


class Blob:
    """Data and diff of one blob.

    ``data`` and ``diff`` are numpy views that stay live: once a view was handed out, later passes copy their results
    into the same memory as long as the shape stays.  A blob that nobody looked at is never copied.
    """

    def __init__(self, shape: Shape, loss_weight: float = 0.0, device: torch.device | None = None) -> None:
        self._shape = shape
        self._device = device or torch.device("cpu")
        self._loss_weight = loss_weight
        self._data: Tensor | None = None
        self._diff: Tensor | None = None
        self._data_view: np.ndarray | None = None
        self._diff_view: np.ndarray | None = None

    # -- what scripts see -------------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        return self._shape

    @property
    def data(self) -> np.ndarray:
        """The values, float32, writable."""
        if self._data_view is None or self._data is None:
            self._data = _own(self.tensor)
            self._data_view = _view(self._data)
        return self._data_view

    @property
    def diff(self) -> np.ndarray:
        """The gradient, float32, writable."""
        if self._diff_view is None or self._diff is None:
            self._diff = _own(self.gradient)
            self._diff_view = _view(self._diff)
        return self._diff_view

    def reshape(self, *shape: int) -> None:
        """Give the blob another shape; what was in it is lost if it grows."""
        shape = tuple(int(dim) for dim in shape)
        if any(dim < 0 for dim in shape) or len(shape) > 32:
            raise NetError(f"a blob cannot have the shape {list(shape)}")
        if shape == self._shape:
            return
        if self._data is not None:
            self._data = _resized(self._data, shape)
        if self._diff is not None:
            self._diff = _resized(self._diff, shape)
        self._shape, self._data_view, self._diff_view = shape, None, None

    # -- what the net uses ------------------------------------------------------------------------------------

    @property
    def tensor(self) -> Tensor:
        """The values as a tensor on the net's device."""
        if self._data is None:
            self._data = torch.zeros(_affordable(self._shape, self._device), device=self._device)
        if self._data_view is not None and self._data.device.type != "cpu":
            self._data.copy_(torch.from_numpy(self._data_view))
        return self._data

    @property
    def gradient(self) -> Tensor:
        """The gradient as a tensor on the net's device; a loss starts with its weight."""
        if self._diff is None:
            self._diff = torch.full(_affordable(self._shape, self._device), self._loss_weight, device=self._device)
        if self._diff_view is not None and self._diff.device.type != "cpu":
            self._diff.copy_(torch.from_numpy(self._diff_view))
        return self._diff

    @property
    def has_gradient(self) -> bool:
        """Whether a gradient was ever computed or asked for."""
        return self._diff is not None

    @property
    def exposed(self) -> bool:
        """Whether a numpy view of the values was handed out."""
        return self._data_view is not None

    def to(self, device: torch.device) -> None:
        """Keep the values on another device from now on; views that were handed out stay live."""
        for name, view in (("_data", self._data_view), ("_diff", self._diff_view)):
            value = getattr(self, name)
            if value is not None:
                own = device.type == "cpu" and view is not None
                setattr(self, name, torch.from_numpy(view) if own else value.to(device))
        self._device = device

    def set_data(self, value: Tensor) -> None:
        """Take the result of a forward pass."""
        if self._data_view is None or value.shape != self._shape:
            if value.shape != self._shape:
                self.reshape(*value.shape)
            self._data, self._data_view = value, None
        else:
            self._store(value, self._data_view, self._data)

    def set_diff(self, value: Tensor) -> None:
        """Take the result of a backward pass."""
        if self._diff_view is None:
            self._diff = value
        else:
            self._store(value, self._diff_view, self._diff)

    @staticmethod
    def _store(value: Tensor, view: np.ndarray, own: Tensor | None) -> None:
        if own is not None and own.data_ptr() != value.data_ptr():
            own.copy_(value)
        if value.device.type != "cpu":
            view[...] = value.cpu().numpy()


class ParamBlob(Blob):
    """A learnable blob: its data are the parameter, its diff is the parameter's ``grad``.

    On the CPU the numpy views share its memory.  On a GPU they are copies that are fetched when asked for, and that
    :meth:`write_back` takes over before the net runs next.
    """

    def __init__(self, layer: Layer, index: int) -> None:
        super().__init__(layer.blob_shapes[index])
        self._layer, self._index = layer, index
        self._copies: dict[str, Tensor] = {}

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
        return value.numpy().reshape(self._shape)

    def write_back(self) -> None:
        """Take over what was written into views of a blob on a GPU."""
        for what, copy in self._copies.items():
            (self.parameter.detach() if what == "data" else gradient_of(self.parameter)).copy_(copy)
        self._copies.clear()

    def reshape(self, *shape: int) -> None:
        """Parameters keep their shape.

        Raises:
            NetError: another shape was asked for.
        """
        if tuple(shape) != self._shape:
            raise NetError(f"a parameter of shape {list(self._shape)} cannot be reshaped to {list(shape)}")


class BlobNet:
    """Caffe's view of a :class:`Net`: blobs, partial passes, gradients with respect to any blob.

    Attributes:
        net: the module whose layers are run.
        blobs: by number; ``names`` holds their names.
        keep_graph: whether ``backward`` may be called again without a new forward pass (costs memory).
        reference_arithmetic: in the forward pass of layers that will go backward, convolve on the CPU by unfolding and
            multiplying matrices, as Caffe does, instead of by oneDNN: somewhat slower, but with roundings nearest to
            Caffe's, so that near ties (which of two values a pooling takes for the maximum) send gradients the same
            way.
        debug_info: whether every pass logs the magnitudes of blobs and gradients.
    """

    def __init__(self, net: Net, keep_graph: bool = True, reference_arithmetic: bool = False) -> None:
        self.net, self.keep_graph, self.reference_arithmetic = net, keep_graph, reference_arithmetic
        self.debug_info = net.description.debug_info
        plan = net.plan
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        self.device = device
        weights = {
            blob: weight
            for node in plan.nodes
            for blob, weight in zip(node.top_ids, node.loss_weights, strict=True)
            if weight
        }
        self._source = net.description.source
        self.names = plan.names
        self.blobs = [Blob(shape, weights.get(i, 0.0), device) for i, shape in enumerate(plan.shapes)]
        self.ids = {name: i for i, name in enumerate(plan.names)}
        self._checked: list[tuple[Shape, ...] | None] = [None] * len(plan.nodes)
        self._graphs: list[tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None] = [None] * len(plan.nodes)
        self._param_blobs: dict[tuple[int, int], ParamBlob] = {}

    def blob(self, name: str) -> Blob:
        """The blob of that name."""
        return self.blobs[self.ids[name]]

    def param_blob(self, number: int, index: int) -> ParamBlob:
        """Blob ``index`` of layer ``number``."""
        key = (number, index)
        if key not in self._param_blobs:
            self._param_blobs[key] = ParamBlob(self.net.nodes[number].layer, index)
        return self._param_blobs[key]

    def to(self, device: torch.device) -> None:
        """Run on another device from now on."""
        if device == self.device:
            return
        self.write_back()
        self.net.to(device)
        for blob in self.blobs:
            blob.to(device)
        self._graphs = [None] * len(self._graphs)
        self.device = device

    def write_back(self) -> None:
        """Take over what scripts wrote into views of parameters on a GPU; on the CPU there is nothing to do."""
        if self.device.type != "cpu":
            for blob in self._param_blobs.values():
                blob.write_back()

    @contextlib.contextmanager
    def _arithmetic(self, node: Node) -> Iterator[None]:
        """oneDNN switched off, if the arithmetic is to be Caffe's."""
        if not (self.reference_arithmetic and node.needs_backward and torch.backends.mkldnn.enabled):
            yield
            return
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        try:
            yield
        finally:
            torch.backends.mkldnn.enabled = True  # type: ignore[assignment]

    def reshape(self) -> None:
        """Give every blob the shape that follows from the shapes of the inputs."""
        for node in self.net.nodes:
            if node.type == "Input":
                continue
            shapes = node.layer.top_shapes([self.blobs[blob].shape for blob in node.bottom_ids])
            for blob, shape in zip(node.top_ids, shapes, strict=True):
                self.blobs[blob].reshape(*shape)

    def forward(self, start: int = 0, end: int | None = None) -> float:
        """Run layers ``start`` to ``end`` (inclusive) and return their weighted loss."""
        nodes = self.net.nodes
        total: Tensor | float = 0.0
        for number in range(start, len(nodes) if end is None else end + 1):
            loss = self.forward_layer(number)
            if loss is not None:
                total = total + loss
        return float(total)

    def forward_layer(self, number: int) -> Tensor | None:
        """Run one layer; its weighted loss, or ``None`` if it has none."""
        loss = self._forward_layer(number)
        if self.debug_info:
            debug.log_forward(self, number)
        return loss

    def _forward_layer(self, number: int) -> Tensor | None:
        self.write_back()
        node = self.net.nodes[number]
        if node.type == "Input":
            return None
        bottoms = tuple(self._bottom(node, index) for index in range(len(node.bottom_ids)))
        with naming(self._source), torch.set_grad_enabled(node.needs_backward), self._arithmetic(node):
            tops = run_layer(self._checked, number, node, bottoms)
        tops = tuple(top if top.device == self.device else top.to(self.device) for top in tops)
        self._graphs[number] = (bottoms, tops) if node.needs_backward else None
        loss: Tensor | None = None
        for blob_id, top, weight in zip(node.top_ids, tops, node.loss_weights, strict=True):
            blob = self.blobs[blob_id]
            blob.set_data(top.detach())
            if weight:
                seed = blob.gradient
                term = (top.detach() * seed).sum() if seed.shape == top.shape else top.detach().sum() * 0
                loss = term if loss is None else loss + term
        return loss

    def _bottom(self, node: Node, index: int) -> Tensor:
        value = self.blobs[node.bottom_ids[index]].tensor
        if not node.needs_backward:
            return value
        if index == 0 and node.description.in_place and self.blobs[node.bottom_ids[index]].exposed:
            value = value.clone()  # the result will be copied over it, and the layer may keep its bottom
        return value.detach().requires_grad_(node.bottom_grads[index])

    def backward(self, start: int | None = None, end: int = 0) -> None:
        """Run the backward pass of layers ``start`` down to ``end`` (inclusive)."""
        nodes = self.net.nodes
        for number in range(len(nodes) - 1 if start is None else start, end - 1, -1):
            if nodes[number].needs_backward:
                self.backward_layer(number)
        if self.debug_info and start is None and end == 0:
            debug.log_params(self)

    def backward_layer(self, number: int) -> None:
        """Gradients of one layer: those of its parameters accumulate, those of its bottoms replace."""
        self._backward_layer(number)
        if self.debug_info:
            debug.log_backward(self, number)

    def _backward_layer(self, number: int) -> None:
        self.write_back()
        node = self.net.nodes[number]
        graph = self._graphs[number]
        if graph is None and not node.bottom_ids:
            return
        self._refuse_gradients(node)
        bottoms, tops = graph or self._graph_of(number, node)
        outputs = [(top, self.blobs[blob].gradient) for top, blob in zip(tops, node.top_ids, strict=True)]
        outputs = [(top, seed) for top, seed in outputs if top.requires_grad]
        wanted = [bottom for bottom in bottoms if bottom.requires_grad]
        parameters: dict[int, nn.Parameter] = {}
        for index, (parameter, flag) in enumerate(zip(node.layer.blobs, node.param_grads, strict=True)):
            if flag and parameter.requires_grad and not any(parameter is p for p in parameters.values()):
                parameters[index] = parameter
        gradients: tuple[Tensor | None, ...] = (None,) * (len(wanted) + len(parameters))
        if outputs and gradients:
            gradients = torch.autograd.grad(
                [top for top, _ in outputs],
                [*wanted, *parameters.values()],
                [seed.view(top.shape) for top, seed in outputs],
                retain_graph=self.keep_graph,
                allow_unused=True,
            )
        if not self.keep_graph:
            self._graphs[number] = None
        found = iter(gradients)
        for blob, bottom in zip(node.bottom_ids, bottoms, strict=True):
            if bottom.requires_grad:
                gradient = next(found)
                self.blobs[blob].set_diff(torch.zeros_like(bottom) if gradient is None else gradient)
        shapes = [tuple(bottom.shape) for bottom in bottoms]
        for index, parameter in parameters.items():
            gradient = next(found)
            if gradient is None:
                continue
            if parameter.grad is not None and node.layer.replaces_gradient(index, shapes):
                parameter.grad.copy_(gradient)
            else:
                accumulate(parameter, gradient)

    def _graph_of(self, number: int, node: Node) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What a forward pass of one layer would record now, with all blobs left as they are: Caffe lets scripts go
        backward from what they wrote into blobs."""
        values = [self.blobs[blob].tensor.detach().clone() for blob in node.bottom_ids]
        bottoms = tuple(value.requires_grad_(grad) for value, grad in zip(values, node.bottom_grads, strict=True))
        with torch.enable_grad(), self._arithmetic(node):
            return bottoms, run_layer(self._checked, number, node, bottoms)

    @staticmethod
    def _refuse_gradients(node: Node) -> None:
        refused = node.layer.no_gradient or ()
        for index in refused:
            if index < len(node.bottom_grads) and node.bottom_grads[index]:
                raise NetError(
                    f"layer '{node.name}' ({node.type}): cannot backpropagate to bottom "
                    f"'{node.description.bottoms[index]}'"
                )

    def clear_param_diffs(self) -> None:
        """Set the gradients of all learnable parameters to zero."""
        self.write_back()
        for learnable in self.net.learnables:
            grad = learnable.parameter.grad
            if grad is not None:
                grad.zero_()


def accumulate(parameter: nn.Parameter, gradient: Tensor) -> None:
    """Add to ``parameter.grad``, which never shares its memory with a blob."""
    if parameter.grad is None:
        view = gradient._is_view() or not gradient.is_contiguous()
        parameter.grad = gradient.detach().clone() if view else gradient.detach()
    else:
        parameter.grad.add_(gradient)


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """``parameter.grad``, made of zeros if there is none yet."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _affordable(shape: Shape, device: torch.device) -> Shape:
    """The shape, if a blob of it fits into the memory that is left."""
    size = 4 * count(shape)
    if device.type == "cpu" and size > SMALL and size > (left := available_memory()):
        raise NetError(f"a blob of shape {list(shape)} needs {human_size(size)}, {human_size(left)} are free")
    return shape


def _own(value: Tensor) -> Tensor:
    """A contiguous tensor that shares its memory with no other blob's."""
    return value.contiguous()


def _view(value: Tensor) -> np.ndarray:
    array = value.detach().cpu().numpy()
    if not array.flags.writeable:
        raise ShapeError("", "", "a blob without memory has no view")
    return array


def _resized(value: Tensor, shape: Shape) -> Tensor:
    """Caffe keeps the memory when a blob does not grow; a growing one starts at zero."""
    if value.numel() >= count(shape):
        return value.reshape(-1)[: count(shape)].reshape(shape)
    return torch.zeros(shape, device=value.device)
