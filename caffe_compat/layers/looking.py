"""Looking at numbers: when it costs nothing, when it is put off, and running a net only to look."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Doubt", "judge", "may_look", "only_looking", "putting_off", "writes_files"]


@dataclass(frozen=True)
class Doubt:
    """A judgement that waits until its numbers have come from a GPU.

    Attributes:
        values: Tensor[N].
        verdict: raises an error if they are not as they should be.
    """

    values: Tensor
    verdict: Callable[[list[float]], None]


_doubts: ContextVar[list[Doubt] | None] = ContextVar("doubts", default=None)
_looking: ContextVar[bool] = ContextVar("only_looking", default=False)


@contextlib.contextmanager
def only_looking() -> Iterator[None]:
    """Let layers that this thread runs within the block open no file for writing."""
    token = _looking.set(True)
    try:
        yield
    finally:
        _looking.reset(token)


def writes_files() -> bool:
    """Whether a layer whose purpose is to write a file may do so now."""
    return not _looking.get()


def may_look(values: Tensor) -> bool:
    """Whether looking at numbers costs nothing but the looking: on the CPU, where there are some."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling() and bool(values.numel())


@contextlib.contextmanager
def putting_off(doubts: list[Doubt]) -> Iterator[None]:
    """Within the block, judgements that would make this thread wait for a GPU are added to ``doubts`` instead."""
    token = _doubts.set(doubts)
    try:
        yield
    finally:
        _doubts.reset(token)


def judge(values: Tensor, verdict: Callable[[list[float]], None]) -> bool:
    """Let ``verdict`` look at a few numbers, now or, where that would wait and somebody asked for it, later.

    Returns:
        Whether it has looked: otherwise the caller makes sure that what comes next can do with any numbers.
    """
    doubts = _doubts.get()
    if doubts is None or may_look(values):
        verdict(values.tolist())
        return True
    doubts.append(Doubt(values, verdict))
    return False
