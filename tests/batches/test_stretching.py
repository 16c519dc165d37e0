"""Sizes that NVIDIA/caffe draws against loops written down from its data_transformer.cpp."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffe_compat.batches.stretching import Stretching
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.net import load_net

f32 = np.float32


def _picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _slow(pixels: np.ndarray, own: Stretching, random: np.random.Generator) -> np.ndarray:
    """image_random_resize, with the draws in its order."""
    high, wide = pixels.shape[:2]
    new = min(high, wide)
    if own.sides[0] > 0 and own.sides[1] > 0:
        new = own.sides[0] + int(random.integers(own.sides[1] - own.sides[0] + 1))
    scale = f32(new) / f32(high) if wide >= high else f32(new) / f32(wide)
    h, w = scale * f32(high), scale * f32(wide)

    def drawn(limits: tuple[float, float]) -> np.float32:
        return f32(limits[0]) if limits[0] == limits[1] else f32(random.uniform(*limits))

    if own.ratio[0] >= 1 and own.ratio[1] > 1:
        ratio = drawn(own.ratio)
        if w > h:
            w = h * ratio
        elif w < h:
            h = w * ratio
        elif random.integers(2) > 0:
            w = h * ratio
        else:
            h = w * ratio
    h, w = h * drawn(own.vertical), w * drawn(own.horizontal)
    rows, columns = max(own.crop, math.floor(h + 0.5)), max(own.crop, math.floor(w + 0.5))
    if not own.upscale:
        rows, columns = min(rows, high), min(columns, wide)
    if (rows, columns) == (high, wide):
        return pixels
    way = own.down if rows <= high and columns <= wide else own.up
    return cv2.resize(pixels, (columns, rows), interpolation=way)


@pytest.mark.parametrize(
    "given",
    [
        {"sides": (12, 30)},
        {"sides": (12, 40), "upscale": True},
        {"sides": (12, 0), "ratio": (1.1, 2.0)},
        {"ratio": (1.0, 1.5), "upscale": True, "down": cv2.INTER_AREA, "up": cv2.INTER_LINEAR},
        {"vertical": (0.8, 1.4), "horizontal": (0.5, 0.9), "upscale": True},
        {"sides": (20, 20), "vertical": (0.5, 0.7)},
    ],
)
def test_sizes(given: dict[str, Any]) -> None:
    own = Stretching(9, **given)
    shapes = set()
    for size in ((20, 31), (31, 20), (25, 25)):
        for seed in range(12):
            got = own(_picture(*size), np.random.default_rng(seed))
            assert np.array_equal(got, _slow(_picture(*size), own, np.random.default_rng(seed)))
            shapes.add(got.shape)
    assert len(shapes) > 2
    assert own(_picture(20, 31)[..., 0], np.random.default_rng(0)).ndim == 2


def test_too_small_and_no_pictures() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(DataError, match="becomes 15x9, smaller than crop_size 12"):
        Stretching(12)(_picture(9, 15), random)
    assert Stretching(12, upscale=True)(_picture(9, 15), random).shape == (12, 15, 3)
    with pytest.raises(DataError, match="holds float32"):
        Stretching(4)(_picture(9, 15).astype(np.float32), random)


def _net(folder: Path, transform: str) -> Any:
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), _picture(20 + 4 * number, 31))
    (folder / "list.txt").write_text(f"{folder}/0.png 0\n{folder}/1.png 1\n")
    (folder / "net.prototxt").write_text(
        f'layer {{ name: "d" type: "ImageData" top: "d" top: "l" image_data_param {{ source: "{folder}/list.txt" '
        f"batch_size: 2 }} transform_param {{ {transform} }} }}"
    )
    return load_net(folder / "net.prototxt", phase="TEST").layer("d")


def test_a_data_layer_crops_what_was_made(tmp_path: Path) -> None:
    text = "crop_size: 10 img_rand_resize_lower: 12 img_rand_resize_upper: 12 interpolation_algo_down: INTER_LINEAR"
    data, _ = _net(tmp_path, text)()
    for item in range(2):
        high = 20 + 4 * item
        wide = math.floor(f32(12) / f32(high) * f32(31) + 0.5)
        made = cv2.resize(_picture(high, 31), (wide, 12))
        left = (wide - 10) // 2
        want = made[1:11, left : left + 10].astype(np.float32)
        assert np.array_equal(data[item].numpy(), want.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("img_rand_resize_lower: 8 img_rand_resize_upper: 9", "img_rand_resize_lower and no crop_size"),
        ("crop_size: 4 img_rand_resize_lower: 8 img_rand_resize_upper: 7", "lower is 8, expected at most the upper 7"),
        ("crop_size: 4 vertical_stretch_upper: inf", "vertical_stretch_lower and vertical_stretch_upper"),
        ("crop_size: 4 vertical_stretch_lower: 0.9 random_resize_param { }", "expected one of them"),
    ],
)
def test_refusals(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(CaffeCompatError, match=f"layer 'd'.*{what}"):
        _net(tmp_path, text)
