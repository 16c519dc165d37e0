"""A model and its weights apart, so that hundreds of megabytes are not copied to check, write or run it.

A protobuf message owns its bytes: to put a weight into it copies the weight, to serialize it copies all of them, and
onnx.checker parses that copy into another.  Here the weights stay where they are, mostly in the parameters of the net.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import helper, numpy_helper

from caffe_compat.errors import ExportError

__all__ = [
    "SMALL",
    "Parts",
    "Weight",
    "checked",
    "infer_values",
    "join",
    "make_tensor",
    "pieces",
    "split",
    "without_weights",
]

SMALL = 1024  #: bytes up to which a weight stays in the model: shapes and axes, that shape inference looks at

Weight = np.ndarray | onnx.TensorProto  #: the values, or the tensor of another model that holds them


@dataclass(frozen=True)
class Parts:
    """A model whose larger weights are elsewhere.

    Attributes:
        model: its initializers all have names, types and dims; those in ``weights`` have no values.
        weights: by name, what the model leaves out, in the order of the initializers.  Arrays are in C order and may be
            the memory of a net's parameters, which must not change before they are written.
    """

    model: onnx.ModelProto
    weights: Mapping[str, Weight]

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return sum(tensor_bytes(tensor) for tensor in self.model.graph.initializer if tensor.name in self.weights)


def split(model: onnx.ModelProto) -> Parts:
    """A model and its weights apart, without copying them; those with external data stay as they are."""
    weights = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.HasField("raw_data") and not tensor.external_data and tensor_bytes(tensor) > SMALL
    }
    bare = onnx.ModelProto()
    for field, value in _fields(model, leave="graph"):
        _set(bare, field, value)
    for field, value in _fields(model.graph, leave="initializer"):
        _set(bare.graph, field, value)
    for tensor in model.graph.initializer:
        kept = bare.graph.initializer.add()
        for field, value in _fields(tensor, leave="raw_data" if tensor.name in weights else ""):
            _set(kept, field, value)
    return Parts(bare, weights)


def join(parts: Parts) -> onnx.ModelProto:
    """The model with its weights, in one copy of them.

    The largest go first: a value is in memory twice while it is set.
    """
    model = onnx.ModelProto()
    model.CopyFrom(parts.model)
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in parts.weights]
    for tensor in sorted(tensors, key=tensor_bytes, reverse=True):
        tensor.raw_data = bytes(raw(parts.weights[tensor.name]))
    return model


def without_weights(parts: Parts) -> onnx.ModelProto:
    """A valid model of the same graph that takes the larger weights as inputs, for whoever needs their shapes only."""
    model = onnx.ModelProto()
    model.CopyFrom(parts.model)
    tensors = list(parts.model.graph.initializer)
    del model.graph.initializer[:]
    given = {value.name for value in model.graph.input}
    for tensor in tensors:
        if tensor.name not in parts.weights:
            model.graph.initializer.append(tensor)
        elif tensor.name not in given:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return model


def infer_values(parts: Parts) -> None:
    """Add to a model's ``value_info`` what onnx infers of values that are not there yet.

    Raises:
        ExportError: types or shapes contradict each other.
    """
    try:
        found = onnx.shape_inference.infer_shapes(without_weights(parts), strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(f"onnx cannot infer the shapes of the model: {error}") from error
    known = {value.name for value in parts.model.graph.value_info}
    parts.model.graph.value_info.extend(value for value in found.graph.value_info if value.name not in known)


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """How many bytes the values of a tensor take by its type and dims."""
    count: int = math.prod(tensor.dims)
    if tensor.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return (count + 1) // 2
    return count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def raw(weight: Weight) -> memoryview:
    """The bytes of a weight as ONNX stores them: little-endian; of an array no copy."""
    if isinstance(weight, onnx.TensorProto):
        return memoryview(weight.raw_data)
    array = np.ascontiguousarray(weight)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data


def make_tensor(name: str, array: np.ndarray) -> tuple[onnx.TensorProto, bool]:
    """An initializer, and whether it holds the values: it does up to ``SMALL`` bytes."""
    if array.nbytes <= SMALL:
        return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name), True
    return onnx.TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype)), False


# -- one message in the pieces of a stream -------------------------------------------------------------------------


def pieces(parts: Parts) -> Iterator[bytes | memoryview]:
    """The serialized model with its weights, byte by byte what ``SerializeToString`` gives, without copies of them.

    Raises:
        ExportError: a weight does not hold as many bytes as its type and dims say.
    """
    model, graph = parts.model, parts.model.graph
    tensors = [_split_tensor(tensor, parts.weights) for tensor in graph.initializer]
    before, after = _around(graph, "initializer")
    length = len(before) + len(after) + sum(len(head) + size + len(tail) for head, size, tail in tensors)
    first, last = _around(model, "graph")
    yield first + _tag(model, "graph", length) + before
    for tensor, (head, size, tail) in zip(graph.initializer, tensors, strict=True):
        yield head
        if size:
            yield checked(tensor, parts.weights[tensor.name])
        yield tail
    yield after + last


def _split_tensor(tensor: onnx.TensorProto, weights: Mapping[str, Weight]) -> tuple[bytes, int, bytes]:
    """A field ``initializer`` up to the values that come from elsewhere, how many bytes they are, and what follows."""
    before, after, size = tensor.SerializeToString(), b"", 0
    if tensor.name in weights:
        before, after = _around(tensor, "raw_data")
        size = tensor_bytes(tensor)
        before += _tag(tensor, "raw_data", size)
    return _tag(onnx.GraphProto(), "initializer", len(before) + size + len(after)) + before, size, after


def checked(tensor: onnx.TensorProto, weight: Weight) -> memoryview:
    """The bytes of a weight.

    Raises:
        ExportError: there are not as many as its type and dims say.
    """
    values, size = raw(weight), tensor_bytes(tensor)
    if values.nbytes != size:
        raise ExportError(
            f"initializer '{tensor.name}' of shape {list(tensor.dims)} holds {values.nbytes} bytes, expected {size}"
        )
    return values


def _fields(message: Message, leave: str = "") -> list[tuple[str, object]]:
    return [(field.name, value) for field, value in message.ListFields() if field.name != leave]


def _set(message: Message, field: str, value: object) -> None:
    """Set a field to a copy of a value that the same field of another message has."""
    if isinstance(value, Message):
        getattr(message, field).CopyFrom(value)
    elif isinstance(value, (bytes, str, int, float)):
        setattr(message, field, value)
    else:
        getattr(message, field).extend(value)


def _around(message: Message, field: str) -> tuple[bytes, bytes]:
    """What is serialized of a message before a field, and after it."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    before, after = type(message)(), type(message)()
    for found, value in message.ListFields():
        if found.number != number:
            _set(before if found.number < number else after, found.name, value)
    return before.SerializeToString(), after.SerializeToString()


def _tag(message: Message, field: str, length: int) -> bytes:
    """The start of a length-delimited field (wire type 2)."""
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | 2) + _varint(length)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
