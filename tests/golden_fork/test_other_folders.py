"""The comparison on folders of other images and options, whose arrays a slow retelling of the branch makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_fork.detection_evaluation import check as check_evaluation
from golden_fork.detection_testing import check as check_testing
from golden_fork.detection_training import _spoiled
from golden_fork.detection_training import check as check_training
from golden_fork.folders import Folder, write_folder

BASE = {"SCALES": [48], "MAX_SIZE": 70, "BATCH_SIZE": 16, "IMS_PER_BATCH": 2, "BG_THRESH_LO": 0.0}
CASES = {
    "one image in a batch, odd sizes": Folder(
        11, {"IMS_PER_BATCH": 1, "BATCH_SIZE": 10}, sizes=((50, 71), (71, 50)), objects=(2, 3)
    ),
    "several scales, four images": Folder(
        12, {"IMS_PER_BATCH": 4, "SCALES": [32, 48, 64], "MAX_SIZE": 75}, sizes=((50, 71), (49, 49)), objects=(2, 1)
    ),
    "thresholds": Folder(
        13, {"FG_THRESH": 0.6, "BG_THRESH_HI": 0.4, "BG_THRESH_LO": 0.1, "BBOX_THRESH": 0.6, "FG_FRACTION": 0.35}
    ),
    "as many valid images as in a batch": Folder(14, {"USE_FLIPPED": False}, images=3, objects=(1, 0, 1)),
    "fewer valid images than in a batch": Folder(15, {"USE_FLIPPED": False}, images=2, objects=(1, 0)),
    "an odd number of valid images": Folder(16, {"USE_FLIPPED": False}, images=4, objects=(1, 0, 2, 1)),
    "classes with a single example": Folder(17, {"USE_FLIPPED": False}, near=0, objects=(1, 2)),
    "proposals equal to the truth, and twice": Folder(18, near=0, copies=3),
    "none or one proposal": Folder(19, proposals=(20, 0, 1, 20)),
    "no regression": Folder(20, {"BBOX_REG": False}),
}


@pytest.mark.parametrize("name", CASES)
def test_training_agrees(tmp_path: Path, name: str) -> None:
    arrays = write_folder(tmp_path, BASE, CASES[name])
    found = list(check_training(tmp_path))
    assert {key for key, _ in found} == set(arrays)
    assert not [f"{key}: {problem}" for key, problem in found if problem]


def test_a_wrong_number_of_another_folder_is_noticed(tmp_path: Path) -> None:
    arrays = write_folder(tmp_path, BASE, CASES["thresholds"])
    for key in ("batch_1/9/rois", "batch_2/3/labels", "train/stds"):
        changed = arrays[key].copy()
        changed.flat[changed.argmax()] *= 1.01
        np.savez(tmp_path / "fastrcnn.npz", **{**arrays, key: changed})
        assert key in {name for name, problem in check_training(tmp_path) if problem}


def test_empty_cells_of_one_axis(tmp_path: Path) -> None:
    """The branch's lists of no boxes become arrays of one axis."""
    arrays = write_folder(tmp_path, BASE, CASES["none or one proposal"])
    empty = np.zeros(0, np.float32)
    arrays |= {"test/all_boxes/1/0": empty.reshape(0, 5), "test/nms_boxes/1/0": empty, "test/nms_boxes/2/0": empty}
    arrays |= {
        "eval/0/images": np.array(1),
        "eval/0/0/dets": empty,
        "eval/0/0/gt": empty,
        "eval/0/ap": np.array(np.nan),
    }
    np.savez(tmp_path / "fastrcnn.npz", **arrays)
    found = [*check_testing(tmp_path), *check_evaluation(tmp_path)]
    assert {"test/nms_boxes/1/0", "test/nms_boxes/2/0", "eval/0/ap"} <= {key for key, _ in found}
    assert not [f"{key}: {problem}" for key, problem in found if problem]


def test_from_where_the_branch_learns_from_a_division_by_zero() -> None:
    stds = np.full((3, 4), 0.1)
    stds[2, 1] = 0
    arrays = {"train/stds": stds.ravel(), "train/labels/1": np.array([1, 0]), "train/labels/2": np.array([2, 0])}
    assert _spoiled(arrays, 2) == 2
    assert _spoiled({**arrays, "train/stds": np.full(12, 0.1)}, 2) == np.inf
