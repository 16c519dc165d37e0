"""What computes an op: one call of oneDNN with weights in its own format where it can, torch's functions elsewhere.

Each kernel comes in two: ``run``, and ``exact``, which also does right by NaN.  oneDNN's joined rectifier makes 0 of
NaN and torch's pooling takes it for the maximum, where Caffe's rectifier passes it on and its pooling skips it; so
``run`` is for bottoms of which is known that no number of the top can be NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.layers import Shape, count
from caffe_compat.layers.lrn import negative_power
from caffe_compat.layers.roles import Affine, Convolve, Nearby, Pool, Product
from caffe_compat.net.fast.graph import Op

__all__ = ["Kernel", "Packs", "has_onednn", "is_wide"]

ROWS = 4
"""From so many rows on oneDNN's matrix product beats MKL's; below, reading the weights is what takes the time."""
WIDE = 2048
"""With so many channels under windows of more than a pixel oneDNN is slower on maps in ``channels_last``, by more than
the rest of a net gains."""
BAND = 512
"""Up to so many channels a product with a banded matrix beats shifted additions for LRN."""
SQUARES = 1e17
"""Squares of numbers up to this can be added without becoming infinite."""
Computes = Callable[..., Any]


@dataclass(frozen=True)
class Kernel:
    """How to compute an op.

    Attributes:
        run, exact: take the values that the op reads.
        gain, offset: no number of the top is larger than ``gain`` times the largest of the bottom plus ``offset`` (and
            the largest of what is added).
        maps: whether it makes maps in torch's ``channels_last`` format.
        fragile: whether ``run`` is wrong where a number of the bottom is NaN, or one of the top can be infinite.
        most: the largest number of a bottom that ``run`` can take, if it is fragile.
    """

    run: Computes
    exact: Computes
    gain: float
    offset: float = 0.0
    maps: bool = False
    fragile: bool = False
    most: float = torch.inf


def has_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch's operators for joined layers are there: an x86 CPU and float32, in any version of torch since 2.0
    that was built with oneDNN."""
    if device.type != "cpu" or dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return False
    names = ("_convolution_pointwise", "_linear_pointwise", "_reorder_convolution_weight", "_reorder_linear_weight",
             "_convolution_pointwise_")  # fmt: skip
    return bool(torch.backends.mkldnn.enabled) and all(hasattr(torch.ops.mkldnn, name) for name in names)


def is_wide(weight: Tensor) -> bool:
    """Whether these are weights of a convolution over very many channels."""
    return weight.dim() == 4 and weight.shape[1] >= WIDE and count(weight.shape, 2) > 1


class Packs:
    """Weights made ready, by layer; they are copies, which somebody must drop when the weights change.

    Args:
        joined: whether oneDNN computes.
    """

    def __init__(self, joined: bool) -> None:
        self.joined = joined
        self._held: dict[tuple[Any, ...], Any] = {}

    def clear(self) -> None:
        """Forget all."""
        self._held.clear()

    def kernel(self, op: Op, shapes: Sequence[Shape], maps: bool, over: bool) -> Kernel | None:
        """How to compute an op; None: as its layer does.

        Args:
            shapes: of the values that it reads.
            maps: whether the first of them is in the format ``channels_last``.
            over: whether what is added may be overwritten.
        """
        role = op.role
        if isinstance(role, Convolve):
            return self._convolution(op, role, shapes[0], over)
        if isinstance(role, Product):
            return self._product(op, role, shapes[0])
        if isinstance(role, Affine):
            return self._affine(op, len(shapes[0]), maps)
        if isinstance(role, Pool) and self.joined:
            return _pool(op, role, maps)
        if isinstance(role, Nearby) and maps and self.joined and shapes[0][1] <= BAND:
            return self._nearby(op, role, shapes[0])
        return None

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        if key not in self._held:
            self._held[key] = make()
        return self._held[key]

    # -- convolution ------------------------------------------------------------------------------------------

    def _convolution(self, op: Op, role: Convolve, shape: Shape, over: bool) -> Kernel:
        def make() -> tuple[Tensor, Tensor | None, float, float]:
            weight, bias = _folded(role.weight, role.bias, op)
            bounds = _bounds(weight, bias)
            if self.joined:
                geometry = (role.pad, role.stride, role.dilation, role.group, shape)
                weight = torch.ops.mkldnn._reorder_convolution_weight(weight.contiguous(), *geometry)
            return weight, bias, *bounds

        weight, bias, gain, offset = self._once((op.number, op.folded, shape[0] == 1), make)
        geometry = (role.pad, role.stride, role.dilation, role.group)
        fragile = self.joined and op.slope == 0
        if self.joined:
            run = _joined_convolution(weight, bias, geometry, op.slope, op.added, over)
            bare = _joined_convolution(weight, bias, geometry, None, op.added, over)
            exact = _then(bare, op.slope) if fragile else run
        else:
            run = exact = _torch_convolution(weight, bias, geometry, op.slope, op.added)
        return Kernel(run, exact, gain, offset, self.joined, fragile)

    # -- matrix product ---------------------------------------------------------------------------------------

    def _product(self, op: Op, role: Product, shape: Shape) -> Kernel:
        rows = count(shape, 0, role.axis)
        packed = self.joined and rows >= ROWS

        def make() -> tuple[Tensor, Tensor | None, float, float]:
            weight, bias = _folded(role.weight, role.bias, op)
            bounds = _bounds(weight, bias)
            if packed:
                weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
            return weight, bias, *bounds

        weight, bias, gain, offset = self._once((op.number, op.folded, packed), make)
        sizes = (*shape[: role.axis], role.weight.shape[1])

        def plain(x: Tensor) -> Tensor:
            return F.linear(x.reshape(sizes), weight, bias)

        def joined(x: Tensor) -> Tensor:
            found: Tensor = torch.ops.mkldnn._linear_pointwise(x.reshape(sizes), weight, bias, *_attribute(op.slope))
            return found

        def bare(x: Tensor) -> Tensor:
            found: Tensor = torch.ops.mkldnn._linear_pointwise(x.reshape(sizes), weight, bias, *_attribute(None))
            return found

        if packed:
            return Kernel(joined, _then(bare, op.slope), gain, offset, False, op.slope == 0)
        return Kernel(_then(plain, op.slope), _then(plain, op.slope), gain, offset)

    # -- the rest ---------------------------------------------------------------------------------------------

    def _affine(self, op: Op, rank: int, maps: bool) -> Kernel:
        assert op.scale is not None and op.shift is not None
        like = op.node.layer.blobs[0]
        sides = [value.to(like.dtype).view(-1, *[1] * (rank - 2)) for value in (op.scale, op.shift)]
        scale, shift = sides

        def run(x: Tensor) -> Tensor:
            return torch.addcmul(shift, x, scale)

        both = _then(run, op.slope)
        return Kernel(both, both, _largest(scale), _largest(shift), maps)

    def _nearby(self, op: Op, role: Nearby, shape: Shape) -> Kernel:
        channels = shape[1]

        def make() -> tuple[Tensor, Tensor]:
            places = torch.arange(channels)
            near = (places[:, None] - places).abs() <= role.size // 2
            band = (near * (role.alpha / role.size)).float()[:, :, None, None]
            geometry = ((0, 0), (1, 1), (1, 1), 1, shape)
            return torch.ops.mkldnn._reorder_convolution_weight(band, *geometry), torch.full((channels,), role.k)

        band, k = self._once((role, channels), make)

        def run(x: Tensor) -> Tensor:
            sums = torch.ops.mkldnn._convolution_pointwise(x * x, band, k, [0, 0], [1, 1], [1, 1], 1, "none", [], "")
            return negative_power(sums, role.beta).mul_(x)

        plain = role.k > 0 and role.alpha >= 0 and role.beta >= 0  # then no factor is above that of 0
        return Kernel(run, op.node.layer, role.k**-role.beta if plain else torch.inf, 0.0, True, True, SQUARES)


def _pool(op: Op, role: Pool, maps: bool) -> Kernel:
    def run(x: Tensor) -> Tensor:
        return F.max_pool2d(x, role.kernel, role.stride, role.pad, 1, role.ceil)

    return Kernel(run, op.node.layer, 1.0, 0.0, maps, True)


def _joined_convolution(
    weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...], slope: float | None, added: bool, over: bool
) -> Computes:
    """Convolution, sum and rectifier in one call; the sum ``over`` what is added."""
    pad, stride, dilation, group = geometry
    if added and slope:
        return _then(_joined_convolution(weight, bias, geometry, None, True, over), slope)
    name, scalars, algorithm = _attribute(slope)
    single = torch.ops.mkldnn._convolution_pointwise.default
    double = torch.ops.mkldnn._convolution_pointwise.binary
    inside = torch.ops.mkldnn._convolution_pointwise_.binary
    after = None if slope is None else "relu"

    def run(x: Tensor) -> Tensor:
        found: Tensor = single(x, weight, bias, pad, stride, dilation, group, name, scalars, algorithm)
        return found

    def run_added(x: Tensor, other: Tensor) -> Tensor:
        found: Tensor = double(x, other, weight, bias, pad, stride, dilation, group, "add", 1.0, after, [], None)
        return found

    def run_over(x: Tensor, other: Tensor) -> Tensor:
        found: Tensor = inside(other, x, weight, bias, pad, stride, dilation, group, "add", 1.0, after, [], None)
        return found

    return (run_over if over else run_added) if added else run


def _torch_convolution(
    weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...], slope: float | None, added: bool
) -> Computes:
    pad, stride, dilation, group = geometry

    def run(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, stride, pad, dilation, group)

    def run_added(x: Tensor, other: Tensor) -> Tensor:
        return run(x).add_(other)

    return _then(run_added if added else run, slope)


def _then(compute: Computes, slope: float | None) -> Computes:
    """A rectifier behind what makes a new tensor."""
    if slope is None:
        return compute
    if slope:
        return lambda *values: F.leaky_relu(compute(*values), slope, inplace=True)
    return lambda *values: compute(*values).relu_()


def _attribute(slope: float | None) -> tuple[str, list[float], str]:
    """oneDNN's name of what comes behind."""
    if slope is None:
        return "none", [], ""
    return ("leaky_relu", [slope], "") if slope else ("relu", [], "")


def _folded(weight: Tensor, bias: Tensor | None, op: Op) -> tuple[Tensor, Tensor | None]:
    """Weights and bias with the factors and summands of the channels in them."""
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    if op.scale is None or op.shift is None:
        return weight, bias
    scaled = weight.double() * op.scale.view(-1, *[1] * (weight.dim() - 1))
    shift = op.shift if bias is None else op.shift + op.scale * bias.double()
    return scaled.to(weight.dtype), shift.to(weight.dtype)


def _bounds(weight: Tensor, bias: Tensor | None) -> tuple[float, float]:
    """The largest sum of a filter's absolute weights, and the largest absolute bias; NaN if there is one."""
    gain = float(torch.linalg.vector_norm(weight.flatten(1), 1, dim=1).max()) if weight.numel() else 0.0
    return gain, 0.0 if bias is None else _largest(bias)


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0
