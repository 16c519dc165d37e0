"""Batches on their way to a GPU, while it computes with others."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Sent", "send"]

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


def send(tensors: tuple[Tensor, ...], device: torch.device | None) -> Sent:
    """Copy to a GPU beside what it computes; None: leave them where they are."""
    if device is None:
        return Sent(tensors)
    stream = _stream(device)
    with torch.cuda.stream(stream):
        found = tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)
        there = torch.cuda.Event()
        there.record(stream)
    return Sent(found, there)


def _stream(device: torch.device) -> torch.cuda.Stream:
    """This thread's stream for copies to a device."""
    streams: dict[torch.device, torch.cuda.Stream] = _local.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    return streams[device]
