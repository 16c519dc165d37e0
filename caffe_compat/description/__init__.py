"""Nets described as frozen data, without torch."""

from caffe_compat.description.net import LayerDescription, NetDescription, ParamSpec, State, describe_net

__all__ = ["LayerDescription", "NetDescription", "ParamSpec", "State", "describe_net"]
