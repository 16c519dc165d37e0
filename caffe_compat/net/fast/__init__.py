"""Nets that run faster than layer by layer: joined layers in a flat list, and torch.compile."""

from caffe_compat.net.fast.compiled import compile_net
from caffe_compat.net.fast.runner import optimize

__all__ = ["compile_net", "optimize"]
