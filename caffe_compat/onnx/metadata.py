"""Facts that the exporter stores in a model, and reads again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from caffe_compat.deploy.facts import MASKS, NET, PRECISION, PREPARATION, RENAMED, ROIS, SIZES
from caffe_compat.errors import DataError, one_line
from caffe_compat.files import open_existing
from caffe_compat.media import Preparation, parse_preparation, read_preparation

__all__ = [
    "MASKS",
    "NET",
    "PRECISION",
    "PREPARATION",
    "RENAMED",
    "ROIS",
    "SIZES",
    "add_facts",
    "any_preparation",
    "onnx_preparation",
    "read_fact",
    "stated_preparation",
]


def add_facts(model: onnx.ModelProto, facts: Mapping[str, Any]) -> None:
    """Store strings as they are, anything else as JSON."""
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))


def read_fact(model: onnx.ModelProto, key: str) -> dict[str, Any]:
    """A dict among the facts; empty if it is not there."""
    return next((dict(json.loads(entry.value)) for entry in model.metadata_props if entry.key == key), {})


def stated_preparation(facts: Mapping[str, str], where: str) -> Preparation | None:
    """What a model says of the pictures that it takes, given its metadata; None: it does not say.

    Args:
        facts: by key, such as ONNX Runtime's ``session.get_modelmeta().custom_metadata_map``.
        where: the model's file, for messages.

    Raises:
        DataError: what stands there is no preprocessing.
    """
    text = facts.get(PREPARATION)
    return None if text is None else parse_preparation(text, f"{where}: metadata '{PREPARATION}'")


def onnx_preparation(model: onnx.ModelProto | str | os.PathLike[str]) -> Preparation | None:
    """The same of a model or its file.

    Raises:
        MissingFileError: no such file.
        DataError: it is no ONNX model, or its metadata are damaged.
    """
    if not isinstance(model, onnx.ModelProto):
        with open_existing(model, "ONNX model") as stream:
            content = stream.read()
        where, model = os.fspath(model), onnx.ModelProto()
        try:
            model.ParseFromString(content)
        except DecodeError as error:
            raise DataError(f"{where}: is no ONNX model: {one_line(error)}") from error
    else:
        where = model.graph.name
    return stated_preparation({entry.key: entry.value for entry in model.metadata_props}, where)


def any_preparation(path: str | os.PathLike[str]) -> Preparation:
    """What a ``preprocessing.json``, or an ONNX model that carries one, says.

    Raises:
        MissingFileError: no such file.
        DataError: it is damaged, or a model that says nothing.
    """
    if Path(path).suffix.lower() != ".onnx":
        return read_preparation(path)
    found = onnx_preparation(path)
    if found is None:
        raise DataError(f"{os.fspath(path)}: carries no preprocessing (metadata '{PREPARATION}')")
    return found
