"""An update in blocks: what is done to one number after another is done to a few of all parameters at a time.

A rule goes through gradients, histories and parameters several times.  Over whole nets each of these passes reads and
writes main memory; over blocks that a processor's cache holds, all but the first find their numbers there, and what a
rule needs besides (roots, sums) is as large as a block, not as the net.  Every number is computed as before, so nothing
is rounded otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffe_compat.net import Learnable
from caffe_compat.solver.gradients import normalize, regularize

__all__ = ["Part", "blocks", "part_of", "update"]

CPU_BLOCK = 1 << 16
"""Numbers of each kind that one thread has in hand at a time: 256 KiB each, of which a core's cache holds four."""
SHARED_BLOCK = 1 << 22
"""The same for all of several threads, which wait for each other after every operation: so there are to be few."""
GPU_BLOCK = 1 << 25
"""The same on a GPU, where only the memory for what a rule needs besides is at stake: 128 MiB each."""


@dataclass(frozen=True)
class Part:
    """Parameters that an update moves, or pieces of them, and what belongs to each.

    Attributes:
        parameters, gradients: Tensor[...] each, of equal shapes.
        histories: per history of the rule the tensors of these parameters.
        rates, decays: per parameter the rate with its ``lr_mult``, and its ``decay_mult``.
    """

    parameters: list[Tensor]
    gradients: list[Tensor]
    histories: tuple[list[Tensor], ...]
    rates: list[float]
    decays: list[float]


def part_of(
    which: Sequence[int],
    moved: Sequence[Learnable],
    gradients: list[Tensor],
    histories: Sequence[Sequence[Tensor]],
    rate: float,
) -> Part:
    """What an update moves.

    Args:
        which: numbers of the parameters among all those that the histories are of.
        moved, gradients: the parameters, and the gradient of each.
        histories: per history of the rule the tensors of all parameters.
        rate: before ``lr_mult``.
    """
    return Part(
        parameters=[learnable.parameter for learnable in moved],
        gradients=gradients,
        histories=tuple([history[index] for index in which] for history in histories),
        rates=[rate * learnable.lr_mult for learnable in moved],
        decays=[learnable.decay_mult for learnable in moved],
    )


def update(
    rule: Callable[[list[Tensor], Sequence[list[Tensor]], Sequence[float]], None], whole: Part, param: Any
) -> None:
    """Normalise, regularise, turn gradients into steps and subtract these; gradients end as the steps, as in Caffe.

    Args:
        rule: turns (gradients, histories, rates) into steps, in place.
        param: the ``SolverParameter``.
    """
    for part in blocks(whole):
        normalize(part.gradients, param.iter_size)
        regularize(part.gradients, part.parameters, part.decays, param)
        rule(part.gradients, part.histories, part.rates)
        torch._foreach_sub_(part.parameters, part.gradients)


def blocks(whole: Part, limit: int | None = None) -> Iterator[Part]:
    """The same numbers in parts of at most ``limit``; a tensor that is not laid out in one row stays whole.

    Args:
        limit: by default what suits the device.
    """
    if not whole.gradients:
        return
    size = limit or _usual(whole.gradients[0].device)
    rows: list[tuple[Any, ...]] = []
    filled = 0
    for row in _pieces(whole, size):
        if rows and filled + row[0].numel() > size:
            yield _part(rows)
            rows, filled = [], 0
        rows.append(row)
        filled += row[0].numel()
    yield _part(rows)


def _usual(device: torch.device) -> int:
    """The size of blocks on a device."""
    if device.type != "cpu":
        return GPU_BLOCK
    threads = torch.get_num_threads()
    return CPU_BLOCK if threads == 1 else max(SHARED_BLOCK, 2 * threads * CPU_BLOCK)


def _pieces(whole: Part, size: int) -> Iterator[tuple[Any, ...]]:
    """Rows of (parameter, gradient, rate, decay, histories...), each of at most ``size`` numbers where possible."""
    tensors = zip(whole.parameters, whole.gradients, *whole.histories, strict=True)
    for (parameter, *rest), rate, decay in zip(tensors, whole.rates, whole.decays, strict=True):
        every = [parameter.detach(), *rest]
        if parameter.numel() <= size or not all(one.is_contiguous() for one in every):
            yield (every[0], every[1], rate, decay, *every[2:])
            continue
        for first, second, *more in zip(*(one.view(-1).split(size) for one in every), strict=True):
            yield (first, second, rate, decay, *more)


def _part(rows: list[tuple[Any, ...]]) -> Part:
    parameters, gradients, rates, decays, *histories = (list(column) for column in zip(*rows, strict=True))
    return Part(parameters, gradients, tuple(histories), rates, decays)
