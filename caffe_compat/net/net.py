"""A Caffe net as a torch module."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from caffe_compat import random
from caffe_compat.description import NetDescription
from caffe_compat.description.names import UniqueNames
from caffe_compat.errors import NetError, in_file, nearest
from caffe_compat.layers import Layer, Shape
from caffe_compat.layers.sharing import Reread, gradients, with_gradient
from caffe_compat.net import weights as weight_files
from caffe_compat.net.build import build
from caffe_compat.net.exhausted import in_forward, in_weights, is_out_of_memory
from caffe_compat.net.fit import check_fit, tell_ignored
from caffe_compat.net.plan import AUTOMATIC, Learnable, Node, Plan, layer_shapes
from caffe_compat.net.show import show
from caffe_compat.net.untrained import Untrained

__all__ = ["Net", "run_layer"]

PathLike = str | os.PathLike[str]

_TAKEN = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64})
"""What inputs may be; integers are labels and indices."""


class Net(nn.Module):
    """A net built from a description.

    Calling it runs all layers under torch's autograd and returns a dict of blobs by name::

        net = load_net("deploy.prototxt", "net.caffemodel")
        prob = net(data=images)["prob"]

    Attributes:
        description: what it was built from.
        nodes: the layers in order, Split layers included.
        learnables: the parameters that a solver updates, in Caffe's order.
    """

    def __init__(
        self, description: NetDescription, filled: Mapping[str, Iterable[int]] | None = None, fill: bool = True
    ) -> None:
        super().__init__()
        self.description = description
        with in_file(description.source):
            self.plan: Plan = build(description, filled, fill)
        for name, layer in zip(_module_names(self.plan.nodes), (node.layer for node in self.plan.nodes), strict=True):
            self.add_module(name, layer)
            layer.train(layer.layer_phase == "TRAIN")
        self.training = description.state.phase == "TRAIN"
        self._untrained = None if self.training or not fill else Untrained(self.plan)
        self._keys = _result_keys(self.plan)
        self._checked: list[tuple[Shape, ...] | None] = [None] * len(self.plan.nodes)

    def __repr__(self) -> str:
        """A table of the layers with their sizes."""
        return show(self.plan)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The layers in order, Split layers included."""
        return self.plan.nodes

    @property
    def learnables(self) -> tuple[Learnable, ...]:
        """The parameters that a solver updates, in Caffe's order."""
        return self.plan.learnables

    @property
    def input_names(self) -> list[str]:
        """Blobs that the caller must give."""
        return [self.plan.names[blob] for blob in self.plan.inputs]

    @property
    def output_names(self) -> list[str]:
        """Blobs that no layer consumes, sorted by name."""
        return [self.plan.names[blob] for blob in self.plan.outputs]

    @property
    def blob_shapes(self) -> dict[str, Shape]:
        """Shape of every blob for the sizes written in the prototxt."""
        return dict(zip(self.plan.names, self.plan.shapes, strict=True))

    def layer(self, name: str) -> Layer:
        """The (last) layer of that name.

        Raises:
            NetError: there is none.
        """
        for node in reversed(self.plan.nodes):
            if node.name == name:
                return node.layer
        known = [node.name for node in self.plan.nodes]
        raise NetError(f"net '{self.description.name}' has no layer '{name}'{nearest(name, known)}")

    def forward(self, *unnamed: Any, blobs: Sequence[str] = (), **inputs: Tensor) -> dict[str, Tensor]:
        """Run the net.

        Args:
            *unnamed: nothing; inputs are given by name.
            blobs: names of blobs to return besides the outputs; of an in-place blob the last value is returned.
            **inputs: one tensor per input, of any size that the layers can take.

        Returns:
            The outputs (blobs that no layer consumes) and the blobs asked for.  ``net.loss(result)`` sums the losses.

        Raises:
            NetError: an input is missing, unknown or of another type, or a blob asked for does not exist.
            LayerError: a layer cannot take the shape of its bottom (ShapeError), its type of numbers, or its device.
        """
        plan, names = self.plan, self.plan.names
        if unnamed:
            given = ", ".join(f"{name}=..." for name in self.input_names)
            raise NetError(f"net '{self.description.name}' takes its inputs by name: net({given})")
        self._check_names(inputs, blobs)
        self.tell_untrained()
        kept = {*plan.outputs, *plan.losses, *(i for i, name in enumerate(names) if name in blobs)}
        values: list[Tensor | None] = [None] * len(names)
        buffers = None if plan.plain else _Buffers(plan)
        for number, node in enumerate(plan.nodes):
            if node.is_input:
                tops = tuple(inputs[names[blob]] for blob in node.top_ids)
            elif buffers is None:
                tops = run_layer(self._checked, number, node, [values[blob] for blob in node.bottom_ids])
            else:
                tops = buffers.run(self._checked, number, node, values)
            for blob, top in zip(node.top_ids, tops, strict=True):
                values[blob] = top
            if buffers is not None:
                buffers.write(node, tops)
            for blob in node.done:
                if blob not in kept:
                    values[blob] = None
        if buffers is not None:
            values = [buffers.current(blob, value) for blob, value in enumerate(values)]
        return {self._keys[blob]: value for blob in sorted(kept) if (value := values[blob]) is not None}

    def loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the losses among ``blobs`` (what :meth:`forward` returned), a scalar."""
        total: Tensor | None = None
        for blob, weight in self.plan.losses.items():
            term = blobs[self._keys[blob]].sum() * weight
            total = term if total is None else total + term
        return torch.zeros(()) if total is None else total

    def copy_from(self, path: PathLike, strict: bool | None = True, mmap: bool = False) -> list[str]:
        """Copy weights by layer name from a ``.caffemodel`` (V0 to V2) or ``.caffemodel.h5``; layers without a source
        keep theirs, which is told in one line.

        Args:
            strict: whether a file of which no layer fits is an error; Caffe's own programs go on without it.  None: the
                caller has looked already (:func:`~caffe_compat.net.fit.check_fit`), and nothing is told.
            mmap: let parameters be a private mapping of the file, as :func:`~caffe_compat.net.load.load_net` says.
                They get new memory: other nets that share the old keep that.

        Returns:
            Names of the layers of the file that the net does not have.

        Raises:
            WeightsError: no layer of the file fits, or a layer of that name has other blobs.
            ModelFileError, MissingFileError: the file cannot be read.
        """
        if strict is not None and not weight_files.is_nothing(path):
            check_fit(self.plan, self.description.name, [(path, weight_files.blobs_in([path]))], strict)
        ignored = weight_files.copy_from(self.plan, path, mmap)
        if not weight_files.is_nothing(path):
            self._untrained = None
        if strict is False:
            tell_ignored(ignored)
        return ignored

    def save(self, path: PathLike, diffs: bool = False, aligned: bool = False) -> None:
        """Write a ``.caffemodel`` that BVLC Caffe reads; with ``diffs`` gradients go along.

        Args:
            aligned: let all numbers begin at a multiple of 4 bytes, so that ``load_net(..., mmap=True)`` can map them.
        """
        weight_files.save(self.plan, path, diffs, aligned)

    def save_hdf5(self, path: PathLike, diffs: bool = False) -> None:
        """Write a ``.caffemodel.h5``: what each layer owns, and the gradients of all if asked.

        Raises:
            ModelFileError: HDF5 cannot name the layers (duplicate names, or a ``/`` in a name), as in Caffe.
        """
        weight_files.save_hdf5(self.plan, path, diffs)

    def share_with(self, other: Net) -> None:
        """Let the parameters be those of ``other``, by layer name (Caffe's ShareTrainedLayersWith).

        Raises:
            WeightsError: number or shape of blobs differ.
        """
        weight_files.share(self.plan, other.plan)
        self._untrained = None

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """What ``to``, ``cuda``, ``half`` and their like do; a device that is too small is told by layer.

        Raises:
            LayerError: the weights of that layer no longer fit.
        """
        for node in self.plan.nodes if recurse else ():
            try:
                node.layer._apply(fn)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise in_weights(node, error) from error
        super()._apply(fn, recurse=False)  # type: ignore[no-untyped-call]
        return self

    def tell_untrained(self) -> None:
        """Warn, once, if this is a net of phase TEST that never got weights (see :mod:`caffe_compat.net.untrained`)."""
        if torch.compiler.is_compiling() or self._untrained is None or self.training:
            return  # in this order: torch.compile is not to compile again when the net was called without it
        untrained, self._untrained = self._untrained, None
        untrained.tell(self.description.name, self.description.source)

    def _check_names(self, inputs: Mapping[str, Tensor], blobs: Sequence[str]) -> None:
        expected = self.input_names
        if set(inputs) != set(expected):
            missing = [name for name in expected if name not in inputs]
            unknown = [name for name in inputs if name not in expected]
            raise NetError(
                f"net '{self.description.name}' takes the inputs {expected}; "
                + "; ".join(f"{what} {which}" for what, which in (("missing", missing), ("unknown", unknown)) if which)
            )
        for name, value in inputs.items():
            if not isinstance(value, Tensor):
                raise NetError(
                    f"input '{name}' is a {type(value).__name__}, expected a torch.Tensor (torch.from_numpy)"
                )
            if value.dtype not in _TAKEN:
                raise NetError(f"input '{name}' is {value.dtype}, expected torch.float32: pixels with .float(), minus "
                               "the mean")  # fmt: skip
        if isinstance(blobs, str):
            raise NetError(f"blobs is '{blobs}', expected a list of names: ['{blobs}']")
        for name in blobs:
            if name not in self.plan.names:
                raise NetError(f"net '{self.description.name}' has no blob '{name}'{nearest(name, self.plan.names)}")


def run_layer(
    checked: list[tuple[Shape, ...] | None], number: int, node: Node, bottoms: Sequence[Any]
) -> tuple[Tensor, ...]:
    """Run one layer, checking the shapes of its bottoms if they are not those of the last time.

    Args:
        checked: per layer, the bottom shapes that were last accepted; updated.
        number: index of the layer in that list.
        bottoms: tensors.
    """
    if node.blocked:
        bottoms = [b if flag else b.detach() for b, flag in zip(bottoms, node.bottom_grads, strict=True)]
    if torch.compiler.is_compiling():  # shapes were checked when the graph was asked for, or torch does
        result = node.layer(*bottoms)
        return result if isinstance(result, tuple) else (result,)
    shapes = tuple([tuple(bottom.shape) for bottom in bottoms])
    if checked[number] != shapes:
        tops = layer_shapes(node.layer, shapes)
        if not (node.description.in_place or node.shares) and all(b.device.type == "cpu" for b in bottoms):
            node.layer.require_memory("tops", tops)
        checked[number] = shapes
    try:
        result = node.layer(*bottoms)
    except (MemoryError, RuntimeError) as error:
        if differs := _differs(node, bottoms):
            raise node.description.error(differs) from error
        if not is_out_of_memory(error):
            raise
        raise in_forward(node, shapes, layer_shapes(node.layer, shapes), error) from error
    return result if isinstance(result, tuple) else (result,)


class _Cell:
    """What a buffer holds now."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Tensor | None = None


class _Buffers:
    """The buffers of one call of a net in which some are overwritten through other blobs, or read after that."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.cells = {buffer: _Cell() for buffer in plan.buffers}

    def write(self, node: Node, tops: Sequence[Tensor]) -> None:
        """Put what a layer has made into its buffers; the buffer of a bottom is left alone."""
        shared = {share.top for share in node.shares if share.bottom is not None}
        for index, (blob, top) in enumerate(zip(node.top_ids, tops, strict=True)):
            if index not in shared:
                self.cells[self.plan.buffers[blob]].value = top.detach()

    def current(self, blob: int, value: Tensor | None) -> Tensor | None:
        """A blob as its buffer is now; the gradient goes where the blob was made."""
        if value is None or blob not in self.plan.outdated:
            return value
        return self._shown(blob, value)

    def _shown(self, blob: int, value: Tensor) -> Tensor:
        held = self.cells[self.plan.buffers[blob]].value
        assert held is not None
        return with_gradient(held.reshape(value.shape), value, lambda seed: seed)

    def run(
        self, checked: list[tuple[Shape, ...] | None], number: int, node: Node, values: Sequence[Tensor | None]
    ) -> tuple[Tensor, ...]:
        """Run one layer on what the buffers of its bottoms hold."""
        bottoms: list[Any] = [values[blob] for blob in node.bottom_ids]
        for index in node.outdated:
            bottoms[index] = self._shown(node.bottom_ids[index], bottoms[index])
        if node.rereads and torch.is_grad_enabled():
            tops = _Rereading.apply(_Call(self, checked, number, node), *bottoms, *node.layer.blobs)
        else:
            tops = run_layer(checked, number, node, bottoms)
        return tuple(
            with_gradient(top, top, torch.zeros_like) if index in node.cut else top for index, top in enumerate(tops)
        )


class _Call:
    """One layer in one call of a net."""

    def __init__(self, buffers: _Buffers, checked: list[tuple[Shape, ...] | None], number: int, node: Node) -> None:
        self.checked, self.number, self.node = checked, number, node
        self.bottoms = [buffers.cells[buffers.plan.buffers[blob]] for blob in node.bottom_ids]
        self.tops = [buffers.cells[buffers.plan.buffers[blob]] for blob in node.top_ids]


class _Rereading(torch.autograd.Function):
    """A layer whose backward pass reads buffers that later layers overwrite: as they are by then."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *inputs: Tensor) -> tuple[Tensor, ...]:
        number = len(call.node.bottom_ids)
        ctx.call = call
        ctx.save_for_backward(*inputs[:number])
        tops = run_layer(call.checked, call.number, call.node, inputs[:number])
        ctx.shapes = [top.shape for top in tops]
        return tops

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor | None, ...]:
        call, then = ctx.call, tuple(value.detach() for value in ctx.saved_tensors)
        layer, needed = call.node.layer, ctx.needs_input_grad[1:]
        now = tuple(
            cell.value.reshape(value.shape).detach().requires_grad_(need)
            for cell, value, need in zip(call.bottoms, then, needed, strict=False)
        )
        tops = tuple(cell.value.reshape(shape) for cell, shape in zip(call.tops, ctx.shapes, strict=True))
        with torch.enable_grad(), random.repeating():
            form = layer.backward_form(Reread(then, now, tops))
        forms = form if isinstance(form, tuple) else (form,)
        pairs = [(top, seed) for top, seed in zip(forms, seeds, strict=True) if top.requires_grad]
        sources = [(i, source) for i, source in enumerate((*now, *layer.blobs)) if needed[i]]
        found = gradients([top for top, _ in pairs], [seed for _, seed in pairs], [s for _, s in sources])
        result: list[Tensor | None] = [None] * len(needed)
        for (index, _), gradient in zip(sources, found, strict=True):
            result[index] = gradient
        return (None, *result)


def _differs(node: Node, bottoms: Sequence[Tensor]) -> str:
    """In what a bottom differs from the layer's weights, so that torch refuses both together; empty if in nothing."""
    for weights in node.layer.blobs:
        for name, bottom in zip(node.description.bottoms, bottoms, strict=True):
            if bottom.dtype.is_floating_point and bottom.dtype != weights.dtype:
                return f"bottom '{name}' is {bottom.dtype}, expected {weights.dtype} as its weights"
            if bottom.device != weights.device:
                return f"bottom '{name}' is on {bottom.device}, its weights are on {weights.device}"
    return ""


def _module_names(nodes: Sequence[Node]) -> list[str]:
    names = UniqueNames({*dir(Net), "plan", "description"})
    return [names.fresh(node.name.replace(".", "_") or node.type) for node in nodes]


def _result_keys(plan: Plan) -> list[str]:
    """Names of the blobs; those that Caffe calls "(automatic)" are told apart by their layer."""
    keys = list(plan.names)
    for node in plan.nodes:
        for blob in node.top_ids:
            if keys[blob] == AUTOMATIC:
                keys[blob] = f"{node.name} {AUTOMATIC}"
    return keys
