"""Random inputs that the layers of a net can use."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from caffe_compat.layers import Shape
from caffe_compat.net import Net
from caffe_compat.onnx.shapes import consumers, infer_shapes

__all__ = ["random_inputs"]


def random_inputs(net: Net, shapes: Mapping[str, Shape], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Random float32 values for all inputs of a net.

    Normal with standard deviation 1, except where a layer says what it can use (``Layer.sample``: boxes inside the
    image, indices, marks).

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
            if values is None:
                values = node.layer.sample(bottom, found.bottoms[numbers[id(node)]], random)
        result[name] = np.asarray(random.standard_normal(shape) if values is None else values, np.float32)
    return result
