"""Types and sizes of all values of a model, as ONNX's shape inference finds them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from caffe_compat.errors import ExportError, ModelFileError, UsageError, nearest, one_line
from caffe_compat.files import open_existing
from caffe_compat.onnx.metadata import SIZES, read_fact

__all__ = ["SAMPLE", "Measured", "measure", "read_model", "sizes_of", "with_sizes"]

SAMPLE = 300  #: an open size of which the exporter said nothing
_READ = 1024  #: elements of a constant up to which shape inference may want to read it


@dataclass(frozen=True)
class Measured:
    """A value of a model.

    Attributes:
        kind: ONNX's number of its type; 0 if unknown.
        shape: ``None`` if unknown.
    """

    kind: int = 0
    shape: tuple[int, ...] | None = None

    @property
    def size(self) -> int | None:
        """In bytes."""
        if self.shape is None or not self.kind:
            return None
        return prod(self.shape) * int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.kind)).itemsize)


def read_model(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """A model without the weights that are in a file of their own.

    Raises:
        MissingFileError: no such file.
        ModelFileError: it is no ONNX model.
    """
    with open_existing(path, "ONNX model") as stream:
        content = stream.read()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ModelFileError(f"{os.fspath(path)}: is no ONNX model: {one_line(error)}") from error
    if not model.graph.node:
        raise ModelFileError(f"{os.fspath(path)}: is no ONNX model, or one that computes nothing")
    return model


def sizes_of(model: onnx.ModelProto, sizes: Mapping[str, int]) -> dict[str, int]:
    """How large to take each open size of the inputs: as the caller says, as the exporter stored, else ``SAMPLE``.

    Raises:
        UsageError: the caller says one that the model does not have.
    """
    stored = read_fact(model, SIZES)
    dims = [dim for value in model.graph.input for dim in value.type.tensor_type.shape.dim]
    found = {dim.dim_param: int(stored.get(dim.dim_param, SAMPLE)) for dim in dims if not dim.HasField("dim_value")}
    for name in sizes:
        if name not in found:
            there = ", ".join(sorted(found)) or "none"
            raise UsageError(f"the model has no open size '{name}', only {there}{nearest(name, sorted(found))}")
    return {**found, **sizes}


def with_sizes(model: onnx.ModelProto, sizes: Mapping[str, int]) -> onnx.ModelProto:
    """The model without large weights, with fixed sizes of inputs, and nothing said of other values.

    Args:
        sizes: for all open sizes of the inputs.
    """
    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    for tensor in model.graph.initializer:
        large = prod(tensor.dims) > _READ
        light.graph.initializer.append(onnx.TensorProto(name=tensor.name, dims=tensor.dims) if large else tensor)
        light.graph.initializer[-1].data_type = tensor.data_type
    for value in model.graph.input:
        fixed = light.graph.input.add()
        fixed.CopyFrom(value)
        for dim in fixed.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = sizes[dim.dim_param]
    for value in model.graph.output:
        light.graph.output.add(name=value.name).type.tensor_type.elem_type = value.type.tensor_type.elem_type
    return light


def measure(model: onnx.ModelProto, sizes: Mapping[str, int]) -> dict[str, Measured]:
    """Type and shape of every value, open sizes as :func:`sizes_of` says.

    Raises:
        ExportError: nodes that do not fit each other.
    """
    light = with_sizes(model, sizes_of(model, sizes))
    try:
        graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise ExportError(f"the model's shapes do not fit: {one_line(error)}") from error
    found = {tensor.name: Measured(tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        whole = tuple(dim for dim in dims if dim is not None)
        known = tensor.HasField("shape") and len(whole) == len(dims)
        found[value.name] = Measured(tensor.elem_type, whole if known else None)
    return found
