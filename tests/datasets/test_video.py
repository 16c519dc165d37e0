import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import needs
from video_files import write_codes, write_scene

from caffe_compat.datasets.record import depth_frames
from caffe_compat.datasets.video import (
    base_scene,
    missing_fraction,
    scene_folders,
    scene_name,
    scenes_of_split,
    synchronise,
)
from caffe_compat.depth import CAMERAS, Options
from caffe_compat.errors import DataError, MissingFileError


def test_scene_folders_at_any_depth(tmp_path):
    write_scene(tmp_path / "part2" / "basement_0001a", ["1.0-1"], ["1.0-1"])
    write_scene(tmp_path / "bedroom_0001", ["1.0-1"], ["1.0-1"])
    write_scene(tmp_path / "color_only", [], ["1.0-1"])
    found = scene_folders(tmp_path)
    assert found == [str(tmp_path / "bedroom_0001"), str(tmp_path / "part2" / "basement_0001a")]
    assert [scene_name(folder) for folder in found] == ["bedroom_0001", "basement_0001a"]
    assert scene_folders(tmp_path / "bedroom_0001") == [str(tmp_path / "bedroom_0001")]


def test_scene_folders_refuses(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        scene_folders(tmp_path / "nowhere")
    write_scene(tmp_path / "other", [], ["1.0-1"])
    with pytest.raises(DataError, match=r"expected folders such as bedroom_0001 with files d-<time>"):
        scene_folders(tmp_path)
    for part in ("a", "b"):
        write_scene(tmp_path / part / "bedroom_0001", ["1.0-1"], ["1.0-1"])
    with pytest.raises(DataError, match="'bedroom_0001' is there twice"):
        scene_folders(tmp_path)


def test_links_are_followed_and_loops_end(tmp_path):
    write_scene(tmp_path / "disc" / "bedroom_0001", ["1.0-1"], ["1.0-1"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "disc")
    (tmp_path / "disc" / "loop").symlink_to(tmp_path / "disc")
    assert scene_folders(tmp_path / "root") == [str(tmp_path / "root" / "link" / "bedroom_0001")]


def test_order_is_that_of_the_numbers(tmp_path):
    write_scene(tmp_path, ["10.5-3", "9.75-2", "9.75-11", "100.0-1"], ["9.0-1"])
    stamps = [Path(pair.depth).stem for pair in synchronise(tmp_path)]
    assert stamps == ["d-9.75-2", "d-9.75-11", "d-10.5-3", "d-100.0-1"]


def test_nearest_color_on_both_sides(tmp_path):
    write_scene(tmp_path, ["1.0-1", "9.98-1", "10.03-1", "10.5-1", "30.0-1"], ["9.0-1", "10.0-1", "11.0-1"])
    pairs = synchronise(tmp_path)
    assert [Path(pair.color).stem for pair in pairs] == ["r-9.0-1", "r-10.0-1", "r-10.0-1", "r-10.0-1", "r-11.0-1"]
    assert [pair.gap for pair in pairs] == pytest.approx([8, 0.02, 0.03, 0.5, 19])
    assert [pair.time for pair in pairs] == [1.0, 9.98, 10.03, 10.5, 30.0]
    assert {pair.scene for pair in pairs} == {tmp_path.name}


def test_synchronise_is_the_plain_search(tmp_path):
    rng = np.random.default_rng(3)
    depth, color = (np.sort(rng.integers(1_000_000, 9_999_999, 60)) / 1e6 + 1294886362 for _ in range(2))
    write_scene(tmp_path, [f"{time:.6f}-1" for time in depth], [f"{time:.6f}-2" for time in color])
    for pair in synchronise(tmp_path):
        assert float(Path(pair.color).name.split("-")[1]) == min(color, key=lambda time: abs(time - pair.time))
        assert pair.gap == np.abs(color - pair.time).min()


def test_empty_files_are_dropped_and_bad_names_refused(tmp_path):
    write_scene(tmp_path, ["1.0-1", "2.0-1"], ["1.0-1", "2.0-1"])
    (tmp_path / "d-1.0-1.pgm").write_bytes(b"")
    (tmp_path / "r-2.0-1.ppm").write_bytes(b"")
    (pair,) = synchronise(tmp_path)
    assert (Path(pair.depth).name, Path(pair.color).name) == ("d-2.0-1.pgm", "r-1.0-1.ppm")
    (tmp_path / "d-notes.txt").write_text("not a frame")
    (tmp_path / "._d-2.0-1.pgm").write_bytes(b"x")
    assert len(synchronise(tmp_path)) == 1
    (tmp_path / "r-2.0.ppm").write_bytes(b"x")
    with pytest.raises(DataError, match=r"r-2\.0\.ppm: expected a name such as"):
        synchronise(tmp_path)


def test_a_scene_without_color_or_depth(tmp_path):
    write_scene(tmp_path / "a", ["1.0-1"], [])
    with pytest.raises(DataError, match="no colour frames"):
        synchronise(tmp_path / "a")
    write_scene(tmp_path / "b", [], ["1.0-1"])
    with pytest.raises(DataError, match="no depth frames"):
        synchronise(tmp_path / "b")
    with pytest.raises(MissingFileError):
        synchronise(tmp_path / "c")


def test_base_scene():
    names = ["bedroom_0001a", "bedroom_0001", "living_room_0020b", "nyu_office_0", "kitchen"]
    assert [base_scene(name) for name in names] == [
        "bedroom_0001", "bedroom_0001", "living_room_0020", "nyu_office_0", "kitchen"
    ]  # fmt: skip


def test_scenes_of_split_are_disjoint():
    raw = ["bedroom_0001a", "bedroom_0001b", "kitchen_0002", "office_0003", "cafe_0004c", "bath_0005"]
    split = scenes_of_split(
        raw, wanted=["bedroom_0001", "cafe_0004a", "study_0009"], others=["kitchen_0002b", "cafe_0004b", "bath_0005"]
    )
    assert split.scenes == ("bedroom_0001a", "bedroom_0001b")
    assert split.other == ("bath_0005", "kitchen_0002")
    assert split.shared == ("cafe_0004c",)
    assert split.unknown == ("office_0003",)
    with pytest.raises(DataError, match="1 are of other splits, 0 of both, 1 have no labelled frame"):
        scenes_of_split(["a_1", "b_2"], wanted=["c_3"], others=["a_1"])


def test_missing_fraction_counts_codes(tmp_path):
    write_codes(tmp_path / "d.pgm", np.array([[599, 600, 1092, 1093], [2047, 700, 0, 800]]))
    assert missing_fraction(tmp_path / "d.pgm") == 4 / 8
    (tmp_path / "bytes.pgm").write_bytes(b"P5\n2 1\n255\nab")
    with pytest.warns(UserWarning, match="8-bit"), pytest.raises(DataError, match="bytes.pgm: uint8"):
        missing_fraction(tmp_path / "bytes.pgm")


def test_video_frames(tmp_path):
    write_scene(tmp_path / "bedroom_0001a", ["10.25-7"], ["10.26-8"], size=(480, 640))
    records = [pair.record() for pair in synchronise(tmp_path / "bedroom_0001a")]
    (frame,) = depth_frames(records, tmp_path / "out", Options())
    assert frame.output == str(tmp_path / "out" / "hha" / "bedroom_0001a" / "d-10.25-7.png")
    assert frame.color_output == str(tmp_path / "out" / "color" / "bedroom_0001a" / "d-10.25-7.png")
    assert records[0].camera is frame.encoder.camera is CAMERAS["nyud2_color"]
    assert frame.scene == "bedroom_0001"
    reading = frame.source.read()
    known = reading.depth[reading.depth > 0]
    assert known.size / (480 * 640) == pytest.approx((518.9 / 582.6) ** 2, abs=0.02)  # the fields of view
    np.testing.assert_allclose(known, 351.3 / (1092.5 - 700), rtol=1e-6)


def test_real_frame(tmp_path):
    base = ("real", "rgbd", "open3d_testdata")
    shutil.copy(needs(*base, "other_formats_NYU_depth.pgm"), tmp_path / "d-1294886362.665769-3143255701.pgm")
    shutil.copy(needs(*base, "other_formats_NYU_color.ppm"), tmp_path / "r-1294886362.653012-3142466521.ppm")
    (pair,) = synchronise(tmp_path)
    assert pair.gap == pytest.approx(0.012757, abs=1e-6)
    assert missing_fraction(pair.depth) == pytest.approx(0.07226236979)
    reading = pair.record().depth.read()
    assert reading.depth.shape == (480, 640) and reading.color.shape == (480, 640, 3)
    known = reading.depth[reading.depth > 0]
    assert known.min() > 0.5 and known.max() <= 10 and 1 < np.median(known) < 5
