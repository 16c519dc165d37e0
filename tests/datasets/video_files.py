"""Tiny trees of NYUD2's raw video, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from caffe_compat.datasets.video import VideoPair


def write_codes(path: Path, codes: np.ndarray) -> None:
    """A raw depth file: 16-bit pgm whose bytes are swapped (little end first)."""
    height, width = codes.shape
    path.write_bytes(b"P5\n%d %d\n65535\n" % (width, height) + codes.astype("<u2").tobytes())


def write_scene(
    folder: Path, depth: Iterable[str], color: Iterable[str], size: tuple[int, int] = (2, 3), code: int = 700
) -> None:
    """A scene's folder; ``depth`` and ``color`` are ``<time>-<tick>`` of the frames."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = size
    for stamp in depth:
        write_codes(folder / f"d-{stamp}.pgm", np.full(size, code))
    for stamp in color:
        (folder / f"r-{stamp}.ppm").write_bytes(b"P6\n%d %d\n255\n" % (width, height) + bytes(height * width * 3))
    (folder / "a-1.5-7.dump").write_bytes(b"\0" * 4)
    (folder / "INDEX.txt").write_text("a-1.5-7.dump\n")


def pairs_of(scene: str, count: int, rate: float = 30.0, gap: float = 0.01) -> list[VideoPair]:
    """Pairs at even times, without files."""
    return [
        VideoPair(scene, f"{scene}/d-{index}.0-1.pgm", f"{scene}/r-{index}.0-1.ppm", 100 + index / rate, gap)
        for index in range(count)
    ]
