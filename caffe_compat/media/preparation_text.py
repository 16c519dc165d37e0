"""``preprocessing.json`` as text: versions 1 (one input) and 2 (several) are read, 2 is written."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from caffe_compat.documents import parse_json
from caffe_compat.errors import DataError, UsageError, nearest
from caffe_compat.media.encoding import Encoding
from caffe_compat.media.modalities import find_modality
from caffe_compat.media.preprocessing import MeanPicture, Preprocessing

__all__ = ["VERSION", "inputs_of", "parse", "written"]

VERSION = 2
Inputs = dict[str, Preprocessing]


# -- writing ----------------------------------------------------------------------------------------------------------


def written(inputs: Mapping[str, Preprocessing], weights: Mapping[str, str], folder: Path | None) -> str:
    """The text of a file.

    Args:
        inputs: by name of the blob.
        weights: SHA-256 by name of the file.
        folder: that the names of mean files are relative to; None: the text carries the means themselves.
    """
    first = next(iter(inputs.values()))
    content = {
        "version": VERSION,
        "weights": dict(weights),
        "classes": list(first.classes),
        "inputs": {name: _input(wanted, folder) for name, wanted in inputs.items()},
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _input(wanted: Preprocessing, folder: Path | None) -> dict[str, Any]:
    if folder is None and wanted.mean_file:
        wanted = dataclasses.replace(wanted, mean_file="", mean_picture=MeanPicture.of(wanted.mean_values))
    content: dict[str, Any] = {"modality": wanted.modality, "units": find_modality(wanted.modality).units}
    content |= {
        field.name: getattr(wanted, field.name)
        for field in dataclasses.fields(wanted)
        if field.name not in ("modality", "classes", "encoding", "mean_picture")
    }
    if wanted.mean_file and folder is not None:
        content["mean_file"] = Path(os.path.relpath(wanted.mean_file, folder)).as_posix()
    if wanted.encoding is not None:
        content["encoding"] = dataclasses.asdict(wanted.encoding)
    if wanted.mean_picture is not None:
        values = base64.b64encode(wanted.mean_picture.values).decode()
        content["mean_picture"] = {"shape": wanted.mean_picture.shape, "float32": values}
    return content


# -- reading ----------------------------------------------------------------------------------------------------------


def parse(text: str | bytes, where: str, folder: Path) -> tuple[Inputs, dict[str, str]]:
    """The inputs by name (version 1 has one, ``data``) and the weights' SHA-256 by file name.

    Args:
        where: begins messages.
        folder: that the names of mean files are relative to.

    Raises:
        DataError: it is no such text: a key that does not exist, a value of another type, fields that contradict each
            other; names the field.
    """
    content = _object(parse_json(text, where), where)
    version = content.pop("version", None)
    if type(version) is not int or version not in (1, VERSION):
        raise DataError(f"{where}: version: expected 1 or {VERSION}, found {_brief(version)}")
    if version == 1:
        return {"data": _one(content, where, folder)}, {}
    for key in content:
        if key not in ("weights", "classes", "inputs"):
            raise DataError(f"{where}: unknown key '{key}'{nearest(key, ('weights', 'classes', 'inputs'))}")
    entries = _object(content.get("inputs"), f"{where}: inputs")
    if not entries:
        raise DataError(f"{where}: inputs: expected at least one")
    shared = {"classes": content["classes"]} if "classes" in content else {}
    inputs = {
        name: _one({**_object(entry, f"{where}: input '{name}'"), **shared}, _at(where, name, entries), folder)
        for name, entry in entries.items()
    }
    weights = _object(content.get("weights", {}), f"{where}: weights")
    for name, digest in weights.items():
        if not isinstance(digest, str) or len(digest) != 64:
            raise DataError(f"{where}: weights: {name}: expected a SHA-256 of 64 digits, found {_brief(digest)}")
    return inputs, weights


def inputs_of(content: Mapping[str, Preprocessing]) -> str:
    """For messages: which inputs there are."""
    return ", ".join(f"{name} ({wanted.modality})" for name, wanted in content.items())


def _at(where: str, name: str, entries: Mapping[str, Any]) -> str:
    return where if len(entries) == 1 else f"{where}: input '{name}'"


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object")
    return value


def _one(content: dict[str, Any], where: str, folder: Path) -> Preprocessing:
    units = content.pop("units", None)
    try:
        fields = _fields(content, _READERS, where)
        if fields.get("mean_file"):
            fields["mean_file"] = os.path.join(folder, fields["mean_file"])
        found = Preprocessing(**fields)
    except UsageError as error:
        raise DataError(f"{where}: {error}") from error
    if units is not None and units != find_modality(found.modality).units:
        raise DataError(f"{where}: units: expected '{find_modality(found.modality).units}', found {_brief(units)}")
    return found


def _fields(content: Mapping[str, Any], readers: Mapping[str, Any], where: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in content.items():
        if key not in readers:
            raise DataError(f"{where}: unknown key '{key}'{nearest(key, readers)}")
        expected, reader = readers[key]
        try:
            fields[key] = _encoding(value, where) if key == "encoding" and value else reader(value)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{where}: {key}: expected {expected}, found {_brief(value)}") from None
    return fields


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) >= 1 << 31:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError
    return float(value)


def _list(reader: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError
        return tuple(reader(part) for part in value)

    return read


def _maybe(reader: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else reader(value)


def _size(value: Any) -> tuple[int, int]:
    height, width = _list(_whole)(value)
    return height, width


def _encoding(value: Any, where: str) -> Encoding:
    if not isinstance(value, dict):
        raise TypeError
    return Encoding(**_fields(value, _ENCODING, f"{where}: encoding"))


def _nothing(value: Any) -> None:
    if value is not None:
        raise TypeError


def _mean_picture(value: Any) -> MeanPicture:
    if not isinstance(value, dict) or set(value) != {"shape", "float32"}:
        raise TypeError
    try:
        content = base64.b64decode(_text(value["float32"]), validate=True)
    except binascii.Error as error:
        raise ValueError from error
    channels, height, width = _list(_whole)(value["shape"])
    return MeanPicture((channels, height, width), content)


_ENCODING: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "kind": ("a name", _text),
    "fill": ("a name", _text),
    "scale": ("a number", _number),
    "min_depth": ("a number", _number),
    "max_depth": ("a number or null", _maybe(_number)),
    "camera": ("[fx, fy, cx, cy] or null", _maybe(_list(_number))),
    "origin": ("0 or 1", _whole),
    "gravity": ("a list of [degrees, iterations]", _list(_list(_number))),
    "version": ("a whole number", _whole),
}
_READERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "modality": ("a name", _text),
    "channels": ("a list of names", _list(_text)),
    "mean": ("a list of numbers", _list(_number)),
    "mean_file": ("the name of a file", _text),
    "mean_picture": ("shape and float32", _maybe(_mean_picture)),
    "scale": ("a number", _number),
    "resize": ("[height, width] or null", _maybe(_size)),
    "resize_rule": ("a name", _text),
    "short_side": ("a whole number", _whole),
    "longest_side": ("a whole number", _whole),
    "crop": ("[height, width] or null", _maybe(_size)),
    "flip": ("true or false", _flag),
    "classes": ("a list of names", _list(_text)),
    "encoding": ("the settings of make_hha or null", _nothing),
}
