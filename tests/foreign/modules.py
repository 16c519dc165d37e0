"""Torch modules as entry points name them, for the tests of foreign nets."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from caffe_compat.description import describe_net
from caffe_compat.net import Net
from caffe_compat.onnx import export_onnx
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse

SMALL = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 24 dim: 32 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 5 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "Convolution" bottom: "pool1" top: "fc"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "msra" } } }
"""


def tiny() -> nn.Module:
    """A net that fx follows, with dropout, batch norm and work in place."""
    parts = {
        "conv": nn.Conv2d(3, 4, 3, stride=2, padding=1),
        "norm": nn.BatchNorm2d(4),
        "act": nn.ReLU(inplace=True),
        "drop": nn.Dropout(0.5),
        "conv2": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    }
    net = nn.Sequential(OrderedDict(parts))
    net.pretrained_cfg = {"mean": (0.5, 0.25, 0.125), "std": (0.5, 0.5, 0.25)}  # type: ignore[assignment]
    return net


class Winding(nn.Module):
    """What fx cannot follow: the way depends on the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        found = self.conv(images)
        if found.sum() > 0:
            found = found * 1
        return self.head(self.act(found))


def winding() -> nn.Module:
    return Winding()


class Fixed(nn.Module):
    """Takes images of 16 x 16 only, and gives rows of numbers too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, stride=4)
        self.rows = nn.Flatten()
        self.head = nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.rows(self.conv(images)))


def fixed() -> nn.Module:
    return Fixed()


def nothing() -> int:
    return 3


NOT_CALLABLE = 5


def small_net() -> Net:
    """A Caffe net with random weights."""
    torch.manual_seed(5)
    return Net(describe_net(parse(SMALL, caffe_pb2.NetParameter)))


def write_onnx(path: Path, dynamic: tuple[str, ...] = ("batch", "height", "width")) -> Net:
    """The same, exported: it takes pictures minus nothing, blue first."""
    net = small_net()
    path.write_bytes(export_onnx(net, dynamic=dynamic).SerializeToString())
    return net
