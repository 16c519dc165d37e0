"""A teacher with random weights, where somebody asks for one: a baseline, or a test of the machinery."""

from __future__ import annotations

from pathlib import Path

from caffe_compat.description import describe_net
from caffe_compat.net import Net
from caffe_compat.random import Stream
from caffe_compat.transfer.branch import Branch
from caffe_compat.transfer.nets import kind_of

__all__ = ["write_random_weights"]


def write_random_weights(branch: Branch, path: str, seed: int) -> None:
    """Write weights for a branch of a net: MSRA's where its prototxt names no filler.

    Args:
        path: the caffemodel.

    Raises:
        WriteError: it cannot be written.
    """
    message = branch.message(branch.size or (224, 224))
    for layer in message.layer:
        section = kind_of(layer).filler_section
        if section and not getattr(layer, section).HasField("weight_filler"):
            getattr(layer, section).weight_filler.type = "msra"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Stream(seed).use():
        Net(describe_net(message, source=branch.path)).save(path)
