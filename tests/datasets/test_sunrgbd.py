import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import needs
from scipy.io import savemat
from sunrgbd_files import sun_bits, write_frame, write_split

from caffe_compat.datasets.record import depth_frames
from caffe_compat.datasets.sunrgbd import exclude_nyud2, find_frames, read_split
from caffe_compat.depth import CAMERAS, Options
from caffe_compat.depth.camera import Camera
from caffe_compat.errors import DataError, MissingFileError

VIDEO = "xtion/sun3ddata/hotel_umd/maryland_hotel1/0000000-000000000000"


def write_tree(root: Path) -> Path:
    write_frame(root, "kv2/kinect2data/000002_2014-05-26_14-23-37_260595134347_rgbf000103-resize")
    write_frame(root, "kv1/NYUdata/NYU0001", camera=(518.857901, 519.469611, 284.582449, 208.736166))
    write_frame(root, "kv1/NYUdata/NYU1449", scene="kitchen \n")
    write_frame(root, VIDEO, scene=None)
    return root


def test_frames_of_all_sensors(tmp_path):
    frames = find_frames(write_tree(tmp_path / "SUNRGBD"))
    assert [frame.name for frame in frames] == [
        "kv1/NYUdata/NYU0001",
        "kv1/NYUdata/NYU1449",
        "kv2/kinect2data/000002_2014-05-26_14-23-37_260595134347_rgbf000103-resize",
        VIDEO,
    ]
    assert [frame.sensor for frame in frames] == ["kv1", "kv1", "kv2", "xtion"]
    assert [frame.label for frame in frames] == ["bedroom", "kitchen", "bedroom", None]
    assert [frame.nyud2 for frame in frames] == [5001, 6449, None, None]
    assert frames[0].camera == Camera(518.857901, 519.469611, 284.582449, 208.736166, origin=1)
    assert frames[2].camera == Camera(529.5, 530.5, 365.0, 265.0, origin=1)
    assert frames[0].filled == str(tmp_path / "SUNRGBD/kv1/NYUdata/NYU0001/depth_bfx/0000103.png")
    assert frames[0].depth == str(tmp_path / "SUNRGBD/kv1/NYUdata/NYU0001/depth/0000103.png")


def test_names_do_not_depend_on_the_root(tmp_path, monkeypatch):
    write_tree(tmp_path / "kv2" / "SUNRGBD")
    names = [frame.name for frame in find_frames(tmp_path)]
    assert names == [frame.name for frame in find_frames(tmp_path / "kv2" / "SUNRGBD")]
    monkeypatch.chdir(tmp_path / "kv2" / "SUNRGBD" / "kv1" / "NYUdata")
    assert [(frame.name, frame.nyud2) for frame in find_frames(".")] == [
        ("kv1/NYUdata/NYU0001", 5001), ("kv1/NYUdata/NYU1449", 6449)
    ]  # fmt: skip


def test_presets_count_pixels_from_one():
    assert {CAMERAS[f"sunrgbd_{sensor}"].origin for sensor in ("kv1", "kv2", "realsense", "xtion")} == {1}


def test_gravity(tmp_path):
    folder = write_frame(tmp_path, "kv2/align_kv2/a")
    (frame,) = find_frames(tmp_path)
    np.testing.assert_array_equal(frame.gravity(), [[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    later = folder / "extrinsics" / "20150809004632.txt"
    later.write_text("0 -1 0 0\n1 0 0 0\n0 0 1 0\n")
    np.testing.assert_array_equal(frame.gravity()[0], [0, -1, 0])
    for bad, message in (("1 2 3", "3 rows of 4"), ("1 0 0 0 0 2 0 0 0 0 1 0", "not a rotation"), ("x", "3 rows of 4")):
        later.write_text(bad)
        with pytest.raises(DataError, match=rf"20150809004632\.txt: .*{message}"):
            frame.gravity()
    shutil.rmtree(folder / "extrinsics")
    with pytest.raises(DataError, match=r"no extrinsics/\*\.txt"):
        frame.gravity()


def test_no_frames(tmp_path):
    with pytest.raises(DataError, match=r"expected <root>/<kv1\|kv2\|realsense\|xtion>/.* depth_bfx/\*\.png"):
        find_frames(tmp_path)
    with pytest.raises(MissingFileError, match="nowhere"):
        find_frames(tmp_path / "nowhere")


@pytest.mark.parametrize("part", ["image", "depth", "depth_bfx"])
def test_missing_and_doubled_files(tmp_path, part):
    write_tree(tmp_path)
    folder = tmp_path / "kv1/NYUdata/NYU1449" / part
    (path,) = folder.iterdir()
    (folder / f"._{path.name}").write_bytes(b"")
    assert len(find_frames(tmp_path)) == 4
    shutil.copy(path, folder / f"second{path.suffix}")
    with pytest.raises(DataError, match=rf"1 of 4 frames cannot be used: .*NYU1449: {part} has 2 files"):
        find_frames(tmp_path)
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=rf"1 of 4 frames cannot be used: .*NYU1449: {part} has 0 files"):
        find_frames(tmp_path)


@pytest.mark.parametrize("text", ["", "529.5 0 365", "a b c d", "0 0 365 0 529.5 265 0 0 1", "1 2 3 4 5 6 7 8 9"])
def test_bad_intrinsics(tmp_path, text):
    (write_frame(tmp_path, "kv2/align_kv2/a") / "intrinsics.txt").write_text(text)
    with pytest.raises(DataError, match=r"align_kv2/a/intrinsics\.txt: not a camera file"):
        find_frames(tmp_path)


def test_frames_that_cannot_be_placed(tmp_path):
    write_frame(tmp_path, "somewhere/a")
    with pytest.raises(DataError, match="a: not below a folder kv1, kv2"):
        find_frames(tmp_path)
    shutil.rmtree(tmp_path / "somewhere")
    for name in ("NYU1450", "NYU0000", "nyu_7"):
        folder = write_frame(tmp_path, f"kv1/NYUdata/{name}")
        with pytest.raises(DataError, match=f"{name}: expected a folder NYU0001 to NYU1449"):
            find_frames(tmp_path)
        shutil.rmtree(folder)


def test_split_names_are_those_of_the_frames(tmp_path):
    frames = find_frames(write_tree(tmp_path / "SUNRGBD"))
    names = [frame.name for frame in frames]
    write_split(tmp_path / "allsplit.mat", [names[2], f"{names[0]}/"], [f"/{VIDEO}/"])
    split = read_split(tmp_path / "allsplit.mat")
    assert split.train == (names[2], names[0])
    assert split.test == (VIDEO,)
    assert set(split.train + split.test) <= set(names)


def test_bad_splits(tmp_path):
    path = tmp_path / "allsplit.mat"
    with pytest.raises(MissingFileError):
        read_split(path)
    savemat(path, {"alltrain": np.array([["kv1/a"]], object)})
    with pytest.raises(DataError, match="alltest"):
        read_split(path)
    write_split(path, ["kv1/a"], ["other/b"])
    with pytest.raises(DataError, match="alltest has .*other/b.*expected a path with one of kv1"):
        read_split(path)
    write_split(path, ["kv1/a", "kv1/b"], ["kv1/b/"])
    with pytest.raises(DataError, match="1 frames are in both splits, such as kv1/b"):
        read_split(path)
    savemat(path, {"alltrain": np.array([[1.0]]), "alltest": np.array([[2.0]])})
    with pytest.raises(DataError, match="alltrain has"):
        read_split(path)


def test_nyud2_frames_are_excluded(tmp_path):
    frames = find_frames(write_tree(tmp_path))
    kept = exclude_nyud2(frames, {6449, 5002})
    assert [frame.nyud2 for frame in kept] == [5001, None, None]
    assert exclude_nyud2(frames, []) == frames
    for number in (1, 5000, 6450):
        with pytest.raises(DataError, match="expected a number from 5001 to 6449"):
            exclude_nyud2(frames, [5001, number])


def test_sun_frames(tmp_path):
    millimetres = np.array([[0, 1, 7, 8], [1234, 7999, 8000, 8191]])
    write_frame(tmp_path, "realsense/lg/a.1", millimetres)
    write_frame(tmp_path, VIDEO)
    still, video = depth_frames(
        [frame.record() for frame in find_frames(tmp_path)], tmp_path / "out", Options("disparity")
    )
    assert still.output == str(tmp_path / "out" / "disparity" / "realsense_lg_a.1.png")
    assert still.color_output == str(tmp_path / "out" / "color" / "realsense_lg_a.1.png")
    assert find_frames(tmp_path)[0].record().camera == Camera(529.5, 530.5, 365.0, 265.0, origin=1)
    assert (still.scene, video.scene) == ("realsense/lg/a.1", VIDEO)
    reading = still.source.read()
    np.testing.assert_array_equal(
        reading.depth, np.minimum(np.array([[2000, 1, 7, 8], [1234, 7999, 8000, 8191]]) / 1000, 8)
    )
    np.testing.assert_array_equal(reading.missing, millimetres == 0)


def test_bits_wrap_around():
    stored = sun_bits(np.array([8191, 8192, 40000]))
    assert stored.tolist() == [65528, 1, (40000 << 3 & 0xFFFF) | 40000 >> 13]
    assert ((stored >> 3) | (stored << 13)).tolist() == [8191, 8192, 40000]


def test_outputs_differ(tmp_path):
    write_frame(tmp_path, "kv2/align_kv2/a_b")
    (frame,) = find_frames(tmp_path)
    other = dataclasses.replace(frame, name="kv2/align/kv2_a_b")
    with pytest.raises(DataError, match="another frame is written to kv2_align_kv2_a_b.png"):
        depth_frames([frame.record(), other.record()], tmp_path / "out", Options())


def test_real_depth(tmp_path):
    base = ("real", "rgbd", "open3d_testdata")
    depth, color = needs(*base, "other_formats_SUN_depth.png"), needs(*base, "other_formats_SUN_color.jpg")
    folder = write_frame(tmp_path, "xtion/xtion_align_data/real", camera=(570.342, 570.342, 320, 240))
    for path, part in ((depth, "depth"), (depth, "depth_bfx"), (color, "image")):
        shutil.copy(path, next((folder / part).iterdir()))
    (frame,) = find_frames(tmp_path)
    reading = frame.record().depth.read()
    assert reading.depth.shape == (480, 640) and reading.color.shape == (480, 640, 3)
    assert reading.missing.mean() == pytest.approx(0.1823307, abs=1e-6)
    assert np.median(reading.depth[~reading.missing]) == pytest.approx(2.723)
