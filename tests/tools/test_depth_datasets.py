"""make_hha, make_disparity and prepare_nyud2 on data sets of the documented layouts."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from nyud2_files import cell, color_frame, labelled, write_v73
from PIL import Image
from program import call
from scipy.io import loadmat, savemat
from sunrgbd_files import write_frame, write_split
from video_files import write_codes

from caffe_compat.datasets import NYUD2Tree, find_imdb, read_proposals
from caffe_compat.datasets.pictures import check_sizes
from caffe_compat.depth import CAMERAS, Camera, complete, hha, read_depth
from caffe_compat.depth.io import DepthFormat
from caffe_compat.frames import read_encoded
from caffe_compat.media import read_pair_list

SCENES = ["kitchen_0001", "kitchen_0001", "bedroom_0002a", "office_0003", "study_0004", "study_0004"]


def floor(number: int) -> np.ndarray:
    """float32 [480, 640] metres: a floor 1.2 m below the camera up to a wall at 4 m, a step of its own per frame."""
    rows = np.arange(480)[:, None] + 1 - 253.7
    depth = np.minimum(4.0, 1.2 * 519.5 / np.maximum(rows, 1e-3)) + 0 * np.arange(640)
    depth[300:340, 100:200] -= 0.1 + 0.05 * (number - 5001)
    return depth.astype(np.float32)


@pytest.fixture
def labelled_file(tmp_path):
    content = labelled(len(SCENES))
    content["depths"] = np.stack([floor(number) for number in range(5001, 5001 + len(SCENES))], -1)
    content["rawDepths"] = content["depths"].copy()
    content["rawDepths"][200:220, 300:330] = 0
    content["scenes"] = cell(SCENES)
    content["rawDepthFilenames"] = cell([f"{scene}/d-{k}.1-2.pgm" for k, scene in enumerate(SCENES)])
    (tmp_path / "data").mkdir()
    return write_v73(tmp_path / "data" / "nyu_depth_v2_labeled.mat", content, chunks=True, compression="gzip")


def expected(number: int) -> np.ndarray:
    """The HHA image of a labelled frame, from its millimetres."""
    depth = np.rint(floor(number).astype(float) * 1000)[45:470, 40:600] / 1000
    missing = np.zeros(depth.shape, bool)
    missing[155:175, 260:290] = True
    return hha(depth, "nyud2_color_cropped", missing)


def test_labelled_frames(labelled_file, tmp_path):
    done = call("make_hha", labelled_file, "-o", tmp_path / "out", "--frames", "5002,5004-5005", "--quiet")
    assert done.status == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (tmp_path / "out" / "hha").iterdir()) == [
        "img_5002.png", "img_5004.png", "img_5005.png"
    ]  # fmt: skip
    assert np.array_equal(read_encoded(tmp_path / "out" / "hha" / "img_5004.png"), expected(5004))
    color = np.array(Image.open(tmp_path / "out" / "color" / "img_5004.png"))
    assert np.array_equal(color, color_frame(5004)[45:470, 40:600])
    pairs = read_pair_list(str(tmp_path / "out" / "pairs.txt"))
    assert [Path(pair.second).name for pair in pairs] == ["img_5002.png", "img_5004.png", "img_5005.png"]
    again = call("make_hha", labelled_file, "-o", tmp_path / "out", "--frames", "5001-5002", "--quiet")
    assert "1 written, 1 already there" in again.stdout
    other = call("make_hha", labelled_file, "-o", tmp_path / "out", "--frames", "5001", "--no-crop", "--quiet")
    assert other.status == 1 and "was made with camera" in other.stdout
    for words, message in (
        (["--frames", "5001,6450"], "no frame 6450; it has 5001 to 5006"),
        (["--frames", "5003-5001"], "no list of frame numbers"),
        (["--camera", "kinect_v1"], "--camera does not go with the labelled NYUD2"),
        ([tmp_path], "is a data set: give it alone"),
    ):
        refused = call("make_hha", labelled_file, *words, "-o", tmp_path / "new")
        assert refused.status == 2 and message in refused.stderr, refused.stderr


def write_video(root: Path, scenes: dict[str, int]) -> None:
    for scene, count in scenes.items():
        folder = root / scene
        folder.mkdir(parents=True)
        for k in range(count):
            distance = np.clip(floor(5001 + k), 1, 4)
            write_codes(folder / f"d-{100 + k}.000000-{k}.pgm", np.rint(1092.5 - 351.3 / distance))
            Image.new("RGB", (640, 480), (k, 50, 60)).save(folder / f"r-{100 + k}.010000-{k}.ppm")


def test_raw_video(tmp_path):
    write_video(tmp_path / "raw", {"kitchen_0001": 3, "bedroom_0002a": 2, "bedroom_0002b": 2})
    (tmp_path / "raw" / "office_0009").mkdir()
    write_codes(tmp_path / "raw" / "office_0009" / "d-1.5-2.pgm", np.full((2, 2), 800))
    done = call("make_hha", tmp_path / "raw", "-o", tmp_path / "out", "--hold-out-scenes", 2, "--quiet")
    assert done.status == 1 and "7 written, 0 already there, 1 failed" in done.stdout
    assert "office_0009: no colour frames" in done.stdout
    assert f"--source {tmp_path / 'out' / 'train_pairs.txt'} --val-source" in done.stdout.splitlines()[-1]
    assert "make_transfer" in done.stdout.splitlines()[-1]
    image = read_encoded(tmp_path / "out" / "hha" / "kitchen_0001" / "d-101.000000-1.png")
    assert image.shape == (480, 640, 3)
    assert abs(int(image[100, 320, 0]) - 78) <= 1 and abs(int(image[100, 320, 2]) - 128) <= 1  # the wall at 4 m
    assert image[440, 320, 1] <= 8 and abs(int(image[440, 320, 2]) - 38) <= 4  # the floor
    train, val = (read_pair_list(str(tmp_path / "out" / f"{name}_pairs.txt")) for name in ("train", "val"))
    scenes = [{Path(pair.second).parent.name for pair in part} for part in (train, val)]
    assert scenes == [{"bedroom_0002a", "bedroom_0002b"}, {"kitchen_0001"}]
    kitchen = tmp_path / "raw" / "kitchen_0001"
    (kitchen / "r-102.010000-2.ppm").rename(kitchen / "r-109.5-2.ppm")
    write_codes(tmp_path / "raw" / "bedroom_0002a" / "d-100.000000-0.pgm", np.full((480, 640), 2047))
    some = call("make_disparity", tmp_path / "raw", "-o", tmp_path / "few", "--count", 4, "--seed", 5, "--quiet")
    assert "4 written" in some.stdout
    assert "kitchen_0001: 1 of 3 depth frames have no colour frame within 1/30 s and are left out" in some.stdout
    assert not list((tmp_path / "few").rglob("d-102*")) and not list((tmp_path / "few").rglob("bedroom_0002a/d-100*"))
    assert len(read_pair_list(str(tmp_path / "few" / "pairs.txt"))) == 4


def test_sun_rgbd(tmp_path):
    depth = np.rint(np.clip(floor(5001)[::4, ::4], 0.5, 4) * 1000).astype(int)
    depth[10:14, 20:30] = 0
    root = tmp_path / "SUNRGBD"
    write_frame(root, "kv2/kinect2data/000065", depth, (140.0, 141.0, 80.5, 61.0))
    write_frame(root, "kv1/NYUdata/NYU0002", depth, (130.0, 130.0, 80.5, 64.0))
    (write_frame(root, "xtion/xtion_align_data/broken") / "depth" / "0000103.png").unlink()
    done = call("make_hha", root, "-o", tmp_path / "out", "--quiet")
    assert done.status == 1 and "2 written, 0 already there, 1 failed" in done.stdout
    assert "xtion_align_data/broken: depth has 0 files" in done.stdout
    filled = np.where(depth == 0, 2000, depth) / 1000
    found = read_encoded(tmp_path / "out" / "hha" / "kv2_kinect2data_000065.png")
    assert np.array_equal(found, hha(filled, Camera(140, 141, 80.5, 61, origin=1), depth == 0))
    write_split(tmp_path / "allsplit.mat", ["kv1/NYUdata/NYU0002"], ["kv2/kinect2data/000065/", "kv1/b3dodata/none"])
    split = call("make_hha", root, "-o", tmp_path / "out", "--quiet", "--sun-split", tmp_path / "allsplit.mat")
    assert "0 written, 2 already there" in split.stdout
    lists = [read_pair_list(str(tmp_path / "out" / f"{name}_pairs.txt")) for name in ("train", "val")]
    assert [[Path(pair.second).stem for pair in part] for part in lists] == [
        ["kv1_NYUdata_NYU0002"], ["kv2_kinect2data_000065"]
    ]  # fmt: skip
    rooms = call("make_hha", root, "-o", tmp_path / "out", "--hold-out-scenes", 2)
    assert rooms.status == 2 and "does not say which frames show one room" in rooms.stderr
    without = call("make_disparity", root, "-o", tmp_path / "new", "--exclude-nyud2", "--quiet")
    assert "1 written" in without.stdout
    assert [path.name for path in (tmp_path / "new" / "color").iterdir()] == ["kv2_kinect2data_000065.png"]


@pytest.fixture
def downloads(labelled_file):
    folder = labelled_file.parent
    savemat(folder / "splits.mat", {"trainNdxs": np.array([[1], [2], [3], [4]]), "testNdxs": np.array([[5], [6]])})
    boxes = np.empty((6, 1), object)
    boxes[:, 0] = [np.array([[1.0, 2, 30, 40], [5, 6, 7, 8]])] * 6
    savemat(folder / "nyud2_mcg_boxes.mat", {"bboxes": boxes, "imnames": cell([f"img_{5001 + k}" for k in range(6)])})
    return folder


def test_prepare_nyud2(downloads, tmp_path):
    root = tmp_path / "out" / "nyud2"
    write_video(tmp_path / "raw", {"kitchen_0001a": 4, "study_0004": 3, "office_0003": 3, "cafe_0001": 2})
    words = ["--downloads", downloads, "-o", root, "--no-checksums", "--quiet", "--seed", 1]
    video = ["--video", tmp_path / "raw", "--video-frames", 3, "--video-split", "trainval"]
    done = call("prepare_nyud2", *words, *video)
    assert done.status == 0, done.stdout + done.stderr
    assert "checksums: not compared" in done.stdout and f"{root} is ready" in done.stdout
    assert "2 of 4 scenes are of trainval alone; left out: 1 of other splits, 0 of both, 1 without" in done.stdout
    tree = NYUD2Tree(root)
    splits = tree.splits()
    assert splits["trainval"] == [5001, 5002, 5003, 5004] and splits["test"] == [5005, 5006]
    assert len(splits["train"]) == 2 and len(splits["val"]) == 2
    assert len({5001, 5002} & set(splits["train"])) in (0, 2)  # one scene
    depth = read_depth(tree.path(5004, "depth"), DepthFormat(1000))
    assert np.array_equal(depth, np.rint(floor(5004).astype(float) * 1000)[45:470, 40:600] / 1000)
    assert np.array_equal(np.array(Image.open(tree.path(5003))), color_frame(5003)[45:470, 40:600])
    assert np.array_equal(read_encoded(tree.path(5004, "hha")), expected(5004))
    truth = tree.ground_truth(5001)
    assert truth.names == ["bed", "bed", "night-stand"]
    assert truth.boxes.tolist() == [[10, 15, 109, 54], [260, 155, 260, 254], [0, 0, 559, 4]]
    raw = loadmat(tree.ground_truth_path(5001))["rec"]["objects"][0][0][0]  # the published reader's way
    assert str(raw[2]["class"][0]) == "night-stand" and raw[2]["bbox"][0].tolist() == [1, 1, 560, 5]
    segmentation = tree.segmentation(5001)
    assert [int(segmentation.instances[y, x]) for y, x in ((15, 10), (155, 260), (0, 0))] == truth.instance_ids.tolist()
    assert len(read_pair_list(str(root / "lists" / "test_pairs.txt"))) == 2
    assert len(read_proposals(root.parent / "nyud2_mcg_boxes.mat")) == 6
    pairs = read_pair_list(str(root / "video_trainval" / "pairs.txt"))
    assert {Path(pair.first).parent.name for pair in pairs} == {"kitchen_0001a", "office_0003"} and len(pairs) == 3
    # again: nothing is redone; a lost file is made again
    times = {path: path.stat().st_mtime_ns for path in (root / "data").rglob("*.png")}
    lost = tree.path(5002, "rawdepth")
    content = lost.read_bytes()
    lost.unlink()
    again = call("prepare_nyud2", *words)
    assert again.status == 0 and "0 written, 6 already there" in again.stdout
    assert lost.read_bytes() == content
    mine = {tree.path(5002, kind) for kind in ("images", "depth", "rawdepth")}
    assert {path: path.stat().st_mtime_ns for path in times if path not in mine} == {
        path: time for path, time in times.items() if path not in mine
    }


def test_prepare_takes_the_authors_split_and_checks_downloads(downloads, tmp_path):
    root = tmp_path / "data" / "nyud2"
    savemat(downloads / "nyusplits.mat", {"train": [[5001, 5002]], "val": [[5003, 5004]], "tst": [[5005, 5006]]})
    refused = call("prepare_nyud2", "--downloads", downloads, "-o", root, "--quiet")
    assert refused.status == 2 and "expected 2972037809: truncated, or another version" in refused.stderr
    done = call("prepare_nyud2", "--downloads", downloads, "-o", root, "--quiet", "--no-checksums", "--workers", 2)
    assert done.status == 0 and "as nyusplits.mat says" in done.stdout, done.stdout + done.stderr
    assert NYUD2Tree(root).splits()["train"] == [5001, 5002]
    assert np.array_equal(read_encoded(NYUD2Tree(root).path(5006, "hha")), expected(5006))
    found = find_imdb("nyud2_images+hha_2015_trainval", tmp_path)  # what was made is a database
    record = found.records[0]
    assert [one.name for one in found.records] == ["img_5001", "img_5002", "img_5003", "img_5004"]
    assert record.classes == ("bed", "bed", "night-stand") and len(found.proposals(record))
    for mask, box in zip(record.masks(), record.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert [columns.min(), rows.min(), columns.max(), rows.max()] == box.tolist()
    check_sizes(record, found.modalities)
    stamp = root / "prepare.json"
    whole = stamp.read_text()
    words = ["--downloads", downloads, "-o", root, "--quiet", "--no-checksums"]
    for content, message in (
        ("[" * 100_000, "prepare.json: not JSON"),
        ('{"splits.mat": 3}', "splits.mat is 3, not what"),
    ):
        stamp.write_text(content)
        garbled = call("prepare_nyud2", *words)
        assert garbled.status == 2 and message in garbled.stderr and "remove it" in garbled.stderr
    stamp.write_text(whole.replace('"bytes": ', '"bytes": 1'))
    other = call("prepare_nyud2", *words)
    assert other.status == 2 and "was made of another nyu_depth_v2_labeled.mat (bytes = 1" in other.stderr, other.stderr
    stamp.write_text(whole)
    (downloads / "nyu_depth_v2_labeled.mat").unlink()
    gone = call("prepare_nyud2", "--downloads", downloads, "-o", root, "--quiet", "--no-checksums")
    assert gone.status == 2 and "nyu_depth_v2_labeled.mat (NYUD2, 1449 labelled frames; http" in gone.stderr


def test_prepare_does_not_change_splits_under_chosen_video_frames(downloads, tmp_path):
    root = tmp_path / "nyud2"
    write_video(tmp_path / "raw", {"kitchen_0001": 2, "bedroom_0002a": 2, "office_0003": 2})
    words = ["--downloads", downloads, "-o", root, "--no-checksums", "--quiet"]
    first = call("prepare_nyud2", *words, "--video", tmp_path / "raw", "--video-frames", 2)
    assert first.status == 0, first.stdout + first.stderr
    train = NYUD2Tree(root).splits()["train"]
    other = sorted({5001, 5002, 5003, 5004} - set(train))
    savemat(downloads / "nyusplits.mat", {"train": [other], "val": [train], "test": [[5005, 5006]]})
    refused = call("prepare_nyud2", *words)
    assert refused.status == 2 and "nyusplits.mat: holds other splits" in refused.stderr
    assert NYUD2Tree(root).splits()["train"] == train and (root / "video_train" / "pairs.txt").exists()
    done = call("prepare_nyud2", *words, "--overwrite")
    assert done.status == 0, done.stdout + done.stderr
    assert NYUD2Tree(root).splits()["train"] == other and not (root / "video_train" / "pairs.txt").exists()


def test_prepare_skips_a_bad_frame_and_checks_before_the_work(labelled_file, downloads, tmp_path):
    words = ["--downloads", downloads, "-o", tmp_path / "nyud2", "--no-checksums", "--quiet"]
    for content, message in (
        ({"trainNdxs": [[1, 2, 3]], "testNdxs": [[5, 99]]}, "has 1 frames that"),
        ({"trainNdxs": "text", "testNdxs": [[5]]}, "'trainNdxs' does not hold whole numbers"),
        ({"trainNdxs": [[1.5]], "testNdxs": [[5]]}, "'trainNdxs' does not hold whole numbers"),
        ({"trainNdxs": np.zeros((0, 1)), "testNdxs": [[5]]}, "0 training and 1 test frames"),
    ):
        savemat(downloads / "splits.mat", content)
        refused = call("prepare_nyud2", *words)
        assert refused.status == 2 and message in refused.stderr, refused.stderr
    savemat(downloads / "splits.mat", {"trainNdxs": [[1, 2, 3, 4]], "testNdxs": [[5, 6]]})
    write_video(tmp_path / "raw", {"kitchen_0001": 2, "bedroom_0002a": 2, "office_0003": 2})
    refused = call("prepare_nyud2", *words, "--video", tmp_path / "raw", "--video-frames", 50)
    assert refused.status == 2 and "50 frames wanted" in refused.stderr
    assert not list((tmp_path / "nyud2").rglob("*.png"))
    with h5py.File(labelled_file, "r+") as file:
        file["depths"][1, 300, 200] = np.nan
    done = call("prepare_nyud2", *words, "--overwrite")
    assert done.status == 1 and "frame 5002: 1 depth values are negative, NaN" in done.stdout, done.stderr
    assert "is ready" not in done.stdout and not NYUD2Tree(tmp_path / "nyud2").path(5002).exists()
    lists = [read_pair_list(str(tmp_path / "nyud2" / "lists" / f"{name}_pairs.txt")) for name in ("trainval", "test")]
    assert [len(part) for part in lists] == [3, 2]


def test_labelled_rooms_are_held_out_whole(labelled_file, tmp_path):
    done = call("make_disparity", labelled_file, "-o", tmp_path / "out", "--hold-out-scenes", 2, "--quiet")
    assert done.status == 0, done.stderr
    val = {Path(pair.second).stem for pair in read_pair_list(str(tmp_path / "out" / "val_pairs.txt"))}
    assert val == {"img_5003", "img_5005", "img_5006"}  # bedroom_0002a and study_0004


def test_prepare_names_a_truncated_download(downloads, tmp_path):
    path = downloads / "nyu_depth_v2_labeled.mat"
    path.write_bytes(path.read_bytes()[:-5000])
    done = call("prepare_nyud2", "--downloads", downloads, "-o", tmp_path / "nyud2", "--quiet", "--no-checksums")
    assert done.status == 2 and "nyu_depth_v2_labeled.mat: damaged Matlab file" in done.stderr
    assert not list((tmp_path / "nyud2").rglob("*.png"))


def test_completion_is_part_of_the_frame(tmp_path):
    """What make_hha writes for a frame with holes is complete() followed by hha() with the holes as missing."""
    depth = np.rint(np.clip(floor(5001), 0.5, 4) * 1000).astype(np.uint16)
    depth[50:90, 100:300] = 0
    Image.fromarray(depth).save(tmp_path / "d.png")
    done = call("make_hha", tmp_path / "d.png", "-o", tmp_path / "h.png", "--camera", "nyud2_color",
                "--units-per-metre", 1000)  # fmt: skip
    assert done.status == 0, done.stderr
    wanted = hha(complete(depth / 1000), CAMERAS["nyud2_color"], depth == 0)
    assert np.array_equal(read_encoded(tmp_path / "h.png"), wanted)
