"""ONNX Runtime as the reference of a comparison layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from caffe_compat.compare.layers import Place, check_inputs, computed, unroll
from caffe_compat.description import describe_net
from caffe_compat.net import Net
from caffe_compat.onnx.export import export_onnx
from caffe_compat.onnx.metadata import RENAMED, read_fact
from caffe_compat.onnx.runtime import Session

__all__ = ["from_onnx"]


def from_onnx(net: Net, inputs: Mapping[str, np.ndarray]) -> dict[Place, np.ndarray]:
    """What ONNX Runtime computes from the exported net, after every layer.

    Raises:
        UsageError: there are not values for all inputs.
        ExportError: a layer has no ONNX form, or ONNX Runtime cannot run the model.
    """
    check_inputs(net, inputs)
    message, places = unroll(net.description)
    blobs = {node.name: range(len(node.layer.blobs)) for node in net.nodes}
    flat = Net(describe_net(message, net.description.state, source=net.description.source), blobs)
    for mine, theirs in zip(net.nodes, flat.nodes, strict=True):
        for index, parameter in enumerate(mine.layer.blobs):
            theirs.layer.replace_blob(index, parameter)
    wanted = computed(net, places)
    shapes = {name: tuple(values.shape) for name, values in inputs.items()}
    model = export_onnx(flat, inputs=shapes, outputs=list(wanted.values()), dynamic=())
    renamed = read_fact(model, RENAMED)
    session = Session(model)
    results = session({name: inputs[name] for name in session.input_names})
    named = {renamed.get(name, name): values for name, values in results.items()}
    return {place: named[name] for place, name in wanted.items()}
