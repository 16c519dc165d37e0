"""Sizes that vary against loops written down from intel/caffe's data_transformer.cpp."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.batches.varying import Varying
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.layers import Layer
from caffe_compat.net import load_net
from caffe_compat.proto import caffe_pb2, parse_text


def _picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)


def _resize(text: str = "interp_mode: CUBIC") -> object:
    return parse_text(text, caffe_pb2.ResizeParameter)


def test_short_sides_between_two_numbers() -> None:
    own, random = Varying(8, (10, 14), None, _resize()), np.random.default_rng(0)
    seen = {own(_picture(20, 31), random).shape for _ in range(200)}
    assert seen == {(short, int(np.float32(31) / 20 * short), 3) for short in range(10, 15)}
    assert own(_picture(31, 20), random).shape[1] in range(10, 15)
    once = Varying(8, (12, 12), None, _resize())
    want = cv2.resize(_picture(20, 31), (18, 12), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(once(_picture(20, 31), random), want)
    gray = _picture(20, 31)[..., 0]
    assert once(gray, random).shape == (12, 18)


def test_without_numbers_the_sides_of_the_picture_are_the_bounds() -> None:
    own, random = Varying(4, (0, 0), None, _resize()), np.random.default_rng(0)
    assert {min(own(_picture(10, 13), random).shape[:2]) for _ in range(100)} == {10, 11, 12, 13}


def _slow_part(pixels: np.ndarray, own: object, crop: int, random: np.random.Generator) -> np.ndarray:
    """RandomAlterAspectRatio, with the draws in its order; LINEAR, so that no interpolation is drawn."""

    def ratio(low: float, high: float) -> float:
        return (int(random.integers(int((high - low) * 1000 + 1))) + low * 1000) / 1000

    h, w = pixels.shape[:2]
    for _ in range(own.max_attempt):  # type: ignore[attr-defined]
        area = ratio(own.min_area_ratio, own.max_area_ratio) * h * w  # type: ignore[attr-defined]
        change = ratio(own.aspect_ratio_change, 1 / own.aspect_ratio_change)  # type: ignore[attr-defined]
        new_h, new_w = int(math.sqrt(area) * change), int(math.sqrt(area) / change)
        if ratio(0, 1) < 0.5:
            new_h, new_w = new_w, new_h
        if new_h <= h and new_w <= w:
            y, x = int(random.integers(h - new_h + 1)), int(random.integers(w - new_w + 1))
            return cv2.resize(pixels[y : y + new_h, x : x + new_w], (crop, crop))
    short = (int(np.float32(w) / h * crop), crop) if h < w else (crop, int(np.float32(h) / w * crop))
    return cv2.resize(pixels, short)


@pytest.mark.parametrize("text", ["min_area_ratio: 0.08 aspect_ratio_change: 0.75", "max_attempt: 0", "max_attempt: 2"])
def test_parts_of_other_shapes(text: str) -> None:
    own = parse_text(text, caffe_pb2.RandomAspectRatioParameter)
    pixels = _picture(24, 37)
    for seed in range(25):
        got = Varying(9, None, own, _resize(""))(pixels, np.random.default_rng(seed))
        assert np.array_equal(got, _slow_part(pixels, own, 9, np.random.default_rng(seed)))


def test_too_small_and_no_pictures() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(DataError, match="smaller than crop_size 12"):
        Varying(12, (10, 10), None, _resize())(_picture(20, 30), random)
    with pytest.raises(DataError, match="asks for 20 to 10"):
        Varying(8, (0, 10), None, _resize())(_picture(20, 30), random)
    with pytest.raises(DataError, match="holds float32"):
        Varying(8, (10, 10), None, _resize())(_picture(20, 30).astype(np.float32), random)


def _layer(folder: Path, transform: str, phase: str = "TRAIN") -> Layer:
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), _picture(20 + 4 * number, 31))
    (folder / "list.txt").write_text(f"{folder}/0.png 0\n{folder}/1.png 1\n")
    (folder / "net.prototxt").write_text(
        f'layer {{ name: "d" type: "ImageData" top: "d" top: "l" image_data_param {{ source: "{folder}/list.txt" '
        f"batch_size: 2 }} transform_param {{ {transform} }} }}"
    )
    return load_net(folder / "net.prototxt", phase=phase).layer("d")


def test_a_data_layer_crops_what_varied(tmp_path: Path) -> None:
    """In TEST the middle of the picture whose short side is 12."""
    text = "crop_size: 10 mean_value: 3 random_resize_param { min_size: 12 max_size: 12 }"
    data, _ = _layer(tmp_path, text, "TEST")()
    for item in range(2):
        pixels = _picture(20 + 4 * item, 31)
        wide = int(np.float32(31) / (20 + 4 * item) * 12)
        left = (wide - 10) // 2
        want = cv2.resize(pixels, (wide, 12))[1:11, left : left + 10].astype(np.float32) - 3
        assert np.array_equal(data[item].numpy(), want.transpose(2, 0, 1))
    layer = _layer(tmp_path, "crop_size: 9 random_aspect_ratio_param { min_area_ratio: 0.1 }")
    first = layer()[0]
    assert first.shape == (2, 3, 9, 9) and not np.array_equal(first.numpy(), layer()[0].numpy())
    layer.seek(0)
    assert np.array_equal(first.numpy(), layer()[0].numpy())


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("random_resize_param { }", "RandomResizeParameter and no crop_size"),
        ("crop_size: 4 random_resize_param { min_size: 5 max_size: 4 }", "sizes 5 to 4"),
        ("crop_size: 4 random_aspect_ratio_param { max_area_ratio: 0.1 }", "areas 0.5 to 0.1"),
        ("crop_size: 4 random_aspect_ratio_param { aspect_ratio_change: 0 }", "aspect_ratio_change 0"),
    ],
)
def test_refusals(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(CaffeCompatError, match=f"layer 'd'.*{what}"):
        _layer(tmp_path, text)
