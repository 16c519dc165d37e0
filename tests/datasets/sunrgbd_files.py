"""Tiny trees of SUN RGB-D, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

AUTHORS_ROOT = "/n/fs/sun3d/data/SUNRGBD/"


def sun_bits(millimetres: np.ndarray) -> np.ndarray:
    """Millimetres as the data set stores them: rotated left by three bits."""
    values = millimetres.astype(np.uint32)
    return ((values << 3 | values >> 13) & 0xFFFF).astype(np.uint16)


def write_frame(
    root: Path,
    name: str,
    millimetres: np.ndarray | None = None,
    camera: tuple[float, float, float, float] = (529.5, 530.5, 365.0, 265.0),
    scene: str | None = "bedroom",
) -> Path:
    """One frame's folder; zeros of the depth are holes, filled with 2 m in depth_bfx."""
    depth = np.full((4, 6), 1500) if millimetres is None else millimetres
    folder = root / name
    for part in ("image", "depth", "depth_bfx", "extrinsics", "fullres"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", depth.shape[::-1], (200, 100, 50)).save(folder / "image" / "0000103.jpg")
    Image.fromarray(sun_bits(depth)).save(folder / "depth" / "0000103.png")
    Image.fromarray(sun_bits(np.where(depth == 0, 2000, depth))).save(folder / "depth_bfx" / "0000103.png")
    fx, fy, cx, cy = camera
    (folder / "intrinsics.txt").write_text(f"{fx} 0 {cx} 0 {fy} {cy} 0 0 1 \n")
    (folder / "fullres" / "intrinsics.txt").write_text("1081.37 0 959.5 0 1081.37 539.5 0 0 1\n")
    (folder / "extrinsics" / "20140809004632.txt").write_text("1 0 0 0\n0 0.8 -0.6 0\n0 0.6 0.8 0\n")
    if scene is not None:
        (folder / "scene.txt").write_text(scene)
    return folder


def write_split(path: Path, train: list[str], test: list[str]) -> None:
    """An allsplit.mat with 1 x n cells of paths on the authors' machine."""

    def cell(names: list[str]) -> np.ndarray:
        array = np.empty((1, len(names)), object)
        array[0] = [AUTHORS_ROOT + name for name in names]
        return array

    savemat(path, {"alltrain": cell(train), "alltest": cell(test)})
