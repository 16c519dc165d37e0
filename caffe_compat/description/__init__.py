"""Nets described as frozen data, without torch."""

from caffe_compat.description.net import (
    INPUT,
    SPLIT,
    LayerDescription,
    NetDescription,
    ParamSpec,
    State,
    describe_layer,
    describe_net,
)

__all__ = [
    "INPUT",
    "SPLIT",
    "LayerDescription",
    "NetDescription",
    "ParamSpec",
    "State",
    "describe_layer",
    "describe_net",
]
