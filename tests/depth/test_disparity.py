"""The disparity channel: the paper's by default, a scale of its own for a near set, a warning where it clips."""

import pickle
import warnings

import numpy as np
import pytest
import torch

from caffe_compat.depth import Camera, ClipWarning, Options, Reading, disparity, hha, scale_for
from caffe_compat.errors import UsageError

CAMERA = Camera(30, 30, 12, 9)
TABLE = np.linspace(0.9, 0.4, 18)[:, None].repeat(24, 1)  # a table top, all nearer than 1.22 m
ROOM = np.linspace(4.0, 1.3, 18)[:, None].repeat(24, 1)


def test_the_default_is_the_papers():
    depth = np.array([[0.2, 1.0, 1.2, 1.2157, 2.0, 10.0, 5.0, 19.0]])
    expected = np.floor(31000 / np.maximum(depth * 100, 100) + 0.5).clip(0, 255)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(disparity(depth)[..., 0], expected)
        assert np.array_equal(disparity(depth, scale=31000)[..., 0], expected)
    whole = hha(ROOM, CAMERA)
    assert np.array_equal(whole, hha(ROOM, CAMERA, scale=31000.0))
    assert np.array_equal(whole[..., 0], disparity(ROOM)[..., 0])


def test_near_just_does_not_clip():
    assert scale_for(0.4) == pytest.approx(10200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = disparity(TABLE, near=0.4)
        parts = hha(TABLE, CAMERA, near=0.4)
    assert image[-1, 0, 0] == 255 and image[0, 0, 0] == round(255 * 0.4 / 0.9) == 113
    assert len(np.unique(image)) == 18  # every row apart, where the default leaves one value
    assert np.array_equal(parts[..., 0], image[..., 0])
    with pytest.warns(ClipWarning):
        usual = hha(TABLE, CAMERA)
    assert set(usual[..., 0].ravel()) == {255}
    assert np.array_equal(parts[..., 1:], usual[..., 1:])  # height and angle do not depend on it


def test_holes_are_255_with_any_scale():
    depth = np.array([[0.0, 3.0]])
    for scale in (100.0, 10200.0, 31000.0, 1e6):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert disparity(depth, depth == 0, scale=scale)[0, 0, 0] == 255


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"scale": 1.0, "near": 1.0}, "expected one of them"),
        ({"scale": 0.0}, "expected a positive number"),
        ({"scale": float("nan")}, "expected a positive number"),
        ({"near": -1.0}, "near is -1.0 m"),
        ({"near": float("inf")}, "near is inf m"),
    ],
)
def test_scales_that_make_no_sense(words, message):
    for call in (lambda: disparity(ROOM, **words), lambda: hha(ROOM, CAMERA, **words)):
        with pytest.raises(UsageError, match=message):
            call()


def test_clipping_is_warned_of_by_measured_pixels():
    depth = ROOM.copy()
    depth[:4] = 1.0  # 4 of 18 rows: 22 %
    with pytest.warns(ClipWarning, match=r"22 % of the measured pixels lie nearer than 1\.216 m .*near=1\.000"):
        hha(depth, CAMERA)
    missing = np.zeros(depth.shape, bool)
    missing[:2] = True  # 2 of 16 measured rows: 12 %
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hha(depth, CAMERA, missing)
        disparity(depth, missing)
    with pytest.warns(ClipWarning) as caught:
        disparity(torch.from_numpy(np.stack([TABLE, ROOM, TABLE])))
    assert len(caught) == 2


def test_the_warning_travels_and_is_summed_up():
    first, second = ClipWarning(0.5, 0.3109, 31000.0), ClipWarning(0.9, 0.4, 31000.0)
    assert str(pickle.loads(pickle.dumps(first))) == str(first)  # noqa: S301 - our own bytes
    line = ClipWarning.summary([("a.png", first), ("b.png", second)], 7)
    assert line.startswith("in 2 of 7 frames over 20 % of the measured pixels lie nearer than 1.216 m")
    assert "most in b.png: 90 %" in line and "the nearest depth is 0.310 m: --near 0.310" in line


def test_an_encoder_records_and_uses_its_scale():
    encoder = Options("disparity", scale=scale_for(0.4)).encoder(None)
    assert encoder.parameters()["scale"] == pytest.approx(10200)
    assert np.array_equal(encoder.encode(Reading(TABLE)), disparity(TABLE, near=0.4))
    assert encoder.assumed == {"scale": 31000.0}
    with pytest.raises(UsageError, match="disparity scale is -1"):
        Options(scale=-1.0)
