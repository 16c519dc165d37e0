"""What intel/caffe does in one layer where others take several: Reshape that shuffles pixels, Concat that flattens.

Source: ``reshape_layer.cpp`` and ``mkldnn_concat_layer.cpp`` of intel/caffe.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import OnnxGraph, Shape, count
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register
from caffe_compat.layers.shaping import Concat
from caffe_compat.layers.sharing import Share
from caffe_compat.layers.tiling import Tiling

__all__ = ["FlatConcat", "PixelShuffler"]


@register(when=lambda params: params.section("reshape_param").pixelshuffler != 1, dialect="intel", marked=True)
class PixelShuffler(Tiling):
    """Reshape with ``pixelshuffler: r``: r r channels become blocks of r x r pixels of one channel.

    Tensor[N, C r r, H, W] -> Tensor[N, C, H r, W r]; channel c r r + y r + x is row y and column x of a block.  The
    fork reads no other field of ``reshape_param`` then; any of them is an error here.
    """

    caffe_type = "Reshape"
    field = ("reshape_param", "pixelshuffler")


@register(when=lambda params: bool(params.section("concat_param").per_fla_fuse), dialect="intel", marked=True)
class FlatConcat(Concat):
    """Concat with ``per_fla_fuse``: bottoms of any size, each with its channels last and flattened, side by side.

    Tensor[N, C, H, W], ... -> Tensor[N, sum of H W C, 1, 1]: what Permute (0, 2, 3, 1), Flatten and Concat give, which
    it stands for in SSD nets.  Along an axis other than 1 the field says nothing, as in the fork.  The fork takes the
    memory of a bottom as it lies, which is channels last for the int8 kernels that it was made for; with channels first
    there (its float kernels) it would flatten that, which no such net means.
    """

    def _flat(self, rank: int) -> bool:
        return self.axis(rank) == 1

    def shared_memory(self) -> tuple[Share, ...]:
        """None: channels move."""
        return ()

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """All pixels."""
        return None if self._flat(len(bottoms[0])) else super().reach(bottom, top, spans, bottoms)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """[N, numbers of an item of all bottoms, 1, 1]."""
        first = tuple(bottoms[0])
        if not self._flat(len(first)):
            return super().top_shapes(bottoms)
        for number, shape in enumerate(bottoms):
            self.require(
                len(shape) == len(first) and shape[0] == first[0],
                f"bottom {number} has shape {list(shape)}, expected {len(first)} axes and {first[0]} items as bottom 0",
            )
        return [(first[0], sum(count(shape, 1) for shape in bottoms), *[1] * (len(first) - 2))]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Channels last, then torch.cat."""
        rank = bottoms[0].dim()
        if not self._flat(rank):
            return torch.cat(bottoms, self.axis(rank))
        flat = [bottom.movedim(1, -1).reshape(len(bottom), count(bottom.shape, 1)) for bottom in bottoms]
        return torch.cat(flat, 1).reshape(self.top_shapes([tuple(bottom.shape) for bottom in bottoms])[0])

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Transpose and Flatten for each bottom, Concat, Unsqueeze."""
        rank = len(graph.shape(bottoms[0]))
        if not self._flat(rank):
            graph.node("Concat", bottoms, tops, axis=self.axis(rank))
            return
        order = [0, *range(2, rank), 1]
        flat = [graph.add("Flatten", [graph.add("Transpose", [bottom], perm=order)], axis=1) for bottom in bottoms]
        joined = graph.add("Concat", flat, axis=1)
        if rank == 2:
            graph.node("Identity", [joined], tops)
        else:
            graph.node("Unsqueeze", [joined, graph.constant(list(range(2, rank)))], tops)
