from pathlib import Path

import numpy as np
import pytest
from nyud2_files import NAMES, cell, label_frame, lengths, truncated, write_v73
from scipy.io import loadmat, savemat

from caffe_compat import scenes
from caffe_compat.datasets.boxes import boxes_from_labels, boxes_from_segmentation
from caffe_compat.datasets.nyud2 import CLASSES
from caffe_compat.datasets.tree import NYUD2Tree, check_splits
from caffe_compat.errors import DataError, MissingFileError, UsageError

SPLITS = {"train": [5003, 5001], "val": [5006], "trainval": [5001, 5003, 5006], "test": [5002, 6449]}


def save_splits(tree, **splits):
    tree.splits_path.parent.mkdir(parents=True, exist_ok=True)
    savemat(tree.splits_path, {name: np.array(numbers)[:, None] for name, numbers in splits.items()})


def test_splits_written_and_read(tmp_path):
    tree = NYUD2Tree(tmp_path)
    tree.write_splits(SPLITS)
    assert tree.splits() == SPLITS
    raw = loadmat(tmp_path / "benchmarkData" / "metadata" / "nyusplits.mat")["trainval"].ravel()
    assert [f"img_{int(number):4d}" for number in raw] == ["img_5001", "img_5003", "img_5006"]


def test_tst_and_no_trainval(tmp_path):
    tree = NYUD2Tree(tmp_path)
    save_splits(tree, train=[5001], val=[5002], tst=[5003], extra=[1])
    assert tree.splits() == {"train": [5001], "val": [5002], "trainval": [5001, 5002], "test": [5003]}
    save_splits(tree, train=[5001], val=[5002], tst=[5003], test=[5003])
    with pytest.raises(DataError, match="both 'test' and 'tst'"):
        tree.splits()


def test_splits_of_version_73(tmp_path):
    tree = NYUD2Tree(tmp_path)
    tree.splits_path.parent.mkdir(parents=True)
    write_v73(tree.splits_path, {name: np.array([numbers], float) for name, numbers in SPLITS.items()})
    assert tree.splits() == SPLITS


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"test": [5002, 5003]}, r"'train' and 'test' share 1 frames, such as 5003"),
        ({"test": [5006]}, "'val' and 'test' share"),
        ({"val": [5001], "trainval": [5001, 5003]}, "'train' and 'val' share"),
        ({"test": [5000]}, "'test' has frame 5000, they are numbered from 5001"),
        ({"test": [5002, 5002]}, "'test' has frame 5002 more than once"),
        ({"test": [5002.5]}, "'test' does not hold whole numbers"),
        ({"test": [np.nan]}, "'test' does not hold whole numbers"),
        ({"trainval": [5001, 5003]}, "'trainval' is not"),
        ({"pairs": [5002]}, "'test' and 'pairs' share"),
        ({"train": None}, "no split 'train', it has: val, trainval, test"),
        ({"test": None}, "no split 'test'"),
    ],
)
def test_wrong_splits(tmp_path, changes, reason):
    tree = NYUD2Tree(tmp_path)
    save_splits(tree, **{name: numbers for name, numbers in {**SPLITS, **changes}.items() if numbers is not None})
    with pytest.raises(DataError, match=rf"nyusplits\.mat: {reason}"):
        tree.splits()


def test_wrong_splits_are_not_written(tmp_path):
    tree = NYUD2Tree(tmp_path)
    with pytest.raises(DataError, match="share"):
        tree.write_splits({**SPLITS, "test": [5001]})
    with pytest.raises(DataError, match=r"'tests' is no split \(did you mean 'test'"):
        check_splits({**SPLITS, "tests": [5001]})
    assert not tree.splits_path.exists()


def test_truncated_splits(tmp_path):
    tree = NYUD2Tree(tmp_path)
    tree.write_splits(SPLITS)
    for length in lengths(tree.splits_path, 30):
        with pytest.raises(DataError, match=f"nyusplits_{length}.mat: "):
            NYUD2Tree.read_splits(truncated(tree.splits_path, length))
    with pytest.raises(MissingFileError):
        NYUD2Tree(tmp_path / "none").splits()


def test_paths():
    tree = NYUD2Tree()
    assert tree.path(5001) == Path("data/nyud2/data/images/img_5001.png")
    assert tree.path(5001, "hha") == Path("data/nyud2/data/hha/img_5001.png")
    assert [path.parent.name for path in tree.image_paths(6449, "images+hha")] == ["images", "hha"]
    for modality in ("", "images+hha", "../hha", "a/b", ".."):
        with pytest.raises(UsageError, match="modality"):
            tree.path(5001, modality)


def test_segmentation_and_boxes_agree(tmp_path):
    tree, (labels, instances) = NYUD2Tree(tmp_path), label_frame()
    tree.write_segmentation(5001, labels, instances)
    tree.write_ground_truth(5001, boxes_from_labels(labels, instances, NAMES, CLASSES))
    found = tree.segmentation(5001)
    assert (found.instances.dtype, found.classes.dtype) == (np.uint16, np.uint16)
    np.testing.assert_array_equal(found.classes, labels)
    truth, rebuilt = tree.ground_truth(5001), boxes_from_segmentation(found.instances, found.classes, NAMES, CLASSES)
    assert truth.names == rebuilt.names == ["bed", "bed", "night-stand"]
    np.testing.assert_array_equal(truth.boxes, rebuilt.boxes)
    for box, number in zip(truth.boxes.astype(int), truth.instance_ids, strict=True):
        inside = found.instances[box[1] : box[3] + 1, box[0] : box[2] + 1]
        assert (inside == number).all()


def test_the_way_the_fork_reads_segmentations(tmp_path):
    tree, (labels, instances) = NYUD2Tree(tmp_path), label_frame()
    tree.write_segmentation(5001, labels, instances)
    raw = loadmat(tmp_path / "benchmarkData" / "groundTruth" / "img_5001.mat")
    found = 1 * raw["groundTruth"][0][0]["Segmentation"][0][0].astype(np.uint16)
    np.testing.assert_array_equal(found > 0, (labels > 0) & (instances > 0))
    assert found[60, 50] == 1
    assert found[0, 639] == 4


def test_segmentation_of_version_73(tmp_path):
    tree = NYUD2Tree(tmp_path)
    tree.segmentation_path(5001).parent.mkdir(parents=True)
    maps = {"Segmentation": np.array([[1, 2, 0]], np.uint16), "SegmentationClass": np.array([[8.0, 9.0, 0.0]])}
    write_v73(tree.segmentation_path(5001), {"groundTruth": cell([maps])})
    found = tree.segmentation(5001)
    assert found.instances.tolist() == [[1, 2, 0]]
    assert found.classes.tolist() == [[8, 9, 0]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("text", "groundTruth is a str"),
        (cell([{"Segmentation": np.ones((2, 2))}]), "SegmentationClass is no map"),
        (cell([{"Segmentation": np.ones((2, 2)), "SegmentationClass": np.full((2, 2), 0.5)}]), "SegmentationClass is"),
        (cell([{"Segmentation": np.ones((2, 2)), "SegmentationClass": np.ones((2, 3))}]), r".*\(2, 2\).*\(2, 3\)"),
    ],
)
def test_wrong_segmentation(tmp_path, content, reason):
    tree = NYUD2Tree(tmp_path)
    tree.segmentation_path(5001).parent.mkdir(parents=True)
    savemat(tree.segmentation_path(5001), {"groundTruth": content})
    with pytest.raises(DataError, match=rf"img_5001\.mat: {reason}"):
        tree.segmentation(5001)


def test_segmentation_too_large_is_not_written(tmp_path):
    tree = NYUD2Tree(tmp_path)
    with pytest.raises(DataError, match="SegmentationClass"):
        tree.write_segmentation(5001, np.full((2, 2), 70000), np.ones((2, 2), int))
    assert not tree.segmentation_path(5001).exists()


def test_check(tmp_path):
    tree = NYUD2Tree(tmp_path)
    tree.write_splits(SPLITS)
    labels, instances = label_frame()
    for number in SPLITS["test"]:
        tree.write_ground_truth(number, boxes_from_labels(labels, instances, NAMES, CLASSES))
        tree.path(number).parent.mkdir(parents=True, exist_ok=True)
        tree.path(number).touch()
    tree.check("test")
    assert tree.missing("test", "images+hha") == [tree.path(5002, "hha"), tree.path(6449, "hha")]
    with pytest.raises(DataError, match=r"2 files of split 'test' are missing: data/hha/img_5002.png, .*img_6449.png"):
        tree.check("test", "images+hha")
    with pytest.raises(DataError, match=r"6 files of split 'trainval' .*img_5003.* and 1 more"):
        tree.check("trainval")
    with pytest.raises(DataError, match=r"2 files .*groundTruth/img_5002.mat"):
        tree.check("test", segmentation=True)
    tree.check("test", ground_truth=False)
    with pytest.raises(DataError, match=r"no split 'tset' \(did you mean 'test'"):
        tree.check("tset")


def test_reads_drawn_scenes(tmp_path):
    """The generator of drawn scenes writes the same layout."""
    settings = scenes.Settings(train=1, pairs=1, val=1, test=1, width=64, height=48)
    specs = scenes.frame_specs(settings)
    assert all(scenes.write_frame(tmp_path, settings, spec) for spec in specs)
    scenes.write_lists(tmp_path, settings)
    tree = NYUD2Tree(tmp_path)
    splits = tree.splits()
    assert splits == {"train": [5001], "val": [5003], "trainval": [5001, 5003], "test": [5004], "pairs": [5002]}
    tree.check("test", "images+hha+depth+rawdepth")
    truth = tree.ground_truth(5004, scenes.CLASSES)
    assert truth.names == [scenes.CLASSES[specs[3].label]]
    frame, _ = scenes.draw(settings, specs[3])
    rows, columns = np.nonzero(frame.mask)
    assert truth.boxes.tolist() == [[columns.min(), rows.min(), columns.max(), rows.max()]]
    assert truth.size == (48, 64)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e300, 5001.5])
def test_splits_of_infinities_are_refused(tmp_path, bad):
    savemat(tmp_path / "s.mat", {"train": [[5001.0, bad]], "val": [[5002.0]], "test": [[5003.0]]})
    with pytest.raises(DataError, match=r"s\.mat: 'train' does not hold whole numbers"):
        NYUD2Tree.read_splits(tmp_path / "s.mat")
