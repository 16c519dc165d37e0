"""Features of an ONNX file, computed by ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from caffe_compat.deploy import Session
from caffe_compat.errors import DataError, one_line
from caffe_compat.files import open_existing
from caffe_compat.foreign.spec import check_feature

__all__ = ["OnnxFeatures", "value_names"]

Shape = tuple[int, ...]


class OnnxFeatures(nn.Module):
    """Images -> a tuple of values of an ONNX graph: what comes after them is cut off.

    The session starts on first use, on the device of the images.  Where the file fixes one image at a time, a batch
    goes through it image by image.

    Attributes:
        fixed: the height and width that the file fixes; None where it takes any.

    Raises:
        MissingFileError: no such file.
        DataError: it is no ONNX file, or does not take one blob of images (N x 3 x H x W, float32).
        UsageError: a value that the graph does not have.
    """

    def __init__(self, path: str, features: Sequence[str]) -> None:
        super().__init__()
        self.path, self.features = path, tuple(features)
        self._model = _cut(_read(path), path, self.features)
        self._input = self._model.graph.input[0].name
        self._dims = _input_dims(self._model, path)
        self._sessions: dict[str, Session] = {}
        height, width = self._dims[2:]
        self.fixed = (height, width) if height and width else None

    def check(self, shape: Shape) -> None:
        """Refuse images that the file does not take.

        Raises:
            ValueError: what it takes.
        """
        wrong = [want and want != have for want, have in zip(self._dims[1:], shape[1:], strict=True)]
        batch = self._dims[0]
        if any(wrong) or (batch or 1) > 1 and batch != shape[0]:
            sizes = " x ".join(str(dim or "any") for dim in self._dims)
            raise ValueError(f"the file takes images of {sizes}, not {' x '.join(map(str, shape))}")

    def shapes(self, shape: Shape) -> list[Shape]:
        """Shapes of the features for images of a shape: as ONNX infers them, or by running it on zeros.

        Raises:
            ValueError: the file does not take such images.
        """
        self.check(shape)
        batch = 1 if self._dims[0] == 1 else shape[0]
        found = _inferred(self._model, (batch, *shape[1:]))
        if found is None:
            found = [tuple(value.shape) for value in self._run(torch.zeros((batch, *shape[1:])))]
        if batch != shape[0]:
            found = [(shape[0] * one[0], *one[1:]) for one in found]
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The features, on the device and of the type of the images."""
        self.check(tuple(images.shape))
        parts = images.split(1) if self._dims[0] == 1 else (images,)
        done = [self._run(part) for part in parts]
        return tuple(torch.cat(values).to(images) for values in zip(*done, strict=True))

    def _run(self, images: Tensor) -> list[Tensor]:
        device = str(images.device)
        if device not in self._sessions:
            self._sessions[device] = Session(self._model, device)
        if images.device.type == "cpu":
            values = self._sessions[device]({self._input: np.asarray(images.float())})
            return [torch.from_numpy(values[name]) for name in self.features]
        tensors = self._sessions[device]({self._input: images.float()})
        return [tensors[name] for name in self.features]


def value_names(path: str) -> tuple[str, ...]:
    """What the nodes of a file compute, in order.

    Raises:
        MissingFileError, DataError: as :class:`OnnxFeatures`.
    """
    return tuple(name for node in _read(path).graph.node for name in node.output if name)


def _read(path: str) -> onnx.ModelProto:
    with open_existing(path, "ONNX model"):
        pass
    try:
        model = onnx.load(os.fspath(path))
    except Exception as error:  # protobuf's and onnx's own, which have no common base
        raise DataError(f"{path}: is no ONNX file: {one_line(error)}") from error
    if not model.graph.node:
        raise DataError(f"{path}: is no ONNX file, or one without nodes")
    return model


def _cut(model: onnx.ModelProto, path: str, features: Sequence[str]) -> onnx.ModelProto:
    """The same model, with these values as its outputs and without the nodes that they do not need."""
    graph = model.graph
    known = [name for node in graph.node for name in node.output if name]
    for feature in features:
        check_feature(feature, known, path)
    needed, kept = set(features), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed.update(name for name in node.input if name)
            needed.update(_captured(node))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    own = {value.name for value in graph.initializer} | {value.values.name for value in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name in needed and value.name not in own]
    weights = [value for value in graph.initializer if value.name in needed]
    values = {value.name: value for value in (*graph.value_info, *graph.output)}
    outputs = [values.get(name) or onnx.ValueInfoProto(name=name) for name in features]
    small = onnx.ModelProto()
    small.CopyFrom(model)
    for field, content in (("node", nodes), ("input", inputs), ("initializer", weights), ("output", outputs)):
        small.graph.ClearField(field)
        getattr(small.graph, field).extend(content)
    small.graph.ClearField("value_info")
    return small


def _captured(node: onnx.NodeProto) -> set[str]:
    """Values of the graph that the bodies of a node (If, Loop) use."""
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    inner = [part for graph in graphs for part in graph.node]
    return {name for part in inner for name in part.input} | {name for part in inner for name in _captured(part)}


def _input_dims(model: onnx.ModelProto, path: str) -> Shape:
    """Batch, channels, height and width of the input; 0 for those that may be any."""
    inputs = list(model.graph.input)
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise DataError(f"{path}: the features need the inputs {names}, expected one blob of images")
    kind = inputs[0].type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim)
    if len(dims) != 4 or dims[1] not in (0, 3) or kind.elem_type != onnx.TensorProto.FLOAT:
        raise DataError(
            f"{path}: input '{inputs[0].name}' is {onnx.TensorProto.DataType.Name(kind.elem_type)} "
            f"{list(dims)}, expected images: FLOAT N x 3 x H x W"
        )
    return dims


def _inferred(model: onnx.ModelProto, shape: Shape) -> list[Shape] | None:
    """Shapes of the outputs as ONNX infers them; None where it cannot."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for place, size in zip(copy.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        place.dim_value = size
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    except Exception:  # onnx's own, which have no common base
        return None
    found = []
    for output in graph.output:
        dims = output.type.tensor_type.shape.dim
        if not dims or not all(dim.HasField("dim_value") for dim in dims):
            return None
        found.append(tuple(dim.dim_value for dim in dims))
    return found
