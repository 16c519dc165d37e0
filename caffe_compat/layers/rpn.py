"""py-faster-rcnn's ProposalLayer, which prototxts name as a layer written in Python, and what its kin share.

Source: ``lib/rpn/proposal_layer.py`` of rbgirshick/py-faster-rcnn; ``ratios`` and ``base_size`` are
soeaver/py-RFCN-priv's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from caffe_compat.errors import nearest
from caffe_compat.layers.anchors import BASE, RATIOS, SCALES, AnchorGrid, moved, suppress
from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.data.regions import is_named, read_yaml
from caffe_compat.layers.labels import can_look
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.layers.rpn_onnx import Rules, write_proposals

__all__ = ["ANCHORS", "ProposalLayer", "ProposalSettings", "RpnLayer", "number", "numbers"]

ANCHORS = ("feat_stride", "scales", "ratios", "base_size")


class RpnLayer(Layer):
    """Reads ``param_str``: YAML such as ``'feat_stride': 16``; no gradient passes.

    What the branch's configuration holds besides is in ``settings``, whose fields ``param_str`` may name too.
    """

    caffe_type = "Python"
    keys: ClassVar[tuple[str, ...]]  #: those of ``param_str`` besides the settings
    needed: ClassVar[str]
    settings: Any

    def read(self, params: Params, defaults: Any) -> dict[str, object]:
        """Values of ``param_str`` by name; sets ``settings``."""
        section = params.section("python_param")
        section.ignore("module", "layer", "share_in_parallel")
        values = read_yaml(self, str(section.param_str), f"'{self.needed}': 16")
        own = {field.name: getattr(defaults, field.name) for field in fields(defaults)}
        for name in values:
            if name not in (*self.keys, *own):
                allowed = ", ".join((*self.keys, *own))
                raise self.error(f"param_str has '{name}'{nearest(name, (*self.keys, *own))}, expected {allowed}")
        if self.needed not in values:
            raise self.error(f"param_str is {str(section.param_str)!r}, expected {self.needed} in it")
        self.settings = replace(
            defaults, **{name: self._setting(name, values[name], own[name]) for name in own if name in values}
        )
        return values

    def _setting(self, name: str, value: object, default: object) -> object:
        """A value of ``param_str`` in the type of the default."""
        if isinstance(default, tuple):
            return numbers(self, name, value, len(default))
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise self.error(f"param_str: {name} is {value!r}, expected true or false")
            return value
        return number(self, name, value, whole=isinstance(default, int))

    def grid(self, values: Mapping[str, object]) -> AnchorGrid:
        """The anchors that ``param_str`` asks for."""
        stride = number(self, "feat_stride", values["feat_stride"])
        scales, ratios = (numbers(self, name, values.get(name, given)) for name, given in _ANCHOR_LISTS)
        base = number(self, "base_size", values.get("base_size", BASE))
        for name, found in (("feat_stride", [stride]), ("scales", scales), ("ratios", ratios), ("base_size", [base])):
            if not found or min(found) <= 0:
                raise self.error(f"param_str: {name} is {values.get(name)!r}, expected positive numbers")
        return AnchorGrid(stride, scales, ratios, base)

    def check_values(self, bottoms: Sequence[Tensor]) -> None:
        """Raise unless all numbers are finite, and there is one image."""
        for name, bottom in zip(self.params.bottoms, bottoms, strict=False):
            if can_look(bottom) and not bool(torch.isfinite(bottom).all()):
                raise self.error(f"bottom '{name}' holds NaN or infinite numbers, expected finite ones")

    def check_info(self, shape: Shape, bottom: int = 2) -> None:
        """Height, width and scale of one image; more numbers may follow (sanghoon/pva-faster-rcnn has six)."""
        self.require(
            count(shape) >= 3 and count(shape[:-1]) == 1,
            f"bottom {bottom} has the shape {list(shape)}, expected 1 x 3 or more (height, width, scale)",
        )


_ANCHOR_LISTS = (("scales", SCALES), ("ratios", RATIOS))


def number(layer: Layer, name: str, value: object, whole: bool = False) -> Any:
    """A number of ``param_str``; no boolean."""
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise layer.error(f"param_str: {name} is {value!r}, expected a {'whole ' if whole else ''}number")
    return value


def numbers(layer: Layer, name: str, value: object, entries: int | None = None) -> tuple[float, ...]:
    """A list of numbers of ``param_str``."""
    if not isinstance(value, (list, tuple)) or (entries is not None and len(value) != entries):
        wanted = "numbers" if entries is None else f"{entries} numbers"
        raise layer.error(f"param_str: {name} is {value!r}, expected a list of {wanted}")
    return tuple(number(layer, name, item) for item in value)


@dataclass(frozen=True)
class ProposalSettings:
    """TEST.RPN_* of py-faster-rcnn's configuration; TRAIN's has 12000 and 2000 for the two numbers of boxes.

    Attributes:
        pre_nms_top_n: boxes of highest score that are compared; 0 or less: all.
        post_nms_top_n: boxes of highest score that stay; 0 or less: all.
        nms_thresh: overlap from which on the lower of two boxes goes.
        min_size: least width and height, in pixels of the unscaled image.
    """

    pre_nms_top_n: int = 6000
    post_nms_top_n: int = 300
    nms_thresh: float = 0.7
    min_size: float = 16.0


TRAIN = ProposalSettings(12000, 2000)


@register(
    when=lambda params: is_named(params, "rpn.proposal_layer", "ProposalLayer"), dialect="faster-rcnn: ProposalLayer"
)
class ProposalLayer(RpnLayer):
    """Regions out of scores and offsets of anchors.

    Bottoms: probabilities [1, 2 A, H, W], the first A of background, offsets [1, 4 A, H, W], and height, width and
    scale of the image [1, 3].  Tops: regions [R, 5] (0, x1, y1, x2, y2), cut to the image, by descending score, and
    their scores [R, 1].  Of equal scores the first anchor comes first (the original's sort leaves that open).
    ``param_str``: ``feat_stride``, ``scales``, ``ratios``, ``base_size``, and the fields of :class:`ProposalSettings`.
    """

    bottom_count = (3, 3)
    top_count = (1, 2)
    sized_by_values = True
    phase_dependent = True
    keys = ANCHORS
    needed = "feat_stride"
    settings: ProposalSettings

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.anchors = self.grid(self.read(params, TRAIN if params.phase == "TRAIN" else ProposalSettings()))

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """As many regions as there can be."""
        scores, deltas, info = (tuple(shape) for shape in bottoms)
        for index, (shape, channels) in enumerate(((scores, 2 * len(self.anchors)), (deltas, 4 * len(self.anchors)))):
            self.require(
                len(shape) == 4 and shape[:2] == (1, channels) and shape[2:] == scores[2:],
                f"bottom {index} has the shape {list(shape)}, expected 1 x {channels} x H x W: {len(self.anchors)} "
                "anchors of one image",
            )
        self.check_info(info)
        most = len(self.anchors) * count(scores, 2)
        for limit in (self.settings.pre_nms_top_n, self.settings.post_nms_top_n):
            most = min(most, limit) if limit > 0 else most
        shapes: list[Shape] = [(most, 5), (most, 1)]
        return shapes[: len(self.params.tops)]

    @torch.no_grad()
    def forward(self, scores: Tensor, deltas: Tensor, info: Tensor) -> tuple[Tensor, ...]:
        """Move, cut, filter, sort, suppress."""
        if scores.is_meta:
            shapes = self.top_shapes([tuple(value.shape) for value in (scores, deltas, info)])
            return tuple(scores.new_empty(shape) for shape in shapes)
        self.check_values((scores, deltas, info))
        height, width = scores.shape[2:]
        flat = scores[0, len(self.anchors) :].permute(1, 2, 0).reshape(-1)
        boxes = moved(self.anchors.boxes(height, width, scores.device), deltas[0].permute(1, 2, 0).reshape(-1, 4))
        high, wide, scale = info.reshape(-1)[:3]
        least, last = torch.zeros(4).to(boxes), (torch.stack([wide, high, wide, high]) - 1).to(boxes)
        boxes = torch.maximum(torch.minimum(boxes, last), least)
        if can_look(boxes) and bool(boxes.isnan().any()):
            raise self.error("offsets make boxes that are no numbers, expected smaller ones in bottom 1")
        large = (boxes[:, 2:] - boxes[:, :2] + 1 >= self.settings.min_size * scale).all(1)
        boxes, flat = boxes[large], flat[large]
        order = flat.argsort(descending=True, stable=True)
        if self.settings.pre_nms_top_n > 0:
            order = order[: self.settings.pre_nms_top_n]
        boxes, flat = boxes[order], flat[order]
        kept = suppress(self, boxes, flat, self.settings.nms_thresh)
        if self.settings.post_nms_top_n > 0:
            kept = kept[: self.settings.post_nms_top_n]
        rois = torch.cat([boxes.new_zeros(len(kept), 1), boxes[kept]], 1)
        return (rois, flat[kept, None])[: len(self.params.tops)]

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Anchors by broadcasting, TopK, NonMaxSuppression; see ``rpn_onnx.py``."""
        settings = self.settings
        overlap = float(np.nextafter(np.float32(settings.nms_thresh), np.float32(-1)))  # that many are too much
        if not 0 <= overlap <= 1:
            raise self.export_error(
                f"nms_thresh is {settings.nms_thresh:g}; ONNX's suppression needs more than 0, to 1"
            )
        rules = Rules(settings.pre_nms_top_n, settings.post_nms_top_n, overlap, settings.min_size)
        scores = write_proposals(graph, bottoms, tops[0], self.anchors, rules)
        if len(tops) > 1:
            graph.node("Unsqueeze", [scores, graph.constant([1])], [tops[1]])
