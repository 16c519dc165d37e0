"""What a data set of drawn frames is made from, and which frames it has."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from caffe_compat.depth.camera import Camera
from caffe_compat.errors import UsageError
from caffe_compat.scenes.solids import CLASSES

__all__ = ["FrameSpec", "Settings", "check_least", "frame_specs"]

FIRST_ID = 5001
FRAMES_PER_SCENE = 4


def check_least(settings: Any, **least: int) -> None:
    """Hold the numbers of a dataclass to their least values, 1 where none is given.

    Raises:
        UsageError: the first that is smaller.
    """
    for field in dataclasses.fields(settings):
        value, lowest = getattr(settings, field.name), least.get(field.name, 1)
        if value < lowest:
            raise UsageError(f"{field.name} is {value}, expected at least {lowest}")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a data set is made from.

    Args:
        train, pairs, val, test: frames in each split: labelled RGB, RGB with HHA and no labels, validation, test.
        seed: of everything random.
        width, height: of the pictures in pixels.

    Raises:
        UsageError: a number out of range.
    """

    train: int = 2000
    pairs: int = 2000
    val: int = 200
    test: int = 500
    seed: int = 0
    width: int = 128
    height: int = 96

    def __post_init__(self) -> None:
        check_least(self, seed=0, width=48, height=48)

    @property
    def camera(self) -> Camera:
        """A camera with the field of view of the Kinect (fx = 519 at 640 pixels), pixels counted from 0."""
        focal = 519 / 640 * self.width
        return Camera(focal, focal, (self.width - 1) / 2, (self.height - 1) / 2, self.width, self.height)


@dataclasses.dataclass(frozen=True)
class FrameSpec:
    """One frame: its number, split, scene and label (position in ``CLASSES``)."""

    id: int
    split: str
    scene: int
    label: int

    @property
    def name(self) -> str:
        """File name without folder and suffix."""
        return f"img_{self.id:04d}"


def frame_specs(settings: Settings) -> list[FrameSpec]:
    """Every frame of a data set, in the order of their numbers; labels are balanced within a split."""
    specs: list[FrameSpec] = []
    scene = 0
    for number, split in enumerate(("train", "pairs", "val", "test")):
        count = getattr(settings, split)
        rng = np.random.default_rng([settings.seed, 0, number])
        for i, label in enumerate(rng.permutation(np.arange(count) % len(CLASSES))):
            specs.append(FrameSpec(FIRST_ID + len(specs), split, scene + i // FRAMES_PER_SCENE, int(label)))
        scene = specs[-1].scene + 1
    return specs
