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

__all__ = ["Measured", "measure", "read_model", "with_sizes"]

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


def with_sizes(model: onnx.ModelProto, sizes: Mapping[str, int]) -> onnx.ModelProto:
    """The model without large weights, with fixed sizes of inputs, and nothing said of other values.

    Args:
        sizes: for names of open sizes; they come before those that the exporter stored.

    Raises:
        UsageError: an open size that neither says, or one that the model does not have.
    """
    known = {**read_fact(model, SIZES), **sizes}
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
    open_names = set()
    for value in model.graph.input:
        fixed = light.graph.input.add()
        fixed.CopyFrom(value)
        for axis, dim in enumerate(fixed.type.tensor_type.shape.dim):
            if dim.HasField("dim_value"):
                continue
            open_names.add(dim.dim_param)
            if dim.dim_param not in known:
                what = f"'{dim.dim_param}'" if dim.dim_param else f"axis {axis}"
                raise UsageError(
                    f"{what} of input '{value.name}' is open and the model does not say how large to take it"
                )
            dim.dim_value = known[dim.dim_param]
    for name in sizes:
        if name not in open_names:
            there = ", ".join(sorted(open_names)) or "none"
            raise UsageError(f"the model has no open size '{name}', only {there}{nearest(name, sorted(open_names))}")
    for value in model.graph.output:
        light.graph.output.add(name=value.name).type.tensor_type.elem_type = value.type.tensor_type.elem_type
    return light


def measure(model: onnx.ModelProto, sizes: Mapping[str, int]) -> dict[str, Measured]:
    """Type and shape of every value; see :func:`with_sizes`.

    Raises:
        ExportError: nodes that do not fit each other.
    """
    light = with_sizes(model, sizes)
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
