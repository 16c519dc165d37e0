"""What FlowNet2 does with its pictures: DataAugmentation (deploy nets use its mean), Mean, Eltwise of one bottom.

Source: lmb-freiburg/flownet2, ``data_augmentation_layer.cu``, ``mean_layer.cpp`` and ``eltwise_layer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.arithmetic import Eltwise
from caffe_compat.layers.base import UNLIMITED, Layer, OnnxGraph, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media.means import read_mean

__all__ = ["DataAugmentation", "FlowNetEltwise", "Mean"]


def _single(params: Params) -> bool:
    """Whether the fork is spoken: Caffe refuses a single bottom."""
    return len(params.bottoms) == 1 and params.speaks("flownet")


@register(when=_single, dialect="flownet", marked=True)
class FlowNetEltwise(Eltwise):
    """Eltwise SUM of a single bottom, times its coefficient, in nets of this fork; BVLC's takes two or more, and so do
    the fork's other operations."""

    bottom_count = (1, 1)
    in_place = False

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        if self.operation != "SUM":
            raise self.error(f"eltwise_param.operation {self.operation} takes at least 2 bottoms, the prototxt gives 1")

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul."""
        graph.node("Mul", [bottoms[0], graph.constant(self.coeff[0])], tops)


@register(dialect="flownet")
class DataAugmentation(Layer):
    """The picture (Tensor[N, C, H, W]) less a mean; no gradient passes.

    ``recompute_mean`` N: blobs are the number of passes [1, 1, 1, 1], the mean of each pixel [1, C, H, W] and of each
    channel [1, C, 1, 1].  Each of the first N passes, in TEST too, moves the means on by the batch before they are
    subtracted; nets with trained weights have passed them.  ``mean_per_pixel`` (the default) says which is.  Without
    ``recompute_mean`` three ``mean`` values with ``mean_per_pixel: false``, of a single blob, the number of passes.
    Of weights nothing is taken without ``recompute_mean``, else the number of passes, and the means of the channels
    or, with ``mean_per_pixel``, of the pixels; of another height and width the mean over the pixels, for all.  Crops,
    and what is drawn at random (only with a crop, in the fork too), are for training and not supported.
    """

    caffe_type = "DataAugmentation"
    has_blobs = True
    gathers = True
    takes_blobs = True
    carries = True
    no_gradient = (0,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("augmentation_param")
        section.ignore("augment_during_test", "max_multiplier", "mode", "bottomwidth", "bottomheight", "num")
        section.ignore("chromatic_eigvec")
        if section.has("crop_width") and section.has("crop_height"):
            raise self.error("augmentation_param has crop_width and crop_height: augmentation is not supported")
        for name in ("write_augmented", "write_mean"):
            if section.value(name):
                raise self.error(f"augmentation_param.{name} is not supported")
        self.passes, self.by_pixel = int(section.recompute_mean), bool(section.mean_per_pixel)
        mean = [float(value) for value in section.mean]
        self.mean = mean if len(mean) == 3 and not self.by_pixel and not self.passes else []
        shape = self.top_shapes(bottoms)[0]
        self.add_blob((1, 1, 1, 1), learnable=False)
        if self.passes:
            self.add_blob((1, *shape[1:]), learnable=False)
            self.add_blob((1, shape[1], 1, 1), learnable=False)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The bottom's."""
        shape = tuple(bottoms[0])
        self.require(
            len(shape) == 4 and min(shape) > 0,
            f"the bottom has the shape {list(shape)}, expected 4 axes that hold some",
        )
        if self.passes and len(self.blob_shapes) > 1:
            self.require(
                shape[1:] == self.blob_shapes[1][1:],
                f"the bottom has the shape {list(shape)}, expected {list(self.blob_shapes[1][1:])} after the first "
                "axis, of which the means are",
            )
        self.require(not self.mean or shape[1] == 3, f"the bottom has {shape[1]} channels, augmentation_param.mean 3")
        return [shape]

    @torch.no_grad()
    def take_blobs(self, blobs: Sequence[np.ndarray]) -> None:
        """Weights of pictures of any size."""
        if not self.passes or len(blobs) < 2:
            return
        pixels, channels = self.blob(1), self.blob(2)
        wanted = channels.shape[1]
        if len(blobs) != 3 or blobs[0].size != 1 or blobs[1].ndim != 4 or blobs[1].shape[:2] != (1, wanted):
            raise ValueError(
                f"the file has blobs of the shapes {[list(blob.shape) for blob in blobs]}, expected 1, "
                f"1 x {wanted} x height x width and {wanted} numbers"
            )
        self.blob(0).fill_(float(blobs[0].reshape(-1)[0]))
        if not self.by_pixel:
            if blobs[2].size != wanted:
                raise ValueError(f"blob 2 of the file has the shape {list(blobs[2].shape)}, expected {wanted} numbers")
            channels.copy_(torch.from_numpy(blobs[2]).view(channels.shape))
            return
        means = torch.from_numpy(blobs[1])
        channels.copy_(means.mean((2, 3), keepdim=True))
        pixels.copy_(means if means.shape == pixels.shape else channels.expand_as(pixels))

    @torch.no_grad()
    def forward(self, bottom: Tensor) -> Tensor:
        """Move the means on, and subtract."""
        done = self.blob(0)
        done.add_(1)
        if not self.passes:
            mean = bottom.new_tensor(self.mean or [0.0]).view(1, -1, 1, 1)
            return bottom - mean
        pixels, channels = self.blob(1), self.blob(2)
        if not bottom.is_meta and int(done.item()) <= self.passes:
            pixels.add_((bottom.mean(0, keepdim=True) - pixels) / done)
            channels.copy_(pixels.mean((2, 3), keepdim=True))
        return bottom - (pixels if self.by_pixel else channels)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Sub of what the blobs hold."""
        if not self.passes:
            mean = torch.tensor(self.mean or [0.0]).view(1, -1, 1, 1)
            graph.node("Sub", [bottoms[0], graph.constant(mean.numpy())], tops)
            return
        if float(self.blob(0).detach()) < self.passes:
            raise self.export_error(
                f"has made {float(self.blob(0).detach()):g} of the {self.passes} passes over which its mean is taken, "
                "and would still change it; load weights first"
            )
        graph.node("Sub", [bottoms[0], graph.parameter(self, 1 if self.by_pixel else 2)], tops)


@register(dialect="flownet")
class Mean(Layer):
    """output_scale (input_scale x + mean_scale m), or - m with SUBTRACT, of each bottom; no gradient passes.

    m is the picture of ``file`` (a BlobProto of the bottom's height and width), or ``value``, each of them repeated
    until the channels are through.
    """

    caffe_type = "Mean"
    mean: Tensor
    bottom_count = (1, UNLIMITED)
    top_count = (1, UNLIMITED)
    equal_counts = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("mean_param")
        sign = -1.0 if section.enum("operation") == "SUBTRACT" else 1.0
        scale = sign * float(section.mean_scale)
        self.input_scale, self.output_scale = float(section.input_scale), float(section.output_scale)
        values = torch.tensor([float(value) for value in section.value("value")]).view(-1, 1, 1)
        if section.has("file"):
            values = torch.from_numpy(read_mean(str(section.file)))
        elif not len(values):
            raise self.error("mean_param has neither file nor value")
        self.pictured = section.has("file")
        self.register_buffer("mean", scale * values, persistent=False)
        self.top_shapes(bottoms)

    @property
    def no_gradient(self) -> tuple[int, ...]:  # type: ignore[override]
        """All: the fork has no backward pass."""
        return tuple(range(len(self.params.bottoms)))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Those of the bottoms."""
        mean = tuple(self.mean.shape)
        for index, shape in enumerate(bottoms):
            self.require(
                len(shape) == 4 and shape[1] % mean[0] == 0 and (not self.pictured or tuple(shape[2:]) == mean[1:]),
                f"bottom {index} has the shape {list(shape)}, expected 4 axes and a multiple of {mean[0]} channels"
                + (f" of {mean[1]} x {mean[2]} pixels" if self.pictured else ""),
            )
        return [tuple(shape) for shape in bottoms]

    def _mean_of(self, channels: int) -> Tensor:
        """For so many channels."""
        return self.mean.repeat(channels // len(self.mean), 1, 1)

    @torch.no_grad()
    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Element by element."""
        return tuple(
            self.output_scale * (self.input_scale * bottom + self._mean_of(bottom.shape[1]).to(bottom))
            for bottom in bottoms
        )

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul, Add and Mul."""
        for bottom, top in zip(bottoms, tops, strict=True):
            mean = self._mean_of(int(graph.shape(bottom)[1] or 1)).cpu().numpy()[None]
            scaled = graph.add("Mul", [bottom, graph.constant(self.input_scale)])
            total = graph.add("Add", [scaled, graph.constant(mean)])
            graph.node("Mul", [total, graph.constant(self.output_scale)], [top])
