"""JSON and YAML that may come from anywhere: whatever they hold, reading them ends in a value or in one clear error.

Python's readers leave by other doors too: RecursionError for ``[[[[...``, ValueError for a number of 5,000 digits or a
date such as 2020-99-99, and a YAML alias inside its own anchor gives a list that contains itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from caffe_compat.errors import CaffeCompatError, DataError, one_line
from caffe_compat.files import open_existing

__all__ = ["parse_json", "parse_yaml", "read_json", "yaml_lines"]

DEEPEST = 50
"""Levels of nesting that a YAML document may have."""
MOST_VALUES = 100_000
"""Values that a YAML document may hold, each alias counted as what it stands for."""


def parse_json(text: str | bytes, where: str, error: type[CaffeCompatError] = DataError) -> Any:
    """The value of a JSON text.

    Args:
        text: the JSON; bytes in UTF-8, 16 or 32.
        where: begins the message.
        error: what to raise.

    Raises:
        CaffeCompatError: it is not JSON (NaN and Infinity are not), or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise error(f"{where}: not JSON that can be used: it is nested too deeply") from None
    except ValueError as problem:
        raise error(f"{where}: not JSON: {one_line(problem)}") from problem


def read_json(path: str | os.PathLike[str], why: str = "", error: type[CaffeCompatError] = DataError) -> Any:
    """The value of a JSON file.

    Raises:
        MissingFileError: no such file.
        CaffeCompatError: as :func:`parse_json`; names the file.
    """
    with open_existing(path, why) as stream:
        return parse_json(stream.read(), os.fspath(path), error)


def parse_yaml(
    text: str | bytes, where: str, loader: type[yaml.SafeLoader], error: type[CaffeCompatError] = DataError
) -> Any:
    """The value of a YAML text; its lists and mappings end (no alias stands inside its own anchor).

    Args:
        text: the YAML.
        where: begins the message.
        loader: reads it; a safe one.
        error: what to raise.

    Raises:
        CaffeCompatError: it is not YAML, holds a date or number that does not exist, goes round in circles, or is
            nested or expands too far.
    """
    try:
        tree = yaml.load(text, _shallow(loader))  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise error(f"{where}: nested deeper than {DEEPEST} levels") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as problem:
        # PyYAML's constructors raise what int(), float(), date() and base64 raise
        raise error(f"{where}: not valid YAML: {one_line(problem)}") from problem
    _check_finite(tree, where, error)
    return tree


def yaml_lines(
    text: str | bytes, where: str, loader: type[yaml.SafeLoader], error: type[CaffeCompatError]
) -> dict[str, int]:
    """The line, from 1, in which each key of a YAML document stands that :func:`parse_yaml` has read.

    Args:
        text, where, loader, error: as there.

    Returns:
        Lines by key; those of mappings within mappings are joined by dots, as ``TRAIN.SCALES``.

    Raises:
        CaffeCompatError: a key is given twice.
    """
    lines: dict[str, int] = {}
    for key, line in _key_lines(yaml.compose(text, loader)):
        if key in lines:
            raise error(f"{where}:{line}: {key} is given a second time, the first is in line {lines[key]}")
        lines[key] = line
    return lines


def _key_lines(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Every key below a mapping with the line it stands in, from 1."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            yield name, key.start_mark.line + 1
            yield from _key_lines(value, f"{name}.")


def _shallow(loader: type[yaml.SafeLoader]) -> type[yaml.SafeLoader]:
    """The loader, which gives up on too deep a document at the level, not where Python's stack ends: PyYAML takes a
    second to get there."""

    class Shallow(loader):  # type: ignore[misc, valid-type]
        depth = 0

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            if self.depth == DEEPEST:
                raise RecursionError
            self.depth += 1
            try:
                return super().compose_node(parent, index)  # type: ignore[no-any-return]
            finally:
                self.depth -= 1

    return Shallow


def _check_finite(tree: Any, where: str, error: type[CaffeCompatError]) -> None:
    """Refuse a tree that contains itself, or that its aliases make too large to walk through."""
    count, level = 0, [tree]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for value in level:
            below += _parts(value)
            if count + len(below) > MOST_VALUES:
                raise error(f"{where}: more than {MOST_VALUES} values (aliases counted as what they stand for)")
        if not below:
            return
        count, level = count + len(below), below
    raise error(f"{where}: nested deeper than {DEEPEST} levels, or an alias stands inside its own anchor")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple | set) else []


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
