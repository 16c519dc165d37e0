"""Databases by name, and NYUD2's on its published tree."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import needs

from caffe_compat.datasets import NYUD2Tree, find_imdb, imdb_names, read_mat
from caffe_compat.datasets.coco_classes import COCO_CLASSES, NYUD2_IN_COCO
from caffe_compat.datasets.mat import write_mat
from caffe_compat.datasets.nyud2 import CLASSES
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.scenes.dataset import write_frame, write_lists
from caffe_compat.scenes.settings import Settings, frame_specs
from caffe_compat.scenes.solids import CLASSES as SCENE_CLASSES
from tests.datasets.imdb_files import SIZE, make_tree


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'nyud2_hha_2015_trainvall/' \(did you mean 'nyud2_hha_2015_trainval'\?\)"):
        find_imdb("nyud2_hha_2015_trainvall/")
    assert len(set(imdb_names())) == len(imdb_names())


def test_nyud2(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    found = find_imdb("nyud2_images+hha_2015_trainval", tmp_path)
    assert found.name == "nyud2_images+hha_2015_trainval" and found.modalities == ("images", "hha")
    assert len(found.classes) == 19 and found.metric == "nyud2"
    assert [record.name for record in found.records] == ["img_5003", "img_5001", "img_5002"]  # the file's order
    record = found.records[1]
    assert record.paths == {kind: str(tree.path(5001, kind)) for kind in ("images", "hha")} and record.size == SIZE
    assert record.classes == ("chair", "bed")  # no teapots
    np.testing.assert_array_equal(record.boxes, np.array([[2, 3, 9, 12], [0, 0, 29, 19]], np.float32))
    assert record.difficult is not None and record.difficult.tolist() == [False, True]


def test_nyud2_by_the_names_of_coco_s_classes(tmp_path: Path) -> None:
    """Objects that COCO does not know are no objects; what is left has COCO's names."""
    tree = make_tree(tmp_path)
    truth = tree.ground_truth(5001, None)
    tree.write_ground_truth(5001, dataclasses.replace(truth, names=["lamp", "sofa", "teapot"]))
    found = find_imdb("nyud2_images_2015_trainval,classes=coco", tmp_path)
    assert found.name == "nyud2_images_2015_trainval_coco" and found.classes == COCO_CLASSES
    assert found.proposals is not None and len(found.proposals(found.records[0]))
    plain = find_imdb("nyud2_images_2015_trainval", tmp_path)
    for before, after in zip(plain.records, found.records, strict=True):
        assert before.classes is not None and after.classes is not None and after.boxes is not None
        keep = [index for index, name in enumerate(before.classes) if name in NYUD2_IN_COCO]
        assert after.classes == tuple(NYUD2_IN_COCO[before.classes[index]] for index in keep)
        np.testing.assert_array_equal(after.boxes, before.boxes[keep])
    assert found.records[1].classes == ("couch",)


def test_coco_s_classes() -> None:
    """Order and number of those in instances_val2014.json: ids rise, and these stand at known places."""
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES)) == 80
    places = {"person": 0, "chair": 56, "couch": 57, "bed": 59, "dining table": 60, "toilet": 61, "tv": 62, "sink": 71}
    assert {name: COCO_CLASSES.index(name) for name in places} == places
    assert set(NYUD2_IN_COCO.values()) < set(COCO_CLASSES) and set(NYUD2_IN_COCO) < set(CLASSES)


def test_proposals_of_nyud2(tmp_path: Path) -> None:
    make_tree(tmp_path)
    found = find_imdb("nyud2_hha_2015_test", tmp_path)
    assert found.proposals is not None
    boxes = found.proposals(found.records[0])
    assert boxes.dtype == np.float32
    np.testing.assert_array_equal(boxes, [[2, 3, 9, 12], [0, 0, 29, 19]])
    (tmp_path / "data" / "nyud2_mcg_boxes.mat").unlink()
    again = find_imdb("nyud2_hha_2015_test", tmp_path)  # nobody needs them yet
    assert again.proposals is not None
    with pytest.raises(MissingFileError, match=r"nyud2_mcg_boxes\.mat"):
        again.proposals(again.records[0])


def test_missing_files_of_nyud2_are_named(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    with pytest.raises(DataError, match=r"2 files of split 'test'.*thermal/img_5010"):
        find_imdb("nyud2_thermal_2015_test", tmp_path)
    tree.ground_truth_path(5004).unlink()
    with pytest.raises(DataError, match=r"1 files of split 'test' are missing: .*img_5004\.mat"):
        find_imdb("nyud2_hha_2015_test", tmp_path)
    with pytest.raises(DataError, match=r"no split 'tests' \(did you mean 'test'\?\)"):
        find_imdb("nyud2_hha_2015_tests", tmp_path)
    shutil.rmtree(NYUD2Tree(tmp_path / "data" / "nyud2").splits_path.parent)
    with pytest.raises(MissingFileError, match=r"nyusplits\.mat"):
        find_imdb("nyud2_hha_2015_train", tmp_path)


def test_a_split_of_another_name(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    path = tree.splits_path
    write_mat(path, {**read_mat(path), "few": np.array([[5002.0], [5010]]), "none": np.zeros((0, 1))})
    assert [record.name for record in find_imdb("nyud2_hha_2015_few", tmp_path).records] == ["img_5002", "img_5010"]
    with pytest.raises(DataError, match=r"nyusplits\.mat: split 'none' is empty"):
        find_imdb("nyud2_hha_2015_none", tmp_path)
    write_mat(path, {**read_mat(path), "few": np.array([[5002.0], [5002]])})
    with pytest.raises(DataError, match=r"'few' has frame 5002 more than once"):
        find_imdb("nyud2_hha_2015_few", tmp_path)


def test_masks_of_a_tree(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    assert find_imdb("nyud2_hha_2015_val", tmp_path).records[0].masks is None
    labels = np.zeros(SIZE, int)
    labels[3:13, 2:10], labels[15:, :] = 1, 2
    tree.write_segmentation(5002, labels, np.ones(SIZE, int))
    masks = find_imdb("nyud2_hha_2015_val", tmp_path).records[0].masks
    assert masks is not None
    np.testing.assert_array_equal(masks(), [labels == 1, labels == 2])
    tree.write_segmentation(5002, np.minimum(labels, 1), np.ones(SIZE, int))
    with pytest.raises(DataError, match=r"img_5002\.mat: no pixels of instance 2, object 2 of img_5002"):
        masks()


def test_drawn_scenes(tmp_path: Path) -> None:
    settings, folder = Settings(train=1, pairs=1, val=1, test=2, width=64, height=48), tmp_path / "data" / "scenes"
    for spec in frame_specs(settings):
        write_frame(folder, settings, spec)
    write_lists(folder, settings)
    found = find_imdb("scenes_images+hha_test", tmp_path)
    assert found.classes == SCENE_CLASSES and found.proposals is None and len(found.records) == 2
    for record in found.records:
        assert record.classes and record.classes[0] in found.classes and record.masks and record.boxes is not None
        rows, columns = np.nonzero(record.masks()[0])
        assert record.boxes.tolist() == [[columns.min(), rows.min(), columns.max(), rows.max()]]
    assert find_imdb("scenes_hha_pairs", tmp_path).records[0].boxes is None  # unlabelled
    own = find_imdb(f"tree:{folder},split=test,modalities=hha")
    assert own.name == "scenes_hha_test" and own.classes == found.classes
    assert find_imdb(f"tree:{folder},split=test").modalities == ("images",)
    (folder / "classes.txt").write_text("one\none\n")
    with pytest.raises(DataError, match=r"classes\.txt: expected the names of classes"):
        find_imdb(f"tree:{folder},split=test")


def test_the_published_detectors_tree() -> None:
    root = needs("golden_fork/detection/tree")
    counts = {}
    for split in ("train", "val", "trainval", "test"):
        found = find_imdb(f"nyud2_images+hha_2015_{split}", root)
        counts[split] = len(found.records)
        assert found.proposals is not None
        assert all(len(found.proposals(record)) for record in found.records)
    assert counts == {"train": 6, "val": 2, "trainval": 8, "test": 4}
