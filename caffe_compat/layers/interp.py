"""Bilinear resizing of DeepLab and PSPNet: Interp; and of ctensmeyer/caffe: BilinearInterpolation."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.registry import register

__all__ = ["BilinearInterpolation", "Interp"]


@register(dialect="pspnet")
class Interp(Layer):
    """Bilinear resizing with the corner pixels on each other, of a map that negative pads have cropped.

    Pixel o of n samples at o (m - 1) / (n - 1), the quotient in float32, of m cropped pixels; one of one pixel at 0.
    Sizes, in this order: ``shrink_factor`` alone, (m - 1) / shrink + 1; ``zoom_factor`` alone, m + (m - 1) (zoom - 1);
    ``height`` and ``width``; both factors, shrunk first.  What comes later is not read then.  ``pad_beg`` and
    ``pad_end`` count for both axes.  With ``use_blob_size`` a second bottom gives the size, whatever else is said, and
    gets no gradient.  Source: ``interp_layer.cpp`` and ``util/interp.cpp`` of hszhao/PSPNet; soeaver/py-RFCN-priv's.
    """

    caffe_type = "Interp"
    homogeneous = True
    bottom_count = (1, 2)
    no_gradient = (1,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("interp_param")
        self.begin, self.end = -int(section.pad_beg), -int(section.pad_end)
        if min(self.begin, self.end) < 0:
            raise self.error(
                f"interp_param.pad_beg is {-self.begin} and pad_end {-self.end}, expected none above 0: pads crop"
            )
        self.like = bool(section.use_blob_size)
        if self.like != (len(bottoms) == 2):
            raise self.error(f"has {len(bottoms)} bottoms, expected a second one with interp_param.use_blob_size only")
        shrinks, zooms = section.has("shrink_factor"), section.has("zoom_factor")
        given = section.has("height"), section.has("width")
        self.shrink = int(section.shrink_factor) if shrinks else 1
        self.zoom = int(section.zoom_factor) if zooms else 1
        self.size: tuple[int, int] | None = None
        if self.like:
            self.shrink = self.zoom = 1
        elif shrinks == zooms and all(given):
            self.size = (int(section.height), int(section.width))
            self.shrink = self.zoom = 1
        elif not (shrinks or zooms):
            raise self.error("interp_param says no size, expected shrink_factor, zoom_factor, or height and width")
        for name, factor in (("shrink_factor", self.shrink), ("zoom_factor", self.zoom)):
            if factor < 1:
                raise self.error(f"interp_param.{name} is {factor}, expected a positive number")

    def _made(self, pixels: int) -> int:
        """Rows or columns of the top, of a cropped map of so many."""
        shrunk = (pixels - 1) // self.shrink + 1
        return shrunk + (shrunk - 1) * (self.zoom - 1)

    def _sizes(self, *images: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the cropped map and of the top, of height and width of the bottoms."""
        high, wide = (side - self.begin - self.end for side in images[0])
        if self.like:
            return (high, wide), (images[1][0], images[1][1])
        return (high, wide), self.size or (self._made(high), self._made(wide))

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans:
        """The two pixels on either side of where each samples."""
        cropped, made = self._sizes(*(shape[2:] for shape in bottoms))
        rows, columns = (
            (self.begin + first * (m - 1) // max(n - 1, 1), self.begin + last * (m - 1) // max(n - 1, 1) + 1)
            for (first, last), m, n in zip(spans, cropped, made, strict=True)
        )
        return rows, columns

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x C x height x width."""
        shape = tuple(bottoms[0])
        for bottom in bottoms:
            self.require(len(bottom) == 4, f"expected 4 axes, the bottom has the shape {list(bottom)}")
        cropped, made = self._sizes(*(bottom[2:] for bottom in bottoms))
        self.require(
            min(cropped) > 0,
            f"the bottom has the shape {list(shape)}, of which pads leave {list(cropped)}, expected some",
        )
        self.require(min(made) > 0, f"interp_param asks for a top of {list(made)} pixels, expected positive numbers")
        self.require_memory("the top", [(*shape[:2], *made)])
        return [(*shape[:2], *made)]

    def forward(self, bottom: Tensor, *like: Tensor) -> Tensor:
        """One torch interpolation; of the same size a copy."""
        (high, wide), made = self._sizes(*(value.shape[2:] for value in (bottom, *like)))
        cropped = bottom[:, :, self.begin : self.begin + high, self.begin : self.begin + wide]
        if (high, wide) == made:
            return cropped.clone()
        if not bottom.numel():
            return bottom.new_zeros(*bottom.shape[:2], *made)
        return F.interpolate(cropped, made, mode="bilinear", align_corners=True)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Slice and Resize; factors need static sizes, the size of another blob does not."""
        x = bottoms[0]
        if self.begin or self.end:
            ends = [-self.end if self.end else 2**31 - 1] * 2
            x = graph.add(
                "Slice",
                [x, graph.constant([self.begin] * 2), graph.constant(ends), graph.constant([2, 3])],
            )
        made = self.size
        if made is None and not self.like:
            _, _, height, width = graph.static_shape(bottoms[0], "the size of the top, which the factors make of them")
            made = self._sizes((height, width))[1]
        kept = graph.add("Slice", [graph.add("Shape", bottoms[:1]), graph.constant([0]), graph.constant([2])])
        if made is None:
            size = graph.add("Slice", [graph.add("Shape", bottoms[1:]), graph.constant([2]), graph.constant([4])])
        else:
            size = graph.constant(list(made))
        sizes = graph.add("Concat", [kept, size], axis=0)
        mode = "align_corners"
        graph.node("Resize", [x, "", "", sizes], tops, mode="linear", coordinate_transformation_mode=mode)


@register
class BilinearInterpolation(Interp):
    """The same, to the height and width of the second bottom, whose values are not read.

    A top of one row or column is refused: the fork divides by 0 there.  Source: ``bilinear_interpolation_layer.cpp`` of
    ctensmeyer/caffe.
    """

    caffe_type = "BilinearInterpolation"
    bottom_count = (2, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super(Interp, self).__init__(params, bottoms)
        self.begin = self.end = 0
        self.like, self.size = True, None
        self.shrink = self.zoom = 1

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """N x C x height x width."""
        (top,) = super().top_shapes(bottoms)
        self.require(
            min(top[2:]) > 1, f"bottom 1 has the shape {list(bottoms[1])}, expected 2 rows and columns or more"
        )
        return [top]
