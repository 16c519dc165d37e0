"""One layer alone, for the layer tests."""

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.description import State, describe_net
from caffe_compat.layers import Layer
from caffe_compat.net.net import Net
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse

Shape = Sequence[int]


def one_net(
    type_name: str,
    body: str,
    shapes: Sequence[Shape],
    tops: Sequence[str] = ("y",),
    phase: str = "TEST",
    dialect: str = "",
) -> Net:
    """A net of Input layers ``x0``, ``x1``, ... and the layer ``under_test`` over them."""
    text = ""
    for index, shape in enumerate(shapes):
        dims = " ".join(f"dim: {dim}" for dim in shape)
        text += f'layer {{ name: "x{index}" type: "Input" top: "x{index}" input_param {{ shape {{ {dims} }} }} }}\n'
    bottoms = " ".join(f'bottom: "x{index}"' for index in range(len(shapes)))
    outs = " ".join(f'top: "{top}"' for top in tops)
    text += f'layer {{ name: "under_test" type: "{type_name}" {bottoms} {outs} {body} }}'
    return Net(describe_net(parse(text, caffe_pb2.NetParameter), State(phase), dialect=dialect))


def one_layer(
    type_name: str,
    body: str,
    *shapes: Shape,
    tops: Sequence[str] = ("y",),
    phase: str = "TEST",
    dialect: str = "",
    **blobs: Tensor,
) -> Layer:
    """The layer alone; ``blob0=...`` sets its blobs."""
    layer = one_net(type_name, body, shapes, tops, phase, dialect).layer("under_test")
    with torch.no_grad():
        for name, values in blobs.items():
            blob = layer.blobs[int(name.removeprefix("blob"))]
            blob.copy_(values.reshape(blob.shape))
    return layer


def seq(*shape: int) -> Tensor:
    """Element k is ((37 k) mod 11 - 5) / 5, row-major."""
    k = torch.arange(torch.Size(shape).numel())
    return (((37 * k) % 11 - 5) / 5).reshape(shape)


def numbers(text: str) -> Tensor:
    """A list of numbers separated by spaces."""
    return torch.tensor([float(word) for word in text.split()])
