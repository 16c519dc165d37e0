"""ImageSegData: what becomes of single pixels, in loops that follow TransformImgAndSeg."""

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

MEAN = [103.0, 116.0, 123.0]
MEANS = " ".join(f"mean_value: {value}" for value in MEAN)


def _labels(number: int) -> np.ndarray:
    return (np.arange(48, dtype=np.uint8).reshape(6, 8) * 5 + number).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image(number))
        cv2.imwrite(str(tmp_path / f"{number}_labels.png"), _labels(number))
    (tmp_path / "maps.txt").write_text("".join(f"/{n}.png /{n}_labels.png\n" for n in range(3)))
    (tmp_path / "tags.txt").write_text("/0.png 7\n\n/1.png 9 more\n")
    return tmp_path


def _layer(
    folder: Path, fields: str, transform: str = "", phase: str = "TRAIN", tops: int = 3, source: str = "maps.txt"
) -> Layer:
    head = f'source: "{folder}/{source}" root_folder: "{folder}"'
    body = f"image_data_param {{ {head} {fields} }} transform_param {{ {transform} }}"
    torch.manual_seed(3)
    return one_layer("ImageSegData", body, tops=("data", "label", "data_dim")[:tops], phase=phase)


def _slow(number: int, factor: float, crop: tuple[int, int], at: tuple[int, int], mirrored: bool) -> tuple:
    """Picture, labels and how many places there are for the crop."""
    picture, marks = image(number), _labels(number)
    if factor != 1:
        size = int(8 * factor), int(6 * factor)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
        marks = cv2.resize(marks, size, interpolation=cv2.INTER_NEAREST)
    high, wide = marks.shape
    data, labels = np.zeros((3, *crop)), np.zeros(crop)
    for h, w in np.ndindex(*crop):
        y, x = at[0] + h, at[1] + w
        inside = y < high and x < wide
        column = crop[1] - 1 - w if mirrored else w
        labels[h, column] = marks[y, x] if inside else 250
        for c in range(3):
            data[c, h, column] = ((float(picture[y, x, c]) if inside else MEAN[c]) - MEAN[c]) * 0.5
    return data, labels, (max(high, crop[0]) - crop[0] + 1, max(wide, crop[1]) - crop[1] + 1)


@pytest.mark.parametrize(("phase", "crop"), [("TRAIN", (5, 7)), ("TRAIN", (7, 7)), ("TEST", (5, 12)), ("TEST", (5, 6))])
def test_scale_pad_crop_mirror(folder: Path, phase: str, crop: tuple[int, int]) -> None:
    factors = (0.5, 1.0, 1.3, 2.0)
    transform = f"{MEANS} scale: 0.5 mirror: true crop_height: {crop[0]} crop_width: {crop[1]}"
    transform += "".join(f" scale_factors: {factor}" for factor in factors)
    layer = _layer(folder, "batch_size: 3 label_type: PIXEL ignore_label: 250", transform, phase)
    assert layer.top_shapes([]) == [(3, 3, *crop), (3, 1, *crop), (3, 1, 1, 2)]
    seen = set()
    for _ in range(12):
        data, labels, sizes = (top.numpy() for top in layer())
        for item in range(3):
            assert sizes[item].tolist() == [[[min(crop[0], 6), min(crop[1], 8)]]]
            found = []
            for factor in factors:
                for mirrored in (False, True):
                    _, _, places = _slow(item, factor, crop, (0, 0), mirrored)
                    every = list(np.ndindex(*places))
                    for at in every if phase == "TRAIN" else [((places[0] - 1) // 2, (places[1] - 1) // 2)]:
                        picture, marks, _ = _slow(item, factor, crop, at, mirrored)
                        if (marks == labels[item, 0]).all():
                            np.testing.assert_allclose(data[item], picture, atol=1e-5)
                            found.append((factor, mirrored, at))
            assert len(found) == 1
            seen.add(found[0])
    assert {factor for factor, _, _ in seen} == set(factors) and {mirrored for _, mirrored, _ in seen} == {False, True}
    assert len(seen) > (12 if phase == "TRAIN" else 7)


def test_without_a_crop_pictures_are_as_they_are(folder: Path) -> None:
    data, labels, sizes = _layer(folder, "batch_size: 2 label_type: PIXEL", MEANS)()
    for item in range(2):
        np.testing.assert_array_equal(data[item], image(item).transpose(2, 0, 1) - np.float32(MEAN)[:, None, None])
        np.testing.assert_array_equal(labels[item, 0], _labels(item))
    assert sizes.tolist() == [[[[6, 8]]]] * 2


def test_new_sizes_resize_labels_linearly_too(folder: Path) -> None:
    data, labels = _layer(folder, "batch_size: 1 label_type: PIXEL new_height: 9 new_width: 5", tops=2)()
    np.testing.assert_array_equal(data[0], cv2.resize(image(0), (5, 9)).transpose(2, 0, 1))
    np.testing.assert_array_equal(labels[0, 0], cv2.resize(_labels(0), (5, 9)))


def test_labels_of_whole_pictures_and_none(folder: Path) -> None:
    _, labels, _ = _layer(folder, "batch_size: 3", source="tags.txt")()  # IMAGE is the default
    assert [set(marks.flatten().tolist()) for marks in labels] == [{7}, {9}, {7}]
    _, labels, _ = _layer(folder, "batch_size: 2 label_type: NONE", source="tags.txt")()
    assert set(labels.flatten().tolist()) == {255}


def test_gray_pictures(folder: Path) -> None:
    transform = "mean_value: 10 crop_size: 9"
    data, labels, _ = _layer(folder, "label_type: PIXEL is_color: false", transform, "TEST")()
    gray = cv2.imread(str(folder / "0.png"), cv2.IMREAD_GRAYSCALE)
    assert data.shape == (1, 1, 9, 9)
    np.testing.assert_array_equal(data[0, 0, :6, :8], gray.astype(np.float32) - 10)
    assert not data[0, 0, 6:].any() and not data[0, 0, :, 8:].any()
    assert set(labels[0, 0, 6:].flatten().tolist()) == {255}


@pytest.mark.parametrize(
    ("fields", "transform", "what"),
    [
        ("label_type: PIXEL", 'mean_file: "m"', "mean_file is not for this layer"),
        ("label_type: PIXEL", "scale_factors: 2", "scale_factors without a crop"),
        ("label_type: PIXEL", f"{MEANS} crop_size: 4 scale_factors: 0", "expected positive numbers"),
        ("label_type: PIXEL", "crop_size: 4 crop_height: 4 crop_width: 4", "crop_size and crop_height"),
        ("label_type: PIXEL", "crop_height: 4", "crop_height is 4 and crop_width 0"),
        ("label_type: PIXEL", "mean_value: 1 mean_value: 2", "has 2 mean_value"),
        ("label_type: PIXEL ignore_label: 300", "", "ignore_label is 300, expected 0 to 255"),
        ("label_type: PIXEL rand_skip: 1000000", "", "rand_skip 1000000 is too much"),
        ("", "", "maps.txt, line 1: .*0.png has the label '/0_labels.png', expected 0 to 255"),
    ],
)
def test_refusals(folder: Path, fields: str, transform: str, what: str) -> None:
    with pytest.raises(CaffeCompatError, match=f"under_test.*{what}"):
        _layer(folder, fields, transform)


def test_bad_pictures(folder: Path) -> None:
    with pytest.raises(CaffeCompatError, match=r"under_test.*smaller than the crop \[9, 9\], expected mean_value"):
        _layer(folder, "label_type: PIXEL", "crop_size: 9")()
    (folder / "maps.txt").write_text("/0.png\n")
    with pytest.raises(CaffeCompatError, match="line 1: .*0.png stands alone"):
        _layer(folder, "label_type: PIXEL")
    cv2.imwrite(str(folder / "wide.png"), image(1, 6, 9))
    (folder / "maps.txt").write_text("/0.png /0_labels.png\n/1.png /wide.png\n/wide.png /wide.png\n")
    layer = _layer(folder, "label_type: PIXEL", tops=2)
    layer()
    with pytest.raises(CaffeCompatError, match=r"line 2: .*1.png is \(6, 8\), its labels \(6, 9\)"):
        layer()
    (folder / "maps.txt").write_text("/0.png /0_labels.png\n/wide.png /wide.png\n")
    with pytest.raises(
        CaffeCompatError, match=r"line 2: .*wide.png is \(6, 9\), the first picture of the batch \(6, 8\)"
    ):
        _layer(folder, "label_type: PIXEL batch_size: 2")()
    (folder / "maps.txt").write_text("\n")
    with pytest.raises(CaffeCompatError, match=r"maps.txt: the list is empty"):
        _layer(folder, "label_type: PIXEL")
