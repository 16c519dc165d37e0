"""Preprocessing: what a net wants of a picture, as a blob and as a file."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest

from caffe_compat.errors import DataError, UsageError
from caffe_compat.media import (
    FORK_MEAN,
    MODALITIES,
    Preprocessing,
    read_preprocessing,
    write_mean,
    write_preprocessing,
)

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_blob_against_a_slow_reference():
    wanted = Preprocessing(mean=(1.5, 2.5, 3.5), scale=0.25, resize=(12, 14), crop=(8, 9))
    resized = cv2.resize(IMAGE, (14, 12), interpolation=cv2.INTER_LINEAR)
    expected = (resized.astype(np.float32) - np.float32([1.5, 2.5, 3.5])) * np.float32(0.25)
    found = wanted.blob(IMAGE)
    assert found.dtype == np.float32 and found.shape == (3, 8, 9)
    assert np.array_equal(found, expected[2:10, 2:11].transpose(2, 0, 1))


def test_defaults_are_those_of_the_modality():
    assert Preprocessing().mean == FORK_MEAN == (102.9801, 115.9465, 122.7717)
    assert np.array_equal(Preprocessing().blob(IMAGE), (IMAGE - np.float32(FORK_MEAN)).transpose(2, 0, 1))
    red_first = Preprocessing(channels=("red", "green", "blue"))
    assert np.array_equal(red_first.blob(IMAGE), Preprocessing().blob(IMAGE)[::-1])
    for name, kind in MODALITIES.items():
        channels = 1 if name == "gray" else 3
        assert Preprocessing(name).mean == kind.mean and len(kind.channels) == len(kind.mean) == channels
        assert Preprocessing(name).blob(IMAGE[..., :channels]).shape == (channels, 20, 30)
        assert Preprocessing(name, resize=(4, 5)).blob(IMAGE[..., :channels]).shape == (channels, 4, 5)


def test_mirror_turns_what_points_to_the_right():
    for name in ("flow", "normals"):
        plain, turned = Preprocessing(name).blob(IMAGE), Preprocessing(name).blob(IMAGE, mirrored=True)
        assert np.array_equal(turned[:2], plain[:2, :, ::-1])
        assert plain[2].min() == -128  # 0 would become 256
        assert np.array_equal(turned[2], np.minimum(-plain[2, :, ::-1], 127))  # about 128, which is the mean
    about = Preprocessing("normals_255")
    assert np.array_equal(about.blob(IMAGE, mirrored=True)[2], -about.blob(IMAGE)[2, :, ::-1])  # about 127.5
    assert np.array_equal(Preprocessing("hha").blob(IMAGE, mirrored=True), Preprocessing("hha").blob(IMAGE)[:, :, ::-1])
    swapped = Preprocessing("flow", channels=("x", "y", "magnitude"))
    assert np.array_equal(swapped.blob(IMAGE, mirrored=True), Preprocessing("flow").blob(IMAGE, mirrored=True)[::-1])
    with pytest.raises(UsageError, match="flip is false"):
        Preprocessing(flip=False).blob(IMAGE, mirrored=True)


def test_mean_file(tmp_path):
    mean = RNG.normal(size=(3, 20, 30)).astype(np.float32)
    write_mean(tmp_path / "mean.binaryproto", mean)
    wanted = Preprocessing(mean_file=str(tmp_path / "mean.binaryproto"), crop=(4, 6))
    expected = (IMAGE.transpose(2, 0, 1) - mean)[:, 8:12, 12:18]
    assert np.array_equal(wanted.blob(IMAGE), expected)
    assert np.array_equal(wanted.blob(IMAGE, mirrored=True), expected[:, :, ::-1])  # the mean of where a pixel was
    with pytest.raises(DataError, match=r"mean.binaryproto has the shape \[3, 20, 30\], the picture \[3, 10, 30\]"):
        wanted.blob(IMAGE[:10])


def test_size_rules():
    assert Preprocessing(short_side=10).blob(IMAGE).shape == (3, 10, 15)
    assert Preprocessing(short_side=10, longest_side=12).blob(IMAGE).shape == (3, 8, 12)
    smooth = Preprocessing(resize=(10, 15), resize_rule="skimage", mean=()).blob(IMAGE)
    assert smooth.shape == (3, 10, 15) and not np.array_equal(
        smooth, Preprocessing(resize=(10, 15), mean=()).blob(IMAGE)
    )


def test_round_trip(tmp_path):
    write_mean(tmp_path / "m.binaryproto", np.zeros((3, 20, 30), np.float32))
    for wanted in (
        Preprocessing(),
        Preprocessing("flow", ("x", "y", "magnitude"), (128.0,), scale=0.5, short_side=8, longest_side=9, flip=False),
        Preprocessing("hha", resize=(4, 5), resize_rule="skimage", crop=(2, 3), classes=("bed", "chair")),
        Preprocessing(mean_file=str(tmp_path / "m.binaryproto")),
    ):
        (tmp_path / "net").mkdir(exist_ok=True)
        write_preprocessing(tmp_path / "net" / "preprocessing.json", wanted)
        found = read_preprocessing(tmp_path / "net" / "preprocessing.json")
        assert dataclasses.replace(found, mean_file=wanted.mean_file) == wanted
        assert np.array_equal(found.blob(IMAGE), wanted.blob(IMAGE))
    held = json.loads((tmp_path / "net" / "preprocessing.json").read_text())
    assert held["inputs"]["data"]["mean_file"] == "../m.binaryproto"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"meen": [1]}, "unknown key 'meen'.*mean"),
        ({"mean": "1"}, 'mean: expected a list of numbers, found "1"'),
        ({"mean": [1, True]}, "mean: expected a list of numbers"),
        ({"mean": [1, 2]}, "mean .*expected 1 or 3 numbers"),
        ({"mean_file": "m"}, "mean and mean_file"),
        ({"mean": [10**400]}, "mean: expected a list of numbers"),
        ({"scale": None}, "scale: expected a number, found null"),
        ({"scale": 0}, "scale 0.0: expected a number other than 0"),
        ({"modality": "hah"}, "modality 'hah'.*hha"),
        ({"channels": ["red", "green"]}, "channels .*expected those of 'color'"),
        ({"resize": [3]}, r"resize: expected \[height, width\] or null"),
        ({"resize": [3, 0]}, "resize .*height and width"),
        ({"resize": [3, 4], "short_side": 5}, "resize and short_side"),
        ({"resize_rule": "pil"}, "resize_rule 'pil': expected one of caffe, fast-rcnn, skimage"),
        ({"longest_side": 5}, "no short_side"),
        ({"crop": "7"}, "crop: expected"),
        ({"short_side": 1.5}, "short_side: expected a whole number"),
        ({"flip": 1}, "flip: expected true or false"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"classes": [1]}, "classes: expected a list of names"),
        ({"units": "metres"}, "units: expected"),
    ],
)
def test_files_that_are_refused(tmp_path, changes, message):
    path = tmp_path / "preprocessing.json"
    write_preprocessing(path, Preprocessing())
    entry = json.loads(path.read_text())["inputs"]["data"] | changes
    classes = {"classes": entry.pop("classes", [])}
    for content in ({"version": 1} | entry | classes, {"version": 2, "inputs": {"data": entry}} | classes):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=f"preprocessing.json: .*{message}"):
            read_preprocessing(path)


def test_files_that_are_no_objects(tmp_path):
    path = tmp_path / "preprocessing.json"
    for text in ("[]", "{", "{}", "[" * 100000):
        path.write_text(text)
        with pytest.raises(DataError, match=r"preprocessing\.json"):
            read_preprocessing(path)


def test_pictures_that_do_not_fit():
    with pytest.raises(DataError, match=r"expected uint8 \(height, width, 3\)"):
        Preprocessing().blob(IMAGE.astype(np.float32))
    with pytest.raises(DataError, match="is 30x20, smaller than a crop of 5x21"):
        Preprocessing(crop=(21, 5)).blob(IMAGE)
