"""Calibrations as the cameras' tools write them, each drawn small."""

import json

import numpy as np
import pytest

from caffe_compat.depth import Camera
from caffe_compat.depth.calibration import read_calibration
from caffe_compat.errors import DataError, MissingFileError

TURNED = [[1.0, -0.01, 0.02], [0.01, 1.0, -0.03], [-0.02, 0.03, 1.0]]

REALSENSE = """ Intrinsic of "Depth" / 640x480 / {Z16}
  Width:       640
  Height:     480
  PPX:         319.480407714844
  PPY:         236.351501464844
  Fx:         384.207489013672
  Fy:         384.207489013672
  Distortion: Brown Conrady
  Coeffs:     0   0   0   0   0
  FOV (deg):   79.58 x 63.98

 Intrinsic of "Depth" / 848x480 / {Z16}
  Width:       848
  Height:     480
  PPX:         423.426300048828
  PPY:         236.04
  Fx:         424.229095458984
  Fy:         424.229095458984
  Distortion: Brown Conrady
  Coeffs:     0   0   0   0   0

 Intrinsic of "Color" / 1280x720 / {YUYV/RGB8/BGR8/RGBA8/BGRA8/Y8}
  Width:       1280
  Height:     720
  PPX:         640.5
  PPY:         361.25
  Fx:         918.0
  Fy:         917.5
  Distortion: Inverse Brown Conrady
  Coeffs:     0.1   -0.2   0.001   0.002   0.03

 Extrinsic from "Infrared 1"\t  To\t  "Color" :
 Rotation Matrix:
   1 0 0
   0 1 0
   0 0 1

 Translation Vector: 9  9  9

 Extrinsic from "Depth"\t  To\t  "Color" :
 Rotation Matrix:
   0.99999          -0.003             1.5e-03
   0.003             0.99999          -0.0004
  -0.0015            0.0004            0.99999

 Translation Vector: 0.0147  0.0002  -1.2e-05

"""


def test_what_rs_enumerate_devices_prints(tmp_path):
    path = tmp_path / "camera.txt"
    path.write_text(REALSENSE)
    found = read_calibration(path, (1280, 720), (848, 480))
    assert found.depth.camera == Camera(424.229095458984, 424.229095458984, 423.426300048828, 236.04, 848, 480)
    assert found.color.camera == Camera(918.0, 917.5, 640.5, 361.25, 1280, 720)
    assert found.color.distortion == (0.1, -0.2, 0.001, 0.002, 0.03)
    rotation, translation = found.extrinsics
    assert rotation[0] == (0.99999, -0.003, 0.0015) and translation == (0.0147, 0.0002, -1.2e-05)
    other = read_calibration(path, (640, 480), (640, 480))
    assert other.color is None and other.depth.camera.fx == 384.207489013672


def test_pyrealsense_counts_a_rotation_by_columns(tmp_path):
    path = tmp_path / "c.json"
    stream = {"width": 640, "height": 480, "ppx": 320.0, "ppy": 240.0, "fx": 600.0, "fy": 601.0, "coeffs": [0.0] * 5}
    columns = [value for column in zip(*TURNED, strict=True) for value in column]
    placed = {"rotation": columns, "translation": [0.015, 0, 0]}
    path.write_text(json.dumps({"color": stream, "depth": {**stream, "fx": 380}, "depth_to_color": placed}))
    found = read_calibration(path, (640, 480), (640, 480))
    assert found.extrinsics == (tuple(map(tuple, TURNED)), (0.015, 0.0, 0.0))
    assert found.depth.camera == Camera(380, 601, 320, 240, 640, 480)
    assert found.color.camera.cx == 320 and found.color.lens is None


def test_a_json_of_ones_own(tmp_path):
    path = tmp_path / "c.json"
    fields = {"fx": 5, "fy": 6, "cx": 7, "cy": 8}
    path.write_text(json.dumps({"depth": fields, "rotation": TURNED, "translation": [1, 0, 0]}))
    found = read_calibration(path, (20, 10), (10, 5))
    assert found.color is None and found.depth.camera == Camera(5, 6, 7, 8, 10, 5)
    assert found.extrinsics == (tuple(map(tuple, TURNED)), (1.0, 0.0, 0.0))
    path.write_text(json.dumps({**fields, "distortion": [1, 2, 3, 4], "origin": 1}))
    found = read_calibration(path, (20, 10), (10, 5))
    assert found.color.camera == Camera(5, 6, 7, 8, 20, 10, origin=1) and found.color.distortion == (1, 2, 3, 4)
    path.write_text(json.dumps({"rotation": TURNED, "translation": [1, 0, 0]}))
    assert read_calibration(path, (20, 10), (10, 5)).extrinsics[1] == (1.0, 0.0, 0.0)


def azure() -> dict:
    def camera(place, numbers, rotation, translation):
        return {
            "Location": f"CALIBRATION_CameraLocation{place}",
            "Rt": {"Rotation": rotation, "Translation": translation},
            "Intrinsics": {"ModelType": "CALIBRATION_LensDistortionModelBrownConrady", "ModelParameters": numbers},
        }

    eye = [1.0, 0, 0, 0, 1, 0, 0, 0, 1]
    depth = camera("D0", [0.5, 0.51, 0.492, 0.493, *[1.0, 2, 3, 4, 5, 6], 0, 0, 0.2, 0.1], eye, [0, 0, 0])
    color = camera("PV0", [0.501, 0.502, 0.476, 0.635, *[0.0] * 8, 0, 0], sum(TURNED, []), [-0.032, -0.002, 0.004])
    return {"CalibrationInformation": {"Cameras": [depth, color], "InertialSensors": []}}


def test_the_raw_calibration_of_an_azure_kinect(tmp_path):
    """As the SDK's examples make a mode of it: scale, crop, half a pixel; p2 stands before p1."""
    path = tmp_path / "k.json"
    path.write_text(json.dumps(azure()))
    found = read_calibration(path, (1280, 720), (640, 576))
    depth, color = found.depth.camera, found.color.camera
    assert (depth.fx, depth.fy) == pytest.approx((0.492 * 1024, 0.493 * 1024))
    assert (depth.cx, depth.cy) == pytest.approx((0.5 * 1024 - 192 - 0.5, 0.51 * 1024 - 180 - 0.5))
    assert found.depth.distortion == (1, 2, 0.1, 0.2, 3, 4, 5, 6)
    assert (color.fx, color.fy) == pytest.approx((0.476 * 1280, 0.635 * 960))
    assert (color.cx, color.cy) == pytest.approx((0.501 * 1280 - 0.5, 0.502 * 960 - 120 - 0.5))
    assert found.extrinsics == (tuple(map(tuple, TURNED)), (-0.032, -0.002, 0.004))
    assert read_calibration(path, (1000, 720), (640, 576)).color is None


def test_a_camera_info(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "image_width: 640\nimage_height: 480\ncamera_name: head\ncamera_matrix:\n  rows: 3\n  cols: 3\n"
        "  data: [525., 0., 319.5, 0., 526., 239.5, 0., 0., 1.]\ndistortion_model: plumb_bob\n"
        "distortion_coefficients:\n  rows: 1\n  cols: 5\n  data: [0.1, -0.2, 0.001, 0.002, 0.]\n"
    )
    found = read_calibration(path, (640, 480), (640, 480)).color
    assert found.camera == Camera(525, 526, 319.5, 239.5, 640, 480) and found.distortion == (0.1, -0.2, 0.001, 0.002, 0)
    topic = "height: 480\nwidth: 640\ndistortion_model: 'plumb_bob'\nD: [0, 0, 0, 0, 0]\n"
    path.write_text(topic + "K: [525, 0, 319.5, 0, 526, 239.5, 0, 0, 1]\n")
    assert read_calibration(path, (640, 480), (640, 480)).color.camera == found.camera
    path.write_text(topic.replace("D:", "d:") + "k: [525, 0, 319.5, 0, 526, 239.5, 0, 0, 1]\n")  # ROS 2
    assert read_calibration(path, (640, 480), (640, 480)).color.camera == found.camera


def test_files_that_cameras_were_read_from_before(tmp_path):
    (tmp_path / "k.txt").write_text("525 0 319.5\n0 526 239.5\n0 0 1\n")
    assert read_calibration(tmp_path / "k.txt", (640, 480), (1, 1)).color.camera == Camera(
        525, 526, 319.5, 239.5, 640, 480
    )
    numbers = [525, 0, 0, 0, 526, 0, 319.5, 239.5, 1]
    (tmp_path / "k.json").write_text(json.dumps({"width": 640, "height": 480, "intrinsic_matrix": numbers}))
    assert read_calibration(tmp_path / "k.json", (640, 480), (1, 1)).color.camera.cx == 319.5


def broken_azure(change) -> str:
    tree = azure()
    change(tree["CalibrationInformation"]["Cameras"])
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "no calibration: expected color, depth, rotation"),
        ("[1, 2]", "no calibration: expected the fields of a camera_info"),
        ("just words", "no calibration: expected the fields of a camera_info"),
        ('{"fx": 1, "fy": 1, "cx": 1}', "there is no field 'cy'"),
        ('{"fx": -1, "fy": 1, "cx": 1, "cy": 2}', "fx is -1.0, expected a positive number"),
        ('{"fx": 1, "fy": 1, "cx": 1, "cy": 2, "width": 3}', r"colour camera is of 3 x 480, but the pictures are 640"),
        ('{"rotation": [1, 0, 0, 0, 1, 0, 0, 0, 1], "translation": [0, 0, 0]}', "expected three rows of three"),
        ('{"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}', "there is no field 'translation'"),
        ("K: [1, 2]\nwidth: 640\nheight: 480", "its camera matrix has 2 numbers"),
        ("K: [1, 0, 1, 0, 1, 1, 0, 0, 1]\nwidth: 1\nheight: 2", "its pictures are 1 x 2, but these are 640 x 480"),
        ("K: [1, 0, 1, 0, 1, 1, 0, 0, 1]\nwidth: 640", "not a calibration that can be read"),
        (
            "K: [1, 0, 1, 0, 1, 1, 0, 0, 1]\nwidth: 640\nheight: 480\ndistortion_model: equidistant\nD: [1, 0, 0, 0]",
            "distortion_model is equidistant",
        ),
        ("1 2 3", "not a camera file"),
        (REALSENSE.replace("0.003             0.99999", "x"), "three rows of a matrix and a vector"),
        (broken_azure(lambda cameras: cameras.pop()), r"its cameras are D0, expected D0 \(depth\) and PV0"),
        (
            broken_azure(lambda cameras: cameras[0]["Intrinsics"].update(ModelType="Rational6KT")),
            "lens model Rational6KT",
        ),
        (broken_azure(lambda cameras: cameras[0]["Intrinsics"].update(ModelParameters=[1])), "not a calibration that"),
        (broken_azure(lambda cameras: cameras[0].pop("Location")), "there is no field 'Location'"),
    ],
)
def test_what_is_no_calibration(tmp_path, text, message):
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_calibration(path, (640, 480), (640, 576))
    assert "c.json" in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.json"):
        read_calibration(tmp_path / "none.json", (1, 1), (1, 1))
    (tmp_path / "b.yaml").write_bytes(np.arange(256, dtype=np.uint8).tobytes())
    with pytest.raises(DataError, match=r"b\.yaml"):
        read_calibration(tmp_path / "b.yaml", (1, 1), (1, 1))
