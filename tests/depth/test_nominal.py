"""Cameras by name at their resolutions."""

import math

import pytest

from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.nominal import NOMINAL, known_name, named_camera, parse_camera
from caffe_compat.errors import DataError

D435 = {
    (1280, 720): 640.3,
    (848, 480): 424.2,
    (640, 480): 384.2,
    (640, 360): 320.2,
    (480, 270): 240.1,
    (424, 240): 212.1,
}
"""Focal lengths of the depth of one device, as rs-enumerate-devices printed them (realsense-ros issue 2788)."""

AZURE = ((1280, 720), (1920, 1080), (2560, 1440), (3840, 2160), (2048, 1536), (4096, 3072))


def test_every_resolution_is_within_a_per_cent_of_a_device():
    for (width, height), focal in D435.items():
        camera = named_camera("realsense_d435_depth", width, height)
        assert camera.fx == camera.fy == pytest.approx(focal, rel=0.01), (width, height)
        assert (camera.cx, camera.cy) == ((width - 1) / 2, (height - 1) / 2)


def test_the_colour_of_an_azure_kinect_keeps_its_width_in_every_mode():
    parts = [camera.fx / camera.width for camera in map(NOMINAL["azure_kinect"].camera, *zip(*AZURE, strict=True))]
    assert parts == pytest.approx([parts[0]] * len(AZURE))


def test_the_presets_are_the_same_cameras():
    for name in ("realsense_d435", "realsense_d435_depth"):
        found, preset = parse_camera(f"{name}@640x480"), CAMERAS[name]
        assert (found.fx, found.fy, found.cx, found.cy) == pytest.approx((preset.fx, preset.fy, preset.cx, preset.cy))
    assert parse_camera("realsense_d435") is CAMERAS["realsense_d435"]


def test_modes_of_the_azure_kinect_crop_and_bin():
    narrow, binned, wide = (
        named_camera("azure_kinect_depth", *size) for size in ((640, 576), (320, 288), (1024, 1024))
    )
    assert narrow.fx == wide.fx == 2 * binned.fx
    assert (narrow.cx, narrow.cy) == (319.5, 331.5) and (binned.cx, binned.cy) == (159.5, 165.5)


def test_every_camera_has_a_sensible_field_of_view():
    for name, sensor in NOMINAL.items():
        for width, height in sensor.sizes:
            camera = sensor.camera(width, height)
            across = 2 * math.degrees(math.atan(width / 2 / camera.fx))
            assert 40 < across < 95 and 0 < camera.cy < height, (name, width, height, across)
            assert (camera.width, camera.height) == (width, height)


def test_a_size_is_asked_for_or_told():
    assert parse_camera("realsense_d455", size=(848, 480)) == parse_camera("realsense_d455@848x480")
    assert parse_camera("realsense_d455@848X480", origin=1).origin == 1
    assert parse_camera("kinect_v1@640x480") == CAMERAS["kinect_v1"]
    assert parse_camera("1,2,3,4", size=(5, 6)) == Camera(1, 2, 3, 4)


def test_names_as_people_write_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("D455", "d455", "RealSense D455", "realsense-d455"):
        assert known_name(text) == "realsense_d455"
        assert parse_camera(f"{text}@848x480") == parse_camera("realsense_d455@848x480")
    assert known_name("Azure-Kinect@1280x720") == "azure_kinect@1280x720"
    for text in ("D999", "1,2,3,4", "camera.json"):
        assert known_name(text) == text
    (tmp_path / "D455").write_text("{}")
    assert known_name("D455") == "D455", "a file of that name"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("realsense_d435@849x480", r"no pictures of 849 x 480 .*; it makes 320 x 240, 424 x 240"),
        ("realsense_d435@848", "expected NAME@WIDTHxHEIGHT"),
        ("realsense_d435@9x" + "9" * 99, "expected NAME@WIDTHxHEIGHT"),
        ("kinect_v1@1280x720", "makes pictures of 640 x 480 .*, these are 1280 x 720"),
        ("realsense_d455", "at which resolution"),
        ("realsense_d4355@848x480", "no camera of that name.*realsense_d435"),
    ],
)
def test_what_there_is_not(text, message):
    with pytest.raises(DataError, match=message):
        parse_camera(text)
