"""Nets and a small evaluator of shapes for the ONNX tests."""

from __future__ import annotations

import onnx
import torch

from caffe_compat.description import State, describe_net
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse


def make_net(text: str, phase: str = "TEST", seed: int = 0) -> Net:
    """A net from prototxt text with random parameters."""
    net = Net(describe_net(parse(text, caffe_pb2.NetParameter), State(phase)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return net


def source(name: str, *shape: int) -> str:
    """An Input layer."""
    dims = " ".join(f"dim: {dim}" for dim in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


def layer(type_name: str, name: str, bottom: str, top: str, body: str = "") -> str:
    """A layer with any number of bottoms and tops, separated by blanks."""
    bottoms = " ".join(f'bottom: "{blob}"' for blob in bottom.split())
    tops = " ".join(f'top: "{blob}"' for blob in top.split())
    return f'layer {{ name: "{name}" type: "{type_name}" {bottoms} {tops} {body} }}\n'


def conv(name: str, bottom: str, top: str, outputs: int = 4, more: str = "kernel_size: 3 pad: 1") -> str:
    """A Convolution."""
    return layer("Convolution", name, bottom, top, f"convolution_param {{ num_output: {outputs} {more} }}")


def ip(name: str, bottom: str, top: str, outputs: int = 5, more: str = "") -> str:
    """An InnerProduct."""
    return layer("InnerProduct", name, bottom, top, f"inner_product_param {{ num_output: {outputs} }} {more}")


def dims(values: object) -> dict[str, list[int | str]]:
    """Sizes of graph inputs or outputs."""
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}  # type: ignore


def operators(model: onnx.ModelProto) -> list[str]:
    """Node types in order."""
    return [node.op_type for node in model.graph.node]
