"""Running one layer: its shapes checked, its errors named, and on what the buffers of its bottoms hold by then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe_compat import random
from caffe_compat.layers import Shape
from caffe_compat.layers.sharing import Reread, gradients, with_gradient
from caffe_compat.net.exhausted import in_forward, is_out_of_memory
from caffe_compat.net.plan import Node, Plan, layer_shapes

__all__ = ["Buffers", "explained", "run_layer"]


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
        if (told := explained(node, bottoms, error)) is not None:
            raise told from error
        raise
    return result if isinstance(result, tuple) else (result,)


def explained(node: Node, bottoms: Sequence[Tensor], error: Exception) -> Exception | None:
    """An error that names the layer, for one of torch's whose reason is known; None: it is not."""
    if differs := _differs(node, bottoms):
        return node.description.error(differs)
    if not is_out_of_memory(error):
        return None
    shapes = [tuple(bottom.shape) for bottom in bottoms][: len(node.bottom_ids)]
    return in_forward(node, shapes, layer_shapes(node.layer, shapes), error)


class _Cell:
    """What a buffer holds now."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Tensor | None = None


class Buffers:
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

    def __init__(self, buffers: Buffers, checked: list[tuple[Shape, ...] | None], number: int, node: Node) -> None:
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
