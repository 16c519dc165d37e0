"""tools/index.py: folders of a recording in, the list of frames of make_hha out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import ROOT, call

from caffe_compat.datasets import index_records
from caffe_compat.depth import Camera
from caffe_compat.depth.io import read_raw
from caffe_compat.frames import read_parameters

REAL = ROOT.parent / "shared" / "real" / "rgbd"
START = 1305031102
EYE = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def color(path: str, size: tuple[int, int] = (40, 30)) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 80, 70)).save(path)


def depth(path: str, size: tuple[int, int] = (40, 30), units: int = 1000) -> None:
    """A sloping floor, 1.5 to 4 m away."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = np.linspace(4.0, 1.5, size[1])[:, None] * np.ones(size[0])
    Image.fromarray(np.rint(rows * units).astype(np.uint16)).save(path)


def tum() -> None:
    for number in range(6):
        color(f"seq/rgb/{START + number / 30:.6f}.png")
        depth(f"seq/depth/{START + number / 30 + 0.011:.6f}.png", units=5000)
    color(f"seq/rgb/{START + 9}.000000.png")


def test_two_commands_from_folders_to_a_transfer_s_list() -> None:
    tum()
    numbers = ("--camera", "50,50,19.5,14.5", "--units-per-metre", 5000)
    done = call("index", "seq/rgb", "seq/depth", "-o", "index.json", *numbers)
    assert done.status == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "7 colour and 6 depth files, 6 pairs by time stamps in their names (s), nearest first, at most 11.0 ms apart"
    )
    assert lines[5] == f"without a partner: 1 of colour: {START + 9}.000000.png"
    assert lines[-2:] == [
        "wrote index.json: 6 frames of scene seq",
        "next: tools/make_hha.py --index index.json --output hha --hold-out 5",
    ]
    records = index_records("index.json")
    assert records[0].camera == Camera(50, 50, 19.5, 14.5) and {record.scene for record in records} == {"seq"}
    done = call("make_hha", *lines[-1].split()[2:], "--quiet")
    assert done.status == 0 and "6 written" in done.stdout, done.stderr
    assert "make_transfer.py" in done.stdout and "--source hha/train_pairs.txt" in done.stdout
    assert len(Path("hha/train_pairs.txt").read_text().splitlines()) == 5


def test_one_folder_and_a_dry_run() -> None:
    tum()
    done = call("index", "seq", "--camera", "50,50,19.5,14.5", "--units-per-metre", 5000, "--dry-run")
    assert done.status == 0 and not list(Path().glob("*.json"))
    assert sum(line.startswith("  ") for line in done.stdout.splitlines()) == 6 and ".. " not in done.stdout
    assert done.stdout.endswith("would write 6 frames of scene seq\n")
    done = call("index", "seq", "--camera", "50,50,19.5,14.5", "--units-per-metre", 5000, "--dry-run", "--by", "stem")
    assert done.status == 2 and "no pair" in done.stderr
    done = call("index", "seq", "--camera", "50,50,19.5,14.5", "--dry-run", "--max-gap", "0.001")
    assert done.status == 2 and "do not pair: by stem: no pair; by time: no colour and depth file lie" in done.stderr


def test_a_realsense_at_848x480_by_its_name() -> None:
    for number in (1, 2):
        color(f"s/color_{number}.jpg", (848, 480))
        depth(f"s/depth_{number}.png", (848, 480))
    done = call("index", "s", "-o", "i.json", "--camera", "realsense_d435")
    assert done.status == 0, done.stderr
    assert "(realsense_d435, nominal: good to a few per cent)" in done.stdout
    assert "depth: 1000 units per metre, as realsense_d435 has it unless told otherwise" in done.stdout
    camera = index_records("i.json")[0].camera
    assert camera.fx == pytest.approx(615 * 1080 / 480 * 848 / 1920, rel=0.02) and camera.cx == 423.5
    done = call("index", "s", "-o", "i.json", "--camera", "realsense_d435@640x480")
    assert done.status == 2 and "makes 640 x 480, but colour is 848 x 480" in done.stderr


def test_depth_of_another_size_is_registered() -> None:
    for number in range(3):
        color(f"s/color/{number}.jpg", (80, 60))
        depth(f"s/depth/{number}.png", (40, 30))
    views = {
        "color": {"fx": 100, "fy": 100, "cx": 39.5, "cy": 29.5, "width": 80, "height": 60},
        "depth": {"fx": 50, "fy": 50, "cx": 19.5, "cy": 14.5, "width": 40, "height": 30},
    }
    Path("rig.json").write_text(json.dumps({**views, "rotation": EYE, "translation": [0.02, 0, 0]}))
    done = call("index", "s", "-o", "i.json", "--calibration", "rig.json", "--units-per-metre", 1000, "--quiet")
    assert done.status == 0, done.stderr
    assert "colour is 80 x 60, depth 40 x 30 (width x height): depth is registered to colour" in done.stdout
    assert "registered 3 depth files into i_depth, 1000 units per metre" in done.stdout
    first = read_raw("i_depth/0.png")
    assert first.shape == (60, 80) and (first > 0).mean() > 0.95 and abs(int(first[30, 40]) - 2700) < 120
    assert index_records("i.json")[0].paths["depth"].endswith("i_depth/0.png")
    assert call("make_hha", "--index", "i.json", "-o", "hha", "--quiet").status == 0
    # the same in parts, with workers, at another place
    Path("extrinsics.json").write_text(json.dumps({"rotation": EYE, "translation": [0.02, 0, 0]}))
    parts = ("--camera", "100,100,39.5,29.5", "--depth-camera", "50,50,19.5,14.5", "--extrinsics", "extrinsics.json")
    done = call("index", "s", "-o", "j.json", *parts, "--units-per-metre", 1000, "--registered", "new", "--quiet")
    assert done.status == 0 and np.array_equal(read_raw("new/0.png"), first), done.stderr
    for missing, message in ((2, "--extrinsics is missing"), (1, "--depth-camera is missing")):
        done = call("index", "s", "-o", "k.json", *parts[: 2 * missing], "--units-per-metre", 1000)
        assert done.status == 2 and "so depth has to be registered; " + message in done.stderr
    done = call("index", "s", "-o", "k.json", *parts, "--units-per-metre", 1000, "--registered", "s/depth")
    assert done.status == 2 and "is an input, it would be overwritten" in done.stderr
    Image.fromarray(np.zeros((30, 40), np.uint16)).save("s/depth/1.png")
    done = call("index", "s", "-o", "k.json", *parts, "--units-per-metre", 1000, "--quiet")
    assert done.status == 1 and "failed: s/depth/1.png: all 1200 pixels are missing" in done.stdout
    assert len(index_records("k.json")) == 2


def test_an_azure_kinect_with_its_raw_calibration() -> None:
    color("k/color/000001.jpg", (1280, 720))
    depth("k/depth/000001.png", (320, 288))
    cameras = []
    for place, numbers, far in (("D0", (0.5, 0.5, 0.492, 0.492), 0.0), ("PV0", (0.5, 0.5, 0.476, 0.635), -0.032)):
        intrinsics = {
            "ModelType": "CALIBRATION_LensDistortionModelBrownConrady",
            "ModelParameters": [*numbers, *[0] * 10],
        }
        placed = {"Rotation": sum(EYE, []), "Translation": [far, 0, 0]}
        cameras.append({"Location": f"CALIBRATION_CameraLocation{place}", "Intrinsics": intrinsics, "Rt": placed})
    Path("calibration.json").write_text(json.dumps({"CalibrationInformation": {"Cameras": cameras}}))
    done = call("index", "k", "-o", "i.json", "--calibration", "calibration.json", "--units-per-metre", 1000, "--quiet")
    assert done.status == 0, done.stderr
    assert index_records("i.json")[0].camera.fx == pytest.approx(0.476 * 1280)
    middle = read_raw("i_depth/000001.png")[100:600, 400:900]
    assert (middle > 0).all()


def test_a_ros_bag_with_its_camera_info() -> None:
    folders = ("camera_color_image_raw", "camera_aligned_depth_to_color_image_raw")
    for number in range(3):
        stamp = START * 10**9 + number * 33_000_000
        color(f"bag/{folders[0]}/{stamp}.png")
        depth(f"bag/{folders[1]}/{stamp + 4_000_000}.png")
    Path("info.yaml").write_text("width: 40\nheight: 30\nK: [50, 0, 19.5, 0, 50, 14.5, 0, 0, 1]\nD: [0, 0, 0, 0, 0]\n")
    done = call("index", "bag", "-o", "i.json", "--camera", "info.yaml", "--units-per-metre", 1000)
    assert done.status == 0 and "3 pairs by time stamps in their names (ns)" in done.stdout, done.stderr
    assert index_records("i.json")[0].camera == Camera(50, 50, 19.5, 14.5)


def test_gravity_of_an_accelerometer_reaches_the_pictures() -> None:
    tum()
    rows = [f"{START - 1 + k / 100:.3f},0.0,-9.0,-3.9" for k in range(103)]  # ends after the first frame
    Path("accel.csv").write_text("timestamp,x,y,z\n" + "\n".join(rows))
    words = ("index", "seq", "-o", "i.json", "--camera", "50,50,19.5,14.5", "--units-per-metre", 5000)
    done = call(*words, "--imu", "accel.csv", "--imu-window", 0.03)
    assert done.status == 0, done.stderr
    assert "gravity of 2 frames from accel.csv, 4 without: no sample near it" in done.stdout
    records = index_records("i.json")
    assert records[0].gravity == pytest.approx((0.0, 0.9176, 0.3976), abs=1e-3) and records[5].gravity is None
    done = call("make_hha", "--index", "i.json", "-o", "hha", "--quiet")
    assert "6 written" in done.stdout
    stamps = [read_parameters(path) for path in sorted(Path("hha/hha").iterdir())]
    assert stamps[0]["gravity"] == pytest.approx([0.0, 0.9176, 0.3976], abs=1e-3) and "gravity" not in stamps[5]
    done = call(*words, "--imu", "accel.csv", "--imu-axes", "y,x,z")
    assert "warning: gravity is over 60 degrees off the pictures' downward axis" in done.stdout
    Path("accel.csv").write_text("t,x,y,z\n1305030000,0,-9,-4\n")
    done = call(*words, "--imu", "accel.csv")
    assert done.status == 2 and "accel.csv: gives gravity to no frame: its samples are of 1305030000.000" in done.stderr


def test_the_axes_of_a_turned_depth_camera_are_brought_to_colour() -> None:
    for number in range(2):
        color(f"s/color/{START + number}.jpg", (80, 60))
        depth(f"s/depth/{START + number}.png", (40, 30))
    turned = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]  # depth's right is colour's down
    Path("e.json").write_text(json.dumps({"rotation": turned, "translation": [0, 0, 0]}))
    Path("a.csv").write_text(f"{START},-9.8,0,0\n{START + 1},-9.8,0,0\n")
    parts = ("--camera", "100,100,39.5,29.5", "--depth-camera", "50,50,19.5,14.5", "--extrinsics", "e.json")
    done = call("index", "s", "-o", "i.json", *parts, "--imu", "a.csv", "--units-per-metre", 1000, "--quiet")
    assert done.status == 0 and index_records("i.json")[0].gravity == (0.0, 1.0, 0.0), done.stdout + done.stderr


def test_files_that_do_not_serve_are_left_out() -> None:
    for number in range(6):
        color(f"s/rgb/{number}.png")
        depth(f"s/depth/{number}.png")
    color("s/rgb/2.png", (50, 30))
    Path("s/depth/4.png").write_text("no picture")
    done = call("index", "s", "-o", "i.json", "--camera", "50,50,19.5,14.5", "--units-per-metre", 1000)
    assert done.status == 1 and len(index_records("i.json")) == 4
    assert "failed: s/rgb/2.png: it is 50 x 30, the others are 40 x 30 (width x height)" in done.stdout
    assert "failed: s/depth/4.png: cannot be read as a picture" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s"], "--output is missing (or --dry-run)"),
        (["s", "s", "s", "-o", "i"], "3 folders: expected one of colour and one of depth"),
        (["s", "-o", "i"], "--camera is missing: a camera's name (such as realsense_d435), a file, or fx,fy,cx,cy"),
        (["s", "-o", "i", "--camera", "realsense_d43"], "did you mean"),
        (["s", "-o", "i", "--camera", "kinect_v1"], "makes pictures of 640 x 480 (width x height), these are 40 x 30"),
        (["s", "-o", "i", "--camera", "5,5,1,1", "--units-per-metre", "1"], "which is the wrong unit"),
        (["s", "-o", "i", "--camera", "5,5,1,1", "--units-per-metre", "1000", "--imu", "a.csv"], "no line of numbers"),
        (["s", "-o", "i", "--camera", "5,5,1,1", "--depth-camera", "5,5,1,1"], "say --register, or leave out 5,5,1,1"),
        (["s", "-o", "i", "--camera", "e.json"], "e.json has no colour camera of 40 x 30"),
        (["s", "-o", "i", "--camera", "5,5,1,1", "--extrinsics", "c.json"], "it has no rotation and translation"),
        (["s", "-o", "i", "--camera", "5,5,1,1", "--workers", "-1"], "--workers is -1"),
        (["s", "-o", "i", "--camera", "5,5,1,1", "--imu-window", "0"], "--imu-window is 0.0"),
        (
            [
                "s",
                "-o",
                "i",
                "--camera",
                "5,5,1,1",
                "--units-per-metre",
                "1000",
                "--imu",
                "a.csv",
                "--imu-columns",
                "a",
            ],
            "--imu-columns is 'a', expected four numbers",
        ),
    ],
)
def test_bad_lines(words: list[str], message: str) -> None:
    color("s/rgb/1.png")
    depth("s/depth/1.png")
    Path("a.csv").write_text("words\n")
    Path("e.json").write_text(json.dumps({"rotation": EYE, "translation": [0, 0, 0]}))
    Path("c.json").write_text(json.dumps({"fx": 1, "fy": 1, "cx": 1, "cy": 1}))
    done = call("index", *words)
    assert done.status == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr, done.stderr
    assert not Path("i").exists()


@pytest.mark.skipif(not REAL.is_dir(), reason="no real frames here")
def test_real_frames_as_the_set_s_own_list_has_them() -> None:
    """A TUM sequence, mixed in one folder: the pairs, camera and units of the list that came with it."""
    done = call("index", REAL / "tum_fr1_rpy", "-o", "i.json", "--camera", "tum_fr1")
    assert done.status == 0 and "43 pairs" in done.stdout, done.stderr
    listed = {str(Path(record.paths["depth"]).resolve()): record for record in index_records(REAL / "index_more.json")}
    found = index_records("i.json")
    for record in found:
        path = str(Path(record.paths["depth"]).resolve())
        assert listed[path].camera == record.camera and listed[path].depth.form == record.depth.form
        assert Path(listed[path].paths["images"]).resolve() == Path(record.paths["images"]).resolve()
    by_time = call("index", REAL / "tum_fr1_rpy", "--dry-run", "--camera", "tum_fr1", "--by", "time")
    assert "43 pairs by time stamps in their names (s)" in by_time.stdout
    entries = [json.loads(line.rstrip(",")) for line in Path("i.json").read_text().splitlines()[1:7]]
    Path("six.json").write_text(json.dumps(entries))
    done = call("make_hha", "--index", "six.json", "-o", "hha", "--hold-out", 3, "--quiet")
    assert done.status == 0 and "6 written" in done.stdout, done.stdout + done.stderr
