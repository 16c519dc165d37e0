"""What layers say about memory: Caffe's blobs are buffers, and some layers work on buffers that others read.

Two facts of BVLC Caffe decide what a backward pass computes once a buffer was overwritten: which tops are the buffer
of a bottom (:class:`Share`), and which buffers the backward pass reads (``Layer.backward_reads``).  The plan of a net
(:mod:`caffe_compat.net.plan`) puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["Reads", "Reread", "Share", "gradients", "kept", "with_gradient", "with_gradients"]


@dataclass(frozen=True)
class Share:
    """A top that is the buffer of a bottom.

    Attributes:
        top, bottom: indices; ``bottom`` is None for a buffer inside the layer.
        diff: whether the diffs are one buffer too.  ``"setup"``: the top takes that of the bottom before every forward
            pass, and the layer's backward pass has nothing to do.  ``"backward"``: the bottom takes that of the top
            in the backward pass; what shared the bottom's own buffer until then is cut off from the gradient.
            ``""``: no.
    """

    top: int
    bottom: int | None
    diff: Literal["", "setup", "backward"] = ""


@dataclass(frozen=True)
class Reads:
    """What the backward pass reads.

    Attributes:
        bottoms, tops: indices of those whose values it reads.
        sign: of the bottoms, it reads only where they are positive.
    """

    bottoms: tuple[int, ...] = ()
    tops: tuple[int, ...] = ()
    sign: bool = False


@dataclass(frozen=True)
class Reread:
    """What a backward pass finds when buffers that it reads were overwritten after the forward pass.

    Attributes:
        then: the bottoms as the forward pass saw them, for what a layer keeps to itself.
        bottoms, tops: what their buffers hold now.  Gradients with respect to ``bottoms`` are asked for.
    """

    then: tuple[Tensor, ...]
    bottoms: tuple[Tensor, ...]
    tops: tuple[Tensor, ...]


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, rule: Callable[[Tensor], Sequence[Tensor | None]], *sources: Tensor) -> Tensor:
        ctx.rule = rule
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *ctx.rule(seeds[0]))


def with_gradients(
    value: Tensor, sources: Sequence[Tensor], rule: Callable[[Tensor], Sequence[Tensor | None]]
) -> Tensor:
    """``value``, whose gradients with respect to ``sources`` are ``rule(top diff)``."""
    result: Tensor = _WithGradients.apply(value.detach(), rule, *sources)
    return result


def with_gradient(value: Tensor, source: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """``value``, whose gradient with respect to ``source`` is ``rule(top diff)``."""
    return with_gradients(value, [source], lambda seed: (rule(seed),))


def kept(then: Tensor, now: Tensor) -> Tensor:
    """What a layer has kept of a bottom since the forward pass; its gradient goes to ``now``."""
    return with_gradient(then, now, lambda seed: seed)


def gradients(
    tops: Sequence[Tensor], seeds: Sequence[Tensor], sources: Sequence[Tensor], retain_graph: bool = False
) -> tuple[Tensor | None, ...]:
    """Gradients with respect to ``sources``, given those of ``tops``; ``None`` where nothing depends on a source.

    The same as ``torch.autograd.grad(tops, sources, seeds)``, which imports sympy to compare the shapes of tops and
    seeds (1.8 s at the first backward pass of a process); on a GPU it is worth that, for it launches less.
    """
    if not tops or not sources:
        return (None,) * len(sources)
    if tops[0].is_cuda:
        return torch.autograd.grad(tops, sources, seeds, retain_graph=retain_graph, allow_unused=True)
    with torch.enable_grad():
        total = with_gradients(tops[0].new_zeros(()), tops, lambda _: seeds)
    return torch.autograd.grad(total, sources, retain_graph=retain_graph, allow_unused=True)
