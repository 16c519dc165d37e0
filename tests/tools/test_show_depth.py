import math
import re

import h5py
import numpy as np
import pytest
from conftest import needs
from PIL import Image
from program import call

from caffe_compat.depth import CAMERAS

HEIGHT, WIDTH, FOCAL, EYE, TILT, WALL = 96, 128, 90.0, 1.4, 15.0, 4.0
CAMERA = ["--camera", f"{FOCAL},{FOCAL},63.5,47.5", "--units-per-metre", "1000"]


def room(tilt: float = TILT) -> np.ndarray:
    """uint16 millimetres of a floor and a wall, seen by a camera that looks down by ``tilt`` degrees."""
    angle = math.radians(tilt)
    slope = ((np.arange(HEIGHT) - 47.5) / FOCAL)[:, None] + np.zeros(WIDTH)
    down, ahead = math.cos(angle) * slope + math.sin(angle), math.cos(angle) - math.sin(angle) * slope
    floor = np.where(down > 0, EYE / np.maximum(down, 1e-9), np.inf)
    return np.rint(np.minimum(floor, WALL / ahead) * 1000).astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(room()).save(tmp_path / "depth.png")
    holes = room()
    holes[:24, :32] = 0
    Image.fromarray(holes).save(tmp_path / "raw.png")
    colors = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(colors).save(tmp_path / "color.png")
    return tmp_path


def numbers(text: str, name: str) -> list[float]:
    line = re.search(rf"^{name}: (.*)$", text, re.MULTILINE)
    assert line is not None, text
    return [float(word) for word in re.findall(r"-?\d+\.\d+", line.group(1))]


def test_prints_the_truth_and_draws(folder):
    done = call("show_depth", "depth.png", "-o", "out/a.png", *CAMERA, "--color", "color.png", folder=folder)
    assert done.status == 0 and done.stderr == "", done
    lines = done.stdout.splitlines()
    assert lines[0] == "depth.png" and lines[-1] == "wrote out/a.png" and len(lines) == 7
    angle = math.radians(TILT)
    assert numbers(done.stdout, "gravity") == pytest.approx([0, math.cos(angle), math.sin(angle)], abs=6e-3)
    assert numbers(done.stdout, "tilt") == pytest.approx([TILT, TILT, 0], abs=0.5) and "downwards" in done.stdout
    assert numbers(done.stdout, "ground")[0] == pytest.approx(EYE, abs=0.04)
    assert numbers(done.stdout, "missing") == [0]
    assert numbers(done.stdout, "depth") == [room().min() / 1000, room().max() / 1000]
    with Image.open(folder / "out" / "a.png") as image:
        assert image.format == "PNG" and min(image.size) > 800


def test_holes_of_the_raw_depth_or_of_the_depth_itself(folder):
    pictures = {}
    for name, words in {
        "full": ["depth.png"],
        "raw": ["depth.png", "--raw-depth", "raw.png"],
        "nearest": ["raw.png"],
        "colorization": ["raw.png", "--fill", "colorization", "--color", "color.png"],
        "none": ["raw.png", "--fill", "none"],
    }.items():
        done = call("show_depth", *words, "-o", f"show_{name}.png", *CAMERA, "--title", "room", folder=folder)
        assert done.status == 0, done.stderr
        share = 0 if name == "full" else 100 * 24 * 32 / (HEIGHT * WIDTH)
        assert numbers(done.stdout, "missing")[0] == pytest.approx(share, abs=0.06)
        assert numbers(done.stdout, "tilt")[0] == pytest.approx(TILT, abs=0.5)
        pictures[name] = (folder / f"show_{name}.png").read_bytes()
    assert len(set(pictures.values())) == 5


def test_tilt_over_45_degrees_is_said_once(tmp_path):
    y, x = ((np.arange(48) - 21.1) / 28)[:, None], ((np.arange(60) - 29.3) / 40)[None, :]
    walls = np.where(x < 0, 2.0 + 0 * y, 1.5 / (0.3 * x + 0.6 * y + 0.74))  # gravity lies far from down, see test_hha
    np.save(tmp_path / "walls.npy", walls)
    arguments = ("walls.npy", "-o", "a.png", "--camera", "40,28,29.3,21.1", "--units-per-metre", "1")
    done = call("show_depth", *arguments, folder=tmp_path)
    assert done.status == 0 and done.stderr == ""
    assert done.stdout.count("warning: walls.npy: gravity was found at") == 1 and "doubtful" in done.stdout


def test_sun_encoding_and_origin(folder):
    depth = room()
    Image.fromarray((depth << 3) | (depth >> 13)).save(folder / "sun.png")
    plain = call("show_depth", "depth.png", "-o", "a.png", *CAMERA, folder=folder).stdout.splitlines()
    sun = call("show_depth", "sun.png", "-o", "b.png", *CAMERA, "--encoding", "sun", folder=folder).stdout.splitlines()
    one = ["--camera", f"{FOCAL},{FOCAL},64.5,48.5", "--units-per-metre", "1000", "--origin", "1"]
    shifted = call("show_depth", "depth.png", "-o", "c.png", *one, folder=folder).stdout.splitlines()
    assert sun[1:-1] == plain[1:-1] == shifted[1:-1]


def test_labelled_frame(tmp_path):
    camera = CAMERAS["nyud2_color"]
    slope = ((np.arange(480) + 1 - camera.cy) / camera.fy)[:, None]
    depth = np.minimum(np.where(slope > 0, EYE / np.maximum(slope, 1e-9), np.inf), WALL) + np.zeros(640)
    raw = depth.copy()
    raw[100:200, 100:200] = 0
    with h5py.File(tmp_path / "frames.mat", "w", userblock_size=512) as file:
        file["images"] = np.zeros((2, 3, 640, 480), np.uint8)
        file["depths"] = np.stack([np.full((640, 480), 1.0), depth.T]).astype(np.float32)
        file["rawDepths"] = np.stack([np.full((640, 480), 1.0), raw.T]).astype(np.float32)
    done = call("show_depth", "frames.mat", "--frame", 5002, "-o", "a.png", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("frames.mat: frame 5002\n") and (tmp_path / "a.png").exists()
    assert numbers(done.stdout, "tilt")[0] < 0.3 and numbers(done.stdout, "ground")[0] == pytest.approx(EYE, abs=0.01)
    assert numbers(done.stdout, "missing")[0] == pytest.approx(100 * 100 * 100 / (425 * 560), abs=0.06)
    absent = call("show_depth", "frames.mat", "--frame", 5003, "-o", "a.png", folder=tmp_path)
    assert absent.status == 2 and "no frame 5003" in absent.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["depth.png", "-o", "a.png", "--units-per-metre", "1000"], "--camera is missing"),
        (["depth.png", "-o", "a.jpg", *CAMERA], ".png"),
        (["depth.png", "-o", "./color.png", *CAMERA, "--color", "color.png"], "is an input"),
        (["none.png", "-o", "a.png", *CAMERA], "none.png"),
        (["depth.png", "-o", "a.png", *CAMERA[:2]], "unit"),
        (["depth.png", "-o", "a.png", *CAMERA[:3], "1"], "wrong unit"),
        (["depth.png", "-o", "a.png", *CAMERA, "--color", "small.png"], "small.png is 4 x 4"),
        (["raw.png", "-o", "a.png", *CAMERA, "--fill", "colorization"], "raw.png: fill method 'colorization' needs"),
        (["depth.png", "-o", "a.png", "--camera", "kinect_v1", *CAMERA[2:]], "depth.png: depth is 96 x 128"),
        (["depth.png", "-o", "a.png", "--encoding", "nyud2_raw"], "needs its colour image"),
        (["depth.png", "-o", "depth.png/a.png", *CAMERA], "cannot write"),
        (["frames.mat", "-o", "a.png", *CAMERA], "say which with --frame"),
        (["depth.png", "-o", "a.png", "--frame", "5001"], "frames of a .mat"),
        (["frames.mat", "-o", "a.png", "--frame", "5001", *CAMERA], "--camera does not go with --frame"),
        (["frames.mat", "-o", "a.png", "--frame", "5001"], "frames.mat"),
    ],
)
def test_bad_input_is_one_line(folder, words, expected):
    Image.new("RGB", (4, 4)).save(folder / "small.png")
    (folder / "frames.mat").write_text("no mat")
    before = sorted(folder.iterdir())
    done = call("show_depth", *words, folder=folder)
    assert done.status == 2 and expected in done.stderr and done.stderr.count("\n") == 1, done
    assert done.stdout == "" and sorted(folder.iterdir()) == before


def test_real_nyud2_frame(tmp_path):
    folder = needs("real", "rgbd", "nyud2_rcnn_depth_demo")
    raw, color = folder / "rawdepth.png", folder / "images.png"
    words = ["--camera", "nyud2_color_cropped", "--units-per-metre", 1000, "--raw-depth", raw, "--color", color]
    done = call("show_depth", folder / "depth.png", "-o", tmp_path / "a.png", *words)
    assert done.status == 0, done.stderr
    assert numbers(done.stdout, "gravity") == pytest.approx([-0.00621, 0.96457, 0.26376], abs=2e-4)
    assert numbers(done.stdout, "ground")[0] == pytest.approx(1.36836, abs=2e-3)
    assert numbers(done.stdout, "missing")[0] == pytest.approx(16.7, abs=0.05)
