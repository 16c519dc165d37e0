"""The options of the fast-rcnn tools: ``--cfg file.yml`` and ``--set KEY VALUE``.

Keys and defaults are those of the ``distillation`` branch of the authors' fast-rcnn.  An option is an entry of a
frozen mapping, not a global.
"""

from __future__ import annotations

import ast
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from caffe_compat.documents import parse_yaml
from caffe_compat.errors import UsageError, nearest
from caffe_compat.files import open_existing
from caffe_compat.media.modalities import FORK_MEAN

__all__ = ["DEFAULTS", "load_config", "without_detection"]

Config = dict[str, Any]

DEFAULTS: Config = {
    "TRAIN.SCALES": (600,),
    "TRAIN.MAX_SIZE": 1000,
    "TRAIN.IMS_PER_BATCH": 2,
    "TRAIN.BATCH_SIZE": 128,
    "TRAIN.FG_FRACTION": 0.25,
    "TRAIN.FG_THRESH": 0.5,
    "TRAIN.BG_THRESH_HI": 0.5,
    "TRAIN.BG_THRESH_LO": 0.1,
    "TRAIN.USE_FLIPPED": True,
    "TRAIN.BBOX_REG": True,
    "TRAIN.BBOX_THRESH": 0.5,
    "TRAIN.SNAPSHOT_ITERS": 10000,
    "TRAIN.SNAPSHOT_INFIX": "",
    "TRAIN.USE_PREFETCH": False,
    "TRAIN.BBOX_PRED_PARAM_NAMES": ("bbox_pred",),
    "TEST.SCALES": (600,),
    "TEST.MAX_SIZE": 1000,
    "TEST.NMS": 0.3,
    "TEST.SVM": False,
    "TEST.BBOX_REG": True,
    "TEST.MAX_PER_IMAGE": 100,
    "TEST.MAX_PER_SET_F": 40,
    "TEST.DET_SALT": "",
    "TEST.EVAL_SALT": "",
    "DEDUP_BOXES": 1.0 / 16,
    "PIXEL_MEANS": FORK_MEAN,
    "RNG_SEED": 3,
    "EPS": 1e-14,
    "ROOT_DIR": "",
    "EXP_DIR": "default",
}


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


def load_config(file: str | os.PathLike[str] | None = None, pairs: Sequence[str] = ()) -> Config:
    """All options: the defaults, then a YAML file, then ``KEY VALUE`` pairs.

    Lists and tuples count as one type.

    Raises:
        UsageError: unknown key, wrong type, or a key without a value.
    """
    config = dict(DEFAULTS)
    if file is not None:
        with open_existing(file) as stream:
            tree = parse_yaml(stream.read(), os.fspath(file), _Loader, UsageError)
        if not isinstance(tree, Mapping | None):
            raise UsageError(f"{file}: expected keys and values at the top level")
        for key, value in _flat(tree or {}):
            _assign(config, key, value, os.fspath(file))
    if len(pairs) % 2:
        raise UsageError(f"--set takes pairs of KEY VALUE, got {len(pairs)} words")
    for key, word in zip(pairs[::2], pairs[1::2], strict=True):
        try:
            value = ast.literal_eval(word)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: nested too deeply
            value = word
        _assign(config, key, value, "--set")
    return config


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    result: list[tuple[str, Any]] = []
    for key, value in tree.items():
        result += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return result


def _assign(config: Config, key: str, value: Any, where: str) -> None:
    if key not in config:
        raise UsageError(f"{where}: unknown key '{key}'{nearest(key, config)}")
    default = config[key]
    try:
        if key == "PIXEL_MEANS" and isinstance(value, list | tuple):
            value = _flat_numbers(value)
        config[key] = _like(default, value)
    except (ValueError, OverflowError) as error:
        kind = type(default).__name__
        raise UsageError(f"{where}: {key} is {_brief(value)}, expected a {kind} like {default!r}") from error


def _brief(value: Any) -> str:
    """A value for a message."""
    try:
        return textwrap.shorten(repr(value), 100, placeholder="...")
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _like(default: Any, value: Any) -> Any:
    """The value in the type of the default; ValueError or OverflowError if it is of another."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_like(default[0], part) for part in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(value)
    return value


def _flat_numbers(value: Any) -> list[float]:
    return [number for part in value for number in (_flat_numbers(part) if isinstance(part, list | tuple) else [part])]


def without_detection(config: Config) -> None:
    """Refuse options that only detection training reads.

    Raises:
        UsageError: naming the options that would be ignored.
    """
    used = {"RNG_SEED", "EXP_DIR", "ROOT_DIR"}
    ignored = [key for key, value in config.items() if key not in used and value != DEFAULTS[key]]
    if ignored:
        raise UsageError(f"{', '.join(ignored)}: only detection training (--imdb) reads this")
