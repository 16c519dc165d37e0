"""Layers that add, multiply and raise to powers: Power, Exp, Log, Eltwise, Sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.base import UNLIMITED, Layer, NeuronLayer, OnnxGraph, Shape, count
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.layers.sharing import Reads, Reread, with_gradient, with_gradients

__all__ = ["Eltwise", "Exp", "Log", "Power", "PowerFunction", "Sum"]


def _affine(bottom: Tensor, scale: float, shift: float) -> Tensor:
    """scale * x + shift in one kernel, a new tensor."""
    if shift == 0:
        return bottom * scale
    return bottom + shift if scale == 1 else torch.rsub(bottom, shift, alpha=-scale)


def _chain(graph: OnnxGraph, bottom: str, top: str, steps: Sequence[tuple[str, float | None]]) -> None:
    """Nodes one behind the other; a step is an operator and its second operand, if it has one."""
    for number, (op, operand) in enumerate(steps or [("Identity", None)], 1):
        inputs = [bottom] if operand is None else [bottom, graph.constant(float(operand))]
        if number >= len(steps):
            graph.node(op, inputs, [top])
        else:
            bottom = graph.add(op, inputs)


class PowerFunction(torch.autograd.Function):
    """inner ** power with Caffe's gradient power * top / inner: NaN where both are 0."""

    @staticmethod
    def forward(ctx: Any, inner: Tensor, power: float) -> Tensor:
        top = inner.pow(power)
        ctx.save_for_backward(inner, top)
        ctx.power = power
        return top

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor, None]:
        inner, top = ctx.saved_tensors
        return seeds[0] * (ctx.power * top / inner), None


@register
class Power(NeuronLayer):
    """(shift + scale * x) ** power.

    Caffe's quirks: for a power other than 0, 1 and 2 the gradient is NaN where shift + scale * x is 0.  In place the
    derivative is taken at the overwritten value and itself overwrites the top diff, so that the bottom diff is the
    square of the derivative whatever the top diff was.
    """

    caffe_type = "Power"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        power = params.section("power_param")
        self.power, self.scale, self.shift = float(power.power), float(power.scale), float(power.shift)
        self.constant = self.power * self.scale == 0  #: the top does not depend on the bottom
        self.value = float(torch.tensor(self.shift, dtype=torch.float64).pow(self.power)) if self.constant else 0.0
        self.survives_in_place = False

    def backward_reads(self) -> Reads:
        """Nothing, the bottom, or bottom and top, as the power is 1, 2 or another; in place the derivative itself."""
        if self.constant or (self.power == 1 and not self.params.in_place):
            return Reads()
        return Reads(bottoms=(0,), tops=() if self.power in (1, 2) else (0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """The derivative, squared in place."""
        slope = self._derivative(memory.bottoms[0], memory.tops[0])
        in_place = self.params.in_place
        return with_gradient(slope, memory.bottoms[0], lambda seed: slope.square() if in_place else seed * slope)

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        if self.constant:
            return torch.full_like(bottom.detach(), self.value)
        inner = _affine(bottom, self.scale, self.shift)
        if self.power == 1:
            return inner
        if self.power == 2:
            return inner.square()
        top: Tensor = PowerFunction.apply(inner, self.power)
        return top

    def _derivative(self, bottom: Tensor, top: Tensor) -> Tensor:
        if self.power == 1:
            return torch.full_like(bottom, self.scale)
        inner = _affine(bottom, self.scale, self.shift)
        return self.power * self.scale * (inner if self.power == 2 else top / inner)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul, Add, Pow, as far as needed."""
        if self.constant:  # keeps the shape of the bottom, even if it holds inf
            sizes = graph.add("Shape", bottoms)
            graph.node("Expand", [graph.constant(self.value), sizes], tops)
            return
        wanted = (("Mul", self.scale, 1.0), ("Add", self.shift, 0.0), ("Pow", self.power, 1.0))
        _chain(graph, bottoms[0], tops[0], [(op, value) for op, value, neutral in wanted if value != neutral])


def _log_of_base(section: Section, layer: Layer) -> float:
    """ln(base), where -1 stands for e."""
    base = float(section.base)
    if base != -1 and not 0 < base < math.inf:
        raise layer.error(f"{section.field}.base is {base:g}, expected a positive number, or -1 for e")
    return 1.0 if base == -1 else math.log(base)


@register
class Exp(NeuronLayer):
    """base ** (shift + scale * x); base -1 is e."""

    caffe_type = "Exp"

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        exp = params.section("exp_param")
        base = _log_of_base(exp, self)
        self.inner, self.outer = base * float(exp.scale), float(torch.tensor(base * float(exp.shift)).exp())

    def backward_reads(self) -> Reads:
        """The top."""
        return Reads(tops=(0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """top ln(base) scale."""
        top = memory.tops[0]
        return with_gradient(top, memory.bottoms[0], lambda seed: seed * top * self.inner)

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        top = torch.exp(bottom if self.inner == 1 else bottom * self.inner)
        return top if self.outer == 1 else top * self.outer

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul, Exp, Mul, as far as needed."""
        steps: list[tuple[str, float | None]] = [("Mul", self.inner)] if self.inner != 1 else []
        steps.append(("Exp", None))
        _chain(graph, bottoms[0], tops[0], [*steps, ("Mul", self.outer)] if self.outer != 1 else steps)


@register
class Log(NeuronLayer):
    """log of (shift + scale * x) to a base; base -1 is e.

    In place Caffe takes the derivative at the overwritten value and overwrites the top diff with it: the bottom diff is
    the square of that derivative.
    """

    caffe_type = "Log"
    survives_in_place = False

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        log = params.section("log_param")
        base = _log_of_base(log, self)
        if base == 0:
            raise self.error("log_param.base is 1, expected another positive number, or -1 for e")
        self.scale, self.shift, self.factor = float(log.scale), float(log.shift), 1 / base

    def sample(self, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray:
        """What has a logarithm: shift + scale x between 0.1 and 3."""
        inner = random.uniform(0.1, 3, shapes[bottom])
        return inner if self.scale == 0 else (inner - self.shift) / self.scale

    def backward_reads(self) -> Reads:
        """The bottom."""
        return Reads(bottoms=(0,))

    def backward_form(self, memory: Reread) -> Tensor:
        """The derivative, squared in place."""
        slope = self.factor * self.scale / self._inner(memory.bottoms[0])
        in_place = self.params.in_place
        return with_gradient(slope, memory.bottoms[0], lambda seed: slope.square() if in_place else seed * slope)

    def _inner(self, bottom: Tensor) -> Tensor:
        return bottom if (self.scale, self.shift) == (1, 0) else _affine(bottom, self.scale, self.shift)

    def forward(self, bottom: Tensor) -> Tensor:
        """Element by element."""
        top = torch.log(self._inner(bottom))
        return top if self.factor == 1 else top * self.factor

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Mul, Add, Log, Mul, as far as needed."""
        wanted: tuple[tuple[str, float | None, float], ...] = (
            ("Mul", self.scale, 1.0),
            ("Add", self.shift, 0.0),
            ("Log", None, 0.0),
            ("Mul", self.factor, 1.0),
        )
        _chain(graph, bottoms[0], tops[0], [(op, value) for op, value, neutral in wanted if value != neutral])


class _UnstableProduct(torch.autograd.Function):
    """The product of the bottoms, whose gradient is top / bottom: NaN where a factor is 0."""

    @staticmethod
    def forward(ctx: Any, *bottoms: Tensor) -> Tensor:
        top = reduce(torch.mul, bottoms)
        ctx.save_for_backward(top, *bottoms)
        return top

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor | None, ...]:
        top, *bottoms = ctx.saved_tensors
        wanted = zip(bottoms, ctx.needs_input_grad, strict=True)
        return tuple(seeds[0] * (top / bottom) if need else None for bottom, need in wanted)


@register
class Eltwise(Layer):
    """Sum (with coefficients), product or maximum of bottoms of equal shape.

    MAX: of two equal bottoms the second wins, a later one only if it is larger; the gradient goes to the winner.
    PROD with ``stable_prod_grad: false``: the gradient is top / bottom, NaN at 0.
    SUM in place: Caffe clears the top first, so the overwritten bottom counts as 0; its gradient, already multiplied by
    its coefficient, is what the others get.  PROD and MAX in place: the gradient of the first bottom overwrites the top
    diff, so that the others get the product with it (PROD), or nothing (MAX).
    """

    caffe_type = "Eltwise"
    precision = "any"
    pointwise = True
    bottom_count = (2, UNLIMITED)
    in_place = True

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        eltwise = params.section("eltwise_param")
        self.operation, self.stable = eltwise.enum("operation"), bool(eltwise.stable_prod_grad)
        coeff = [float(value) for value in eltwise.coeff]
        if coeff and self.operation != "SUM":
            raise self.error(f"eltwise_param.coeff is for SUM, not for {self.operation}")
        if coeff and len(coeff) != len(bottoms):
            raise self.error(f"eltwise_param.coeff has {len(coeff)} entries, expected one per bottom ({len(bottoms)})")
        self.coeff = coeff or [1.0] * len(bottoms)
        self.survives_in_place = False

    def backward_reads(self) -> Reads:
        """PROD: the bottoms, and the top if the gradient is not the stable one; MAX: nothing, but in place its diff."""
        number = len(self.params.bottoms)
        if self.operation == "PROD":
            return Reads(tuple(range(number)), () if self.stable else (0,))
        return Reads((0,)) if self.operation == "MAX" and self.params.in_place else Reads()

    def backward_form(self, memory: Reread) -> Tensor:
        """One bottom after the other, as the diff of the first may be the top diff."""

        def rule(seed: Tensor) -> list[Tensor | None]:
            result: list[Tensor | None] = []
            for index, bottom in enumerate(memory.bottoms):
                gradient = seed * self._slope(memory, index) if bottom.requires_grad else None
                result.append(gradient)
                if index == 0 and gradient is not None and self.params.in_place:
                    seed = gradient
            return result

        return with_gradients(memory.tops[0], memory.bottoms, rule)

    def _slope(self, memory: Reread, index: int) -> Tensor:
        """What the top diff is multiplied with for one bottom."""
        if self.operation == "MAX":
            winner = torch.zeros_like(memory.tops[0])
            best = memory.then[0]
            for number, bottom in enumerate(memory.then[1:], 1):
                larger = (bottom >= best) if number == 1 else (bottom > best)
                winner, best = torch.where(larger, number, winner), torch.where(larger, bottom, best)
            return (winner == index).to(best)
        if self.stable:
            return reduce(torch.mul, (bottom for i, bottom in enumerate(memory.bottoms) if i != index))
        return memory.tops[0] / memory.bottoms[index]

    @property
    def fresh_top(self) -> bool:
        """Unless the gradient is made of the top."""
        return self.operation != "PROD" or self.stable

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape that all bottoms have."""
        for number, shape in enumerate(bottoms):
            self.require(
                tuple(shape) == tuple(bottoms[0]),
                f"bottom {number} has shape {list(shape)}, expected that of bottom 0, {list(bottoms[0])}",
            )
        return [tuple(bottoms[0])]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Element by element."""
        if self.operation == "MAX":
            return reduce(
                lambda top, bottom: torch.where(bottom > top, bottom, top),
                bottoms[2:],
                torch.where(bottoms[0] > bottoms[1], bottoms[0], bottoms[1]),
            )
        if self.operation == "PROD":
            if self.stable:
                return reduce(torch.mul, bottoms)
            product: Tensor = _UnstableProduct.apply(*bottoms)
            return product
        if self.params.in_place:
            first, rest = bottoms[0] * self.coeff[0], _weighted(bottoms[1:], self.coeff[1:])
            return rest.detach() + _zero_with_gradient(first) + _zero_with_gradient(rest * self.coeff[0])
        return _weighted(bottoms, self.coeff)

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Max, Mul, or Sum of what Mul has weighted."""
        if self.operation == "PROD":
            product = bottoms[0]
            for bottom in bottoms[1:-1]:
                product = graph.add("Mul", [product, bottom])
            graph.node("Mul", [product, bottoms[-1]], tops)
            return
        if self.operation == "MAX":
            graph.node("Max", bottoms, tops)
            return
        terms = [
            bottom if coeff == 1 else graph.add("Mul", [bottom, graph.constant(coeff)])
            for bottom, coeff in zip(bottoms, self.coeff, strict=True)
        ][1 if self.params.in_place else 0 :]
        graph.node({1: "Identity", 2: "Add"}.get(len(terms), "Sum"), terms, tops)


def _weighted(bottoms: Sequence[Tensor], coeff: Sequence[float]) -> Tensor:
    """Sum of coeff * bottom, one kernel for each bottom behind the first."""
    top = bottoms[0] if coeff[0] == 1 else bottoms[0] * coeff[0]
    for bottom, factor in zip(bottoms[1:], coeff[1:], strict=True):
        top = torch.add(top, bottom, alpha=factor)
    return top


def _zero_with_gradient(value: Tensor) -> Tensor:
    """Zeros that pass a gradient on to ``value``."""
    return value - value.detach()


@register
class Sum(Layer):
    """caffe-sds: the sum of its bottoms, in the shape of the first; shapes may differ in trailing ones."""

    caffe_type = "Sum"
    pointwise = True
    bottom_count = (1, UNLIMITED)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shape of bottom 0."""
        padded = [(*shape, *[1] * (4 - len(shape))) for shape in bottoms]
        for number, shape in enumerate(padded):
            self.require(
                len(shape) == 4 and shape == padded[0] and count(shape) == count(padded[0]),
                f"bottom {number} has shape {list(bottoms[number])}, expected that of bottom 0, {list(bottoms[0])}",
            )
        return [tuple(bottoms[0])]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """One addition for each bottom behind the first."""
        if len(bottoms) == 1:
            return bottoms[0].clone()
        return reduce(torch.add, [bottom.reshape(bottoms[0].shape) for bottom in bottoms])

    def to_onnx(self, graph: OnnxGraph, bottoms: Sequence[str], tops: Sequence[str]) -> None:
        """Sum, of bottoms brought to the rank of the first."""
        rank = len(graph.shape(bottoms[0]))
        terms = []
        for bottom in bottoms:
            have = len(graph.shape(bottom))
            if have != rank:
                axes = graph.constant(list(range(min(have, rank), max(have, rank))))
                bottom = graph.add("Unsqueeze" if have < rank else "Squeeze", [bottom, axes])
            terms.append(bottom)
        graph.node("Sum", terms, tops)
