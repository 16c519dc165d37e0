"""Pooling and SPP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.layers.base import Layer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.pooling_onnx import write_global_pool, write_pool
from caffe_compat.layers.reach import Spans, window_reach
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradient
from caffe_compat.layers.windows import FLT_MAX, PoolWindow, Size, average_pool, max_pool, stochastic_pool
from caffe_compat.random import Draw

__all__ = ["Pooling", "SPP", "by_the_mask"]


def by_the_mask(memory: Reread) -> tuple[Tensor, Tensor]:
    """Top and mask of a pooling of one bottom, of any number of axes, whose gradient goes where the mask says now."""
    (bottom,), (top, mask) = memory.bottoms, memory.tops
    places = mask.flatten(2).long()
    inside = (places >= 0) & (places < count(bottom.shape, 2))

    def rule(seed: Tensor) -> Tensor:
        diff = seed.new_zeros(*bottom.shape[:2], count(bottom.shape, 2))
        return diff.scatter_add(2, places * inside, seed.flatten(2) * inside).reshape(bottom.shape)

    return with_gradient(top, bottom, rule), mask


class _PoolLayer(Layer):
    """What Pooling and SPP share: the method, and the checks of a window."""

    method: str

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self._draws: defaultdict[PoolWindow, Draw] = defaultdict(Draw)

    def check_image(self, bottom: Shape) -> None:
        """Exactly four axes."""
        self.require(len(bottom) == 4, f"bottom has shape {list(bottom)}, expected 4 axes (N, C, H, W)")

    def check_window(self, window: PoolWindow) -> None:
        """Caffe's checks of kernel and padding."""
        kernel, stride, pad = window.kernel, window.stride, window.pad
        if window.any_pad and self.method == "STOCHASTIC":
            raise self.error(
                f"pad {[*pad, *window.after]}, expected none with STOCHASTIC pooling (implemented for MAX and AVE)"
            )
        if min(kernel) < 1 or min(stride) < 1:
            raise self.error(f"kernel {list(kernel)} and stride {list(stride)} of pooling, expected positive numbers")
        if any(p >= k > 0 for ends in (pad, window.after) for p, k in zip(ends, kernel, strict=True) if p):
            raise self.error(f"pad {[*pad, *window.after]}, expected less than the kernel {list(kernel)}")

    def pooled(self, bottom: Shape, window: PoolWindow) -> Shape:
        """Shape of the top."""
        outs = window.sizes(bottom[2:])
        self.require(
            min(outs) >= 0, f"kernel {list(window.kernel)} is larger than the padded image of size {list(bottom[2:])}"
        )
        self.require(
            not ((window.any_pad or window.clipped) and window.beyond(bottom[2:], outs)),
            f"pad {list(window.pad)} leaves a window outside the image of size {list(bottom[2:])}",
        )
        self.require_memory("the image with all windows", [(*bottom[:2], *window.reads(outs))])
        return (*bottom[:2], *outs)

    def pool(self, bottom: Tensor, window: PoolWindow, mask: bool = False) -> tuple[Tensor, Tensor | None]:
        """Top and mask."""
        outs = window.sizes(bottom.shape[2:])
        if 0 in outs or 0 in bottom.shape:
            empty = bottom.new_full((*bottom.shape[:2], *outs), -FLT_MAX)
            return empty, (torch.full_like(empty, -1) if mask else None)
        if self.method == "MAX":
            return max_pool(bottom, window, mask)
        if self.method == "AVE":
            return average_pool(bottom, window), None
        return stochastic_pool(bottom, window, self._draws[window] if self.training else None), None


@register
class Pooling(_PoolLayer):
    """MAX, AVE or STOCHASTIC pooling over height and width; MAX may have the mask as second top.

    STOCHASTIC runs on every device here; Caffe has it on GPUs only.  Its gradient is that of what was computed (in
    TEST, Caffe would send it to the positions drawn in some earlier TRAIN pass).  Padding that differs from side to
    side (``pad_t``, ...) and means over the image's part of a window alone (AVE_EXC_PAD) are synopsys-caffe's, which
    has AVE_TF as an older name of the latter.  intel/caffe's are ``avg_include_pad: false``, and kernels of 1 row or
    column, of which without padding too no window lies beyond the image (``last_inside``, which upgrading its nets
    sets).
    """

    homogeneous = True
    caffe_type = "Pooling"
    top_count = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("pooling_param")
        section.ignore("engine")
        self.method = section.enum("pool")
        excluded = not section.avg_include_pad and self.method == "AVE"
        self.inside = excluded or self.method in ("AVE_EXC_PAD", "AVE_TF")
        self.method = "AVE" if self.inside else self.method
        if section.value("axis") != 1:
            raise self.error(f"pooling_param.axis is {section.value('axis')}, expected the channels on axis 1")
        self.precision = "any" if self.method != "STOCHASTIC" and len(params.tops) == 1 else "single"
        if self.method != "MAX" and len(params.tops) > 1:
            raise self.error(f"produces at most 1 top blob with {self.method} pooling, the prototxt gives 2")
        self.ceil = section.enum("round_mode") == "CEIL"
        stride, (pad, tail) = self._pair(section, "stride"), self._pads(section)
        self.window: PoolWindow | None = None
        if section.global_pooling:
            if any(section.has(name) for name in ("kernel_size", "kernel_h", "kernel_w")):
                raise self.error("pooling_param has global_pooling and a kernel size, expected one of them")
            if pad != (0, 0) or stride != (1, 1) or tail is not None:
                raise self.error(f"global_pooling with pad {list(pad)} and stride {list(stride)}, expected 0 and 1")
            return
        sides = section.has("kernel_h"), section.has("kernel_w")
        if section.has("kernel_size") == all(sides):
            raise self.error("pooling_param has no or two kernel sizes, expected kernel_size OR kernel_h and kernel_w")
        size = section.kernel_size
        kernel = (size, size) if section.has("kernel_size") else (section.kernel_h, section.kernel_w)
        self.window = PoolWindow(kernel, stride, pad, self.ceil, tail, self.inside, bool(section.last_inside))
        self.check_window(self.window)

    def backward_reads(self) -> Reads:
        """The mask, where it is a top."""
        return Reads(tops=(1,)) if len(self.params.tops) > 1 else Reads()

    def backward_form(self, memory: Reread) -> tuple[Tensor, ...]:
        """What the mask says now; what it says outside the image, where Caffe writes beyond the diff, is left out."""
        return by_the_mask(memory)

    def _pair(self, section: Section, name: str) -> Size:
        sides = [section.optional(f"{name}_h"), section.optional(f"{name}_w")]
        if sides == [None, None]:
            value = int(getattr(section, name))
            return value, value
        if section.has(name) or None in sides:
            raise self.error(f"pooling_param: expected {name} OR both {name}_h and {name}_w")
        return sides[0], sides[1]

    def _pads(self, section: Section) -> tuple[Size, Size | None]:
        """Padding at the starts of the axes, and at their ends where that may be another."""
        pad = self._pair(section, "pad")
        top, bottom, left, right = (int(section.value(f"pad_{side}")) for side in "tblr")
        if not any((top, bottom, left, right)):
            return pad, None
        if any(section.has(name) for name in ("pad", "pad_h", "pad_w")):
            raise self.error("pooling_param: expected pad OR pad_t, pad_b, pad_l and pad_r")
        return (top, left), (bottom, right)

    def window_for(self, image: Sequence[int]) -> PoolWindow:
        """The window for an image of this size; with global_pooling it is the whole image."""
        return self.window or PoolWindow((image[0], image[1]), (1, 1), (0, 0), self.ceil)

    def reach(self, bottom: int, top: int, spans: Spans, bottoms: Sequence[Shape]) -> Spans:
        """A window of the bottom."""
        window = self.window_for(bottoms[0][2:])
        return window_reach(spans, window.kernel, window.stride, window.pad)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """[N, C, out_h, out_w] for each top."""
        self.check_image(bottoms[0])
        window = self.window_for(bottoms[0][2:])
        self.check_window(window)
        return [self.pooled(bottoms[0], window)] * len(self.params.tops)

    def forward(self, bottom: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Pool; the common windows are one torch call."""
        top, mask = self.pool(bottom, self.window_for(bottom.shape[2:]), len(self.params.tops) > 1)
        return top if mask is None else (top, mask)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """MaxPool, AveragePool or their global forms; see ``pooling_onnx.py``."""
        if self.window is None:
            write_global_pool(graph, self.method, bottoms[0], tops)
        else:
            write_pool(graph, self.method, bottoms[0], tops, self.window)


@register
class SPP(_PoolLayer):
    """Spatial pyramid pooling: level i pools the image into 2^i x 2^i bins, the bins of all levels are channels.

    A pyramid of one level keeps the axes of its pooling: [N, C, 1, 1].
    """

    caffe_type = "SPP"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        section = params.section("spp_param")
        section.ignore("engine")
        self.method, self.levels = section.enum("pool"), int(section.pyramid_height)
        if not 1 <= self.levels <= 16:
            raise self.error(f"spp_param.pyramid_height is {self.levels}, expected 1 or more (16 at most)")

    def windows(self, image: Sequence[int]) -> list[PoolWindow]:
        """The window of each level."""
        result = []
        for level in range(self.levels):
            kernel = [-(-size // 2**level) for size in image]
            pads = [(k * 2**level - size + 1) // 2 for k, size in zip(kernel, image, strict=True)]
            sides = (kernel[0], kernel[1])
            result.append(PoolWindow(sides, sides, (pads[0], pads[1])))
        return result

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """[N, sum of C * bins]."""
        bottom = bottoms[0]
        self.check_image(bottom)
        self.require(min(bottom[2:]) > 0, f"bottom has shape {list(bottom)}, expected a height and width")
        shapes = []
        for window in self.windows(bottom[2:]):
            self.check_window(window)
            shapes.append(self.pooled(bottom, window))
        return shapes if self.levels == 1 else [(bottom[0], sum(count(shape, 1) for shape in shapes))]

    def forward(self, bottom: Tensor) -> Tensor:
        """Pool at every level."""
        tops = [self.pool(bottom, window)[0] for window in self.windows(bottom.shape[2:])]
        return tops[0] if self.levels == 1 else torch.cat([top.flatten(1) for top in tops], 1)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Pooling, Flatten and Concat; needs static height and width unless there is one level."""
        if self.levels == 1:
            write_global_pool(graph, self.method, bottoms[0], tops)
            return
        image = [n for n in graph.shape(bottoms[0])[2:] if n is not None]
        if len(image) < 2:
            raise self.export_error("the bins depend on height and width, expected static ones")
        parts = []
        for level, window in enumerate(self.windows(image)):
            top = f"{tops[0]}/level{level}"
            write_pool(graph, self.method, bottoms[0], [top], window)
            parts.append(top)
        graph.node("Concat", [graph.add("Flatten", [part], axis=1) for part in parts], tops, axis=1)
