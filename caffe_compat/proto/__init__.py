"""Bytes and text <-> messages: schema, prototxt, weights files, solver states, upgrades of old formats.

Names are loaded on first use, so importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_compat.lazy import first_use

if TYPE_CHECKING:
    from caffe_compat.proto.hdf5 import read_hdf5, read_state_hdf5, write_hdf5, write_state_hdf5
    from caffe_compat.proto.read import read_message_binary, read_message_text, read_net, read_net_text, read_solver
    from caffe_compat.proto.state import SolverState, read_state, write_state
    from caffe_compat.proto.text import format as format_text
    from caffe_compat.proto.text import parse as parse_text
    from caffe_compat.proto.upgrade import upgrade_net, upgrade_solver
    from caffe_compat.proto.weights import ModelFile, ModelLayer, is_hdf5, read_blob_proto
    from caffe_compat.proto.weights import scan as scan_weights
    from caffe_compat.proto.weights import write as write_weights

__all__ = [
    "ModelFile",
    "ModelLayer",
    "SolverState",
    "format_text",
    "is_hdf5",
    "parse_text",
    "read_blob_proto",
    "read_hdf5",
    "read_message_binary",
    "read_message_text",
    "read_net",
    "read_net_text",
    "read_solver",
    "read_state",
    "read_state_hdf5",
    "scan_weights",
    "upgrade_net",
    "upgrade_solver",
    "write_hdf5",
    "write_state",
    "write_state_hdf5",
    "write_weights",
]

_HOMES = {
    "hdf5": ("read_hdf5", "read_state_hdf5", "write_hdf5", "write_state_hdf5"),
    "read": ("read_message_binary", "read_message_text", "read_net", "read_net_text", "read_solver"),
    "state": ("SolverState", "read_state", "write_state"),
    "text": ("format_text", "parse_text"),
    "upgrade": ("upgrade_net", "upgrade_solver"),
    "weights": ("ModelFile", "ModelLayer", "is_hdf5", "read_blob_proto", "scan_weights", "write_weights"),
}
_RENAMED = {"format_text": "format", "parse_text": "parse", "scan_weights": "scan", "write_weights": "write"}

__getattr__ = first_use(
    __name__, {name: f"{module}:{_RENAMED.get(name, name)}" for module, names in _HOMES.items() for name in names}
)
