"""Poolings as ONNX nodes that every runtime reads alike.

Runtimes disagree about ``ceil_mode`` (ONNX Runtime 1.20 keeps windows beyond the padding, and up to 1.28 AVE divides by
other areas) and about what ``pads`` of an AveragePool count (1.21 to 1.28, from opset 19 on).  Neither is written: an
image is padded at its end by so much that the whole windows in it are Caffe's positions, which depends on the window
alone (:meth:`PoolWindow.ends_of_any`), so sizes may be open; and means over partial windows are corrected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from caffe_compat.layers.base import OnnxGraph
from caffe_compat.layers.windows import FLT_MAX, PoolWindow

__all__ = ["write_average", "write_global_pool", "write_pool"]

_FLOAT = 1  # TensorProto.FLOAT
Image = Sequence[int | None]


def write_pool(graph: OnnxGraph, method: str, bottom: str, tops: Sequence[str], window: PoolWindow) -> None:
    """One pooling of a bottom of any height and width.

    Args:
        method: MAX (a second top is the mask), AVE or STOCHASTIC (as in TEST).
    """
    if method == "MAX":
        _max(graph, bottom, tops, window)
    elif method == "AVE":
        _average(graph, bottom, tops[0], window)
    else:
        square = graph.add("Mul", [bottom, bottom])
        means = [write_average(graph, x, bottom, window) for x in (bottom, square)]
        _weighted(graph, means[0], means[1], tops[0])


def write_global_pool(graph: OnnxGraph, method: str, bottom: str, tops: Sequence[str]) -> None:
    """One window, the whole image; arguments as of :func:`write_pool`."""
    if method == "STOCHASTIC":
        square = graph.add("Mul", [bottom, bottom])
        means = [graph.add("GlobalAveragePool", [x]) for x in (bottom, square)]
        _weighted(graph, means[0], means[1], tops[0])
        return
    graph.node("GlobalMaxPool" if method == "MAX" else "GlobalAveragePool", [bottom], tops[:1])
    if len(tops) > 1:
        flat = graph.add("Reshape", [bottom, graph.constant([0, 0, -1, 1])])
        graph.node("Cast", [graph.add("ArgMax", [flat], axis=2)], tops[1:], to=_FLOAT)


def write_average(graph: OnnxGraph, source: str, bottom: str, window: PoolWindow, top: str | None = None) -> str:
    """Means of whole windows of ``source``, of which padding counts.

    Args:
        bottom: the bottom, or a blob whose shape is known, of the same shape.
        top: what to write; by default a fresh name, which is returned.
    """
    padded = _pad(graph, source, (*window.pad, *_ends(window, graph.shape(bottom)[2:])), 0.0)
    attributes = _slides(window)
    if padded != source:
        attributes["auto_pad"] = "VALID"  # ONNX Runtime merges Pad and pooling otherwise, some versions wrongly
    if top is None:
        return graph.add("AveragePool", [padded], **attributes)
    graph.node("AveragePool", [padded], [top], **attributes)
    return top


def _slides(window: PoolWindow) -> dict[str, object]:
    return {"kernel_shape": list(window.kernel), "strides": list(window.stride)}


def _ends(window: PoolWindow, image: Image) -> tuple[int, int]:
    """Padding at the ends of the axes; where the size is known no more than its positions cover."""
    exact = window.ends(_some(window, image), window.sizes(_some(window, image)))
    first, second = (
        general if size is None else max(0, end)
        for size, end, general in zip(image, exact, window.ends_of_any(), strict=True)
    )
    return first, second


def _some(window: PoolWindow, image: Image) -> list[int]:
    """An image of these sizes, with one window where they are open."""
    return [kernel if size is None else size for size, kernel in zip(image, window.kernel, strict=True)]


def _pad(graph: OnnxGraph, source: str, pads: Sequence[int], value: float) -> str:
    """The image with padding top, left, bottom and right."""
    if not any(pads):
        return source
    return graph.add("Pad", [source, graph.constant([0, 0, *pads[:2], 0, 0, *pads[2:]]), graph.constant(value)])


def _weighted(graph: OnnxGraph, mean: str, square: str, top: str) -> None:
    """STOCHASTIC: sums of squares over sums where these are positive; both divided by the same number."""
    zero = graph.constant(0.0)
    positive = graph.add("Greater", [mean, zero])
    graph.node("Where", [positive, graph.add("Div", [square, mean]), zero], [top])


# -- MAX -----------------------------------------------------------------------------------------------------------


def _max(graph: OnnxGraph, bottom: str, tops: Sequence[str], window: PoolWindow) -> None:
    """A MaxPool with ``pads``, about which all agree; they must be smaller than the kernel.

    They are, unless windows of an image without padding may lie beyond it, where Caffe has -FLT_MAX.  onnx.reference
    takes those of a stride of 1 for other axes'.
    """
    ends = _ends(window, graph.shape(bottom)[2:])
    mistaken = window.stride == (1, 1) and len({*window.pad, *ends}) > 1 and len(tops) == 1
    if not mistaken and all(end < kernel for end, kernel in zip(ends, window.kernel, strict=True)):
        _max_nodes(graph, bottom, tops, window, ends)
    elif len(tops) == 1:
        padded = _pad(graph, bottom, (*window.pad, *ends), -FLT_MAX)
        graph.node("MaxPool", [padded], tops, **_slides(window))
    else:
        ends = min(ends[0], window.kernel[0] - 1), min(ends[1], window.kernel[1] - 1)
        inside = [f"{top}/inside" for top in tops]
        _max_nodes(graph, bottom, inside, window, ends)
        beyond = _beyond(graph, bottom, window, ends)
        for source, top, value in zip(inside, tops, (-FLT_MAX, -1.0), strict=True):
            graph.node("Pad", [source, beyond, graph.constant(value)], [top])


def _max_nodes(graph: OnnxGraph, bottom: str, tops: Sequence[str], window: PoolWindow, ends: tuple[int, int]) -> None:
    """MaxPool, and from the places it counts through the whole blob those within an image."""
    pads = [*window.pad, *ends]
    attributes = {**_slides(window), "pads": pads if any(pads) else None}
    if len(tops) == 1:
        graph.node("MaxPool", [bottom], tops, **attributes)
        return
    places = f"{tops[1]}/places"
    graph.node("MaxPool", [bottom], [tops[0], places], **attributes)
    known = [size for size in graph.shape(bottom)[2:] if size is not None]
    if len(known) == 2:
        pixels = graph.constant(known[0] * known[1])
    else:
        pixels = graph.add("ReduceProd", [graph.add("Shape", [bottom], start=2, end=4)], keepdims=0)
    graph.node("Cast", [graph.add("Mod", [places, pixels])], tops[1:], to=_FLOAT)


def _beyond(graph: OnnxGraph, bottom: str, window: PoolWindow, ends: tuple[int, int]) -> str:
    """Pads of a top: how many positions lie beyond an image that has no padding and was pooled with these ends."""
    known = [size for size in graph.shape(bottom)[2:] if size is not None]
    axes = list(zip(window.kernel, window.stride, ends, strict=True))
    if len(known) == 2:
        inside = [(size + end - kernel) // stride + 1 for size, (kernel, stride, end) in zip(known, axes, strict=True)]
        return graph.constant([0] * 6 + [n - i for n, i in zip(window.sizes(known), inside, strict=True)])
    sizes = graph.add("Shape", [bottom], start=2, end=4)
    strides = graph.constant(list(window.stride))
    counts = [
        graph.add("Div", [graph.add("Add", [sizes, graph.constant(more)]), strides])
        for more in ([2 * s - 1 - k for k, s, _ in axes], [e - k + s for k, s, e in axes])
    ]
    return graph.add("Concat", [graph.constant([0] * 6), graph.add("Sub", counts)], axis=0)


# -- AVE -----------------------------------------------------------------------------------------------------------


def _average(graph: OnnxGraph, bottom: str, top: str, window: PoolWindow) -> None:
    """Means of whole windows; where one may be partial, divided by the share of it that is image or padding.

    Windows beyond an image without padding have an area of 0 or less in Caffe, which divides 0 by it.
    """
    known = [size for size in graph.shape(bottom)[2:] if size is not None]
    op, corrections = "Mul", list[str]()
    if len(known) == 2:
        with np.errstate(divide="ignore"):
            factors = (math.prod(window.kernel) / window.areas(known, window.sizes(known))).astype(np.float32)
        if (factors != 1).any():
            corrections = [graph.constant(factors)]
    elif window.inside:
        op, corrections = "Div", [_shares_inside(graph, bottom, window)]
    elif window.ends_of_any() != window.after:
        op, corrections = "Div", _open_shares(graph, bottom, window)
    value = write_average(graph, bottom, bottom, window, None if corrections else top)
    for correction in corrections[:-1]:
        value = graph.add(op, [value, correction])
    if corrections:
        graph.node(op, [value, corrections[-1]], [top])


def _shares_inside(graph: OnnxGraph, bottom: str, window: PoolWindow) -> str:
    """The shares of windows that lie in an image of any size: means of ones in its place."""
    sizes = graph.add("Concat", [graph.constant([1, 1]), graph.add("Shape", [bottom], start=2, end=4)], axis=0)
    ones = graph.add("Expand", [graph.constant(1.0), sizes])
    return write_average(graph, ones, bottom, window)


def _open_shares(graph: OnnxGraph, bottom: str, window: PoolWindow) -> list[str]:
    """The shares for an image of any size, all in one tensor, or in one for each axis: means of ones in its place.

    Beyond an image without padding come as many zeros as the kernel has, then ones again: a share is 0 where Caffe's
    area is, and is not where that is negative.  Ones again in both axes would hide a 0 in one.
    """
    sizes = graph.add("Shape", [bottom])
    if window.any_pad:
        around = np.add(window.pad, window.after).tolist()
        sizes = graph.add("Add", [sizes, graph.constant([0, 0, *around])])
    ends = np.subtract(window.ends_of_any(), window.after)
    zeros = np.minimum(ends, window.kernel)
    shares = []
    for used in np.array([[1, 1]]) if (ends == zeros).all() else np.eye(2, dtype=np.int64):
        shape = graph.add("Where", [graph.constant(np.array([False, False, *used], bool)), sizes, graph.constant(1)])
        ones = graph.add("Expand", [graph.constant(1.0), shape])
        ones = _pad(graph, ones, (0, 0, *(zeros * used)), 0.0)
        ones = _pad(graph, ones, (0, 0, *((ends - zeros) * used)), 1.0)
        kernel, stride = (np.where(used, sides, 1).tolist() for sides in (window.kernel, window.stride))
        shares.append(graph.add("AveragePool", [ones], kernel_shape=kernel, strides=stride, auto_pad="VALID"))
    return shares
