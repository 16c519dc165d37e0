"""Random inputs that the layers of a net can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from caffe_compat.layers import Shape
from caffe_compat.net import Net, Node
from caffe_compat.onnx.shapes import consumers, infer_shapes

__all__ = ["random_inputs"]


def random_inputs(net: Net, shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Random float32 values for all inputs of a net.

    Normal with standard deviation 1, except where a layer reads them as boxes (inside the image), as indices, as a
    selector or as continuation marks (0 or 1).

    Args:
        shapes: of all inputs.

    Raises:
        LayerError: a layer refuses these shapes.
    """
    found = infer_shapes(net, net.nodes, shapes)
    numbers = {id(node): number for number, node in enumerate(net.nodes)}
    readers = consumers(net)
    result = {}
    for name, shape in shapes.items():
        values = None
        for node, bottom in readers.get(name, []):
            if values is None and bottom > 0 or node.type == "Embed":
                values = _special(node, bottom, found.bottoms[numbers[id(node)]], random)
        result[name] = np.asarray(random.standard_normal(shape) if values is None else values, np.float32)
    return result


def _special(node: Node, bottom: int, shapes: Sequence[Shape], random: np.random.Generator) -> np.ndarray | None:
    """Values for a bottom that is not made of plain numbers; ``None`` if it is."""
    first, shape = shapes[0], shapes[bottom]
    if node.type == "Embed":
        return random.integers(0, int(node.layer.blob_shapes[0][0]), shape)
    if node.type in ("BatchReindex", "PickItems"):
        return random.integers(0, first[0], shape)
    if node.type == "PickSlice":
        return random.integers(0, first[1] // int(node.layer.channels), shape)  # type: ignore[arg-type]
    if node.type == "ROIPooling":
        scale = float(node.layer.scale)  # type: ignore[arg-type]
        return _boxes(shape, [first[0]], (first[3] / scale, first[2] / scale), random)
    if node.type == "BoxUpsample":
        return _boxes(shape, [first[0], first[1] // int(node.layer.channels)], (1, 1), random)  # type: ignore[arg-type]
    is_mark = bottom == len(shapes) - 1 if node.type == "Filter" else bottom == 1
    if node.type in ("Filter", "RNN", "LSTM") and is_mark:
        return random.integers(0, 2, shape)
    return None


def _boxes(shape: Shape, ends: Sequence[int], sides: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """Rows [an index below each of ``ends``, x1, y1, x2, y2] with corners inside ``sides`` (width, height)."""
    rows = shape[0]
    corners = np.sort(random.random((rows, 2, 2)), axis=1) * np.array(sides)
    indices = [random.integers(0, end, (rows, 1)) for end in ends]
    return np.concatenate([*indices, corners.reshape(rows, 4)], axis=1).reshape(shape)
