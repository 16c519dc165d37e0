"""Layers over length, height and width of videos, as C3D has them; Pooling over three axes, as intel/caffe has it.

Sources: ``convolution3d_layer.cpp``, ``deconvolution3d_layer.cpp`` and ``pool3d_layer.cpp`` of facebook/C3D (version
1.1; nets of version 1.0, in the format of its time, are brought to that by :mod:`caffe_compat.proto.upgrade_c3d`);
``pooling_layer.cpp`` of intel/caffe.  Blobs are Tensor[N, C, L, H, W].
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape
from caffe_compat.layers.convolution import Convolution, Deconvolution, Windowed
from caffe_compat.layers.params import ConvWindow, Params, Section
from caffe_compat.layers.pooling import by_the_mask
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradient
from caffe_compat.layers.volume_windows import (
    Volume,
    average_volumes,
    max_volumes,
    shared_gradient,
    write_volumes,
)

__all__ = ["Convolution3D", "Deconvolution3D", "Pooling3D", "VolumePooling"]

AXES = 5


class _Volumed(Windowed):
    """Reads ``convolution3d_param``: one size for height and width, one for the length."""

    bottom_count = (1, 1)
    top_count = (1, 1)
    own_section = "convolution3d_param"
    filler_section = "convolution3d_param"
    vector_blobs = True

    def read_window(self) -> tuple[int, ConvWindow]:
        """Axis 1, and a window over the three behind it."""
        self.require(self.rank == AXES, f"the bottom has {self.rank} axes, expected {AXES}: N, C, L, H, W")
        section = self.section
        if section.group != 1:
            raise self.error(f"{section.field}.group is {section.group}, expected 1: the fork does not read it")
        size, depth = int(section.kernel_size), int(section.kernel_depth)
        stride, step = int(section.stride), int(section.temporal_stride)
        if min(size, depth, stride, step) < 1:
            raise self.error(
                f"{section.field} has kernel_size {size}, kernel_depth {depth}, stride {stride} and temporal_stride "
                f"{step}, expected positive numbers"
            )
        pad, before = int(section.pad), int(section.temporal_pad)
        return 1, ConvWindow((depth, size, size), (step, stride, stride), (before, pad, pad), (1, 1, 1))

    def replaces_gradient(self, index: int, bottoms: Sequence[Shape]) -> bool:
        """Always: the fork's backward pass begins with zeros."""
        return True


@register(dialect="c3d")
class Convolution3D(_Volumed, Convolution):
    """Convolution over length, height and width.

    Weights [num_output, C, kernel_depth, kernel_size, kernel_size]; bias [num_output] (in the fork [1, 1, 1, 1,
    num_output], which files may have).  ``filter_group`` only says in how many steps the fork computes it.
    """

    caffe_type = "Convolution3D"

    def counts(self) -> tuple[int, int]:
        """``num_output``, and one group."""
        outputs, parts = int(self.section.num_output), int(self.section.filter_group)
        if parts < 1 or outputs % parts:
            raise self.error(
                f"{self.section.field}.filter_group is {parts}, expected a divisor of num_output {outputs}"
            )
        return outputs, 1


@register(dialect="c3d")
class Deconvolution3D(_Volumed, Deconvolution):
    """The adjoint of Convolution3D: sizes stride (n - 1) + kernel - 2 pad.  Weights [C, num_output, kernel...]."""

    caffe_type = "Deconvolution3D"

    def counts(self) -> tuple[int, int]:
        """``num_output``, and one group."""
        self.section.ignore("filter_group")  # the fork reads it only in convolutions
        return int(self.section.num_output), 1


class _VolumePool(Layer):
    """Pooling over three axes: shapes and numbers; a subclass reads the window."""

    homogeneous = True
    method: str

    def window_for(self, volume: Sequence[int]) -> Volume:
        """The window for a volume of this size."""
        raise NotImplementedError

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """[N, C, positions]."""
        bottom = tuple(bottoms[0])
        self.require(len(bottom) == AXES, f"bottom has shape {list(bottom)}, expected {AXES} axes: N, C, L, H, W")
        window = self.window_for(bottom[2:])
        outs = window.sizes(bottom[2:])
        self.require(
            min(outs) > 0, f"kernel {list(window.kernel)} is larger than the padded volume of size {list(bottom[2:])}"
        )
        self.require_memory(
            "the volume with all windows",
            [
                (
                    *bottom[:2],
                    *(
                        n + p + max(0, e)
                        for n, p, e in zip(bottom[2:], window.pad, window.ends(bottom[2:]), strict=True)
                    ),
                )
            ],
        )
        return [(*bottom[:2], *outs)] * len(self.params.tops)

    def pooled(self, bottom: Tensor) -> tuple[Tensor, Tensor | None]:
        """Top and mask."""
        window = self.window_for(bottom.shape[2:])
        if 0 in bottom.shape:
            return bottom.new_zeros(self.top_shapes([tuple(bottom.shape)])[0]), None
        if self.method == "AVE":
            return average_volumes(bottom, window), None
        return max_volumes(bottom, window, len(self.params.tops) > 1)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """MaxPool or AveragePool; length, height and width are static."""
        volume = [size for size in graph.shape(bottoms[0])[2:] if size is not None]
        if len(volume) < 3:
            raise self.export_error("windows over length, height and width need static sizes of them")
        if len(tops) > 1:
            raise self.export_error("the mask of a pooling over three axes has no ONNX form")
        write_volumes(graph, self.method, bottoms[0], tops, self.window_for(volume))


@register(when=lambda params: params.section("pooling3d_param").has("kernel_depth"), dialect="c3d")
class Pooling3D(_VolumePool):
    """MAX or AVE over ``kernel_depth`` frames and ``kernel_size`` x ``kernel_size`` pixels.

    Sizes are rounded up, and no window is left out; ``pad``, of height and width, is for AVE.  As in the fork all
    values that equal the maximum of a window get its gradient, not the first alone.
    """

    caffe_type = "Pooling3D"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("pooling3d_param")
        self.method = section.enum("pool")
        size, depth = int(section.kernel_size), int(section.kernel_depth)
        stride, step, pad = int(section.stride), int(section.temporal_stride), int(section.pad)
        if self.method == "STOCHASTIC" or (pad and self.method != "AVE"):
            raise self.error(
                f"pooling3d_param has pool {self.method} and pad {pad}, expected MAX without padding or AVE"
            )
        if min(size, depth, stride, step) < 1:
            raise self.error(
                f"pooling3d_param has kernel_size {size}, kernel_depth {depth}, stride {stride} and temporal_stride "
                f"{step}, expected positive numbers"
            )
        self.window = Volume((depth, size, size), (step, stride, stride), (0, pad, pad), clipped=False)

    def window_for(self, volume: Sequence[int]) -> Volume:
        """The one window."""
        return self.window

    def backward_reads(self) -> Reads:
        """Of MAX bottom and top."""
        return Reads((0,), (0,)) if self.method == "MAX" else Reads()

    def backward_form(self, memory: Reread) -> Tensor:
        """Where the bottom now equals the top."""
        bottom, top = memory.bottoms[0], memory.tops[0]
        if self.method != "MAX":
            return self.forward(bottom)
        return with_gradient(top, bottom, lambda seed: shared_gradient(bottom.detach(), top, seed, self.window))

    def forward(self, bottom: Tensor) -> Tensor:
        """Pool."""
        if self.method != "MAX" or not bottom.requires_grad or 0 in bottom.shape:
            return self.pooled(bottom)[0]
        values = bottom.detach()
        top = self.pooled(values)[0]
        return with_gradient(top, bottom, lambda seed: shared_gradient(values, top, seed, self.window))


def _over_three(params: Params) -> bool:
    section = params.section("pooling_param")
    return any(section.has(name) for name in ("kernel_size_3d", "stride_3d", "pad_3d"))


@register(when=_over_three, dialect="intel", marked=True)
class VolumePooling(_VolumePool):
    """Pooling over three axes: ``kernel_size_3d``, ``stride_3d`` and ``pad_3d``, one number for all or one for each.

    Otherwise as over two; ``global_pooling`` excludes a kernel, and needs no padding and strides of 1.
    """

    caffe_type = "Pooling"
    top_count = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("pooling_param")
        section.ignore("engine")
        self.method = section.enum("pool")
        if self.method not in ("MAX", "AVE") or (self.method == "AVE" and len(params.tops) > 1):
            raise self.error(f"pooling_param.pool is {self.method}, expected MAX, or AVE with one top, over three axes")
        if section.axis("axis", AXES) != 1 or section.enum("round_mode") != "CEIL" or not section.avg_include_pad:
            raise self.error("pooling_param has an axis, a round_mode or avg_include_pad: false, expected none of them")
        self.stride, self.pad = self._three(section, "stride_3d", 1), self._three(section, "pad_3d", 0)
        self.kernel: Shape | None = None
        if section.global_pooling:
            if section.has("kernel_size_3d") or any(self.pad) or self.stride != (1, 1, 1):
                raise self.error("global_pooling with kernel_size_3d, pad_3d or stride_3d, expected none of them")
            return
        self.kernel = self._three(section, "kernel_size_3d", 0)
        if min(self.kernel) < 1 or min(self.stride) < 1:
            raise self.error(
                f"kernel {list(self.kernel)} and stride {list(self.stride)} of pooling, expected positive numbers"
            )
        if any(pad >= kernel for pad, kernel in zip(self.pad, self.kernel, strict=True)):
            raise self.error(f"pad {list(self.pad)}, expected less than the kernel {list(self.kernel)}")

    def _three(self, section: Section, name: str, default: int) -> Shape:
        values = [int(value) for value in section.value(name)] or [default]
        if len(values) not in (1, 3):
            raise self.error(f"pooling_param.{name} has {len(values)} entries, expected 1 or 3")
        return tuple(values * 3 if len(values) == 1 else values)

    def window_for(self, volume: Sequence[int]) -> Volume:
        """The window; with global_pooling it is the whole volume."""
        return Volume(self.kernel or tuple(volume), self.stride, self.pad, clipped=True)

    def backward_reads(self) -> Reads:
        """The mask, where it is a top."""
        return Reads(tops=(1,)) if len(self.params.tops) > 1 else Reads()

    def backward_form(self, memory: Reread) -> tuple[Tensor, ...]:
        """What the mask says now."""
        return by_the_mask(memory)

    def forward(self, bottom: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Pool."""
        top, mask = self.pooled(bottom)
        if len(self.params.tops) > 1 and mask is None:  # an empty bottom
            return top, top - 1
        return top if mask is None else (top, mask)
