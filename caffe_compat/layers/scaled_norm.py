"""BatchNorm that learns a scale and a shift of its own, as intel/caffe and NVIDIA/caffe have it, and intel/caffe's
over parts of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import OnnxGraph, Shape
from caffe_compat.layers.bn import by_batch, column
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.normalization import BatchNorm
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register

__all__ = ["IntelBatchNorm", "NvidiaBatchNorm", "PartBatchNorm"]

ONE = Filler(value=1.0)


def _means_intel(params: Params) -> bool:
    section = params.section("batch_norm_param")
    return any(section.has(name) for name in ("filler", "use_weight_bias", "bias_term"))


def _means_parts(params: Params) -> bool:
    return bool(params.section("batch_norm_param").stats_batch_size) and not _means_intel(params)


def _means_nvidia(params: Params) -> bool:
    """NVIDIA's; ``bias_filler`` alone says the same in both."""
    section = params.section("batch_norm_param")
    named = section.has("scale_filler") or section.has("scale_bias")
    return named or (section.has("bias_filler") and not _means_intel(params))


class _Scaled(BatchNorm):
    """BatchNorm whose blobs go on with a scale [C] and a shift [C]."""

    gathers = False
    scaled: bool
    shifted: bool

    def add_scale(self, section: Section, name: str) -> None:
        """The blobs that there are."""
        for wanted, field, default in ((self.scaled, name, ONE), (self.shifted, "bias_filler", Filler())):
            if wanted:
                self.add_blob((self.channels,), section.filler(field, default))
            else:
                section.ignore(field)

    def scale_and_shift(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """1 and 0 where there are no blobs."""
        scale = self.blob(3) if self.scaled else torch.ones_like(self.blob(0))
        return scale, self.blob(4) if self.shifted else torch.zeros_like(self.blob(0))

    def forward(self, bottom: Tensor) -> Tensor:
        """Normalize, scale, shift."""
        scale, shift = (column(value, bottom.dim()) for value in self.scale_and_shift(bottom))
        return super().forward(bottom) * scale + shift

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Those of BatchNorm, Mul and Add."""
        normalized = f"{tops[0]}/normalized"
        super().to_onnx(graph, bottoms, [normalized])
        rank = len(graph.shape(bottoms[0]))
        scale, shift = (
            graph.constant(column(value.detach().float().cpu(), rank).numpy())
            for value in self.scale_and_shift(torch.empty(0))
        )
        graph.node("Add", [graph.add("Mul", [normalized, scale]), shift], tops)


class _Shared(BatchNorm):
    """BatchNorm whose batch may be cut into equal parts of ``stats_batch_size`` items, each with statistics of its own.

    The moving sums take one part after the other.  Source: ``batch_norm_layer.cpp`` of intel/caffe.
    """

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.part = int(params.section("batch_norm_param").stats_batch_size)

    def _parts(self, items: int) -> int:
        """How many parts a batch is cut into."""
        if not self.part or self.global_stats:
            return 1
        self.require(
            items % self.part == 0,
            f"the bottom has {items} items, expected a multiple of batch_norm_param.stats_batch_size {self.part}",
        )
        return items // self.part

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of the bottom."""
        if self.layer_phase == "TRAIN" or self.use_global_stats is False:
            self._parts(bottoms[0][0])
        return super().top_shapes(bottoms)

    def forward(self, bottom: Tensor) -> Tensor:
        """Normalize part by part."""
        parts = self._parts(len(bottom))
        if parts < 2:
            return super().forward(bottom)
        return torch.cat([super(_Shared, self).forward(part) for part in bottom.chunk(parts)])

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Those of BatchNorm, unless statistics of parts are asked for in TEST too."""
        if self.part and self.use_global_stats is False:
            raise self.export_error("statistics of parts of a batch (stats_batch_size) have no ONNX form")
        super().to_onnx(graph, bottoms, tops)


@register(when=_means_parts, dialect="intel", marked=True)
class PartBatchNorm(_Shared):
    """BatchNorm over parts of the batch: ``stats_batch_size`` items each (``bn_stats_batch_size`` of the net)."""


@register(when=_means_intel, dialect="intel")
class IntelBatchNorm(_Scaled, _Shared):
    """BatchNorm with ``use_weight_bias``, as the engines of intel/caffe have it: blobs 3 and 4 are learned.

    Without ``bias_term`` there is no shift; with ``use_weight_bias: false`` neither.  The scale starts at 1.
    """

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("batch_norm_param")
        self.scaled = bool(section.use_weight_bias)
        self.shifted = self.scaled and bool(section.bias_term)
        self.add_scale(section, "filler")


@register(when=_means_nvidia, dialect="nvidia")
class NvidiaBatchNorm(_Scaled):
    """BatchNorm with ``scale_bias``, or a filler of either: blobs 3 and 4 are learned.

    Blobs 0 and 1 are moving averages, not sums, and blob 2 stays 1: fraction x old + (1 - fraction) x the batch's, the
    variance biased; the first two batches are taken as they are.  TRAIN uses the batch's, TEST the averages, whatever
    ``use_global_stats`` says; eps is at least 1e-5.  A ``lr_mult`` of blobs 0 to 2 means
    nothing; those of blobs 3 and 4 count, where the fork puts 1.  The CPU code of the fork, unlike its GPU code,
    followed here, averages variances with eps in them.  Source: ``batch_norm_layer.cu`` of NVIDIA/caffe.
    """

    rates_refused = False

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("batch_norm_param")
        self.use_global_stats, self.eps = None, max(self.eps, 1e-5)
        self._fillers[2] = ONE
        self._passes = 0
        named = section.has("scale_filler") or section.has("bias_filler")
        self.scaled = self.shifted = bool(section.scale_bias) or named
        self.add_scale(section, "scale_filler")

    def forward(self, bottom: Tensor) -> Tensor:
        """Normalize, scale, shift; with batch statistics also update the averages."""
        if self.global_stats:
            return super().forward(bottom)
        top, *found = by_batch(bottom, *self.scale_and_shift(bottom), self.eps)
        with torch.no_grad():
            for index, now in enumerate(found):
                share = self.fraction if self._passes > 1 else 0.0
                self.blob(index).mul_(share).add_((1 - share) * now)
        self._passes += 1
        return top
