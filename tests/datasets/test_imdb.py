"""Databases by name, and NYUD2's on its published tree."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.datasets import NYUD2Tree, find_imdb, imdb_names
from caffe_compat.errors import DataError, MissingFileError, UsageError
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
