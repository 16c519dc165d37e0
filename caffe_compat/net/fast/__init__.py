"""Nets that run faster than layer by layer: joined layers in a flat list, and torch.compile."""

from caffe_compat.net.fast.runner import optimize

__all__ = ["optimize"]
