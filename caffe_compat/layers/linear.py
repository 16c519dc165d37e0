"""InnerProduct and Embed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads

__all__ = ["Embed", "InnerProduct", "SparseInnerProduct"]


@register
class InnerProduct(Layer):
    """Matrix product with the axes from ``axis`` on flattened (row-major: channels, height, width).

    Weights [num_output, K], or [K, num_output] with ``transpose``; bias [num_output].
    """

    affine = True
    precision = "half"
    caffe_type = "InnerProduct"
    has_blobs = True
    filler_section = "inner_product_param"
    fixes_size = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("inner_product_param")
        self.outputs, self.transpose = int(section.num_output), bool(section.transpose)
        self.section = section
        self.inputs = count(bottoms[0], section.axis("axis", len(bottoms[0])))
        shape = (self.inputs, self.outputs) if self.transpose else (self.outputs, self.inputs)
        self.add_blob(shape, section.filler("weight_filler"))
        self.bias_term = bool(section.bias_term)
        if self.bias_term:
            self.add_blob((self.outputs,), section.filler("bias_filler"))
        else:
            section.ignore("bias_filler")

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Every weight once per row."""
        return count(tops[0], 0, len(tops[0]) - 1) * count(self.blob_shapes[0])

    def backward_reads(self) -> Reads:
        """The bottom, for the gradient of the weights."""
        return Reads(bottoms=(0,))

    @property
    def fresh_top(self) -> bool:
        """Yes."""
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The axes before ``axis``, and num_output."""
        bottom = bottoms[0]
        axis = self.section.axis("axis", len(bottom))
        have = count(bottom, axis)
        self.require(
            have == self.inputs,
            f"input size incompatible: bottom {list(bottom)} has {have} values from axis {axis} on, expected "
            f"{self.inputs} as when it was built",
        )
        return [(*bottom[:axis], self.outputs)]

    def forward(self, bottom: Tensor) -> Tensor:
        """One matrix product."""
        weight = self.blob(0)
        axis = self.section.axis("axis", bottom.dim())
        rows = bottom if bottom.dim() == axis + 1 else bottom.reshape(*bottom.shape[:axis], self.inputs)
        return F.linear(rows, weight.t() if self.transpose else weight, self.blob(1) if self.bias_term else None)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Flatten and Gemm; with more than one axis kept, MatMul and Add."""
        x, rank = bottoms[0], len(graph.shape(bottoms[0]))
        axis = self.section.axis("axis", rank)
        bias = [graph.parameter(self, 1)] if self.bias_term else []
        if axis < 2:
            if not (rank == 2 and axis == 1):
                x = graph.add("Flatten", [x], axis=axis)
            inputs = [x, graph.parameter(self, 0), *bias]
            trans_b = None if self.transpose else 1
            if axis == 1:
                graph.node("Gemm", inputs, tops, transB=trans_b)
            else:
                row = graph.add("Gemm", inputs, transB=trans_b)
                graph.node("Reshape", [row, graph.constant([self.outputs])], tops)
            return
        if rank > axis + 1:
            x = graph.add("Reshape", [x, graph.constant([0] * axis + [self.inputs])])
        weight = graph.parameter(self, 0)
        if not self.transpose:
            weight = graph.add("Transpose", [weight], perm=[1, 0])
        if bias:
            graph.node("Add", [graph.add("MatMul", [x, weight]), *bias], tops)
        else:
            graph.node("MatMul", [x, weight], tops)


@register(dialect="deepdetect")
class SparseInnerProduct(InnerProduct):
    """InnerProduct of a bottom of which few numbers are not 0.

    In the fork the gradients of a pass replace those of earlier ones (``iter_size``), and none goes to the bottom; here
    it has one.  Source: jolibrain/caffe, ``sparse_inner_product_layer.cpp``.
    """

    caffe_type = "SparseInnerProduct"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        if self.transpose:
            raise self.error("inner_product_param.transpose is true, expected false: the fork takes no notice of it")

    def replaces_gradient(self, index: int, bottoms: Sequence[Shape]) -> bool:
        """Both blobs'."""
        return True


@register
class Embed(Layer):
    """Rows of a table: bottom holds row numbers (truncated to integers), top has one more axis of num_output.

    Weights [input_dim, num_output], bias [num_output] (on by default).  Caffe's release builds do not check the
    numbers; here one outside [0, input_dim) is an error.
    """

    caffe_type = "Embed"
    no_gradient = (0,)
    has_blobs = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("embed_param")
        self.outputs, self.inputs = int(section.num_output), int(section.input_dim)
        for field, value in (("num_output", self.outputs), ("input_dim", self.inputs)):
            if value < 1:
                raise self.error(f"embed_param.{field} is {value}, expected a positive number")
        self.add_blob((self.inputs, self.outputs), section.filler("weight_filler"))
        self.bias_term = bool(section.bias_term)
        if self.bias_term:
            self.add_blob((self.outputs,), section.filler("bias_filler"))
        else:
            section.ignore("bias_filler")

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray:
        """Row numbers."""
        return random.integers(0, self.inputs, shapes[0])

    def backward_reads(self) -> Reads:
        """The row numbers."""
        return Reads(bottoms=(0,))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The bottom's shape and num_output."""
        return [(*bottoms[0], self.outputs)]

    def forward(self, bottom: Tensor) -> Tensor:
        """Look the rows up.

        Raises:
            LayerError: a number outside the table.
        """
        rows = bottom.detach().long()
        if rows.numel() and not rows.is_meta:
            low, high = (int(value) for value in rows.aminmax())
            if low < 0 or high >= self.inputs:
                bad = low if low < 0 else high
                raise self.error(f"index {bad} in bottom '{self.params.bottoms[0]}', expected 0 to {self.inputs - 1}")
        top = F.embedding(rows, self.blob(0))
        return top + self.blob(1) if self.bias_term else top

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Gather and Add."""
        inputs = [graph.parameter(self, 0), graph.add("Cast", bottoms, to=7)]  # 7: int64
        if self.bias_term:
            graph.node("Add", [graph.add("Gather", inputs), graph.parameter(self, 1)], tops)
        else:
            graph.node("Gather", inputs, tops)
