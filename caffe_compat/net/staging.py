"""Numbers of a weights file onto a GPU: read straight into pinned memory, copied from there while the next are read.

A copy out of ordinary memory makes the driver copy into pinned memory of its own first; pinning the whole net would
take longer than reading it.  So every thread that reads keeps two pinned parts and a stream: while one part travels,
the other is filled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_compat.proto.blob import PART, Blob, read_through

__all__ = ["read_staged"]

_PARTS = 2  #: pinned parts of a thread


def read_staged(wanted: Sequence[tuple[Blob, Tensor]]) -> None:
    """Read blobs into contiguous float32 tensors of as many elements, all on one CUDA device; done when it returns.

    Raises:
        ModelFileError: a blob is malformed, or its file changed since it was scanned.
    """
    if not wanted:
        return
    targets = [tensor.detach().view(-1) for _, tensor in wanted]
    device = targets[0].device
    before = torch.cuda.current_stream(device)
    read_through([blob for blob, _ in wanted], lambda: _Lane(targets, device, before))


class _Lane:
    """One thread's pinned parts, on a stream of its own."""

    def __init__(self, targets: Sequence[Tensor], device: torch.device, before: torch.cuda.Stream) -> None:
        self._targets = targets
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(before)  # which may still use the memory of the targets
        self._parts = [torch.empty(PART // 4, pin_memory=True) for _ in range(_PARTS)]
        self._sent = [torch.cuda.Event() for _ in range(_PARTS)]
        self._now = 0

    def memory(self, number: int, start: int, count: int) -> np.ndarray:
        """The part that was sent before the last one, as soon as it has arrived."""
        self._now = (self._now + 1) % _PARTS
        self._sent[self._now].synchronize()  # returns at once where nothing was sent
        return self._parts[self._now][:count].numpy()

    def done(self, number: int, start: int, memory: np.ndarray) -> None:
        """Send it."""
        count = len(memory)
        with torch.cuda.stream(self._stream):
            self._targets[number][start : start + count].copy_(self._parts[self._now][:count], non_blocking=True)
            self._sent[self._now].record(self._stream)

    def close(self) -> None:
        """Wait for what is on its way."""
        self._stream.synchronize()
