"""Memory that ONNX Runtime reads from and writes to without copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe_compat.deploy.providers import Place
from caffe_compat.deploy.values import Value, check_shapes, check_type
from caffe_compat.errors import UsageError

__all__ = ["Buffer", "array_buffer", "bind", "check_output"]

_BFLOAT16 = 16  #: ONNX's number of the one type that NumPy does not have


@dataclass(frozen=True, eq=False)
class Buffer:
    """Contiguous numbers somewhere.

    Attributes:
        place: where.
        kind: NumPy's name of their type.
        address: of the first; nothing where there is none.
        owner: what must live as long as the buffer is used.
    """

    place: Place
    kind: str
    shape: tuple[int, ...]
    address: int
    owner: Any

    @property
    def empty(self) -> bool:
        """Whether it holds nothing."""
        return 0 in self.shape


def array_buffer(array: np.ndarray) -> Buffer:
    """The memory of an array, which must be contiguous."""
    return Buffer(Place("cpu"), array.dtype.name, array.shape, array.ctypes.data, array)


def check_output(buffer: Buffer, value: Value, place: Place, contiguous: bool) -> None:
    """Refuse memory that a result cannot be written to.

    Raises:
        UsageError: of another type or shape, not contiguous, or on a device that this session does not reach.
    """
    check_type(buffer.kind, value, "output")
    check_shapes({value.name: buffer.shape}, [value], "output")
    if not contiguous:
        raise UsageError(f"output '{value.name}': is to be written into memory that is not contiguous")
    check_place(buffer, value.name, place, "output")


def check_place(buffer: Buffer, name: str, place: Place, what: str) -> None:
    """Refuse memory that this session does not reach.

    Raises:
        UsageError: it is on another device.
    """
    if buffer.place.kind != "cpu" and buffer.place != place:
        raise UsageError(
            f"{what} '{name}' is on {buffer.place}, this session works on {place}: move it, or open a session there"
        )


def bind(session: Any, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer | Place]) -> Any:
    """An ``IOBinding`` of an ``onnxruntime.InferenceSession``; it must not outlive the buffers.

    Args:
        outputs: memory to write to, or where ONNX Runtime is to make some.
    """
    binding = session.io_binding()
    for name, buffer in inputs.items():
        if buffer.empty:  # has no address
            binding.bind_cpu_input(name, np.zeros(buffer.shape, buffer.kind))
        else:
            place = buffer.place
            binding.bind_input(name, place.kind, place.number, _element(buffer), buffer.shape, buffer.address)
    for name, target in outputs.items():
        if isinstance(target, Place):
            binding.bind_output(name, target.kind, target.number)
        else:
            place = target.place
            binding.bind_output(name, place.kind, place.number, _element(target), target.shape, target.address)
    return binding


def _element(buffer: Buffer) -> Any:
    return _BFLOAT16 if buffer.kind == "bfloat16" else np.dtype(buffer.kind).type
