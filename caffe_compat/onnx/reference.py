"""ONNX Runtime as the reference of a comparison layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from caffe_compat.compare.layers import Place, check_inputs, computed
from caffe_compat.deploy import Session
from caffe_compat.net import Net
from caffe_compat.onnx.export import export_places

__all__ = ["from_onnx"]


def from_onnx(net: Net, inputs: Mapping[str, np.ndarray]) -> dict[Place, np.ndarray]:
    """What ONNX Runtime computes from the exported net, after every layer.

    Raises:
        UsageError: there are not values for all inputs.
        ExportError: a layer has no ONNX form, or ONNX Runtime cannot run the model.
    """
    check_inputs(net, inputs)
    places = computed(net)
    model, names = export_places(net, {name: tuple(values.shape) for name, values in inputs.items()}, places)
    session = Session(model)
    results = session({name: np.asarray(inputs[name], value.kind) for name, value in session.inputs.items()})
    return {place: results[name] for place, name in zip(places, names, strict=True)}
