"""Numbers moved between batch, channels and pixels, and padding: as TensorFlow names it.

Source: foss-for-synopsys-dwc-arc-processors/synopsys-caffe, ``pad_layer.cpp``, ``depth_to_space_layer.cpp``,
``space_to_batch_nd_layer.cpp``, ``batch_to_space_nd_layer.cpp``.  They have no backward pass
there; here they have the derivative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register

__all__ = ["BatchToSpaceND", "DepthToSpace", "Pad", "SpaceToBatchND"]


def _torch_pads(pads: Sequence[int]) -> list[int]:
    """Pairs of paddings, of the first axis first, as torch wants them: of the last axis first."""
    return [side for axis in reversed(range(len(pads) // 2)) for side in pads[2 * axis : 2 * axis + 2]]


@register(dialect="synopsys")
class Pad(Layer):
    """``paddings`` before and behind every axis, two numbers an axis, filled with ``constant_values``."""

    caffe_type = "Pad"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("pad_param")
        self.pads, self.value = [int(pad) for pad in section.paddings], float(section.constant_values)
        self._check(bottoms[0])

    def _check(self, shape: Shape) -> None:
        self.require(
            len(self.pads) == 2 * len(shape),
            f"pad_param.paddings has {len(self.pads)} numbers, expected two for each of the {len(shape)} axes",
        )

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans:
        """The same pixels, which lie elsewhere."""
        rows, columns = ((first - pad, last - pad) for (first, last), pad in zip(spans, self.pads[4::2], strict=True))
        return rows, columns

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Every size with its paddings."""
        shape = tuple(bottoms[0])
        self._check(shape)
        top = tuple(size + sum(self.pads[2 * axis : 2 * axis + 2]) for axis, size in enumerate(shape))
        self.require_memory("the top", [top])
        return [top]

    def forward(self, bottom: Tensor) -> Tensor:
        """One torch call."""
        return F.pad(bottom, _torch_pads(self.pads), value=self.value)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Pad."""
        pads = graph.constant([*self.pads[::2], *self.pads[1::2]])
        graph.node("Pad", [bottoms[0], pads, graph.constant(self.value)], tops)


@register(dialect="synopsys")
class DepthToSpace(Layer):
    """Channel (r block + s) C + c at (h, w) becomes channel c at (h block + r, w block + s), of C in all.

    ``data_format`` NHWC (the default), NCHW or DCR, or CRD, where it is channel (c block + r) block + s.
    """

    caffe_type = "DepthToSpace"
    homogeneous = True
    precision = "any"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("depth_to_space_param")
        given = str(section.data_format)
        formats = {"NHWC": "NHWC", "NCHW": "DCR", "DCR": "DCR", "CRD": "CRD"}
        if given not in formats:
            raise self.error(f"depth_to_space_param.data_format is '{given}', expected one of {', '.join(formats)}")
        self.block, self.format = int(section.block_size), formats[given]
        if self.block < 1:
            raise self.error(f"depth_to_space_param.block_size is {self.block}, expected a positive number")

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Channels / block^2, height and width times block."""
        shape = list(bottoms[0])
        self.require(len(shape) == 4, f"expected 4 axes, the bottom has the shape {shape}")
        channel = 3 if self.format == "NHWC" else 1
        self.require(
            shape[channel] % self.block**2 == 0,
            f"the bottom has the shape {shape}, expected a multiple of {self.block} x {self.block} channels",
        )
        return [
            tuple(
                size if axis == 0 else size // self.block**2 if axis == channel else size * self.block
                for axis, size in enumerate(shape)
            )
        ]

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """The pixels of which those are."""
        if self.format == "NHWC":
            return None
        rows, columns = ((first // self.block, last // self.block) for first, last in spans)
        return rows, columns

    def forward(self, bottom: Tensor) -> Tensor:
        """One transposition."""
        block, (top,) = self.block, self.top_shapes([tuple(bottom.shape)])
        if self.format == "NHWC":
            images, height, width = bottom.shape[:3]
            parts = bottom.reshape(images, height, width, block, block, top[3])
            return parts.permute(0, 1, 3, 2, 4, 5).reshape(top)
        images, _, height, width = bottom.shape
        if self.format == "CRD":
            return bottom.reshape(images, top[1], block, block, height, width).permute(0, 1, 4, 2, 5, 3).reshape(top)
        return bottom.reshape(images, block, block, top[1], height, width).permute(0, 3, 4, 1, 5, 2).reshape(top)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """DepthToSpace."""
        how = {"blocksize": self.block, "mode": "CRD" if self.format == "CRD" else "DCR"}
        if self.format != "NHWC":
            graph.node("DepthToSpace", bottoms, tops, **how)
            return
        moved = graph.add("DepthToSpace", [graph.add("Transpose", bottoms, perm=[0, 3, 1, 2])], **how)
        graph.node("Transpose", [moved], tops, perm=[0, 2, 3, 1])


class _Blocks(Layer):
    """What SpaceToBatchND and BatchToSpaceND share: blocks of the axes behind the batch, and two numbers for each."""

    homogeneous = True
    precision = "any"

    def __init__(self, params: Params, bottoms: Sequence[Shape], field: str, sides: str) -> None:
        super().__init__(params, bottoms)
        section = params.section(field)
        self.blocks = [int(size) for size in section.block_shape]
        self.sides = [int(size) for size in section.value(sides)]
        if min(self.blocks, default=1) < 1:
            raise self.error(f"{field}.block_shape is {self.blocks}, expected positive numbers")
        if len(self.sides) != 2 * len(self.blocks):
            raise self.error(
                f"{field}.{sides} has {len(self.sides)} numbers, expected two for each of the {len(self.blocks)} "
                "of block_shape"
            )

    @property
    def most(self) -> int:
        """Numbers of a block."""
        return math.prod(self.blocks)

    def _check_rank(self, shape: Shape) -> None:
        self.require(
            len(shape) > len(self.blocks),
            f"the bottom has the shape {list(shape)}, expected more axes than the {len(self.blocks)} of block_shape",
        )

    def _static(self, graph: OnnxGraph, bottom: str) -> list[int]:
        """Sizes behind the batch."""
        shape = graph.shape(bottom)[1:]
        known = [size for size in shape if size is not None]
        if len(known) < len(shape):
            raise self.export_error(
                f"the bottom has the shape {graph.shape(bottom)}, expected fixed sizes but the first"
            )
        return known


@register(dialect="synopsys")
class SpaceToBatchND(_Blocks):
    """Zeros around, then every block_shape-th pixel of the axes behind the batch becomes an image of its own.

    Images of the same place in a block lie together: TensorFlow's ``space_to_batch_nd``.
    """

    caffe_type = "SpaceToBatchND"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, "space_to_batch_nd_param", "paddings")

    def _padded(self, sizes: Sequence[int]) -> list[int]:
        """Sizes behind the batch."""
        padded = list(sizes)
        for axis in range(len(self.blocks)):
            padded[axis] += sum(self.sides[2 * axis : 2 * axis + 2])
        return padded

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The batch times, the other sizes by block_shape."""
        shape = tuple(bottoms[0])
        self._check_rank(shape)
        padded = self._padded(shape[1:])
        for axis, block in enumerate(self.blocks):
            self.require(
                padded[axis] % block == 0,
                f"axis {axis + 1} has {padded[axis]} numbers with its paddings, expected a multiple of {block}",
            )
            padded[axis] //= block
        top = (shape[0] * self.most, *padded)
        self.require_memory("the top", [top])
        return [top]

    def _moves(self, padded: Sequence[int]) -> tuple[list[int], list[int]]:
        """Sizes behind the batch with blocks of their own, and the order that brings these to the front."""
        number, rank = len(self.blocks), len(padded)
        parts = [part for size, block in zip(padded, self.blocks, strict=False) for part in (size // block, block)]
        parts += padded[number:]
        order = [2 * axis + 2 for axis in range(number)] + [0] + [2 * axis + 1 for axis in range(number)]
        return parts, [*order, *range(2 * number + 1, rank + number + 1)]

    def forward(self, bottom: Tensor) -> Tensor:
        """Pad and transpose."""
        (top,) = self.top_shapes([tuple(bottom.shape)])
        rest = [0] * (2 * (bottom.dim() - 1 - len(self.blocks)))
        x = F.pad(bottom, _torch_pads([*self.sides, *rest]))
        parts, order = self._moves(x.shape[1:])
        return x.reshape(len(x), *parts).permute(order).reshape(top)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Pad, Reshape, Transpose, Reshape."""
        sizes, x = self._static(graph, bottoms[0]), bottoms[0]
        if any(self.sides):
            rest = [0] * (len(sizes) - len(self.blocks))
            x = graph.add("Pad", [x, graph.constant([0, *self.sides[::2], *rest, 0, *self.sides[1::2], *rest])])
        parts, order = self._moves(self._padded(sizes))
        (top,) = self.top_shapes([(1, *sizes)])
        x = graph.add("Reshape", [x, graph.constant([-1, *parts])])
        x = graph.add("Transpose", [x], perm=order)
        graph.node("Reshape", [x, graph.constant([-1, *top[1:]])], tops)


@register(dialect="synopsys")
class BatchToSpaceND(_Blocks):
    """Images of a block become pixels of one, of which ``crops`` are cut off: SpaceToBatchND undone."""

    caffe_type = "BatchToSpaceND"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, "batch_to_space_nd_param", "crops")

    def _whole(self, sizes: Sequence[int]) -> list[int]:
        """Sizes behind the batch before they are cropped."""
        whole = list(sizes)
        for axis, block in enumerate(self.blocks):
            whole[axis] *= block
        return whole

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The batch by, the other sizes times block_shape, less the crops."""
        shape = tuple(bottoms[0])
        self._check_rank(shape)
        self.require(
            shape[0] % self.most == 0,
            f"the bottom has {shape[0]} images, expected a multiple of a block's {self.most}",
        )
        whole = self._whole(shape[1:])
        for axis in range(len(self.blocks)):
            whole[axis] -= sum(self.sides[2 * axis : 2 * axis + 2])
            self.require(whole[axis] > 0, f"crops leave {whole[axis]} numbers of axis {axis + 1}, expected some")
        return [(shape[0] // self.most, *whole)]

    def _order(self, rank: int) -> list[int]:
        number = len(self.blocks)
        mixed = [part for axis in range(number) for part in (number + 1 + axis, axis)]
        return [number, *mixed, *range(2 * number + 1, rank + number)]

    def forward(self, bottom: Tensor) -> Tensor:
        """Transpose and cut."""
        (top,) = self.top_shapes([tuple(bottom.shape)])
        x = bottom.reshape(*self.blocks, top[0], *bottom.shape[1:]).permute(self._order(bottom.dim()))
        x = x.reshape(top[0], *self._whole(bottom.shape[1:]))
        for axis in range(len(self.blocks)):
            x = x.narrow(axis + 1, self.sides[2 * axis], top[axis + 1])
        return x

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Reshape, Transpose, Reshape, Slice."""
        sizes = self._static(graph, bottoms[0])
        x = graph.add("Reshape", [bottoms[0], graph.constant([*self.blocks, -1, *sizes])])
        x = graph.add("Transpose", [x], perm=self._order(len(sizes) + 1))
        whole = graph.constant([-1, *self._whole(sizes)])
        if not any(self.sides):
            graph.node("Reshape", [x, whole], tops)
            return
        (top,) = self.top_shapes([(self.most, *sizes)])
        starts = self.sides[::2]
        ends = [start + top[axis + 1] for axis, start in enumerate(starts)]
        axes = list(range(1, len(starts) + 1))
        cut = [graph.constant(numbers) for numbers in (starts, ends, axes)]
        graph.node("Slice", [graph.add("Reshape", [x, whole]), *cut], tops)
