"""Small layers of single forks: Sparsify (wenwei202/caffe), AvgProbs and AvgProbsMultiSources (lim0606/ndsb)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, NeuronLayer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradient

__all__ = ["AvgProbs", "AvgProbsMultiSources", "Sparsify"]


@register
class Sparsify(NeuronLayer):
    """sign(x) max(|x| - ``thre``, 0); its backward pass adds ``coef`` sign(top), the gradient of an L1 norm that is in
    no loss.

    With ``thre`` above 0 nothing goes back where the top is 0.  Source: wenwei202/caffe, ``sparsify_layer.cpp``.
    """

    caffe_type = "Sparsify"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("sparsify_param")
        self.threshold, self.coefficient = float(section.thre), float(section.coef)
        if not (self.threshold >= 0 and self.coefficient >= 0):
            raise self.error(
                f"sparsify_param has thre {self.threshold:g} and coef {self.coefficient:g}, expected 0 or more"
            )

    def backward_reads(self) -> Reads:
        """The top: its sign."""
        return Reads(tops=(0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """With the signs that the top's buffer has."""
        return self._learning(memory.tops[0], memory.bottoms[0])

    def _learning(self, top: Tensor, bottom: Tensor) -> Tensor:
        signs = top.detach().sign()

        def rule(seed: Tensor) -> Tensor:
            diff = seed + self.coefficient * signs
            return diff * signs.abs() if self.threshold else diff

        return with_gradient(top, bottom, rule)

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        top = bottom.detach()
        if self.threshold:
            top = top - top.clamp(-self.threshold, self.threshold)
        if bottom.requires_grad and torch.is_grad_enabled():
            return self._learning(top, bottom)
        return top if self.threshold else top.clone()

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Clip and Sub; without a threshold Identity."""
        if not self.threshold:
            graph.node("Identity", bottoms, tops)
            return
        limits = [graph.constant(sign * self.threshold) for sign in (-1, 1)]
        graph.node("Sub", [bottoms[0], graph.add("Clip", [bottoms[0], *limits])], tops)


@register
class AvgProbs(Layer):
    """The mean of each ``multi_infer_size`` items that follow one another.  The fork has no backward pass."""

    caffe_type = "AvgProbs"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.times = int(params.section("avg_probs_param").multi_infer_size)
        if self.times < 1:
            raise self.error(f"avg_probs_param.multi_infer_size is {self.times}, expected a positive number")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Fewer items."""
        shape = tuple(bottoms[0])
        self.require(
            bool(shape) and shape[0] % self.times == 0,
            f"the bottom has the shape {list(shape)}, expected a multiple of {self.times} items",
        )
        return [(shape[0] // self.times, *shape[1:])]

    def forward(self, bottom: Tensor) -> Tensor:
        """One mean."""
        return bottom.reshape(len(bottom) // self.times, self.times, *bottom.shape[1:]).mean(1)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Reshape and ReduceMean."""
        shape = graph.static_shape(bottoms[0], "the size of an item")
        apart = graph.add("Reshape", [bottoms[0], graph.constant([-1, self.times, *shape[1:]])])
        total = graph.add("ReduceSum", [apart, graph.constant([1])], keepdims=0)
        graph.node("Div", [total, graph.constant(float(self.times))], tops)


@register
class AvgProbsMultiSources(Layer):
    """The mean of all bottoms, which have one shape.  The fork has no backward pass."""

    caffe_type = "AvgProbsMultiSources"
    bottom_count = (1, UNLIMITED)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """That of each bottom."""
        shapes = {tuple(shape) for shape in bottoms}
        self.require(len(shapes) == 1, f"bottoms have the shapes {[list(shape) for shape in bottoms]}, expected one")
        return [tuple(bottoms[0])]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """One sum."""
        return sum(bottoms[1:], bottoms[0]) / len(bottoms)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mean."""
        graph.node("Mean", bottoms, tops)
