"""torch's tensors as ONNX Runtime's inputs and outputs, where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from caffe_compat.deploy.binding import Buffer, bind, check_output, check_place
from caffe_compat.deploy.providers import Place
from caffe_compat.deploy.values import Value, check_finite, check_type

__all__ = [
    "as_tensor",
    "bound_tensors",
    "buffer_of",
    "count_odd",
    "input_buffers",
    "lowest_and_highest",
    "run_tensors",
    "wait_for",
]


def input_buffers(inputs: Mapping[str, Tensor], wanted: Mapping[str, Value], place: Place) -> dict[str, Buffer]:
    """The memory of inputs, on their device; only what is not contiguous is copied.

    Raises:
        UsageError: a tensor of another type than the model's, or on another GPU than the session.
    """
    found = {}
    for name, tensor in inputs.items():
        check_type(_kind(tensor), wanted[name])
        found[name] = buffer_of(tensor.detach().contiguous())
        check_place(found[name], name, place, "input")
    return found


def bound_tensors(
    outputs: Sequence[str] | Mapping[str, Tensor], wanted: Mapping[str, Value], place: Place
) -> dict[str, Buffer | Place]:
    """Where outputs go: into tensors that are given, or where the session works.

    Raises:
        UsageError: a tensor that cannot be written to.
    """
    if not isinstance(outputs, Mapping):
        return dict.fromkeys(outputs, place)
    found: dict[str, Buffer | Place] = {}
    for name, tensor in outputs.items():
        buffer = buffer_of(tensor.detach())
        check_output(buffer, wanted[name], place, tensor.is_contiguous())
        found[name] = buffer
    return found


def run_tensors(
    session: Any, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer | Place], options: Any = None
) -> dict[str, Tensor]:
    """Run an ``onnxruntime.InferenceSession``, and return when the results are there, on any stream.

    Args:
        options: ``onnxruntime.RunOptions``.
    """
    binding = bind(session, inputs, outputs)
    session.run_with_iobinding(binding, options)
    binding.synchronize_outputs()
    made = dict(zip(outputs, binding.get_outputs(), strict=True))
    return {
        name: target.owner if isinstance(target, Buffer) else as_tensor(made[name]) for name, target in outputs.items()
    }


def wait_for(place: Place, stream: str = "") -> None:
    """Wait until torch's current stream has made the inputs: ONNX Runtime works on a stream of its own.

    Args:
        stream: address of the stream that ONNX Runtime was told to use; on that one nothing is waited for.
    """
    if place.kind == "cuda":
        current = torch.cuda.current_stream(place.number)
        if str(current.cuda_stream) != stream:
            current.synchronize()


def as_tensor(value: Any) -> Tensor:
    """An ``OrtValue`` as a tensor on its device that keeps it alive, without a copy."""
    if hasattr(value, "__dlpack__"):
        return from_dlpack(value)
    if value.device_name() == "cpu":  # ONNX Runtime 1.20 was built without DLPack
        return torch.from_numpy(value.numpy())
    return torch.as_tensor(_CudaArray(value), device=f"cuda:{value._get_c_value().device_id()}")


def count_odd(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinities.

    Raises:
        DataError: there are some.
    """
    if tensor.is_floating_point():
        check_finite(name, int((~torch.isfinite(tensor)).sum()), tensor.numel())


def lowest_and_highest(values: Tensor) -> tuple[float, float]:
    """The extremes, NaN where one is."""
    low, high = torch.aminmax(values.detach())
    return float(low), float(high)


class _CudaArray:
    """Shows memory on a GPU to torch in the manner of CUDA's array interface."""

    def __init__(self, value: Any) -> None:
        kind = {"tensor(float)": "<f4", "tensor(float16)": "<f2", "tensor(double)": "<f8", "tensor(int64)": "<i8"}
        self.owner = value
        self.__cuda_array_interface__ = {
            "shape": tuple(value.shape()),
            "typestr": kind[value.data_type()],
            "data": (value.data_ptr(), False),
            "version": 3,
        }


def buffer_of(tensor: Tensor) -> Buffer:
    """The memory of a tensor, which must be contiguous."""
    place = Place(tensor.device.type, tensor.device.index or 0)
    return Buffer(place, _kind(tensor), tuple(tensor.shape), tensor.data_ptr(), tensor)


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
