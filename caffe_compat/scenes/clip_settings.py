"""What a data set of drawn clips is made from, and which clips it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from caffe_compat.depth.camera import Camera
from caffe_compat.errors import UsageError
from caffe_compat.scenes.motion import ACTIONS, VIDEO_ACTIONS, Motion
from caffe_compat.scenes.settings import Settings, check_least

__all__ = ["HELD_OUT", "SPLITS", "ClipSettings", "ClipSpec", "actions_of", "clip_specs"]

SPLITS = ("train", "videos", "test")
HELD_OUT = 10
"""Of so many videos one is for validation."""
MOST_FRAMES = 40
"""As in JHMDB; in longer clips things go through walls."""


@dataclasses.dataclass(frozen=True)
class ClipSettings:
    """What a data set is made from.

    Args:
        train, videos, test: clips in each split; videos have no boxes.
        frames: of a clip; all but the last have a flow.
        seed: of everything random.
        width, height: of the pictures in pixels.

    Raises:
        UsageError: a number out of range.
    """

    train: int = 56
    videos: int = 320
    test: int = 105
    frames: int = 6
    seed: int = 0
    width: int = 128
    height: int = 96

    def __post_init__(self) -> None:
        check_least(self, videos=2, frames=2, seed=0, width=48, height=48)
        if self.frames > MOST_FRAMES:
            raise UsageError(f"frames is {self.frames}, expected at most {MOST_FRAMES}")

    @property
    def camera(self) -> Camera:
        """That of the drawn scenes."""
        return Settings(width=self.width, height=self.height).camera


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """One clip: its number from 1, split, action, and whether it is held out for validation (of videos)."""

    id: int
    split: str
    action: str
    held_out: bool = False

    @property
    def clip(self) -> str:
        """Its name, which no other has."""
        return f"clip_{self.id:04d}"

    @property
    def name(self) -> str:
        """Folder of its frames, below that of the modality: ``ACTION/CLIP``."""
        return f"{self.action}/{self.clip}"

    @property
    def actions(self) -> Mapping[str, Motion]:
        """Those of its split."""
        return actions_of(self.split)

    @property
    def label(self) -> int:
        """Position among the actions of its split."""
        return list(self.actions).index(self.action)


def actions_of(split: str) -> Mapping[str, Motion]:
    """The actions of a split."""
    return VIDEO_ACTIONS if split == "videos" else ACTIONS


def clip_specs(settings: ClipSettings) -> list[ClipSpec]:
    """Every clip of a data set, in the order of their numbers; actions are balanced within a split."""
    specs: list[ClipSpec] = []
    for number, split in enumerate(SPLITS):
        actions, count = list(actions_of(split)), getattr(settings, split)
        rng = np.random.default_rng([settings.seed, 4, number])
        for place, label in enumerate(rng.permutation(np.arange(count) % len(actions))):
            held_out = split == "videos" and place % HELD_OUT == 0
            specs.append(ClipSpec(len(specs) + 1, split, actions[label], held_out))
    return specs
