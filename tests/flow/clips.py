"""Clips whose motion is known: a texture that is moved by whole pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [H, W, 3], smooth enough for every method, with detail everywhere."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    smooth = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.5, 4))
    return np.asarray(255 * (smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.uint8)


def moved(steps: Sequence[tuple[int, int]], height: int = 48, width: int = 64, seed: int = 0) -> list[np.ndarray]:
    """Frames uint8 [H, W, 3]: what they show moves by (u, v), to the right and downwards, from each to the next."""
    places = np.cumsum([(0, 0), *steps], 0)
    (left, top), (right, bottom) = places.max(0), places.min(0)
    whole = texture(height + int(top - bottom), width + int(left - right), seed)
    return [whole[top - y : top - y + height, left - x : left - x + width].copy() for x, y in places]


def write_frames(folder: Path, frames: Sequence[np.ndarray], name: str = "{:05d}.png", first: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, first):
        assert cv2.imwrite(str(folder / name.format(number)), frame)
    return folder


def write_video(path: Path, frames: Sequence[np.ndarray], codec: str = "FFV1") -> Path:
    """A video without loss (``MJPG``: with)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def read_rgb(path: Path) -> np.ndarray:
    """A png as it is in the file, R first."""
    return np.asarray(cv2.imread(str(path)))[..., ::-1]
