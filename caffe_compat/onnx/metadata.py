"""Facts that the exporter stores in a model, and reads again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx

__all__ = ["NET", "RENAMED", "SIZES", "add_facts", "read_fact"]

NET = "caffe_net"
"""Key: name of the net."""
RENAMED = "caffe_renamed_outputs"
"""Key: outputs that could not have the name of their blob, and that blob."""
SIZES = "caffe_sizes"
"""Key: what the dynamic sizes are in the prototxt."""


def add_facts(model: onnx.ModelProto, facts: Mapping[str, Any]) -> None:
    """Store strings as they are, anything else as JSON."""
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))


def read_fact(model: onnx.ModelProto, key: str) -> dict[str, Any]:
    """A dict among the facts; empty if it is not there."""
    return next((dict(json.loads(entry.value)) for entry in model.metadata_props if entry.key == key), {})
