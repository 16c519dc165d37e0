"""The layer type Upsample in two more meanings: SegNet's with a mask, YOLO's with a whole factor.

That of caffe-sds, with a width and a height, is in ``upsampling.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.labels import read_indices
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register
from caffe_compat.layers.samples import indices
from caffe_compat.layers.sharing import Reads

__all__ = ["MaskUpsample", "NearestUpsample", "scatter_places"]


class _Unpool(torch.autograd.Function):
    """Values written to where a mask says; every value gets the gradient of its place, written over or not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, pixels: int) -> Tensor:
        ctx.save_for_backward(places)
        return x.new_zeros(*x.shape[:2], pixels).scatter_(2, places, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, seed: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (places,) = ctx.saved_tensors
        return seed.gather(2, places), None, None


def scatter_places(x: Tensor, places: Tensor, pixels: int) -> Tensor:
    """Values [N, C, K] written to their places of so many pixels; the last of several stays, all get its gradient."""
    made: Tensor = _Unpool.apply(x, places, pixels)  # type: ignore[no-untyped-call]
    return made


@register(when=lambda params: len(params.bottoms) == 2, dialect="segnet")
class MaskUpsample(Layer):
    """Max unpooling: every value goes to the pixel that its mask names; the other pixels are 0.

    Bottoms: values and a mask of the same shape (Tensor[N, C, H, W]): numbers of pixels in the plane of the top, as the
    second top of Pooling has them.  The last value of several at one pixel stays, the gradient goes to all of them.
    The top has ``upsample_h`` x ``upsample_w`` pixels, or ``scale`` (2), ``scale_h`` and ``scale_w`` times the
    bottom's, less one where ``pad_out_h`` or ``pad_out_w`` is set.  Source: ``upsample_layer.cpp`` of
    alexgkendall/caffe-segnet.
    """

    caffe_type = "Upsample"
    bottom_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.scale = (1, 1)
        self.less = (0, 0)
        self.size = self.read_size(params)

    def read_size(self, params: Params) -> tuple[int, int] | None:
        """Height and width of the top, or None: factors are set."""
        section = params.section("upsample_param")
        sides = ("h", "w")
        sizes = [section.optional(f"upsample_{side}") for side in sides]
        scales = [section.optional(f"scale_{side}") for side in sides]
        scale = section.optional("scale")
        if None not in sizes:
            section.ignore("pad_out_h", "pad_out_w")
        elif sizes != [None, None] or (scales != [None, None] and (None in scales or scale is not None)):
            raise self.error("upsample_param: expected upsample_h and upsample_w, or scale, or scale_h and scale_w")
        size = None if None in sizes else (int(sizes[0]), int(sizes[1]))
        factors = [2 if scale is None else scale] * 2 if scales == [None, None] else scales
        self.scale = (int(factors[0]), int(factors[1]))
        self.less = (0, 0) if size else (int(bool(section.pad_out_h)), int(bool(section.pad_out_w)))
        for side, factor, less in zip(sides, size or self.scale, self.less, strict=True):
            if factor < 2 or (less and factor != 2):
                name = f"upsample_{side}" if size else f"scale or scale_{side}"
                wanted = f"2, as pad_out_{side} is set" if less else "2 or more"
                raise self.error(f"upsample_param.{name} is {factor}, expected {wanted}")
        return size

    def backward_reads(self) -> Reads:
        """The mask."""
        return Reads((1,))

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
        """Pixels of the top."""
        high, wide = self._made(shapes[0][2:])
        return indices(shapes[1], high * wide, random) if bottom == 1 else None

    def _made(self, image: Sequence[int]) -> tuple[int, int]:
        high, wide = (n * s - less for n, s, less in zip(image, self.scale, self.less, strict=True))
        return self.size or (high, wide)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x C x height x width."""
        shape, mask = (tuple(bottom) for bottom in bottoms)
        self.require(len(shape) == 4, f"expected N x C x H x W, bottom 0 has the shape {list(shape)}")
        self.require(shape == mask, f"the mask has the shape {list(mask)}, expected that of the values, {list(shape)}")
        made = self._made(shape[2:])
        self.require(min(made) >= 0, f"the bottom has the shape {list(shape)}, expected some pixels")
        self.require_memory("the top", [(*shape[:2], *made)])
        return [(*shape[:2], *made)]

    def forward(self, bottom: Tensor, mask: Tensor) -> Tensor:
        """One scatter."""
        high, wide = self._made(bottom.shape[2:])
        what = f"a place in the mask '{self.params.bottoms[1]}' for a top of {high} x {wide}"
        places = read_indices(self, mask, high * wide, what).flatten(2)
        return scatter_places(bottom.flatten(2), places, high * wide).view(*bottom.shape[:2], high, wide)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """ScatterElements into zeros; factors need a static height and width."""
        add, constant = graph.add, graph.constant
        made = self.size
        if made is None:
            image = graph.shape(bottoms[0])[2:]
            known = [n for n in image if n is not None]
            if len(known) < 2:
                raise self.export_error("the size of the top depends on height and width, expected static ones")
            made = self._made(known)
        kept = add("Slice", [add("Shape", [bottoms[0]]), constant([0]), constant([2])])
        empty = add("Concat", [kept, constant([made[0] * made[1]])], axis=0)
        rows = [add("Reshape", [bottom, constant([0, 0, -1])]) for bottom in bottoms]
        zeros = add("Expand", [constant(0.0), empty])
        places = add("Cast", [rows[1]], to=7)
        written = add("ScatterElements", [zeros, places, rows[0]], axis=2)
        graph.node("Reshape", [written, add("Concat", [kept, constant(list(made))], axis=0)], tops)


def _means_yolo(params: Params) -> bool:
    return len(params.bottoms) == 1 and params.section("upsample_param").has("scale")


@register(when=_means_yolo, dialect="yolo")
class NearestUpsample(Layer):
    """Every pixel becomes ``scale`` x ``scale`` pixels.  Source: ``upsample_layer.cpp`` of eric612/MobileNet-YOLO."""

    homogeneous = True
    caffe_type = "Upsample"
    factor: ClassVar[tuple[str, str]] = ("upsample_param", "scale")  #: the field that says how many

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section, field = self.factor
        self.scale = int(params.section(section).value(field))
        if self.scale < 1:
            raise self.error(f"{section}.{field} is {self.scale}, expected a positive number")

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans:
        """The pixels of which those are."""
        rows, columns = ((first // self.scale, last // self.scale) for first, last in spans)
        return rows, columns

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x C x scale H x scale W."""
        shape = tuple(bottoms[0])
        self.require(len(shape) == 4, f"expected 4 axes, the bottom has the shape {list(shape)}")
        top = (*shape[:2], shape[2] * self.scale, shape[3] * self.scale)
        self.require_memory("the top", [top])
        return [top]

    def forward(self, bottom: Tensor) -> Tensor:
        """Copies."""
        scale, (number, channels, height, width) = self.scale, bottom.shape
        spread = bottom[:, :, :, None, :, None].expand(number, channels, height, scale, width, scale)
        return spread.reshape(number, channels, height * scale, width * scale)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Resize."""
        scales = graph.constant(np.array([1, 1, self.scale, self.scale], np.float32))
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        graph.node("Resize", [bottoms[0], "", scales], tops, mode="nearest", **how)
