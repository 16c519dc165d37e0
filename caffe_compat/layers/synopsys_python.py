"""Layers that synopsys-caffe has in Python: darknet_reorg, PadTensor.

Source: foss-for-synopsys-dwc-arc-processors/synopsys-caffe, ``python/yolov2.py``, ``python/darknet.py``,
``python/pad.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.data.regions import is_named, read_yaml
from caffe_compat.layers.params import Params
from caffe_compat.layers.reach import Spans
from caffe_compat.layers.refused import Refused
from caffe_compat.layers.registry import register
from caffe_compat.layers.yolo import Reorg

__all__ = ["DarknetReorg", "PadTensor"]

_MODES = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}  # numpy's, and torch's names
_NO_GRADIENT = "has no gradient, as in the original"


@register(when=lambda params: is_named(params, "yolov2", "darknet_reorg"), dialect="synopsys: darknet_reorg")
class DarknetReorg(Reorg):
    """Reorg with a stride of 2.  It has no gradient: the original raises an exception."""

    caffe_type = "Python"
    no_gradient = (0,)
    stride_field = "its stride"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super(Reorg, self).__init__(params, bottoms)
        params.section("python_param").ignore("module", "layer", "share_in_parallel")
        self.stride, self.reverse = 2, False

    def forward(self, bottom: Tensor) -> Tensor:
        """One transposition."""
        with torch.no_grad():
            top = super().forward(bottom)
        refused: Tensor = Refused.apply(bottom, top, self.error(_NO_GRADIENT))
        return refused


@register(when=lambda params: is_named(params, "pad", "PadTensor"), dialect="synopsys: PadTensor")
class PadTensor(Layer):
    """An image (Tensor[N, C, H, W]) padded by ``numpy.pad``.

    ``param_str`` is ``{"pad_t": 1, "pad_b": 1, "pad_l": 1, "pad_r": 1, "pad_mode": "constant"}``; of numpy's modes
    constant (zeros), edge and reflect are known here.  It has no gradient: the original's does not fit.
    """

    caffe_type = "Python"
    homogeneous = True
    no_gradient = (0,)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("python_param")
        section.ignore("module", "layer", "share_in_parallel")
        text = str(section.param_str)
        values = read_yaml(self, text, '{"pad_t": 1, "pad_b": 1, "pad_l": 1, "pad_r": 1, "pad_mode": "constant"}')
        self.mode, pads = values.pop("pad_mode", None), [values.pop(f"pad_{side}", None) for side in "tblr"]
        numbers = [int(pad) for pad in pads if isinstance(pad, int) and pad >= 0]
        if values or self.mode not in _MODES or len(numbers) < 4:
            raise self.error(
                f"param_str is {text!r}, expected pad_t, pad_b, pad_l and pad_r of 0 or more, and a pad_mode of "
                f"{', '.join(_MODES)}"
            )
        self.top, self.bottom, self.left, self.right = numbers

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans | None:
        """The same pixels, which lie elsewhere."""
        if self.mode != "constant":
            return None
        rows, columns = (
            (first - pad, last - pad) for (first, last), pad in zip(spans, (self.top, self.left), strict=True)
        )
        return rows, columns

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Height and width with their paddings."""
        shape = tuple(bottoms[0])
        self.require(
            len(shape) == 4 and min(shape) > 0, f"the bottom has the shape {list(shape)}, expected 4 axes of 1 or more"
        )
        largest = max(self.top, self.bottom) < shape[2] and max(self.left, self.right) < shape[3]
        self.require(
            self.mode != "reflect" or largest,
            f"the bottom has the shape {list(shape)}, too small to be reflected so far",
        )
        made = (*shape[:2], shape[2] + self.top + self.bottom, shape[3] + self.left + self.right)
        self.require_memory("the top", [made])
        return [made]

    def forward(self, bottom: Tensor) -> Tensor:
        """One torch call."""
        pads = (self.left, self.right, self.top, self.bottom)
        top = F.pad(bottom.detach(), pads, mode=_MODES[str(self.mode)])
        refused: Tensor = Refused.apply(bottom, top, self.error(_NO_GRADIENT))
        return refused

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Pad."""
        pads = graph.constant([0, 0, self.top, self.left, 0, 0, self.bottom, self.right])
        graph.node("Pad", [bottoms[0], pads], tops, mode=str(self.mode))
