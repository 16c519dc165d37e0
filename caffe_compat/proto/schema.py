"""Message classes made at import from the schema tables, in a descriptor pool of their own.

The pool is private, so another ``caffe.proto`` in the process (OpenCV's, a real pycaffe's) cannot clash.  Proto2
semantics: presence (``HasField``) is meaningful, an unset field is not the same as a field set to its default.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from caffe_compat.proto import schema_data, schema_forks

__all__ = ["CLASSES", "PHASES", "POOL"]

PHASES = ("TRAIN", "TEST")
"""Caffe's phases; a phase's number is its place here."""

_FIELD = re.compile(r"(\d+) (\w+) ([\w.]+)(\*\*|\*|!|)(?:=(.+))?$")
_Proto = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "double": _Proto.TYPE_DOUBLE,
    "float": _Proto.TYPE_FLOAT,
    "int64": _Proto.TYPE_INT64,
    "int32": _Proto.TYPE_INT32,
    "uint32": _Proto.TYPE_UINT32,
    "bool": _Proto.TYPE_BOOL,
    "string": _Proto.TYPE_STRING,
    "bytes": _Proto.TYPE_BYTES,
}
_LABELS = {
    "": _Proto.LABEL_OPTIONAL,
    "!": _Proto.LABEL_REQUIRED,
    "*": _Proto.LABEL_REPEATED,
    "**": _Proto.LABEL_REPEATED,
}


def _add_enum(owner: Any, name: str, values: dict[str, int]) -> None:
    """An enum of a file or message; values are added where the owner has an enum of the name already."""
    enum = next((known for known in owner.enum_type if known.name == name), None) or owner.enum_type.add(name=name)
    for value_name, number in values.items():
        enum.value.add(name=value_name, number=number)


def _add_field(message: Any, text: str, enums: set[str]) -> None:
    match = _FIELD.match(text)
    if match is None:
        raise ValueError(f"schema of {message.name}: cannot read field '{text}'")
    number, name, type_name, label, default = match.groups()
    field = message.field.add(name=name, number=int(number), label=_LABELS[label])
    if type_name in _SCALARS:
        field.type = _SCALARS[type_name]
    elif type_name == "Phase":
        field.type, field.type_name = _Proto.TYPE_ENUM, ".caffe.Phase"
    elif "." in type_name:
        field.type, field.type_name = _Proto.TYPE_ENUM, f".caffe.{type_name}"
    elif type_name in enums:
        field.type, field.type_name = _Proto.TYPE_ENUM, f".caffe.{message.name}.{type_name}"
    else:
        field.type, field.type_name = _Proto.TYPE_MESSAGE, f".caffe.{type_name}"
    if label == "**":
        field.options.packed = True
    if default is not None:
        field.default_value = default.strip('"')


def _add_messages(file: Any, table: str) -> None:
    """The messages of a table; those that the file has already get more fields and values."""
    message: Any = None
    known = {message.name: message for message in file.message_type}
    for line in table.replace("\n    ", " ").splitlines():  # four spaces continue an enum
        if not line:
            continue
        if not line.startswith(" "):
            message = known.get(line) or file.message_type.add(name=line)
        elif line.startswith("  enum "):
            name, _, values = line.removeprefix("  enum ").partition(": ")
            pairs = (value.split("=") for value in values.split())
            _add_enum(message, name, {key: int(number) for key, number in pairs})
        else:
            enums = {enum.name for enum in message.enum_type}
            for text in line.strip().rstrip(",").split(", "):
                _add_field(message, text, enums)


def _make_pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="caffe_compat/caffe.proto", package="caffe", syntax="proto2")
    _add_enum(file, "Phase", {name: number for number, name in enumerate(PHASES)})
    for table in (schema_data.CORE, schema_data.LAYERS, *schema_forks.FORKS, schema_data.LEGACY):
        _add_messages(file, table)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _make_pool()

CLASSES: dict[str, type[Any]] = {
    name: message_factory.GetMessageClass(descriptor)
    for name, descriptor in POOL.FindFileByName("caffe_compat/caffe.proto").message_types_by_name.items()
}
"""Message class of every message, by name."""
