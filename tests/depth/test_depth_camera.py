import json

import pytest

from caffe_compat.depth import CAMERAS, Camera
from caffe_compat.errors import DataError, MissingFileError


def test_cropped_preset_is_the_crop_of_the_full_one():
    cropped = CAMERAS["nyud2_color_cropped"]
    assert (cropped.cx, cropped.cy) == pytest.approx((285.58244941, 208.73616633), abs=1e-8)
    assert (cropped.width, cropped.height, cropped.origin) == (560, 425, 1)
    with pytest.raises(DataError, match="leaves the image"):
        CAMERAS["nyud2_color"].crop(100, 0, 425, 560)


def test_camera_from_files(tmp_path):
    plain = tmp_path / "a.json"
    plain.write_text(json.dumps({"fx": 5, "fy": 6, "cx": 2, "cy": 3, "width": 8, "height": 7, "origin": 1}))
    assert Camera.from_file(plain) == Camera(5, 6, 2, 3, 8, 7, 1)
    open3d = tmp_path / "b.json"
    open3d.write_text(json.dumps({"width": 640, "height": 480, "intrinsic_matrix": [5, 0, 0, 0, 6, 0, 2, 3, 1]}))
    assert Camera.from_file(open3d) == Camera(5, 6, 2, 3, 640, 480)
    sun = tmp_path / "intrinsics.txt"
    sun.write_text("520.5 0 277.9\n0 520.6 215.1\n0 0 1\n")
    assert Camera.from_file(sun) == Camera(520.5, 520.6, 277.9, 215.1)
    assert Camera.parse(str(sun)) == Camera.from_file(sun)


@pytest.mark.parametrize("content", ["1 2 3", "5 0 2 0 6 3 1 0 1", "a b c d", "0 6 2 3", ""])
def test_bad_camera_files_name_the_file(tmp_path, content):
    path = tmp_path / "intrinsics.txt"
    path.write_text(content)
    with pytest.raises(DataError, match="intrinsics.txt: not a camera file"):
        Camera.from_file(path)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"fx": 1}', '{"intrinsic_matrix": [1]}', '{"fx":1,"fy":1,"cx":[],"cy":1}']
)
def test_bad_json_cameras_name_the_file(tmp_path, content):
    path = tmp_path / "camera.json"
    path.write_text(content)
    with pytest.raises(DataError, match="camera.json: not a camera file"):
        Camera.from_file(path)


def test_parse_takes_presets_and_numbers():
    assert Camera.parse("kinect_v2") is CAMERAS["kinect_v2"]
    assert Camera.parse("5,6,2,3", origin=1) == Camera(5, 6, 2, 3, origin=1)
    with pytest.raises(DataError, match="did you mean 'kinect_v2'"):
        Camera.parse("kinect_2")
    with pytest.raises(DataError, match="four numbers"):
        Camera.parse("5,6,2,x")
    with pytest.raises(MissingFileError):
        Camera.parse("nowhere.json")


def test_impossible_cameras_are_refused():
    for bad in ({"fx": 0}, {"fy": float("nan")}, {"cx": float("inf")}, {"width": 0}, {"origin": 2}):
        with pytest.raises(DataError, match=next(iter(bad))):
            Camera(**{"fx": 1, "fy": 1, "cx": 0, "cy": 0, **bad})
