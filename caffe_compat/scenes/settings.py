"""What a data set of drawn frames is made from, and which frames it has."""

from __future__ import annotations

import dataclasses

import numpy as np

from caffe_compat.depth.camera import Camera
from caffe_compat.errors import UsageError
from caffe_compat.scenes.solids import CLASSES

__all__ = ["FrameSpec", "Settings", "frame_specs"]

FIRST_ID = 5001
FRAMES_PER_SCENE = 4


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
        for name, least in (
            ("train", 1),
            ("pairs", 1),
            ("val", 1),
            ("test", 1),
            ("seed", 0),
            ("width", 48),
            ("height", 48),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least {least}")

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
