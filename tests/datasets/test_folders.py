"""The folders of a recording."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffe_compat.datasets import index_records
from caffe_compat.datasets.folders import find_recording, one_size, picture_size, write_index
from caffe_compat.errors import DataError, MissingFileError


def files(root: Path, names: str, size=(8, 6)) -> None:
    for name in names.split():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, np.ones(size[::-1], np.float32))
        elif path.suffix in (".txt", ".csv"):
            path.write_text("x")
        else:
            Image.new("L" if path.suffix == ".pgm" else "RGB", size).save(path)


@pytest.mark.parametrize(
    ("names", "color", "depth"),
    [
        ("rgb/1.png rgb/2.png depth/1.png rgb.txt depth.txt", "rgb/1.png rgb/2.png", "depth/1.png"),
        ("Color/1.jpg Depth/1.png Infrared/1.png", "Color/1.jpg", "Depth/1.png"),
        (
            "camera_color_image_raw/1.png camera_aligned_depth_to_color_image_raw/1.png imu/a.csv",
            "camera_color_image_raw/1.png", "camera_aligned_depth_to_color_image_raw/1.png",
        ),
        ("image/1.jpg depthImage/1.npy .hidden/1.png", "image/1.jpg", "depthImage/1.npy"),
        ("1.color.png 1.depth.pgm notes.txt", "1.color.png", "1.depth.pgm"),
        ("0_rgb.png 0_depth.png 0_label13.png", "0_rgb.png", "0_depth.png"),
        ("tum_1.png tum_1_depth.png", "tum_1.png", "tum_1_depth.png"),
        ("r-1.ppm d-1.pgm a-1.txt", "r-1.ppm", "d-1.pgm"),
    ],
)  # fmt: skip
def test_one_folder_that_holds_both(tmp_path, names, color, depth):
    files(tmp_path / "seq", names)
    found = find_recording(tmp_path / "seq")
    assert [[str(p.relative_to(tmp_path / "seq")) for p in side] for side in found[:2]] == [
        color.split(),
        depth.split(),
    ]
    assert found[2] == "seq"


def test_two_folders(tmp_path):
    files(tmp_path, "a/left/1.jpg a/right/1.png a/right/1.jpg")
    color, depth, name = find_recording(tmp_path / "a" / "left", tmp_path / "a" / "right")
    assert [path.name for path in (*color, *depth)] == ["1.jpg", "1.png"] and name == "a"


def test_what_is_no_recording(tmp_path):
    files(tmp_path, "two/rgb/1.png two/color/1.png two/depth/1.png none/x.txt only/rgb/1.png left/1.png right/x.txt")
    with pytest.raises(DataError, match=r"two: 2 folders of color \(color, rgb\), expected one; name the two folders"):
        find_recording(tmp_path / "two")
    with pytest.raises(DataError, match=r"only: 0 folders of depth \(rgb\)"):
        find_recording(tmp_path / "only")
    with pytest.raises(DataError, match="none: no folders of colour and depth in it, and by their names 0 files"):
        find_recording(tmp_path / "none")
    with pytest.raises(DataError, match=r"right: no depth files \(.npy, .pgm"):
        find_recording(tmp_path / "left", tmp_path / "right")
    with pytest.raises(MissingFileError, match="folder of a recording"):
        find_recording(tmp_path / "absent")


def test_sizes(tmp_path):
    files(tmp_path, "1.png 2.npy 3.pgm", (8, 6))
    files(tmp_path, "4.png", (9, 6))
    (tmp_path / "5.png").write_text("no picture")
    assert picture_size(tmp_path / "2.npy") == (8, 6)
    size, wrong = one_size(sorted(tmp_path.iterdir()))
    assert size == (8, 6) and [path.name for path in wrong] == ["5.png", "4.png"]
    assert "it is 9 x 6, the others are 8 x 6 (width x height)" in wrong[tmp_path / "4.png"]
    with pytest.raises(DataError, match=r"5\.png: cannot be read as a picture"):
        one_size([tmp_path / "5.png"])
    np.save(tmp_path / "6.npy", np.ones(3))
    (tmp_path / "7.npy").write_text("no array")
    np.save(tmp_path / "8.npy", np.ones((3, 4)))
    head = (tmp_path / "8.npy").read_bytes()
    (tmp_path / "8.npy").write_bytes(head.replace(b": (3, 4), }", b"           "))
    for name in ("6.npy", "7.npy", "8.npy"):
        with pytest.raises(DataError, match=name):
            picture_size(tmp_path / name)


def test_the_list_is_read_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lists").mkdir()
    fields = {"K_fx_fy_cx_cy": [1.0, 2.0, 3.0, 4.0], "depth_units_per_metre": 1000.0, "origin": 0, "gravity": [0, 1, 0]}
    write_index("lists/i.json", [{"color": "rgb/1.jpg", "depth": "d/1.png", **fields}])
    (record,) = index_records("lists/i.json")
    assert record.name == "d_1" and Path(record.paths["images"]).resolve() == tmp_path / "rgb/1.jpg"
    assert json.loads(Path("lists/i.json").read_text())[0]["depth"] == "../d/1.png"
    assert record.gravity == (0.0, 1.0, 0.0)
