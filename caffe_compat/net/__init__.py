"""Nets: torch modules built from Caffe definitions, and Caffe's blob view of them."""

from caffe_compat.net.blobs import Blob, ParamBlob
from caffe_compat.net.engine import BlobNet
from caffe_compat.net.load import load_description, load_net, net_of
from caffe_compat.net.net import Net
from caffe_compat.net.observers import Observer
from caffe_compat.net.plan import Learnable, Node, Plan

__all__ = [
    "Blob",
    "BlobNet",
    "Learnable",
    "Net",
    "Node",
    "Observer",
    "ParamBlob",
    "Plan",
    "load_description",
    "load_net",
    "net_of",
]
