"""ICNet's pyramid of means as one layer: ICNetSubgraph.

Source: foss-for-synopsys-dwc-arc-processors/synopsys-caffe, ``icnet_subgraph_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.pooling_onnx import write_pool
from caffe_compat.layers.registry import register
from caffe_compat.layers.windows import PoolWindow, average_pool

__all__ = ["ICNetSubgraph"]


@register(dialect="synopsys")
class ICNetSubgraph(Layer):
    """The bottom and its means over four sizes of windows, each resized to it with the corners aligned.

    Windows and strides are those of ICNet's conv5_3 for an image of 1025 x 2049 (33 x 65 there); a last window may be
    partial.  The fork has no backward pass; here it is the derivative.
    """

    caffe_type = "ICNetSubgraph"
    homogeneous = True
    WINDOWS: ClassVar[tuple[PoolWindow, ...]] = tuple(
        PoolWindow(kernel, stride, (0, 0))
        for kernel, stride in (
            ((33, 65), (33, 65)),
            ((17, 33), (16, 32)),
            ((13, 25), (10, 20)),
            ((8, 15), (5, 10)),
        )
    )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The bottom's."""
        shape = tuple(bottoms[0])
        self.require(len(shape) == 4, f"expected 4 axes, the bottom has the shape {list(shape)}")
        least = min((*shape[2:], *(size for window in self.WINDOWS for size in window.sizes(shape[2:]))))
        self.require(least > 0, f"the bottom has the shape {list(shape)}, which is too small for the windows")
        return [shape]

    def forward(self, bottom: Tensor) -> Tensor:
        """Pool, resize, add."""
        top, (high, wide) = bottom, bottom.shape[2:]
        if not bottom.numel():
            return bottom.clone()
        for window in self.WINDOWS:
            means = average_pool(bottom, window)
            top = top + F.interpolate(means, (high, wide), mode="bilinear", align_corners=True)
        return top

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """AveragePool, Resize and Add, four times."""
        sizes, total = graph.add("Shape", bottoms), bottoms[0]
        how = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        for number, window in enumerate(self.WINDOWS):
            means = f"{tops[0]}/means{number}"
            write_pool(graph, "AVE", bottoms[0], [means], window)
            resized = graph.add("Resize", [means, "", "", sizes], **how)
            if number + 1 < len(self.WINDOWS):
                total = graph.add("Add", [total, resized])
            else:
                graph.node("Add", [total, resized], tops)
