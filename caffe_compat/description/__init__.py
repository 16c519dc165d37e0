"""Nets described as frozen data, without torch."""

from caffe_compat.description.net import (
    INPUT,
    SPLIT,
    Dialect,
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
    "Dialect",
    "LayerDescription",
    "NetDescription",
    "ParamSpec",
    "State",
    "describe_layer",
    "describe_net",
]
