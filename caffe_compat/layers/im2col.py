"""Im2col: the windows of an image as channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from caffe_compat.layers.base import OnnxGraph, Shape, count
from caffe_compat.layers.convolution import Windowed
from caffe_compat.layers.registry import register
from caffe_compat.layers.sliding import first, patches

__all__ = ["Im2col"]


@register
class Im2col(Windowed):
    """The windows of an image as channels: channel c * prod(kernel) + position in the kernel, row-major."""

    caffe_type = "Im2col"
    bottom_count = (1, 1)
    top_count = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Channels times the size of the kernel; spatial sizes as of a convolution."""
        bottom = bottoms[0]
        self.require(
            len(bottom) == self.rank, f"bottom has shape {list(bottom)}, expected {self.rank} axes as when it was built"
        )
        channels = bottom[self.axis] * count(self.window.kernel)
        return [(*bottom[: self.axis], channels, *self.slid(bottom[self.axis + 1 :]))]

    def forward(self, bottom: Tensor) -> Tensor:
        """Copy the windows; zeros outside the image."""
        x = self.batched(bottom)
        outs = self.slid(x.shape[2:])
        extra = self.missing(x.shape[2:], outs)
        found = patches(x, self.window, extra)  # [batch, channels, outs..., kernel...]
        n = self.spatial
        moved = found.permute(0, 1, *range(2 + n, 2 + 2 * n), *range(2, 2 + n))
        top = moved.reshape(x.shape[0], x.shape[1] * count(self.window.kernel), *moved.shape[2 + n :])
        return self.unbatched(first(top, outs), bottom)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Conv with one group per channel whose kernels are the unit vectors."""
        size = count(self.window.kernel)
        kernel = self.window.kernel or (1,)
        unit = np.eye(size, dtype=np.float32).reshape(size, 1, *kernel)
        weight = graph.constant(np.tile(unit, (self.channels, *[1] * (unit.ndim - 1))))
        pads = self.onnx_pads(graph, bottoms[0])
        inputs = [self.onnx_batched(graph, bottoms[0]), weight]
        attributes = {"group": self.channels, "pads": pads, **self.onnx_window()}
        if self.axis == 1 and self.spatial:
            graph.node("Conv", inputs, tops, **attributes)
            return
        spatial = [n for n in graph.shape(bottoms[0])[self.axis + 1 :] if n is not None]
        top = (self.channels * size, *self.slid(spatial)) if len(spatial) == self.spatial else ()
        self.onnx_unbatched(graph, graph.add("Conv", inputs, **attributes), top, bottoms[0], tops[0])
