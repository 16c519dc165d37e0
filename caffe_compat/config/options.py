"""All options together, and where each key stands."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator
from typing import Any, get_type_hints

from caffe_compat.config.sections import SdsConfig, TestConfig, TrainConfig, require
from caffe_compat.errors import UsageError
from caffe_compat.media.modalities import FORK_MEAN

__all__ = ["OPTIONS", "Config", "get_option", "without_detection"]


@dataclasses.dataclass(frozen=True)
class Config:
    """All options.

    Args:
        train, test, sds: what only training, testing and segmenting detections read.
        dedup_boxes: regions that fall together after multiplying with this and rounding are seen once; 0: no such
            thing.
        pixel_means: subtracted from the channels of every modality, in OpenCV's order.
        modality_means: those of each modality, where they are not the same, such as colour's and 128 of flow; empty:
            PIXEL_MEANS.  (Not in the branch.)
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
    modality_means: tuple[tuple[float, ...], ...] = ()
    rng_seed: int = 3
    eps: float = 1e-14
    root_dir: str = ""
    exp_dir: str = "default"
    parity: bool = False

    def __post_init__(self) -> None:
        _check_means("PIXEL_MEANS", self.pixel_means)
        for means in self.modality_means:
            _check_means("MODALITY_MEANS", means)
        require(self.dedup_boxes >= 0, f"DEDUP_BOXES is {self.dedup_boxes}, expected 0 or more")
        require(0 <= self.rng_seed < 2**32, f"RNG_SEED is {self.rng_seed}, expected 0 to 2**32 - 1")
        require(self.eps >= 0, f"EPS is {self.eps}, expected 0 or more")
        parts = self.exp_dir.split("/")
        require(
            all(part not in ("", ".", "..") for part in parts),
            f"EXP_DIR is '{self.exp_dir}', expected a path below output",
        )

    def means_of(self, place: int) -> tuple[float, ...]:
        """What is subtracted from the channels of a modality, by its place among those of an image.

        Raises:
            UsageError: MODALITY_MEANS are of fewer modalities.
        """
        if not self.modality_means:
            return self.pixel_means
        have = len(self.modality_means)
        require(place < have, f"MODALITY_MEANS are of {have} modalities, an image has {place + 1} or more")
        return self.modality_means[place]

    def check_means(self, modalities: int) -> None:
        """Refuse MODALITY_MEANS of another number of modalities.

        Raises:
            UsageError: says how many there are.
        """
        have = len(self.modality_means)
        require(have in (0, modalities), f"MODALITY_MEANS are of {have} modalities, expected {modalities}")

    def items(self) -> dict[str, Any]:
        """Every option by its key, such as ``TRAIN.SCALES``."""
        return {key: get_option(self, path) for key, (path, _) in OPTIONS.items()}

    def changed(self) -> dict[str, Any]:
        """The options that do not have their default."""
        defaults = Config().items()
        return {key: value for key, value in self.items().items() if value != defaults[key]}


def _check_means(key: str, means: tuple[float, ...]) -> None:
    require(len(means) == 3, f"{key} has {len(means)} numbers, expected 3: one a channel")


def _options(cls: type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[tuple[str, ...], Any]]]:
    """Key -> where it stands and its type."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        place = (*path, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _options(hints[field.name], place)
        else:
            yield ".".join(place).upper(), (place, hints[field.name])


OPTIONS = types.MappingProxyType(dict(_options(Config)))


def get_option(config: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        config = getattr(config, name)
    return config


def without_detection(config: Config) -> None:
    """Refuse options that only detection training reads.

    Raises:
        UsageError: naming the options that would be ignored.
    """
    ignored = [key for key in config.changed() if key not in ("RNG_SEED", "EXP_DIR", "ROOT_DIR")]
    if ignored:
        raise UsageError(f"{', '.join(ignored)}: only detection training (--imdb) reads this")
