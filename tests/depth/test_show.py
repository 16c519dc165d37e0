import dataclasses
import math

import hha_reference
import numpy as np
import pytest
from conftest import needs
from PIL import Image

from caffe_compat.depth import CAMERAS, hha
from caffe_compat.depth.io import DepthFormat, read_color, read_depth
from caffe_compat.depth.show import draw_frame, save_figure, summarize
from caffe_compat.errors import CaffeCompatError, DataError, UsageError

CAMERA = hha_reference.CAMERA
COLOR = np.random.default_rng(1).integers(0, 256, (48, 60, 3), dtype=np.uint8)


def picture(path, *arguments, **options) -> np.ndarray:
    save_figure(path, draw_frame(*arguments, **options))
    with Image.open(path) as image:
        assert image.format == "PNG" and not image.info.get("Software")
        return np.array(image.convert("RGB"))


def share(image: np.ndarray, color: tuple[int, int, int]) -> float:
    return float((np.abs(image.astype(int) - color).max(-1) <= 6).mean())


@pytest.mark.parametrize("tilt", [0.0, 12.0, -8.0])
def test_summary_is_the_truth(tilt):
    depth, _ = hha_reference.room(tilt)
    found = summarize(depth, hha(depth, CAMERA, parts=True))
    angle = math.radians(tilt)
    # In so small an image the 21 x 21 windows over the edge of floor and wall turn gravity by up to a degree.
    assert found.gravity == pytest.approx((0, math.cos(angle), math.sin(angle)), abs=0.02)
    assert found.tilt == pytest.approx(abs(tilt), abs=1.2) and found.pitch == pytest.approx(tilt, abs=1.2)
    assert found.roll == pytest.approx(0, abs=0.5)
    assert found.camera_height == pytest.approx(hha_reference.EYE_HEIGHT, abs=0.08) and not found.ground_assumed
    assert (found.missing, found.nearest, found.farthest) == (0, depth.min(), depth.max())


def test_summary_of_missing_pixels_and_an_assumed_ground():
    x = ((np.arange(60) + 1 - CAMERA.cx) / CAMERA.fx)[None, :]
    depth = np.minimum(2.0, 0.7 / np.maximum(x, 1e-9)) + np.zeros((48, 1))  # a corner, seen to 1.85 m below the camera
    depth[:12] = 0
    missing = depth == 0
    found = summarize(depth, hha(depth, CAMERA, missing, parts=True), missing)
    assert found.missing == 0.25 and found.farthest == 2.0 and not found.ground_assumed
    assert found.nearest == depth[20].min() and found.tilt == pytest.approx(0, abs=0.1)
    assert found.camera_height == pytest.approx(2 * (48 - CAMERA.cy) / CAMERA.fy, abs=0.01)
    top = summarize(depth[:30], hha(depth[:30], dataclasses.replace(CAMERA, height=30), missing[:30], parts=True))
    assert top.ground_assumed and top.camera_height == pytest.approx(1.3)
    assert "assumed" in top.lines()[2] and "assumed" not in found.lines()[2]


def test_roll_is_the_turn_of_the_image():
    angle = math.radians(10)
    depth, _ = hha_reference.room()
    parts = hha(depth, CAMERA, parts=True)
    rolled = dataclasses.replace(parts, gravity=np.array([math.sin(angle), math.cos(angle), 0.0]))
    found = summarize(depth, rolled)
    assert (found.roll, found.pitch, found.tilt) == (pytest.approx(10), pytest.approx(0), pytest.approx(10))


def test_picture_shows_missing_pixels_ground_and_colour(tmp_path):
    depth, floor = hha_reference.room(12)
    plain = picture(tmp_path / "plain.png", depth, CAMERA)
    assert plain.shape[1] > 1200 and plain.shape[0] > 800 and plain.std() > 30
    assert share(plain, (255, 0, 200)) == 0 and share(plain, (255, 212, 0)) > 1.5e-4  # no magenta; the arrow
    missing = np.zeros_like(floor)
    missing[:24] = True
    holes = picture(tmp_path / "holes.png", depth, CAMERA, missing, COLOR)
    panel = 330 * 264 / (plain.shape[0] * plain.shape[1])
    assert share(holes, (255, 0, 200)) == pytest.approx(panel / 2, rel=0.03)
    assert not np.array_equal(plain[:400, :330], holes[:400, :330])  # colour instead of "no colour"
    # The floor, and nothing else, is tinted: green over grey in the last panel.
    last = plain[380:660, 1280:].astype(int)
    green = (last[..., 1] - last[..., 0] > 40) & (last[..., 1] - last[..., 2] > 15)
    assert green.sum() / (330 * 264) == pytest.approx(floor.mean(), abs=0.06)


def test_same_frame_same_bytes_other_frame_other_picture(tmp_path):
    for name, tilt in (("a", 5.0), ("b", 5.0), ("c", 25.0)):
        picture(tmp_path / f"{name}.png", hha_reference.room(tilt)[0], CAMERA, color=COLOR, title="50 $ of _room_")
    content = {name: (tmp_path / f"{name}.png").read_bytes() for name in "abc"}
    assert content["a"] == content["b"] != content["c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png"]


def test_given_parts_are_drawn_and_portrait_fits(tmp_path):
    depth = hha_reference.room(12)[0][:, 15:45]
    camera = CAMERA.crop(0, 15, 48, 30)
    drawn = picture(tmp_path / "a.png", depth, camera, title="x" * 500, parts=hha(depth, camera, parts=True))
    assert drawn.shape[0] > 1200 and np.array_equal(drawn, picture(tmp_path / "b.png", depth, camera, title="x" * 500))


def test_real_frame(tmp_path):
    folder = needs("real", "rgbd", "nyud2_labelled")
    form = DepthFormat(1000.0)
    depth = read_depth(folder / "5001_depth.png", form)
    missing = read_depth(folder / "5001_rawdepth.png", form) == 0
    color = read_color(folder / "5001_rgb.png")
    found = summarize(depth, hha(depth, CAMERAS["nyud2_color_cropped"], missing, parts=True), missing)
    assert found.gravity == pytest.approx((-0.03744, 0.99929, -0.00349), abs=1e-4)
    assert found.camera_height == pytest.approx(1.25127, abs=1e-3) and found.missing == pytest.approx(7952 / 238000)
    assert picture(tmp_path / "a.png", depth, "nyud2_color_cropped", missing, color).std() > 30


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": np.ones((2, 48, 60))}, "one frame"),
        ({"depth": [[1.0]]}, "a list"),
        ({"depth": np.ones((10, 60))}, "camera makes"),
        ({"depth": np.zeros((48, 60))}, "missing"),
        ({"color": COLOR[1:]}, "colour is uint8 of shape"),
        ({"color": COLOR / 255}, "colour is float64"),
        ({"camera": "kinect"}, "no such preset"),
        ({"missing": np.zeros((48, 60))}, "expected bool"),
    ],
)
def test_bad_input(change, words):
    with pytest.raises(DataError, match=words):
        draw_frame(**{"depth": hha_reference.room()[0], "camera": CAMERA, **change})


def test_bad_output(tmp_path):
    figure = draw_frame(hha_reference.room()[0], CAMERA)
    with pytest.raises(UsageError, match=r"\.png"):
        save_figure(tmp_path / "a.jpg", figure)
    (tmp_path / "file").write_text("")
    with pytest.raises(CaffeCompatError, match="cannot write"):
        save_figure(tmp_path / "file" / "a.png", figure)
