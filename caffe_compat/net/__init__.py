"""Nets: torch modules built from Caffe definitions, and Caffe's blob view of them."""

from caffe_compat.net.blobs import Blob, BlobNet, ParamBlob
from caffe_compat.net.build import Learnable, Node
from caffe_compat.net.net import Net, load_description, load_net

__all__ = ["Blob", "BlobNet", "Learnable", "Net", "Node", "ParamBlob", "load_description", "load_net"]
