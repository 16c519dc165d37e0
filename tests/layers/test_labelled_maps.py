"""DenseImageData and ImageLabelmapData: what becomes of single pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_files import image
from one_layer import one_layer

from caffe_compat.errors import CaffeCompatError
from caffe_compat.layers import Layer

SMALL, CROP = "batch_size: 1 new_height: 4 new_width: 5", "crop_height: 2 crop_width: 2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image(number))
        cv2.imwrite(str(tmp_path / f"{number}_labels.png"), np.arange(48, dtype=np.uint8).reshape(6, 8) * 5 + number)
    (tmp_path / "maps.txt").write_text("0.png 0_labels.png\n1.png\n1_labels.png 2.png 2_labels.png\n")
    return tmp_path


def _layer(kind: str, folder: Path, fields: str = "", transform: str = "", phase: str = "TRAIN") -> Layer:
    message = "dense_image_data_param" if kind == "DenseImageData" else "image_data_param"
    head = f'source: "{folder}/maps.txt" root_folder: "{folder}/"'
    torch.manual_seed(3)
    return one_layer(
        kind, f"{message} {{ {head} {fields} }} transform_param {{ {transform} }}", tops=("x", "y"), phase=phase
    )


def _labels(number: int) -> np.ndarray:
    return np.arange(48).reshape(6, 8) * 5 + number


def test_dense_labels_are_as_they_are(folder: Path) -> None:
    layer = _layer("DenseImageData", folder, "batch_size: 2", "mean_value: 10 mean_value: 20 mean_value: 30 scale: 0.5")
    for first in (0, 2, 1):
        pictures, labels = (top.numpy() for top in layer())
        for item, number in enumerate(((first), (first + 1) % 3)):
            np.testing.assert_array_equal(labels[item, 0], _labels(number))
            wanted = (image(number).transpose(2, 0, 1) - np.float32([10, 20, 30])[:, None, None]) * 0.5
            np.testing.assert_allclose(pictures[item], wanted)


def test_dense_crop_and_mirror_fall_on_both_alike_in_both_phases(folder: Path) -> None:
    seen = set()
    for phase in ("TRAIN", "TEST"):
        layer = _layer("DenseImageData", folder, "batch_size: 3 mirror: true crop_height: 4 crop_width: 5", phase=phase)
        assert layer.top_shapes([]) == [(3, 3, 4, 5), (3, 1, 4, 5)]
        for _ in range(12):
            for number, (picture, labels) in enumerate(zip(*(top.numpy() for top in layer()), strict=True)):
                top, left = divmod(int(labels[0].min() - number) // 5, 8)
                mirrored = bool(labels[0, 0, 0] > labels[0, 0, 1])
                order = slice(None, None, -1 if mirrored else 1)
                window = slice(top, top + 4), slice(left, left + 5)
                np.testing.assert_array_equal(labels[0][:, order], _labels(number)[window])
                np.testing.assert_array_equal(picture[:, :, order], image(number).transpose(2, 0, 1)[:, *window])
                seen.add((top, left, mirrored))
    assert len(seen) > 12


def test_dense_resizes_labels_to_the_nearest(folder: Path) -> None:
    layer = _layer("DenseImageData", folder, "batch_size: 1 new_height: 12 new_width: 16")
    pictures, labels = (top.numpy() for top in layer())
    np.testing.assert_array_equal(labels[0, 0], _labels(0).repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(pictures[0], cv2.resize(image(0), (16, 12)).transpose(2, 0, 1))


def test_dense_labels_of_a_part_of_the_size(folder: Path) -> None:
    layer = _layer("DenseImageData", folder, "batch_size: 2 new_height: 7 new_width: 17 label_divide_factor: 2")
    assert layer.top_shapes([]) == [(2, 3, 7, 17), (2, 1, 3, 8)]
    pictures, labels = (top.numpy() for top in layer())
    for item in range(2):
        np.testing.assert_array_equal(labels[item, 0], _labels(item)[::2])  # 6 x 8 to 3 x 8, the nearest above
        np.testing.assert_array_equal(pictures[item], cv2.resize(image(item), (17, 7)).transpose(2, 0, 1))


def test_edges_are_one_from_128_on(folder: Path) -> None:
    pictures, labels = (top.numpy() for top in _layer("ImageLabelmapData", folder, "batch_size: 2")())
    for number in (0, 1):
        wanted = [[float(round(int(v) / 255)) for v in row] for row in _labels(number)]
        np.testing.assert_array_equal(labels[number, 0], wanted)
        np.testing.assert_array_equal(pictures[number], image(number).transpose(2, 0, 1))


def test_edges_are_cropped_with_their_picture(folder: Path) -> None:
    for number in range(3):  # a picture that is its own edge map
        gray = ((np.arange(48).reshape(6, 8) * 37) % 251).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), gray)
        cv2.imwrite(str(folder / f"{number}_labels.png"), gray)
    layer = _layer("ImageLabelmapData", folder, "is_color: false", "crop_size: 4 mirror: true mean_value: 3")
    found = []
    for _ in range(12):
        picture, labels = (top.numpy() for top in layer())
        np.testing.assert_array_equal(labels, picture + 3 >= 128)
        found.append(picture)
    assert len({value.tobytes() for value in found}) > 6


@pytest.mark.parametrize(
    ("kind", "fields", "transform", "what"),
    [
        ("DenseImageData", "batch_size: 1", "crop_size: 3", "transform_param has mirror or crop_size"),
        ("DenseImageData", "batch_size: 1 crop_height: 3", "", "crop_height is 3 and crop_width 0"),
        ("DenseImageData", "batch_size: 0", "", "batch_size is 0"),
        ("DenseImageData", "batch_size: 1 label_divide_factor: 0", "", "label_divide_factor is 0"),
        ("DenseImageData", "batch_size: 1 label_divide_factor: 2", "", "label_divide_factor is 2, expected new_height"),
        ("DenseImageData", f"{SMALL} label_divide_factor: 5", "", "label_divide_factor is 5, expected 1 to the size 4"),
        ("DenseImageData", f"{SMALL} {CROP} label_divide_factor: 2", "", "label_divide_factor is 2.*no crop"),
        ("ImageLabelmapData", "new_width: 3", "", "new_height is 0 and new_width 3"),
        ("ImageLabelmapData", "rand_skip: 1000000", "", "rand_skip 1000000 is too much"),
        ("ImageLabelmapData", "", "crop_size: 30", "smaller than crop_size 30"),
    ],
)
def test_refusals(folder: Path, kind: str, fields: str, transform: str, what: str) -> None:
    with pytest.raises(CaffeCompatError, match=f"under_test.*{what}"):
        _layer(kind, folder, fields, transform)


def test_bad_lists(folder: Path) -> None:
    (folder / "maps.txt").write_text("0.png 0_labels.png 1.png\n")
    with pytest.raises(CaffeCompatError, match="maps.txt: has 3 words, expected two paths"):
        _layer("DenseImageData", folder, "batch_size: 1")
    cv2.imwrite(str(folder / "small.png"), np.zeros((3, 3), np.uint8))
    (folder / "maps.txt").write_text("0.png small.png\n")
    with pytest.raises(CaffeCompatError, match="maps.txt, line 1: .*0.png is .*expected one size"):
        _layer("DenseImageData", folder, "batch_size: 1")
