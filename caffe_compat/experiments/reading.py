"""YAML into frozen dataclasses, strictly: an unknown key, or a value of another type, is an error with its line."""

from __future__ import annotations

import dataclasses
import math
import os
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from caffe_compat.documents import parse_yaml, yaml_lines
from caffe_compat.errors import UsageError, nearest
from caffe_compat.files import open_existing

__all__ = ["read_declaration"]

T = TypeVar("T")


def read_declaration(cls: type[T], path: str | os.PathLike[str], defaults: tuple[str, str] | None = None) -> T:
    """A file as an object of a dataclass.

    Fields may be text, numbers, truth values, tuples, mappings by text, other dataclasses, and each of these or None.

    Args:
        cls: what the file is.
        path: the file.
        defaults: two keys: what the first holds is taken into every value of the mapping that the second is, where
            that does not say otherwise.

    Raises:
        MissingFileError: no such file.
        UsageError: unknown key (names the nearest), wrong type, a field that is missing; names file and line.
    """
    where = os.fspath(path)
    with open_existing(path, "a declaration") as stream:
        text = stream.read()
    tree = parse_yaml(text, where, yaml.SafeLoader, UsageError)
    if not isinstance(tree, dict):
        raise UsageError(f"{where}: expected keys and values at the top level")
    lines = yaml_lines(text, where, yaml.SafeLoader, UsageError)
    if defaults is not None:
        tree = _with_defaults(tree, *defaults)
    found: T = _Reader(where, lines).value(cls, tree, "")
    return found


def _with_defaults(tree: dict[Any, Any], key: str, target: str) -> dict[Any, Any]:
    common, entries = tree.get(key) or {}, tree.get(target)
    if not isinstance(common, dict) or not isinstance(entries, dict):
        return tree  # refused where it is read
    merged = {name: {**common, **entry} if isinstance(entry, dict) else entry for name, entry in entries.items()}
    return {**{name: value for name, value in tree.items() if name != key}, target: merged}


class _Reader:
    """Turns values into what a type says, and knows where each stood."""

    def __init__(self, where: str, lines: Mapping[str, int]) -> None:
        self.where, self.lines = where, lines

    def value(self, hint: Any, found: Any, key: str) -> Any:
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            if found is None:
                return None
            (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
            return self.value(hint, found, key)
        if dataclasses.is_dataclass(hint):
            return self._object(hint, found, key)
        if origin is tuple:
            if not isinstance(found, list):
                raise self._wrong(key, found, "a list")
            return tuple(self.value(get_args(hint)[0], part, key) for part in found)
        if origin is not None:  # a mapping by text
            if not isinstance(found, dict):
                raise self._wrong(key, found, "keys and values")
            kind = get_args(hint)[1]
            return types.MappingProxyType(
                {str(name): self.value(kind, part, _join(key, name)) for name, part in found.items()}
            )
        return self._plain(hint, found, key)

    def _plain(self, hint: Any, found: Any, key: str) -> Any:
        if hint is float:
            if isinstance(found, str):  # YAML 1.1 takes 1e-3 for text
                try:
                    found = float(found)
                except ValueError:
                    raise self._wrong(key, found, "a number") from None
            if isinstance(found, int) and not isinstance(found, bool):
                found = float(found)
        if hint is str and isinstance(found, int | float) and not isinstance(found, bool):
            found = str(found)
        if type(found) is not hint or (isinstance(found, float) and not math.isfinite(found)):
            names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
            raise self._wrong(key, found, names[hint])
        return found

    def _object(self, cls: Any, found: Any, key: str) -> Any:
        if not isinstance(found, dict):
            raise self._wrong(key, found, "keys and values")
        hints, fields = get_type_hints(cls), {field.name: field for field in dataclasses.fields(cls)}
        for name in found:
            if name not in fields:
                place = _join(key, name)
                raise UsageError(
                    f"{self._at(place)}: unknown key '{name}'{nearest(str(name), fields)}; known are "
                    f"{', '.join(fields)}"
                )
        for name, field in fields.items():
            if name not in found and field.default is dataclasses.MISSING is field.default_factory:
                raise UsageError(f"{self._at(key)}: {key or 'the file'} lacks the key '{name}'")
        values = {name: self.value(hints[name], part, _join(key, name)) for name, part in found.items()}
        try:
            return cls(**values)
        except UsageError as error:
            raise UsageError(f"{self._at(key)}: {error}") from error

    def _wrong(self, key: str, found: Any, expected: str) -> UsageError:
        return UsageError(f"{self._at(key)}: {key} is {str(found)[:80]!r}, expected {expected}")

    def _at(self, key: str) -> str:
        """File and line of a key, or of the nearest key around it."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.where}:{self.lines[key]}" if key else self.where


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
