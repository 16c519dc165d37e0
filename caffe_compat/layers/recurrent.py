"""Recurrent layers: LSTM, RNN, and the LSTMUnit that is one step of the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import marks
from caffe_compat.layers.sharing import Reads, Reread, Share, kept

__all__ = ["LSTM", "RNN", "LSTMUnit"]


class _LstmUnit(torch.autograd.Function):
    """One LSTM step from summed gate inputs; gates in the order i, f, o, g.

    The forget gate is cont * sigmoid, and its derivative is taken as f (1 - f), as Caffe's CPU code does: exact only
    where cont is 0 or 1.
    """

    @staticmethod
    def forward(ctx: Any, c_prev: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        i, f, o, g = gates.chunk(4, -1)
        i, f, o, g = i.sigmoid(), f.sigmoid(), o.sigmoid(), g.tanh()
        f = torch.where(cont == 0, torch.zeros_like(f), cont * f)
        c = f * c_prev + i * g
        tanh_c = c.tanh()
        ctx.save_for_backward(c_prev, i, f, o, g, tanh_c)
        return c, o * tanh_c

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_c: Tensor, grad_h: Tensor) -> tuple[Tensor | None, ...]:
        c_prev, i, f, o, g, tanh_c = ctx.saved_tensors
        total = grad_c + grad_h * o * (1 - tanh_c * tanh_c)
        gates = (
            total * g * i * (1 - i),
            total * c_prev * f * (1 - f),
            grad_h * tanh_c * o * (1 - o),
            total * i * (1 - g * g),
        )
        return total * f, torch.cat(gates, -1), None


def _onnx_lstm_step(graph: OnnxGraph, size: int, c_prev: str, gates: str, cont: str) -> tuple[str, str]:
    """Names of c and h after one step."""
    i, f, o, g = (_onnx_slice(graph, gates, k * size, (k + 1) * size, -1) for k in range(4))
    i, f, o = (graph.add("Sigmoid", [gate]) for gate in (i, f, o))
    kept = graph.add("Mul", [graph.add("Mul", [f, cont]), c_prev])
    c = graph.add("Add", [kept, graph.add("Mul", [i, graph.add("Tanh", [g])])])
    return c, graph.add("Mul", [o, graph.add("Tanh", [c])])


def _onnx_slice(graph: OnnxGraph, blob: str, start: int, end: int, axis: int) -> str:
    return graph.add("Slice", [blob, *(graph.constant([value]) for value in (start, end, axis))])


@register
class LSTMUnit(Layer):
    """One step of an LSTM.  Bottoms: c (1, N, H), gate inputs (1, N, 4H), cont (1, N); tops: c, h (1, N, H).

    cont 0 starts a sequence: c is forgotten.  For fractional cont the gradient of the forget gate is Caffe's, not the
    exact one.
    """

    caffe_type = "LSTMUnit"
    bottom_count = (3, 3)
    top_count = (2, 2)
    no_gradient = (2,)
    unforced = (2,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.hidden = bottoms[0][-1] if bottoms[0] else 0

    def batch_axis(self, bottom: int) -> int:
        """Axis 1, behind the single step."""
        return 1

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Marks for cont."""
        return marks(shapes[bottom], random) if bottom == 2 else None

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of c, twice."""
        c, gates, cont = (tuple(bottom) for bottom in bottoms)
        self.require(
            len(c) == 3 and c[0] == 1 and gates == (1, c[1], 4 * c[2]) and cont == (1, c[1]),
            f"expected 1 x N x H, 1 x N x 4H and 1 x N: bottoms are {[list(b) for b in bottoms]}",
        )
        return [c, c]

    def forward(self, c_prev: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, ...]:
        """c and h after the step."""
        tops: tuple[Tensor, ...] = _LstmUnit.apply(c_prev, gates, cont.detach()[:, :, None])
        return tops

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Elementwise nodes."""
        cont = graph.add("Unsqueeze", [bottoms[2], graph.constant([2])])
        steps = _onnx_lstm_step(graph, self.hidden, bottoms[0], bottoms[1], cont)
        for name, top in zip(steps, tops, strict=True):
            graph.node("Identity", [name], [top])


class _Recurrent(Layer):
    """What LSTM and RNN share.

    Bottoms: x (T, N, D...), cont (T, N; 0 where a sequence starts) and, if wanted, a static input (N, D...), which
    joins every step; with ``expose_hidden`` also the initial states (1, N, H), whose final values are tops then.
    Without it the last state is the first of the next forward pass, as long as the process lives (``forget``
    clears it); no gradient crosses passes.  Initial states get no gradient, final ones send none.
    """

    bottom_count = (2, 5)
    top_count = (1, 3)
    no_gradient = (1,)
    unforced = (1,)
    has_blobs = True
    states: ClassVar[int]  #: number of state blobs
    gates: ClassVar[int]  #: rows of the input weights per output

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("recurrent_param")
        section.ignore("debug_info")  # prints
        self.num_output, self.expose_hidden = int(section.num_output), bool(section.expose_hidden)
        if not self.num_output:
            raise self.error("recurrent_param.num_output is 0 or missing, expected a positive number")
        exposed = self.states if self.expose_hidden else 0
        if not 0 <= len(bottoms) - 2 - exposed <= 1:
            raise self.error(f"takes {2 + exposed} or {3 + exposed} bottom blobs, the prototxt gives {len(bottoms)}")
        if len(params.tops) != 1 + exposed:
            raise self.error(f"produces {1 + exposed} top blob(s), the prototxt gives {len(params.tops)}")
        self.static = len(bottoms) - 2 - exposed == 1
        self.steps = bottoms[0][0] if bottoms[0] else 0
        self._check_input(bottoms)
        self.inputs = count(bottoms[0], 2)
        weights, bias = section.filler("weight_filler"), section.filler("bias_filler")
        rows = self.gates * self.num_output
        self.add_blob((rows, self.inputs), weights)
        self.add_blob((rows,), bias)
        if self.static:
            self.add_blob((rows, count(bottoms[2], 1)), weights)
        self.add_blob((rows, self.num_output), weights)
        self._more_blobs(weights, bias)
        self.state: Tensor | None
        self.register_buffer("state", None, persistent=False)
        self._before: Tensor | None = None  # the state that the last forward pass began with

    def shared_memory(self) -> tuple[Share, ...]:
        """The first top is a blob of the unrolled net inside the layer, data and diff."""
        return (Share(0, None, "setup"),)

    def backward_reads(self) -> Reads:
        """What the input weights are multiplied with, for their gradient."""
        return Reads((0, 2) if self.static else (0,))

    def backward_form(self, memory: Reread) -> tuple[Tensor, ...]:
        """The steps of the forward pass again; only the input weights' gradients see what the bottoms hold now."""
        then, now = memory.then, memory.bottoms
        inputs = kept(self._inputs(then[0], then[2:]), self._inputs(now[0], now[2:]))
        after, self.state = self.state, self._before
        try:
            return self._run(inputs, then[0], then[1], then[2:])
        finally:
            self.state = after

    def _more_blobs(self, weights: Any, bias: Any) -> None:
        """Blobs after the recurrent weights."""

    def _check_input(self, bottoms: Sequence[Shape]) -> None:
        x, cont = bottoms[:2]
        self.require(len(x) >= 3, f"expected x as T x N x D, bottom 0 has the shape {list(x)}")
        self.require(x[0] > 0, f"expected at least one step, bottom 0 has the shape {list(x)}")
        self.require(
            tuple(cont) == tuple(x[:2]),
            f"expected cont as T x N = {list(x[:2])}, bottom '{self.params.bottoms[1]}' has the shape {list(cont)}",
        )
        if self.static:
            self.require(
                len(bottoms[2]) >= 2 and bottoms[2][0] == x[1],
                f"expected the static input as N x D with N = {x[1]}, bottom 2 has the shape {list(bottoms[2])}",
            )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """T x N x H, and the final states if exposed."""
        self._check_input(bottoms)
        x = bottoms[0]
        self.require(x[0] == self.steps, f"was set up for {self.steps} steps, bottom 0 has {x[0]}")
        self.require(
            count(x, 2) == self.inputs, f"was set up for {self.inputs} inputs a step, bottom 0 has {count(x, 2)}"
        )
        if self.static:
            have, given = self.blob_shapes[2][1], count(bottoms[2], 1)
            self.require(have == given, f"was set up for {have} static inputs, bottom 2 has {given}")
        hidden = (1, x[1], self.num_output)
        if not self.expose_hidden:
            return [(*x[:2], self.num_output)]
        for index in range(len(bottoms) - self.states, len(bottoms)):
            self.require(
                tuple(bottoms[index]) == hidden,
                f"expected the initial state {list(hidden)}, bottom {index} has the shape {list(bottoms[index])}",
            )
        return [(*x[:2], self.num_output), *[hidden] * self.states]

    @property
    def carries(self) -> bool:  # type: ignore[override]
        """Yes, unless the states are bottoms and tops."""
        return not self.expose_hidden

    def forget(self) -> None:
        """Start the next forward pass from zeros."""
        self.state = None

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Every matrix once per step and sequence."""
        return count(bottoms[0], 0, 2) * sum(count(shape) for shape in self.blob_shapes if len(shape) == 2)

    def batch_axis(self, bottom: int) -> int:
        """Axis 1, behind the steps; of the static input axis 0."""
        return 0 if self.static and bottom == 2 else 1

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Marks for cont."""
        return marks(shapes[bottom], random) if bottom == 1 else None

    def forward(self, x: Tensor, cont: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        """All steps; the products with the input weights are one."""
        self._before = self.state
        return self._run(self._inputs(x, more), x, cont, more)

    def _inputs(self, x: Tensor, more: Sequence[Tensor]) -> Tensor:
        """What x and the static input add to the gates of every step."""
        inputs = F.linear(x.flatten(2), self.blob(0), self.blob(1))
        return inputs + F.linear(more[0].flatten(1), self.blob(2)) if self.static else inputs

    def _run(self, inputs: Tensor, x: Tensor, cont: Tensor, more: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if self.expose_hidden:
            state = [value.detach()[0] for value in more[-self.states :]]
        else:
            state = list(self._carried(x))
        cont = cont.detach()[:, :, None]
        tops = []
        for step in range(len(x)):
            state = list(self._step(state, inputs[step], cont[step]))
            tops.append(state[0])
        last = torch.stack([value.detach() for value in state])
        top = self._output(torch.stack(tops))
        if self.expose_hidden:
            return (top, *(value[None] for value in last))
        if last.device.type != "meta":
            self.state = last
        return (top,)

    def _carried(self, x: Tensor) -> Tensor:
        """The state of the last pass; a smaller batch takes its first values, as Caffe's blobs keep their memory."""
        shape = (self.states, x.shape[1], self.num_output)
        if self.state is None or x.device.type == "meta" or self.state.shape[1] < shape[1]:
            return x.new_zeros(shape)
        return self.state.to(x).flatten(1)[:, : count(shape, 1)].reshape(shape)

    def _step(self, state: list[Tensor], inputs: Tensor, cont: Tensor) -> tuple[Tensor, ...]:
        """The states after one step, h first."""
        raise NotImplementedError

    def _output(self, hidden: Tensor) -> Tensor:
        """The top, from h of all steps."""
        return hidden

    # -- ONNX -------------------------------------------------------------------------------------------------

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Unrolled steps; without ``expose_hidden`` every run starts from zero states, as ONNX models keep none."""
        x, cont = bottoms[:2]
        number = graph.shape(x)[1]
        if len(graph.shape(x)) > 3:
            x = graph.add("Reshape", [x, graph.constant([0, 0, -1])])
        inputs = graph.add("MatMul", [x, self._transposed(graph, 0)])
        inputs = graph.add("Add", [inputs, graph.parameter(self, 1)])
        if self.static:
            static = graph.add("Flatten", [bottoms[2]], axis=1)
            inputs = graph.add("Add", [inputs, graph.add("MatMul", [static, self._transposed(graph, 2)])])
        cont = graph.add("Unsqueeze", [cont, graph.constant([2])])
        if self.expose_hidden:
            state = list(bottoms[-self.states :])
        else:
            first = graph.add("Mul", [_onnx_slice(graph, cont, 0, 1, 0), graph.constant(0.0)])
            zeros = np.zeros((1, number or 1, self.num_output), np.float32)
            state = [graph.add("Add", [first, graph.constant(zeros, np.float32)])] * self.states
        hidden = []
        for step in range(self.steps):
            at = [_onnx_slice(graph, blob, step, step + 1, 0) for blob in (inputs, cont)]
            state = self._onnx_step(graph, state, *at)
            hidden.append(state[0])
        self._onnx_output(graph, graph.add("Concat", hidden, axis=0), tops[0])
        for name, top in zip(state if self.expose_hidden else (), tops[1:], strict=True):
            graph.node("Identity", [name], [top])

    def _transposed(self, graph: OnnxGraph, index: int) -> str:
        return graph.add("Transpose", [graph.parameter(self, index)], perm=[1, 0])

    def _onnx_step(self, graph: OnnxGraph, state: list[str], inputs: str, cont: str) -> list[str]:
        raise NotImplementedError

    def _onnx_output(self, graph: OnnxGraph, hidden: str, top: str) -> None:
        graph.node("Identity", [hidden], [top])


@register
class LSTM(_Recurrent):
    """Long short-term memory without peepholes, gates in the order i, f, o, g (torch: i, f, g, o).

    Blobs: W_xc (4H, D), b_c (4H), [W_static (4H, D_s),] W_hc (4H, H).
    """

    caffe_type = "LSTM"
    states = 2
    gates = 4

    def _step(self, state: list[Tensor], inputs: Tensor, cont: Tensor) -> tuple[Tensor, ...]:
        hidden, c_prev = state
        gates = inputs + F.linear(hidden * cont, self.blob(len(self.blobs) - 1))
        c, hidden = _LstmUnit.apply(c_prev, gates, cont)
        return hidden, c

    def _onnx_step(self, graph: OnnxGraph, state: list[str], inputs: str, cont: str) -> list[str]:
        hidden = graph.add("Mul", [state[0], cont])
        product = graph.add("MatMul", [hidden, self._transposed(graph, len(self.blobs) - 1)])
        c, hidden = _onnx_lstm_step(graph, self.num_output, state[1], graph.add("Add", [inputs, product]), cont)
        return [hidden, c]


@register
class RNN(_Recurrent):
    """h = tanh(W_hh (cont h) + W_xh x + b_h [+ static]); the top is tanh(W_ho h + b_o), the state is h.

    Blobs: W_xh (H, D), b_h (H), [W_static (H, D_s),] W_hh (H, H), W_ho (H, H), b_o (H).
    """

    caffe_type = "RNN"
    top_count = (1, 2)
    bottom_count = (2, 4)
    states = 1
    gates = 1

    def _more_blobs(self, weights: Any, bias: Any) -> None:
        self.add_blob((self.num_output, self.num_output), weights)
        self.add_blob((self.num_output,), bias)

    def _step(self, state: list[Tensor], inputs: Tensor, cont: Tensor) -> tuple[Tensor, ...]:
        return ((inputs + F.linear(state[0] * cont, self.blob(len(self.blobs) - 3))).tanh(),)

    def _output(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.blob(len(self.blobs) - 2), self.blob(len(self.blobs) - 1)).tanh()

    def _onnx_step(self, graph: OnnxGraph, state: list[str], inputs: str, cont: str) -> list[str]:
        hidden = graph.add("Mul", [state[0], cont])
        product = graph.add("MatMul", [hidden, self._transposed(graph, len(self.blobs) - 3)])
        return [graph.add("Tanh", [graph.add("Add", [inputs, product])])]

    def _onnx_output(self, graph: OnnxGraph, hidden: str, top: str) -> None:
        product = graph.add("MatMul", [hidden, self._transposed(graph, len(self.blobs) - 2)])
        graph.node("Tanh", [graph.add("Add", [product, graph.parameter(self, len(self.blobs) - 1)])], [top])
