"""The options of the fast-rcnn tools: ``--cfg file.yml`` and ``--set KEY VALUE``.

Keys and defaults are those of the ``distillation`` branch of the authors' fast-rcnn; an attribute has the key's name in
lower case (``TRAIN.FG_THRESH`` is ``config.train.fg_thresh``).  A :class:`Config` is frozen and handed to whoever needs
it; there is no global one.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import os
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from caffe_compat.documents import parse_yaml, yaml_lines
from caffe_compat.errors import UsageError, nearest
from caffe_compat.files import open_existing, write_file
from caffe_compat.media.modalities import FORK_MEAN

__all__ = ["Config", "SdsConfig", "TestConfig", "TrainConfig", "load_config", "without_detection", "write_config"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Options of training.

    Args:
        scales: pixels of the short side; one is drawn for every image of a batch.
        max_size: pixels that the long side may have; wins over ``scales``.
        ims_per_batch, batch_size: images, and regions of all of them together.
        fg_fraction: part of the regions that may show an object.
        fg_thresh: overlap with an object from which on a region shows it.
        bg_thresh_hi, bg_thresh_lo: background overlaps from ``lo`` on and less than ``hi``.
        use_flipped: train on mirror images too.
        bbox_reg: learn to move boxes.
        bbox_thresh: overlap from which on a region teaches that.
        snapshot_iters, snapshot_infix: how often, and ``fast_rcnn_INFIX_iter_N``.
        use_prefetch: make minibatches ahead, in a thread; the numbers are the same.  (Here it is the default.)
        bbox_pred_param_names: layers whose weights a snapshot holds for targets that are not normalised.
        proposal_top_k: proposals used of an image, best first; 0: all.  (Not in the branch.)
    """

    scales: tuple[int, ...] = (600,)
    max_size: int = 1000
    ims_per_batch: int = 2
    batch_size: int = 128
    fg_fraction: float = 0.25
    fg_thresh: float = 0.5
    bg_thresh_hi: float = 0.5
    bg_thresh_lo: float = 0.1
    use_flipped: bool = True
    bbox_reg: bool = True
    bbox_thresh: float = 0.5
    snapshot_iters: int = 10000
    snapshot_infix: str = ""
    use_prefetch: bool = True
    bbox_pred_param_names: tuple[str, ...] = ("bbox_pred",)
    proposal_top_k: int = 0

    def __post_init__(self) -> None:
        _check_scales("TRAIN.SCALES", self.scales)
        for name in ("max_size", "ims_per_batch", "batch_size", "snapshot_iters"):
            _require(getattr(self, name) >= 1, f"TRAIN.{name.upper()} is {getattr(self, name)}, expected 1 or more")
        _require(
            self.batch_size % self.ims_per_batch == 0,
            f"TRAIN.BATCH_SIZE is {self.batch_size}, expected a multiple of TRAIN.IMS_PER_BATCH, {self.ims_per_batch}",
        )
        for name in ("fg_fraction", "fg_thresh", "bg_thresh_hi", "bg_thresh_lo", "bbox_thresh"):
            _check_fraction(f"TRAIN.{name.upper()}", getattr(self, name))
        low, high = self.bg_thresh_lo, self.bg_thresh_hi
        _require(low <= high, f"TRAIN.BG_THRESH_LO is {low}, expected at most TRAIN.BG_THRESH_HI, {high}")
        _require(self.proposal_top_k >= 0, f"TRAIN.PROPOSAL_TOP_K is {self.proposal_top_k}, expected 0 or more")
        _require(
            os.sep not in self.snapshot_infix,
            f"TRAIN.SNAPSHOT_INFIX is '{self.snapshot_infix}', expected a part of a file name",
        )


@dataclasses.dataclass(frozen=True)
class TestConfig:
    """Options of testing.

    Args:
        scales, max_size: as in training; of several scales each region is seen at the one that makes it nearest to
            224 x 224.
        nms: overlap from which on the lower of two boxes of a class is dropped.
        svm: scores are those of ``cls_score``, from linear SVMs, instead of ``cls_prob``.
        bbox_reg: move boxes as ``bbox_pred`` says.
        max_per_image: boxes of a class kept in an image.
        max_per_set_f: boxes of a class kept in a set, per image of the set.
        max_per_image_all: boxes of all classes together that stay in an image after suppression; 0 = all; COCO counts
            100.  (Not in the branch.)
        det_salt, eval_salt: added to the names of the files of detections and evaluations.
        score_thresh: boxes with this score or less are dropped.  (Not in the branch.)
        modality_scales: scales of each modality, where they are not the same; needs a net with an input of regions
            for each (``rois``, ``rois_1``, ...).  (Not in the branch.)
        proposal_top_k: as in training.  (Not in the branch.)
    """

    __test__ = False  # pytest is to take this for no test

    scales: tuple[int, ...] = (600,)
    max_size: int = 1000
    nms: float = 0.3
    svm: bool = False
    bbox_reg: bool = True
    max_per_image: int = 100
    max_per_set_f: int = 40
    max_per_image_all: int = 0
    det_salt: str = ""
    eval_salt: str = ""
    score_thresh: float = -math.inf
    modality_scales: tuple[tuple[int, ...], ...] = ()
    proposal_top_k: int = 0

    def __post_init__(self) -> None:
        _check_scales("TEST.SCALES", self.scales)
        for scales in self.modality_scales:
            _check_scales("TEST.MODALITY_SCALES", scales)
        for name in ("max_size", "max_per_image", "max_per_set_f"):
            _require(getattr(self, name) >= 1, f"TEST.{name.upper()} is {getattr(self, name)}, expected 1 or more")
        _check_fraction("TEST.NMS", self.nms)
        for name in ("proposal_top_k", "max_per_image_all"):
            _require(getattr(self, name) >= 0, f"TEST.{name.upper()} is {getattr(self, name)}, expected 0 or more")
        for name in ("det_salt", "eval_salt"):
            value = getattr(self, name)
            _require(os.sep not in value, f"TEST.{name.upper()} is '{value}', expected a part of a file name")


@dataclasses.dataclass(frozen=True)
class SdsConfig:
    """Options of segmenting detections with hypercolumns (branch ``sds-distillation``).

    Args:
        target_size, max_size: pixels of the short side, and that the long one may have; the published nets were made
            with 688.  In training ``max_size`` of the data layer's ``param_str`` takes the place of ``target_size``.
        feat_scale: pixels of the scaled image for a cell of the map that regions are pooled from.
        mask_size: side of the grid over a box.
        det_salt: added to the name of the file of segmented detections.
    """

    target_size: int = 688
    max_size: int = 1000
    feat_scale: int = 16
    mask_size: int = 50
    det_salt: str = ""

    def __post_init__(self) -> None:
        for name in ("target_size", "max_size", "feat_scale"):
            _require(getattr(self, name) >= 1, f"SDS.{name.upper()} is {getattr(self, name)}, expected 1 or more")
        _require(self.mask_size >= 2, f"SDS.MASK_SIZE is {self.mask_size}, expected 2 or more")
        _require(os.sep not in self.det_salt, f"SDS.DET_SALT is '{self.det_salt}', expected a part of a file name")


@dataclasses.dataclass(frozen=True)
class Config:
    """All options.

    Args:
        train, test, sds: what only training, testing and segmenting detections read.
        dedup_boxes: regions that fall together after multiplying with this and rounding are seen once; 0: no such
            thing.
        pixel_means: subtracted from the channels of every modality, in OpenCV's order.
        rng_seed: of everything random.
        eps: added to the widths and heights of boxes in regression targets.
        root_dir: folder with ``data`` and ``output``; "": the current one.
        exp_dir: results stand in ``output/EXP_DIR/IMDB``.
        parity: do as the released code did, also where it was wrong.  (Not in the branch.)
    """

    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    test: TestConfig = dataclasses.field(default_factory=TestConfig)
    sds: SdsConfig = dataclasses.field(default_factory=SdsConfig)
    dedup_boxes: float = 1.0 / 16
    pixel_means: tuple[float, ...] = FORK_MEAN
    rng_seed: int = 3
    eps: float = 1e-14
    root_dir: str = ""
    exp_dir: str = "default"
    parity: bool = False

    def __post_init__(self) -> None:
        _require(
            len(self.pixel_means) == 3, f"PIXEL_MEANS has {len(self.pixel_means)} numbers, expected 3: one a channel"
        )
        _require(self.dedup_boxes >= 0, f"DEDUP_BOXES is {self.dedup_boxes}, expected 0 or more")
        _require(0 <= self.rng_seed < 2**32, f"RNG_SEED is {self.rng_seed}, expected 0 to 2**32 - 1")
        _require(self.eps >= 0, f"EPS is {self.eps}, expected 0 or more")
        parts = self.exp_dir.split("/")
        _require(
            all(part not in ("", ".", "..") for part in parts),
            f"EXP_DIR is '{self.exp_dir}', expected a path below output",
        )

    def items(self) -> dict[str, Any]:
        """Every option by its key, such as ``TRAIN.SCALES``."""
        return {key: _get(self, path) for key, (path, _) in _OPTIONS.items()}

    def changed(self) -> dict[str, Any]:
        """The options that do not have their default."""
        defaults = Config().items()
        return {key: value for key, value in self.items().items() if value != defaults[key]}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)


def _check_scales(key: str, scales: tuple[int, ...]) -> None:
    _require(bool(scales) and min(scales) >= 1, f"{key} is {scales}, expected one or more sides of 1 pixel or more")


def _check_fraction(key: str, value: float) -> None:
    _require(0 <= value <= 1, f"{key} is {value}, expected 0 to 1")


def _options(cls: type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[tuple[str, ...], Any]]]:
    """Key -> where it stands and its type."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        place = (*path, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _options(hints[field.name], place)
        else:
            yield ".".join(place).upper(), (place, hints[field.name])


_OPTIONS = types.MappingProxyType(dict(_options(Config)))


def _get(config: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        config = getattr(config, name)
    return config


# -- reading --------------------------------------------------------------------------------------------------------


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
        *section, name = _OPTIONS[key][0]
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
    if key not in _OPTIONS:
        raise UsageError(f"{where}: unknown key '{key}'{nearest(key, _OPTIONS)}")
    path, hint = _OPTIONS[key]
    try:
        if key == "PIXEL_MEANS" and isinstance(value, list | tuple):  # [[[b, g, r]]] in the released files
            value = _flat_numbers(value)
        return _as_type(hint, value)
    except (ValueError, OverflowError) as error:
        default = _get(Config(), path)
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


# -- writing --------------------------------------------------------------------------------------------------------


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


def without_detection(config: Config) -> None:
    """Refuse options that only detection training reads.

    Raises:
        UsageError: naming the options that would be ignored.
    """
    ignored = [key for key in config.changed() if key not in ("RNG_SEED", "EXP_DIR", "ROOT_DIR")]
    if ignored:
        raise UsageError(f"{', '.join(ignored)}: only detection training (--imdb) reads this")
