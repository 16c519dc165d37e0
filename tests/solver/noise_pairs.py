"""Pairs of images of noise, and a net that reads them."""

from pathlib import Path

import cv2
import numpy as np


def write(folder: Path, net: str, count: int, size: tuple[int, int]) -> Path:
    """Write ``pairs.txt`` of so many pairs of height and width ``size``, and ``net.prototxt``; the folder."""
    rng = np.random.default_rng(0)
    lines = []
    for index in range(count):
        for kind in ("rgb", "hha"):
            cv2.imwrite(str(folder / f"{kind}{index}.png"), rng.integers(0, 255, (*size, 3), np.uint8))
        lines.append(f"rgb{index}.png hha{index}.png\n")
    (folder / "pairs.txt").write_text("".join(lines))
    (folder / "net.prototxt").write_text(net.format(folder=folder))
    return folder
