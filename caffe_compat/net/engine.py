"""A net whose blobs keep data and diff between calls, as Caffe's do.

torch's module call forgets everything but its result.  Caffe's scripts, solvers and debug output look at blobs, write
into them, and run parts of a net.  :class:`BlobNet` runs the same layers one by one, each under an autograd graph of
its own, so that forward and backward can start and end anywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from caffe_compat import random
from caffe_compat.errors import NetError, in_file
from caffe_compat.layers import Shape, count
from caffe_compat.layers.sharing import Reread, gradients
from caffe_compat.layers.unfolding import convolve_as_caffe
from caffe_compat.net.blobs import Blob, Buffer, ParamBlob, accumulate
from caffe_compat.net.exhausted import in_backward, in_forward, is_out_of_memory
from caffe_compat.net.net import Net
from caffe_compat.net.observers import Observer
from caffe_compat.net.plan import Node, layer_shapes, walk_shapes
from caffe_compat.net.precision import Precision
from caffe_compat.net.running import run_layer

__all__ = ["BlobNet"]

Graph = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]  # bottoms and tops of one layer under autograd


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
        observers: called around every layer.
        precision: of mixed precision, or None.  Blobs then hold 16-bit numbers where layers computed such; what scripts
            see of them is float32.
    """

    def __init__(self, net: Net, keep_graph: bool = True, reference_arithmetic: bool = False) -> None:
        self.net, self.keep_graph, self.reference_arithmetic = net, keep_graph, reference_arithmetic
        plan = net.plan
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        self.device = device
        self._source = net.description.source
        self.names = plan.names
        self.blobs = [Blob(shape, device, name) for shape, name in zip(plan.shapes, plan.names, strict=True)]
        self.ids = {name: i for i, name in enumerate(plan.names)}
        self.observers: list[Observer] = []
        self.precision: Precision | None = None
        self._checked: list[tuple[Shape, ...] | None] = [None] * len(plan.nodes)
        self._graphs: list[Graph | None] = [None] * len(plan.nodes)
        self._param_blobs: dict[tuple[int, int], ParamBlob] = {}
        self._inner: dict[int, Buffer] = {}  # diffs of tops that are blobs inside a layer
        for node in plan.nodes:
            self._share(node)
            for blob, weight in node.losses:  # in the diff, which may be that of a bottom by now
                self.blobs[blob].diff_memory.initial = weight

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
        buffers = {id(b): b for blob in self.blobs for b in (blob.memory, blob.diff_memory)}
        buffers |= {id(b): b for b in self._inner.values()}
        for buffer in buffers.values():
            buffer.to(device)
        self._graphs = [None] * len(self._graphs)
        self.device = device

    def write_back(self) -> None:
        """Take over what scripts wrote into views of parameters on a GPU; on the CPU there is nothing to do."""
        if self.device.type != "cpu":
            for blob in self._param_blobs.values():
                blob.write_back()

    def _arithmetic(self, node: Node) -> contextlib.AbstractContextManager[None]:
        """What a layer runs in: mixed precision, or convolving as Caffe does, if that was asked for and a backward pass
        may follow."""
        if self.precision is not None:
            return self.precision.computes(node, self.device)
        return convolve_as_caffe(self.reference_arithmetic and node.needs_backward)

    def reshape(self) -> None:
        """Give every blob the shape that follows from the shapes of the inputs."""
        plan = self.net.plan
        walk_shapes(plan.nodes, {blob: self.blobs[blob].shape for blob in plan.inputs})  # a refusal changes nothing
        for node in plan.nodes:
            if not node.is_input:
                shapes = self._shapes_now(node)
                for blob, shape in zip(node.top_ids, shapes, strict=True):
                    self.blobs[blob].reshape(*shape)
            self._share(node)

    def _shapes_now(self, node: Node) -> list[Shape]:
        """Shapes of a layer's tops; values count where they decide a size."""
        if node.layer.sized_by_values:
            return node.layer.shapes_now([self.blobs[blob].tensor for blob in node.bottom_ids])
        return layer_shapes(node.layer, [self.blobs[blob].shape for blob in node.bottom_ids])

    def _share(self, node: Node) -> None:
        """Let tops show the buffers of bottoms."""
        for share in node.shares:
            top = self.blobs[node.top_ids[share.top]]
            if share.bottom is None:
                inner = self._inner.setdefault(node.top_ids[share.top], Buffer(count(top.shape), self.device))
                inner.reserve(count(top.shape))
                top.diff_memory = inner
                continue
            bottom = self.blobs[node.bottom_ids[share.bottom]]
            top.memory = bottom.memory
            if share.diff == "setup":
                top.diff_memory = bottom.diff_memory

    # -- forward ----------------------------------------------------------------------------------------------

    def forward(self, start: int = 0, end: int | None = None) -> float:
        """Run layers ``start`` to ``end`` (inclusive) and return their weighted loss."""
        return float(self.forward_loss(start, end))

    def forward_loss(self, start: int = 0, end: int | None = None) -> Tensor | float:
        """The same with the loss as a tensor, if there is one, which on a GPU is waited for when it is looked at."""
        self.net.tell_untrained()
        nodes = self.net.nodes
        total: Tensor | float = 0.0
        for number in range(start, len(nodes) if end is None else end + 1):
            loss = self.forward_layer(number)
            if loss is not None:
                total = total + loss
        return total

    def forward_layer(self, number: int) -> Tensor | None:
        """Run one layer; its weighted loss, or ``None`` if it has none."""
        for observer in self.observers:
            observer.before_forward(number)
        try:
            loss = self._forward_layer(number)
        except (MemoryError, RuntimeError) as error:
            self._tell_memory(number, error, backward=False)
            raise
        for observer in self.observers:
            observer.after_forward(number)
        return loss

    def _forward_layer(self, number: int) -> Tensor | None:
        self.write_back()
        node = self.net.nodes[number]
        if node.is_input:
            return None
        bottoms = tuple(self._bottom(node, index, value) for index, value in enumerate(self._taken(node)))
        graph = node.needs_backward and not node.rereads
        with in_file(self._source), torch.set_grad_enabled(graph), self._arithmetic(node):
            tops = run_layer(self._checked, number, node, bottoms)
        tops = tuple(top if top.device == self.device else top.to(self.device) for top in tops)
        self._graphs[number] = (bottoms, tops) if node.needs_backward else None
        self._store(node, bottoms, tops)
        loss: Tensor | None = None
        for blob_id, _ in node.losses:
            blob = self.blobs[blob_id]
            term = (blob.tensor * blob.gradient).sum()
            loss = term if loss is None else loss + term
        return loss

    def _taken(self, node: Node) -> list[Tensor]:
        """What the buffers of the bottoms hold, in the type that the layer computes in."""
        values = [self.blobs[blob].tensor for blob in node.bottom_ids]
        return values if self.precision is None else self.precision.taken(node, values)

    def _bottom(self, node: Node, index: int, value: Tensor) -> Tensor:
        if not node.needs_backward:
            return value
        if node.overwritten[index] and self.blobs[node.bottom_ids[index]].exposed:
            value = value.clone()  # a result will be copied over it, and the graph of this layer may hold it
        return value.detach().requires_grad_(node.bottom_grads[index] and not node.rereads)

    def _store(self, node: Node, bottoms: tuple[Tensor, ...], tops: tuple[Tensor, ...]) -> None:
        """Put the tops into the blobs; those that are a bottom's buffer are there already."""
        shared = {share.top for share in node.shares if share.bottom is not None}
        for index, (blob, top) in enumerate(zip(node.top_ids, tops, strict=True)):
            if index in shared:
                self.blobs[blob].reshape(*top.shape)
                continue
            value = top.detach()
            if blob not in node.bottom_ids and any(_same_memory(value, bottom) for bottom in bottoms):
                value = value.clone()
            self.blobs[blob].set_data(value)
        self._share(node)

    def _tell_memory(self, number: int, error: Exception, backward: bool) -> None:
        """Say of which layer and blob an error is, if it is one of memory."""
        if not is_out_of_memory(error):
            return
        node = self.net.nodes[number]
        bottoms = [self.blobs[blob].shape for blob in node.bottom_ids]
        with in_file(self._source):
            if backward:
                raise in_backward(node, bottoms, error) from error
            raise in_forward(node, bottoms, [self.blobs[blob].shape for blob in node.top_ids], error) from error

    # -- backward ---------------------------------------------------------------------------------------------

    def backward(self, start: int | None = None, end: int = 0) -> None:
        """Run the backward pass of layers ``start`` down to ``end`` (inclusive)."""
        one_thread = torch.autograd.set_multithreading_enabled(False)  # a GPU's would be waited for at every layer
        with one_thread, self._scaled_losses():
            for number in range(len(self.net.nodes) - 1 if start is None else start, end - 1, -1):
                self.backward_layer(number)
        if start is None and end == 0:
            for observer in self.observers:
                observer.after_backward_pass()

    @contextlib.contextmanager
    def _scaled_losses(self) -> Iterator[None]:
        """The diffs of losses, which hold their weights, times the loss scale."""
        scale = None if self.precision is None else self.precision.loss_scale
        nodes = self.net.nodes if scale is not None else ()
        diffs = [self.blobs[blob].gradient for node in nodes for blob, _ in node.losses]
        losses = list({diff.data_ptr(): diff for diff in diffs}.values())
        if scale is None or not losses:
            yield
            return
        torch._foreach_mul_(losses, scale)
        try:
            yield
        finally:
            torch._foreach_div_(losses, scale)  # a power of two: the weights are what they were

    def backward_layer(self, number: int) -> None:
        """Gradients of one layer, if it has any: those of parameters accumulate, those of bottoms replace."""
        for observer in self.observers:
            observer.before_backward(number)
        if self.net.nodes[number].needs_backward:
            try:
                self._backward_layer(number)
            except (MemoryError, RuntimeError) as error:
                self._tell_memory(number, error, backward=True)
                raise
        for observer in self.observers:
            observer.after_backward(number)

    def _backward_layer(self, number: int) -> None:
        self.write_back()
        node = self.net.nodes[number]
        if self._graphs[number] is None and not node.bottom_ids:
            return
        self._refuse_gradients(node)
        if self._diffs_are_shared(node):
            return
        bottoms, tops = self._graph(number, node)
        seeds = [self._seed(blob) for blob in node.top_ids]
        outputs = [
            (top, seed.view(top.shape).to(top.dtype))
            for top, seed in zip(tops, seeds, strict=True)
            if top.requires_grad
        ]
        wanted = [bottom for bottom in bottoms if bottom.requires_grad]
        parameters: dict[int, nn.Parameter] = {}
        for index, (parameter, flag) in enumerate(zip(node.layer.blobs, node.param_grads, strict=True)):
            if flag and parameter.requires_grad and not any(parameter is p for p in parameters.values()):
                parameters[index] = parameter
        found = iter(
            gradients(
                [top for top, _ in outputs],
                [seed for _, seed in outputs],
                [*wanted, *parameters.values()],
                self.keep_graph,
            )
        )
        if not self.keep_graph:
            self._graphs[number] = None
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

    def _seed(self, blob: int) -> Tensor:
        """The diff of a top; of a blob inside a layer the layer's own, whatever the top shows by now."""
        inner = self._inner.get(blob)
        return self.blobs[blob].gradient if inner is None else inner.tensor(self.blobs[blob].shape)

    def _diffs_are_shared(self, node: Node) -> bool:
        """Whether the diff of the bottom is that of the top: already, or from now on."""
        for share in node.shares:
            if share.bottom is None or not share.diff:
                return False
            if share.diff == "backward":
                top, bottom = self.blobs[node.top_ids[share.top]], self.blobs[node.bottom_ids[share.bottom]]
                bottom.diff_memory = top.diff_memory
        return bool(node.shares)

    def _graph(self, number: int, node: Node) -> Graph:
        """Bottoms and tops of a layer under autograd: from the forward pass, or from what the buffers hold now.

        Without a forward pass the blobs are taken as they are: Caffe lets scripts go backward from what they wrote
        into blobs.
        """
        graph = self._graphs[number]
        if graph is not None and not node.rereads:
            return graph
        now = tuple(
            value.detach().clone().requires_grad_(grad)
            for value, grad in zip(self._taken(node), node.bottom_grads, strict=True)
        )
        with torch.enable_grad(), self._arithmetic(node), random.repeating():
            if not node.rereads:
                return now, run_layer(self._checked, number, node, now)
            then = graph[0] if graph is not None else tuple(value.detach() for value in now)
            tops = tuple(self.blobs[blob].tensor.detach() for blob in node.top_ids)
            form = node.layer.backward_form(Reread(then, now, tops))
        return now, form if isinstance(form, tuple) else (form,)

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
        found = [learnable.parameter.grad for learnable in self.net.learnables]
        if gradients := [gradient for gradient in found if gradient is not None]:
            torch._foreach_zero_(gradients)


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.device == other.device and one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr() != 0
