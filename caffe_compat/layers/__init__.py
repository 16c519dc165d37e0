"""What each Caffe layer means.

One family a file, in one order: what a layer reads, what shapes it makes, what it computes, how it is exported.
"""

from importlib import import_module

from caffe_compat.layers.base import Layer, LossLayer, NeuronLayer, OnnxGraph, Shape, count
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.params import ConvWindow, Params, Section
from caffe_compat.layers.registry import Meaning, layer_class, register, registered

__all__ = [
    "Filler",
    "Layer",
    "LossLayer",
    "Meaning",
    "NeuronLayer",
    "OnnxGraph",
    "Params",
    "Section",
    "Shape",
    "ConvWindow",
    "count",
    "layer_class",
    "register",
    "registered",
]

FAMILIES = (
    "activation",
    "arithmetic",
    "convolution",
    "data",
    "detection",
    "hypercolumn",
    "inputs",
    "linear",
    "losses",
    "metrics",
    "normalization",
    "normalize",
    "pooling",
    "python",
    "recurrent",
    "reductions",
    "scaling",
    "selection",
    "shaping",
    "softmax",
    "tiling",
    "transfer",
    "upsampling",
)

for _family in FAMILIES:
    import_module(f"caffe_compat.layers.{_family}")
