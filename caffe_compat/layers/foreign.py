"""A frozen net of another framework as one layer: a teacher that no prototxt describes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.errors import CaffeCompatError, UsageError
from caffe_compat.foreign.load import load_features
from caffe_compat.foreign.spec import ForeignSpec, Normalization
from caffe_compat.layers.base import UNLIMITED, Layer, Shape
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["ForeignNet"]


@register
class ForeignNet(Layer):
    """Features of a torchvision, timm or other torch net, or of an ONNX file, of pictures that are pixels still.

    A layer of this package, not of Caffe.  Bottom: N x 3 x H x W, pixels 0 to 255 in OpenCV's order (blue, green, red),
    nothing subtracted.  The net gets ``(pixel / pixel_range - mean) / std`` in its own order, red first if ``rgb``.
    Tops: its features, one for each ``feature``.  The net is in evaluation mode in both phases and never trained; its
    weights are no blobs: they come from the file ``weights`` at set-up, and no snapshot holds them.  ``weights:
    "random"`` asks for random ones, the same for the same ``random_seed`` everywhere.
    """

    caffe_type = "ForeignNet"
    precision = "half"
    top_count = (1, UNLIMITED)
    no_gradient = (0,)
    onnx_reason = "it runs a net of another framework; export the student, or that net with its own framework"
    _mean: Tensor
    _std: Tensor

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("foreign_net_param")
        features = tuple(str(name) for name in section.feature)
        weights, seed = str(section.weights), int(section.random_seed)
        if len(features) != len(params.tops):
            raise self.error(f"has {len(features)} features and {len(params.tops)} tops, expected one for each")
        mean, std = (tuple(map(float, values)) for values in (section.mean, section.std))
        pixel_range, rgb = float(section.pixel_range), bool(section.rgb)
        try:
            self.takes = Normalization(mean or (0.0,) * 3, std or (1.0,) * 3, pixel_range, rgb)
            self.net = load_features(ForeignSpec(str(section.source), features, weights, seed, self.takes))
        except UsageError as error:
            raise self.error(str(error)) from error
        self.register_buffer("_mean", torch.tensor(self.takes.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.takes.std).view(3, 1, 1), persistent=False)

    def take_over(self, other: Layer) -> None:
        """The same net is kept once: a solver's nets for training and for testing both have it."""
        if isinstance(other, ForeignNet) and other.net.spec == self.net.spec:
            self.net = other.net

    def train(self, mode: bool = True) -> ForeignNet:
        """Leave the net as it is."""
        self.training = mode
        return self

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """What the net makes of such images."""
        shape = tuple(bottoms[0])
        self.require(
            len(shape) == 4 and shape[1] == 3 and min(shape) > 0,
            f"takes images of N x 3 x H x W, at least one, not {list(shape)}",
        )
        try:
            return self.net.shapes(shape)
        except ValueError as error:
            raise self.shape_error(str(error)) from error

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The features; of several a tuple."""
        if pixels.is_meta:
            found = tuple(pixels.new_empty(shape) for shape in self.top_shapes([tuple(pixels.shape)]))
        else:
            images = pixels.flip(1) if self.takes.rgb else pixels
            try:
                found = self.net((images / self.takes.pixel_range - self._mean) / self._std)
            except (CaffeCompatError, ValueError) as error:
                raise self.error(str(error)) from error
        return found if len(found) > 1 else found[0]
