"""Lstm of junhyukoh/caffe-lstm, which tianzhi0549/CTPN and senlinuc/caffe_ocr took over.

Source: ``src/caffe/layers/lstm_layer.cpp`` of the first two, ``lstm_layer_Junhyuk.cpp`` of the third.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import marks
from caffe_compat.layers.sharing import Reads, Reread, kept

__all__ = ["Lstm"]


class _Bounded(torch.autograd.Function):
    """The same numbers; the gradient is cut to +-threshold."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, threshold: float) -> Tensor:
        ctx.threshold = threshold
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return diff.clamp(-ctx.threshold, ctx.threshold), None


@register
class Lstm(Layer):
    """Long short-term memory, gates in the order i, f, o, g.

    Bottom: steps x sequences x D (CTPN's), or, with two axes or a ``batch_size`` N, rows in that order, T N x D
    (junhyukoh's).  Top: T x N x H, or T N x H.  Blobs: W_x (4H, D), W_h (4H, H), bias (4H).  Every pass begins with
    zeros.  With a second bottom (Tensor[T N], 0 where a sequence starts) it goes on from the last pass; as in the
    fork, number t + n of it, not t N + n, is that of step t and sequence n, which is the same for one sequence.

    ``clipping_threshold`` above 0 bounds the gradients of the gates before their nonlinearities.  The gradient of W_h
    counts the state before a step also where a sequence starts, and of the state that a pass begins with only the
    first sequence's, as in the fork: without the second bottom it is the derivative.
    """

    caffe_type = "Lstm"
    bottom_count = (1, 2)
    no_gradient = (1,)
    unforced = (1,)
    has_blobs = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("lstm_param")
        self.hidden, self.sequences = int(section.num_output), int(section.batch_size)
        self.threshold = float(section.clipping_threshold)
        if not self.hidden or not self.sequences:
            raise self.error(
                f"lstm_param has num_output {self.hidden} and batch_size {self.sequences}, expected positive numbers"
            )
        self.rows = section.has("batch_size") or len(bottoms[0]) < 3
        self.require(len(bottoms[0]) > 1, f"bottom 0 has the shape {list(bottoms[0])}, expected 2 axes or more")
        self.inputs = count(bottoms[0], 1 if self.rows else 2)
        weights = section.filler("weight_filler")
        self.add_blob((4 * self.hidden, self.inputs), weights)
        self.add_blob((4 * self.hidden, self.hidden), weights)
        self.add_blob((4 * self.hidden,), section.filler("bias_filler"))
        self.state: Tensor | None
        self.register_buffer("state", None, persistent=False)
        self._before: Tensor | None = None

    @property
    def carries(self) -> bool:  # type: ignore[override]
        """With marks where sequences start."""
        return len(self.params.bottoms) > 1

    def forget(self) -> None:
        """Start the next forward pass from zeros."""
        self.state = None

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Both matrices for every row."""
        return 4 * self.hidden * (self.inputs + self.hidden) * (count(tops[0]) // self.hidden)

    def batch_axis(self, bottom: int) -> int:
        """Axis 1, behind the steps; rows are in no batch that could be cut."""
        return 0 if self.rows else 1

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Marks."""
        return marks(shapes[bottom], random) if bottom == 1 else None

    def backward_reads(self) -> Reads:
        """What the weights are multiplied with, and the marks; the gates are kept."""
        return Reads(bottoms=tuple(range(len(self.params.bottoms))), tops=(0,))

    def backward_form(self, memory: Reread) -> tuple[Tensor, ...]:
        """The steps again; the weights' gradients see what bottom and top hold now."""
        inputs = kept(self._inputs(memory.then[0]), self._inputs(memory.bottoms[0]))
        top = self._run(inputs, memory.then[1:], self._before, memory.tops[0].reshape(*inputs.shape[:2], -1))
        return (top.reshape(memory.tops[0].shape),)

    def _size(self, shape: Shape) -> tuple[int, int]:
        """Steps and sequences."""
        return (shape[0] // self.sequences, self.sequences) if self.rows else (shape[0], shape[1])

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """T x N x H or T N x H."""
        x = tuple(bottoms[0])
        wanted = f"T {self.sequences} x D" if self.rows else "T x N x D"
        self.require(
            len(x) > (1 if self.rows else 2) and count(x, 1 if self.rows else 2) == self.inputs and x[0] > 0,
            f"bottom 0 has the shape {list(x)}, expected {wanted} with D = {self.inputs} and a step at least",
        )
        self.require(
            not self.rows or x[0] % self.sequences == 0,
            f"bottom 0 has {x[0]} rows, expected a multiple of the batch_size {self.sequences}",
        )
        steps, sequences = self._size(x)
        for marked in bottoms[1:]:
            self.require(
                len(marked) > 0 and marked[0] == count(marked) == steps * sequences,
                f"bottom 1 has the shape {list(marked)}, expected {steps * sequences}, one for each row of bottom 0",
            )
        return [(x[0], self.hidden) if self.rows else (steps, sequences, self.hidden)]

    def forward(self, x: Tensor, *marked: Tensor) -> Tensor:
        """All steps; the products with the input weights are one."""
        self._before = self.state if marked else None
        top = self._run(self._inputs(x), marked, self._before)
        return top.flatten(0, 1) if self.rows else top

    def _inputs(self, x: Tensor) -> Tensor:
        """What x adds to the gates, T x N x 4H."""
        return F.linear(x.reshape(*self._size(tuple(x.shape)), self.inputs), self.blob(0), self.blob(2))

    def _run(
        self, inputs: Tensor, marked: Sequence[Tensor], before: Tensor | None, seen: Tensor | None = None
    ) -> Tensor:
        """T x N x H.

        Args:
            before: h and c [2, N, H] of the last pass.
            seen: h of all steps as the gradient of W_h finds it, if it is not what this run computes.
        """
        steps, sequences = inputs.shape[:2]
        start = inputs.new_zeros(2, sequences, self.hidden)
        if before is not None and before.shape == start.shape and not inputs.is_meta:
            start = before.to(inputs)
        hidden, cell = start
        first = torch.cat([hidden[:1], torch.zeros_like(hidden[1:])])
        tops = []
        for step in range(steps):
            goes_on: Tensor | float = float(step > 0)
            if marked:
                goes_on = (marked[0].detach().flatten()[step : step + sequences, None] != 0).to(inputs)
            told = first if step == 0 else hidden.detach() if seen is None else seen[step - 1].detach()
            hidden, cell = self._step(inputs[step], hidden, cell, told, goes_on)
            tops.append(hidden)
        if marked and seen is None and not inputs.is_meta:
            self.state = torch.stack([hidden.detach(), cell.detach()])
        return torch.stack(tops)

    def _step(
        self, inputs: Tensor, hidden: Tensor, cell: Tensor, told: Tensor, goes_on: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """h and c; W_h's gradient is that of its product with ``told``."""
        weights = self.blob(1)
        product = F.linear(hidden, weights.detach()) * goes_on
        if torch.is_grad_enabled() and weights.requires_grad:
            for_weights = F.linear(told, weights)
            product = product + (for_weights - for_weights.detach())
        gates = inputs + product
        if self.threshold > 0:
            gates = _Bounded.apply(gates, self.threshold)
        enter, keep, leave = gates[:, : 3 * self.hidden].sigmoid().chunk(3, 1)
        cell = keep * goes_on * cell + enter * gates[:, 3 * self.hidden :].tanh()
        return leave * cell.tanh(), cell

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """LSTM, whose gates are i, o, f, g; marks have no form there."""
        if len(bottoms) > 1:
            raise self.export_error("ONNX has no form of an Lstm with marks where sequences start, expected one bottom")
        order = [0, 2, 1, 3]

        def turned(index: int) -> np.ndarray:
            blob = self.blob(index).detach().float().cpu().numpy()
            return blob.reshape(4, self.hidden, *blob.shape[1:])[order].reshape(1, *blob.shape)

        bias = turned(2)
        x = graph.add("Reshape", [bottoms[0], graph.constant([-1, self.sequences, self.inputs])])
        if not self.rows:
            x = graph.add("Reshape", [bottoms[0], graph.constant([0, 0, -1])])
        weights = [graph.constant(value) for value in (turned(0), turned(1), np.concatenate([bias, 0 * bias], 1))]
        steps = graph.add("LSTM", [x, *weights], hidden_size=self.hidden)
        shape = [-1, self.hidden] if self.rows else [0, -1, self.hidden]
        graph.node("Reshape", [steps, graph.constant(shape)], tops)
