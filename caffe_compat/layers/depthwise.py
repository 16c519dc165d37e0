"""Convolutions of one channel each, under the names that forks gave them.

Source: ``depthwise_conv_layer.cpp`` and ``.cu`` of eric612/MobileNet-YOLO, ``conv_dw_layer.cpp`` of
soeaver/py-RFCN-priv.  Both are faster code for Convolution with as many groups as channels; weights C x 1 x kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

from caffe_compat.layers.base import Shape
from caffe_compat.layers.convolution import Convolution
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register

__all__ = ["ConvolutionDepthwise", "DepthwiseConvolution"]


@register(dialect="yolo")
class DepthwiseConvolution(Convolution):
    """Convolution whose ``group`` and ``num_output`` are the number of channels.

    Other numbers are refused: the fork's CPU code takes them for a convolution in groups, its GPU code, which has no
    dilation either, for one channel each.
    """

    caffe_type = "DepthwiseConvolution"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        if not self.channels == self.group == self.outputs:
            raise self.error(
                f"convolution_param.group is {self.group} and num_output {self.outputs}, expected both to be the "
                f"{self.channels} channels of the bottom"
            )


@register(dialect="rfcn")
class ConvolutionDepthwise(Convolution):
    """The same for one bottom of 4 axes; ``num_output`` and ``group`` are not read, as in the fork."""

    caffe_type = "ConvolutionDepthwise"
    bottom_count = (1, 1)
    top_count = (1, 1)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        section = params.section("convolution_param")
        section.ignore("num_output", "group")
        if bottoms and (len(bottoms[0]) != 4 or section.axis("axis", 4) != 1):
            raise params.shape_error(
                f"the bottom has the shape {list(bottoms[0])}, expected N x C x H x W with convolution_param.axis 1"
            )
        super().__init__(params, bottoms)

    def counts(self) -> tuple[int, int]:
        """One filter and one group for each channel."""
        return self.channels, max(self.channels, 1)
