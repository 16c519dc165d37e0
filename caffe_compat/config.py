"""The options of the fast-rcnn tools: ``--cfg file.yml`` and ``--set KEY VALUE``.

Keys and defaults are those of the ``distillation`` branch of the authors' fast-rcnn.  An option is an entry of a
frozen mapping, not a global.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from caffe_compat.errors import UsageError, nearest
from caffe_compat.files import open_existing

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
    "PIXEL_MEANS": (102.9801, 115.9465, 122.7717),
    "RNG_SEED": 3,
    "EPS": 1e-14,
    "ROOT_DIR": "",
    "EXP_DIR": "default",
}


class _Loader(yaml.SafeLoader):
    """Safe YAML that also knows ``!!python/tuple``, which the released files use."""


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
            try:
                tree = yaml.load(stream, _Loader)  # noqa: S506 - a SafeLoader
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise UsageError(f"{file}: not valid YAML: {error}") from error
        if not isinstance(tree, Mapping | None):
            raise UsageError(f"{file}: expected keys and values at the top level")
        for key, value in _flat(tree or {}):
            _assign(config, key, value, os.fspath(file))
    if len(pairs) % 2:
        raise UsageError(f"--set takes pairs of KEY VALUE, got {len(pairs)} words")
    for key, word in zip(pairs[::2], pairs[1::2], strict=True):
        try:
            value = ast.literal_eval(word)
        except (ValueError, SyntaxError):
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
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        if key == "PIXEL_MEANS":
            value = _flat_numbers(value)
        config[key] = tuple(value)
    elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        config[key] = float(value)
    elif type(value) is type(default):
        config[key] = value
    else:
        raise UsageError(f"{where}: {key} is {value!r}, expected a {type(default).__name__} like {default!r}")


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
