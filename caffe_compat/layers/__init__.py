"""What each Caffe layer means.

One family a file, in one order: what a layer reads, what shapes it makes, what it computes, how it is exported.
Every file of this folder is imported, which registers its layers.
"""

from importlib import import_module
from pkgutil import iter_modules

from caffe_compat.layers.base import Layer, LossLayer, NeuronLayer, OnnxGraph, Shape, count
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.params import ConvWindow, Params, Section
from caffe_compat.layers.registry import Meaning, layer_class, refuse_unknown, register, registered

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
    "refuse_unknown",
    "register",
    "registered",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
