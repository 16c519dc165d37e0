"""A teacher with random weights, where somebody asks for one: a baseline, or a test of the machinery."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from caffe_compat.description import State, describe_net
from caffe_compat.net import Net
from caffe_compat.random import Stream, generator
from caffe_compat.transfer.branch import ROIS, Branch
from caffe_compat.transfer.nets import kind_of

__all__ = ["random_net", "write_random_weights"]

PICTURES, CELLS, SPREAD = 4, 12, 60.0
"""Blurred noise from which BatchNorm's statistics are: how many, cells a side, standard deviation of the pixels."""


def random_net(branch: Branch, seed: int) -> Net:
    """A branch of a net, in the phase TRAIN, with the weights of its fillers: MSRA's where its prototxt names none.

    Normalizations get the statistics of blurred noise: without any they would divide by nearly nothing.  Of a deploy
    net over boxes the layers above the branch are there too, for the franken net: they are small.
    """
    message = branch.message(branch.size or (224, 224), PICTURES)
    if branch.over_boxes and all(layer.is_input or layer.message.bottom for layer in branch.everything):
        del message.layer[:]
        message.layer.extend(layer.message for layer in branch.everything)
    gathers = False
    for layer in message.layer:
        section = kind_of(layer).filler_section
        if section and not getattr(layer, section).HasField("weight_filler"):
            getattr(layer, section).weight_filler.type = "msra"
        if statistics := kind_of(layer).statistics_section:
            gathers = True
            getattr(layer, statistics).ClearField("use_global_stats")
    with Stream(seed).use(), torch.no_grad():
        net = Net(describe_net(message, State("TRAIN"), source=branch.path))
        if gathers:
            shape = (PICTURES, branch.channels, CELLS, CELLS)
            noise = SPREAD * torch.randn(shape, generator=generator(torch.device("cpu")))
            boxes = {ROIS: torch.tensor([[0.0, 0, 0, CELLS, CELLS]])} if branch.over_boxes else {}
            net(**{branch.input: F.interpolate(noise, branch.size or (224, 224), mode="bilinear")}, **boxes)
    return net


def write_random_weights(branch: Branch, path: str, seed: int) -> None:
    """Write the weights of :func:`random_net`.

    Args:
        path: the caffemodel.

    Raises:
        WriteError: it cannot be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    random_net(branch, seed).save(path)
