"""What processes that train together do with each other, and the plain case: one process alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from caffe_compat.ranks import Ranks

__all__ = ["Group"]

T = TypeVar("T")


class Group:
    """One process alone; :class:`~caffe_compat.distributed.several.Several` is a group of more.

    Every method that takes a value is called by all processes of a group, in the same order.

    Attributes:
        ranks: which of the processes this is.
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks()

    def use(self, device: torch.device) -> None:
        """Let gradients be summed between devices of this kind from now on."""

    def gather(self, data: bytes) -> list[bytes]:
        """What every process gives, by rank."""
        return [data]

    def same(self, value: T) -> T:
        """What rank 0 gives: anything that JSON holds."""
        return value

    def highest(self, number: int) -> int:
        """The largest of all numbers."""
        return number

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of float64 arrays of one shape."""
        return values

    def mean(self, value: float) -> float:
        """The mean of a number over all processes."""
        return float(self.total(np.array(value, np.float64))) / self.ranks.world

    def share_out(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the values that these tensors have in rank 0."""

    def start_sum(self, flat: Tensor) -> Callable[[], None]:
        """Begin to add up a tensor over all processes, in place; the function that is returned waits for the sum."""
        return lambda: None

    @contextlib.contextmanager
    def together(self, patient: bool = False) -> Iterator[None]:
        """At the end of the block wait for the others; if the block failed in one of them, end all.

        Args:
            patient: wait for as long as they live: in the block a process may compute for hours.

        Raises:
            CaffeCompatError: the block's own in rank 0, or one that says what was wrong in which other rank.
            ToldElsewhere: in every other rank.
        """
        yield

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Let the others know of an error that ends the block, and why, and let it say which rank it is of."""
        yield
