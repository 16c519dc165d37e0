"""Binary solver states (``.solverstate``)."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe_compat.errors import ModelFileError
from caffe_compat.files import atomic_write
from caffe_compat.proto.blob import Blob
from caffe_compat.proto.blob_scan import scan_blob
from caffe_compat.proto.weights import blob_chunks, varint
from caffe_compat.proto.wire import BYTES, FIXED32, MAX_FILE, VARINT, Scanner

__all__ = ["SolverState", "read_state", "write_state"]

_WIRES = {1: VARINT, 2: BYTES, 3: BYTES, 4: VARINT, 5: FIXED32, 6: VARINT, 2001: FIXED32, 2002: VARINT}


@dataclass(frozen=True)
class SolverState:
    """A solver's state.

    Attributes:
        iter: iterations done.
        learned_net: path of the weights file that goes with it, as stored.
        current_step: steps done of the ``multistep`` policy.
        history: the solver's own blobs in Caffe's order, float32.
        plateau: of weiliu89/caffe's ``plateau`` policy ``minimum_loss`` and ``iter_last_event``; None if not told.
        loss_scale: of training in float16 the scale of losses and the updates since it was changed; None without.  They
            stand in fields that Caffe passes over (2001 and 2002; HDF5: loss_scale and loss_scale_steps).
    """

    iter: int
    learned_net: str = ""
    current_step: int = 0
    history: Sequence[np.ndarray] = ()
    plateau: tuple[float, int] | None = None
    loss_scale: tuple[float, int] | None = None


def read_state(path: str | os.PathLike[str]) -> SolverState:
    """Read a binary solver state.

    Raises:
        MissingFileError: no such file.
        ModelFileError: malformed, with file, byte offset and blob.
    """
    found: dict[str, Any] = {"iter": 0}
    blobs: list[Blob] = []
    floats, counts = dict[int, float](), dict[int, int]()
    with Scanner(path, "solverstate") as scanner:
        if scanner.size == 0:
            raise ModelFileError(f"{scanner.path}: the file is empty")
        at = 0
        while at < scanner.size:
            scanner.context = f"history blob {len(blobs)}" if blobs else ""
            number, wire, value, after = scanner.field(at, scanner.size)
            if number in _WIRES:
                scanner.expect(at, number, wire, _WIRES[number])
            if number == 1:
                found["iter"] = _count(scanner, at, "iter", value)
            elif number == 2:
                found["learned_net"] = scanner.string(value, after)
            elif number == 3:
                scanner.context = f"history blob {len(blobs)}"
                blobs.append(scan_blob(scanner, value, after, scanner.context))
            elif number == 4:
                found["current_step"] = _count(scanner, at, "current_step", value)
            elif number in (5, 2001):
                floats[number] = struct.unpack("<f", scanner.content(value, after))[0]
            elif number in (6, 2002):
                counts[number] = _count(scanner, at, {6: "iter_last_event", 2002: "loss_scale_steps"}[number], value)
            at = after
        if 2001 in floats and not 0 < floats[2001] < math.inf:
            raise ModelFileError(f"{scanner.path}: loss_scale is {floats[2001]}, expected a positive number")
    return SolverState(
        **found,
        history=tuple(blob.read() for blob in blobs),
        plateau=(floats[5], counts.get(6, 0)) if 5 in floats else None,
        loss_scale=(floats[2001], counts.get(2002, 0)) if 2001 in floats else None,
    )


def _count(scanner: Scanner, at: int, name: str, value: int) -> int:
    if value > 2**31 - 1:
        raise scanner.error(at, f"{name} is negative or beyond 32 bits")
    return value


def write_state(path: str | os.PathLike[str], state: SolverState) -> None:
    """Write a binary solver state that BVLC Caffe reads.

    Raises:
        ModelFileError: more than Caffe can read, or a number that is negative or beyond 32 bits.
    """
    name = os.fspath(path)
    for key in ("iter", "current_step"):
        if not 0 <= getattr(state, key) < 2**31:
            raise ModelFileError(f"{name}: {key} is {getattr(state, key)}, expected 0 to 2^31 - 1")
    learned = state.learned_net.encode()
    with atomic_write(path) as stream:
        stream.write(b"\x08" + varint(state.iter) + b"\x12" + varint(len(learned)) + learned)
        for index, array in enumerate(state.history):
            chunks = blob_chunks(array, None, f"{name}: history blob {index}")
            stream.write(b"\x1a" + varint(sum(len(chunk) for chunk in chunks)))
            for chunk in chunks:
                stream.write(chunk)
        stream.write(b"\x20" + varint(state.current_step))
        if state.plateau is not None:
            least, last = state.plateau
            stream.write(b"\x2d" + struct.pack("<f", least) + b"\x30" + varint(last))
        if state.loss_scale is not None:
            scale, steps = state.loss_scale
            stream.write(varint(2001 << 3 | FIXED32) + struct.pack("<f", scale) + varint(2002 << 3) + varint(steps))
        if stream.tell() > MAX_FILE:
            raise ModelFileError(f"{name}: more than {MAX_FILE} bytes, which Caffe cannot read")
