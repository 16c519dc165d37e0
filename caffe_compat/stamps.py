"""Stamps: what a result was made with, kept in it or beside it, so that "done already?" has one answer.

A result counts as done when it carries the stamp that making it again would give it.  One with another stamp, or with
none, is never taken for done and never overwritten in silence: :func:`check_stamp` names the first setting that
differs.  A stamp is a mapping of what the result depends on (settings, and inputs by content), in JSON's terms.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caffe_compat.documents import parse_json
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.files import open_existing, write_file

__all__ = [
    "check_stamp",
    "stamp_difference",
    "file_digest",
    "parse_stamp",
    "read_stamp",
    "same_stamp",
    "stamp_text",
    "write_stamp",
]

Stamp = dict[str, Any]


def stamp_text(settings: Mapping[str, Any], indent: int | None = None) -> str:
    """A stamp as JSON; the same settings give the same text.

    Raises:
        TypeError, ValueError: a setting that JSON cannot hold.
    """
    return json.dumps(dict(settings), sort_keys=True, allow_nan=False, indent=indent)


def parse_stamp(text: str | bytes, where: str) -> Stamp:
    """What :func:`stamp_text` was given.

    Raises:
        DataError: it is not such a text; begins with ``where``.
    """
    found = parse_json(text, where)
    if not isinstance(found, dict):
        raise DataError(f"{where}: not settings, expected a JSON object")
    return found


def write_stamp(path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
    """Write a stamp into a file of its own.

    Raises:
        WriteError: it cannot be written.
    """
    write_file(path, stamp_text(settings, indent=1) + "\n")


def read_stamp(path: str | os.PathLike[str]) -> Stamp | None:
    """The stamp in a file, None if there is no file.

    Raises:
        DataError: it is not a stamp; names the file.
    """
    if not Path(path).exists():
        return None
    with open_existing(path, "settings") as stream:
        try:
            return parse_stamp(stream.read(), os.fspath(path))
        except DataError as error:
            raise DataError(f"{error}; remove it if it is not wanted") from error


def stamp_difference(
    found: Mapping[str, Any], wanted: Mapping[str, Any], assumed: Mapping[str, Any] | None = None
) -> str | None:
    """The first setting in alphabetic order that differs, as ``seed = 3, now 4``; None if none does.

    Args:
        found: the stamp of the result.
        wanted: what it would get now.
        assumed: values of settings that older stamps do not mention.
    """
    has, wants = {**(assumed or {}), **found}, json.loads(stamp_text(wanted))
    for name in sorted(has.keys() | wants.keys()):
        if has.get(name) != wants.get(name):
            return f"{name} = {has.get(name)!r}, now {wants.get(name)!r}"
    return None


def same_stamp(
    found: Mapping[str, Any] | None, wanted: Mapping[str, Any], assumed: Mapping[str, Any] | None = None
) -> bool:
    """Whether a result with the stamp ``found`` (None: without one) is what would be made now."""
    return found is not None and stamp_difference(found, wanted, assumed) is None


def check_stamp(
    what: str,
    found: Mapping[str, Any] | None,
    wanted: Mapping[str, Any],
    hint: str,
    *,
    assumed: Mapping[str, Any] | None = None,
    error: type[CaffeCompatError] = DataError,
) -> None:
    """Refuse a result that was made with other settings, or does not say with which.

    Args:
        what: names the result in the message.
        found, wanted, assumed: as :func:`stamp_difference`; ``found`` may be None.
        hint: ends the message: what to do about it.
        error: what to raise.
    """
    if found is None:
        raise error(f"{what} exists and does not say how it was made; {hint}")
    different = stamp_difference(found, wanted, assumed)
    if different is not None:
        raise error(f"{what} exists and was made with {different}; {hint}")


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-1 of a file's bytes, for inputs that a stamp names by content.

    Raises:
        MissingFileError: no such file.
    """
    found = hashlib.sha1(usedforsecurity=False)
    with open_existing(path) as stream:
        while part := stream.read(1 << 20):
            found.update(part)
    return found.hexdigest()
