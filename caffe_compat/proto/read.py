"""Read nets, solvers and single messages from files, upgraded to the current format as Caffe does."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from caffe_compat.errors import ModelFileError, PrototxtError
from caffe_compat.files import open_existing
from caffe_compat.proto import caffe_pb2, text, upgrade
from caffe_compat.resources import located

__all__ = ["read_message_binary", "read_message_text", "read_net", "read_net_text", "read_solver"]

M = TypeVar("M", bound=Message)
PathLike = str | os.PathLike[str]


def _read_text(path: PathLike, why: str) -> str:
    with open_existing(path, why) as stream:
        raw = stream.read()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if b"\0" not in raw[:4096] and raw[:4] != b"\x89HDF":
            return raw.decode("utf-8", "surrogateescape")  # comments and strings may hold any bytes
        line = raw.count(b"\n", 0, error.start) + 1
        reason = f"byte {error.start} is not UTF-8 text (is it a binary file?)"
        raise PrototxtError(reason, os.fspath(path), line) from error


def read_message_text(path: PathLike, message_class: type[M]) -> M:
    """Parse a prototxt file into a message, without any upgrade.

    Args:
        path: a file, or one that came with the project, ``zoo:caffenet/deploy``.

    Raises:
        MissingFileError: no such file.
        PrototxtError: it does not parse.
    """
    path = located(path)
    return text.parse(_read_text(path, ""), message_class, path)


def read_net_text(path: PathLike) -> tuple[Any, list[int | None]]:
    """Read and upgrade a net definition.

    Args:
        path: a file, or one that came with the project, ``zoo:caffenet/deploy``.

    Returns:
        The ``NetParameter`` and, for each of its layers, the line of the file it stands on (None for a layer that an
        upgrade made up, such as ``input``).

    Raises:
        MissingFileError, PrototxtError, NetError.
    """
    path = located(path)
    source = _read_text(path, "")
    message = text.parse(source, caffe_pb2.NetParameter, path)
    upgraded = upgrade.upgrade_net(message, path)
    lines = text.layer_lines(source)
    return upgraded.net, [None if origin is None else lines[origin] for origin in upgraded.origins]


def read_net(path: PathLike) -> Any:
    """Read a net definition (text) as an upgraded ``NetParameter``; see :func:`read_net_text`."""
    return read_net_text(path)[0]


def read_solver(path: PathLike) -> Any:
    """Read a solver definition (text) as an upgraded ``SolverParameter``.

    ``snapshot_prefix`` is always set afterwards: the file's own path without extension where it was unset, and
    ``folder/stem`` where it named an existing folder.

    Raises:
        MissingFileError, PrototxtError, SolverError.
    """
    path = located(path)
    message = read_message_text(path, caffe_pb2.SolverParameter)
    upgrade.upgrade_solver(message, path)
    return message


def read_message_binary(path: PathLike, message_class: type[M]) -> M:
    """Read a whole binary file as one message (for small files; weights go through :mod:`.weights`).

    Raises:
        MissingFileError: no such file.
        ModelFileError: it does not parse.
    """
    with open_existing(path) as stream:
        raw = stream.read()
    name = message_class.DESCRIPTOR.name
    message: M = message_class()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise ModelFileError(f"{os.fspath(path)}: not a binary {name}: {error}") from error
    return message
