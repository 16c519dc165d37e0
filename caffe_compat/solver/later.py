"""Numbers of a training that a GPU is still computing, and the mean of the last losses."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.looking import Doubt, putting_off

__all__ = ["Later", "SmoothedLoss", "Verdicts", "runs_ahead"]


def runs_ahead(device: torch.device) -> bool:
    """Whether a program goes on while a device computes, so that looking at a number means waiting for the device."""
    return device.type == "cuda"


class Later:
    """Numbers on their way here.

    ``float(tensor)`` waits for everything that a GPU was given to do; this copies the numbers as soon as they are there
    and lets the program go on.

    Args:
        *values: tensors without axes, all of one device, or the numbers themselves.
    """

    __slots__ = ("_event", "_values")

    def __init__(self, *values: Tensor | float) -> None:
        self._event: torch.cuda.Event | None = None
        self._values: Sequence[Tensor | float] | np.ndarray = values
        tensors = [value.detach() for value in values if isinstance(value, Tensor)]
        if tensors and len(tensors) == len(values) and runs_ahead(tensors[0].device):
            device = tensors[0].device
            together = torch.stack(tensors) if len(tensors) > 1 else tensors[0].reshape(1)
            here = together.to("cpu", non_blocking=True, copy=True)
            if device.type == "cuda":
                self._event = torch.cuda.Event()
                self._event.record(torch.cuda.current_stream(device))
            self._values = here.numpy()  # the same memory, which the copy fills

    @property
    def arrived(self) -> bool:
        """Whether :meth:`get` need not wait."""
        return self._event is None or self._event.query()

    def get(self) -> list[float]:
        """The numbers, waited for if need be."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        return [float(value) for value in self._values]


class Verdicts:
    """What layers want to judge of numbers that a GPU still computes: of labels, whether there are such classes."""

    def __init__(self) -> None:
        self._coming: deque[tuple[Later, Callable[[list[float]], None]]] = deque()

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Let layers that run in the block put their judgements off."""
        doubts: list[Doubt] = []
        with putting_off(doubts):
            yield
        self._coming.extend((Later(*doubt.values.unbind()), doubt.verdict) for doubt in doubts)

    def tell(self, wait: bool) -> None:
        """Pass the judgements whose numbers have arrived, or with ``wait`` all.

        Raises:
            CaffeCompatError: what the layers say.
        """
        while self._coming and (wait or self._coming[0][0].arrived):
            later, verdict = self._coming.popleft()
            verdict(later.get())


class SmoothedLoss:
    """The mean of the last losses, as Caffe keeps it (``Solver::UpdateSmoothedLoss``).

    Losses that a GPU still computes are taken in once they have arrived, or once :attr:`value` is asked for.
    """

    def __init__(self) -> None:
        self._value = 0.0
        self._losses: list[float] = []
        self._coming: deque[tuple[Later, int, int]] = deque()

    def add(self, loss: Later | float, number: int, window: int) -> None:
        """Take the loss of iteration ``number``, counted from the first that was taken; ``window`` of them count.

        Args:
            loss: of several numbers, the passes of an iteration, the mean is meant.
        """
        self._coming.append((loss if isinstance(loss, Later) else Later(loss), number, window))
        while self._coming and self._coming[0][0].arrived:
            self._take()

    @property
    def value(self) -> float:
        """The mean, of all losses: waits for the last."""
        while self._coming:
            self._take()
        return self._value

    @property
    def known(self) -> float:
        """The mean of those that have arrived, without waiting; NaN before the first."""
        return self._value if self._losses else math.nan

    def _take(self) -> None:
        later, number, window = self._coming.popleft()
        passes = later.get()
        loss = sum(passes, 0.0) / len(passes)
        if len(self._losses) < window:
            self._losses.append(loss)
            size = len(self._losses)
            self._value = (self._value * (size - 1) + loss) / size
        else:
            index = number % window
            self._value += (loss - self._losses[index]) / window
            self._losses[index] = loss
