"""Numbers of a training: those that a GPU is still computing, and the mean of the last losses."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Later", "SmoothedLoss"]


class Later:
    """A number on its way here.

    ``float(tensor)`` waits for everything that a GPU was given to do; this copies the number as soon as it is there
    and lets the program go on, which waits for that alone, when it asks.

    Args:
        value: a tensor without axes, or the number itself.

    Attributes:
        underway: whether asking may mean waiting.
    """

    __slots__ = ("_event", "_value", "underway")

    def __init__(self, value: Tensor | float) -> None:
        self.underway = isinstance(value, Tensor) and value.is_cuda
        self._event: torch.cuda.Event | None = None
        self._value = value.detach() if isinstance(value, Tensor) else value
        if isinstance(self._value, Tensor) and self.underway:
            device = self._value.device
            self._value = self._value.to("cpu", non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(device))

    def get(self) -> float:
        """The number, waited for if need be."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        return float(self._value)


class SmoothedLoss:
    """The mean of the last losses, as Caffe keeps it (``Solver::UpdateSmoothedLoss``).

    Attributes:
        value: the mean.
    """

    def __init__(self) -> None:
        self.value = 0.0
        self._losses: list[float] = []

    def add(self, loss: float, number: int, window: int) -> None:
        """Take the loss of iteration ``number``, counted from the first that was taken; ``window`` of them count."""
        if len(self._losses) < window:
            self._losses.append(loss)
            size = len(self._losses)
            self.value = (self.value * (size - 1) + loss) / size
        else:
            index = number % window
            self.value += (loss - self._losses[index]) / window
            self._losses[index] = loss
