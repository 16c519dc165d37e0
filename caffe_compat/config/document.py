"""Options from YAML and ``KEY VALUE`` pairs, and back into YAML."""

from __future__ import annotations

import ast
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

import yaml

from caffe_compat.config.options import OPTIONS, Config, get_option
from caffe_compat.config.sections import SdsConfig, TestConfig, TrainConfig
from caffe_compat.documents import parse_yaml, yaml_lines
from caffe_compat.errors import UsageError, nearest
from caffe_compat.files import open_existing, write_file

__all__ = ["load_config", "write_config"]


class _Loader(yaml.SafeLoader):
    """Safe YAML that also knows ``!!python/tuple``, which the released files use.

    A date stays text: no option is one.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [entry for entry in found if entry[0] != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple",
    lambda loader, node: tuple(loader.construct_sequence(node)),  # type: ignore[arg-type]
)


def load_config(
    file: str | os.PathLike[str] | None = None, pairs: Sequence[str] = (), parity: bool | None = None
) -> Config:
    """All options: the defaults, then a YAML file, then ``KEY VALUE`` pairs.

    Lists and tuples count as one type.

    Args:
        file: YAML; sections are mappings.
        pairs: key, value, key, value, ...; a value is a Python literal, or else text.
        parity: replaces the option of this name.

    Raises:
        MissingFileError: no such file.
        UsageError: unknown key, wrong type, a key without a value or given twice, or options that contradict each
            other; names the file and the line, or ``--set``.
    """
    values: dict[str, Any] = {}
    sources = []
    if file is not None:
        sources.append(os.fspath(file))
        with open_existing(file) as stream:
            values |= _read_yaml(stream.read(), os.fspath(file))
    if len(pairs) % 2:
        raise UsageError(f"--set takes pairs of KEY VALUE, got {len(pairs)} words: {' '.join(pairs)}")
    if pairs:
        sources.append("--set")
    for key, word in zip(pairs[::2], pairs[1::2], strict=True):
        try:
            value = ast.literal_eval(word)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: nested too deeply
            value = word
        values[key] = _checked(key, value, "--set")
    if parity is not None:
        values["PARITY"] = parity
    try:
        return _build(values)
    except UsageError as error:
        raise UsageError(": ".join([" and ".join(sources), str(error)] if sources else [str(error)])) from error


def _build(values: Mapping[str, Any]) -> Config:
    sections: dict[str, dict[str, Any]] = {"": {}, "train": {}, "test": {}, "sds": {}}
    for key, value in values.items():
        *section, name = OPTIONS[key][0]
        sections["".join(section)][name] = value
    parts = TrainConfig(**sections["train"]), TestConfig(**sections["test"]), SdsConfig(**sections["sds"])
    return Config(*parts, **sections[""])


def _read_yaml(text: str | bytes, where: str) -> dict[str, Any]:
    tree = parse_yaml(text, where, _Loader, UsageError)
    if not isinstance(tree, Mapping | None):
        raise UsageError(f"{where}: expected keys and values at the top level")
    lines = yaml_lines(text, where, _Loader, UsageError)
    found = _flat(tree or {})
    return {key: _checked(key, value, f"{where}:{lines[key]}" if key in lines else where) for key, value in found}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    result: list[tuple[str, Any]] = []
    for key, value in tree.items():
        result += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return result


def _checked(key: str, value: Any, where: str) -> Any:
    """The value in the type of its option."""
    if key not in OPTIONS:
        raise UsageError(f"{where}: unknown key '{key}'{nearest(key, OPTIONS)}")
    path, hint = OPTIONS[key]
    try:
        if key == "PIXEL_MEANS" and isinstance(value, list | tuple):  # [[[b, g, r]]] in the released files
            value = _flat_numbers(value)
        return _as_type(hint, value)
    except (ValueError, OverflowError) as error:
        default = get_option(Config(), path)
        kind = type(default).__name__
        raise UsageError(f"{where}: {key} is {_brief(value)}, expected a {kind} like {default!r}") from error


def _brief(value: Any) -> str:
    """A value for a message."""
    try:
        return textwrap.shorten(repr(value), 100, placeholder="...")
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _as_type(hint: Any, value: Any) -> Any:
    """The value as an option's type; ValueError or OverflowError if it is of another."""
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(value)
        return tuple(_as_type(get_args(hint)[0], part) for part in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint or (isinstance(value, float) and not math.isfinite(value) and value != -math.inf):
        raise ValueError(value)
    return value


def _flat_numbers(value: Any) -> list[float]:
    return [number for part in value for number in (_flat_numbers(part) if isinstance(part, list | tuple) else [part])]


def write_config(path: str | os.PathLike[str], config: Config) -> None:
    """Write all options as YAML that :func:`load_config` reads back.

    Raises:
        WriteError: it cannot be written.
    """
    tree: dict[str, Any] = {}
    for key, value in config.items().items():
        *section, name = key.split(".")
        place = tree.setdefault(section[0], {}) if section else tree
        place[name] = _as_lists(value)
    write_file(path, yaml.safe_dump(tree, sort_keys=True, default_flow_style=None, width=110))


def _as_lists(value: Any) -> Any:
    return [_as_lists(part) for part in value] if isinstance(value, tuple) else value
