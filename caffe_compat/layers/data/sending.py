"""Batches on their way to a GPU, while it computes with others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_compat.batches.reader import Levels

__all__ = ["Sent", "developed", "send"]

_local = threading.local()


@dataclass(frozen=True)
class Sent:
    """Tensors, and what tells that they are where they were sent; None: they stayed."""

    tensors: tuple[Tensor, ...]
    there: torch.cuda.Event | None = None

    def arrived(self) -> tuple[Tensor, ...]:
        """The tensors, for the stream in use: on a GPU it waits for them, the program does not."""
        if self.there is not None and self.tensors:
            stream = torch.cuda.current_stream(self.tensors[0].device)
            stream.wait_event(self.there)
            for tensor in self.tensors:
                tensor.record_stream(stream)  # their memory is not given away before it is done with them
        return self.tensors


def send(tensors: tuple[Tensor, ...], device: torch.device | None, levels: Sequence[Levels] = ()) -> Sent:
    """Copy to a GPU beside what it computes; None: leave them where they are.

    Args:
        levels: what is then to be done with the first of them if they are uint8.
    """
    if device is None:
        return Sent(developed(tensors, levels))
    stream = _stream(device)
    with torch.cuda.stream(stream):
        found = tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)
        found = developed(found, levels)
        there = torch.cuda.Event()
        there.record(stream)
    return Sent(found, there)


def developed(tensors: tuple[Tensor, ...], levels: Sequence[Levels]) -> tuple[Tensor, ...]:
    """The tensors with ``(pixel - mean) * scale`` done for those that are uint8, in the order of :func:`fill_blob`.

    Every step rounds to float32 by itself, so that the numbers are the same, on a GPU too.
    """
    found = list(tensors)
    for place, (mean, scale) in enumerate(levels):
        if found[place].dtype != torch.uint8:
            continue
        floats = found[place].to(torch.float32)
        if len(mean):
            floats -= torch.from_numpy(mean).to(floats.device).view(1, -1, 1, 1)
        found[place] = floats if scale == 1 else floats.mul_(float(scale))
    return tuple(found)


def _stream(device: torch.device) -> torch.cuda.Stream:
    """This thread's stream for copies to a device."""
    streams: dict[torch.device, torch.cuda.Stream] = _local.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    return streams[device]
