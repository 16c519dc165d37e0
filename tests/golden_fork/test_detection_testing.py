"""The check of test time notices a number that is wrong, wherever it stands, and nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from golden_fork.detection_testing import check, compare_class, suppression_problem

from caffe_compat.config import load_config

FOLDER = Path(__file__).resolve().parents[1] / "data" / "golden_fork" / "detection"
RESULTS = {
    "fastrcnn.npz": (r"nms/\d+/keep", r"detect_1/\d+/net_rois", r"detect_2/\d+/(scores|pred_boxes)", "test/nms_boxes/"),
    "trace/trace.npz": ("test_single/all_boxes/", "test_fused/all_boxes/", "test_single/nms_boxes/1"),
}


@pytest.mark.parametrize("seed", [0, 1])
def test_wrong_numbers_are_noticed(tmp_path: Path, seed: int) -> None:
    rng, folder, wrong = np.random.default_rng(seed), tmp_path / "golden", set()
    shutil.copytree(FOLDER, folder)
    for file, patterns in RESULTS.items():
        arrays = dict(np.load(folder / file))
        for pattern in patterns:
            key = rng.choice([key for key in arrays if re.match(pattern, key) and arrays[key].size])
            values = arrays[key].copy()
            values.flat[rng.integers(values.size)] += 1
            arrays[key] = values
            wrong.add(str(key))
        np.savez(folder / file, **arrays)
    found = {name for name, problem in check(folder) if problem}
    assert wrong <= found
    assert found - wrong <= {name.replace("all_boxes", "nms_boxes") for name in wrong}


def test_boxes_of_another_rounding() -> None:
    config = load_config(pairs=["TEST.MAX_PER_IMAGE", "3", "TEST.MAX_PER_SET_F", "2"])
    mine = np.array([[0, 0, 9, 9, 0.9], [5, 5, 9, 9, 0.5], [1, 1, 3, 3, 0.2]])
    close = mine + [0.01, -0.01, 0, 0, 1e-5]
    assert compare_class([mine], [close[::-1]], [3], config) == [""]
    assert compare_class([mine], [mine + [0.03, 0, 0, 0, 0]], [3], config) != [""]
    assert compare_class([mine], [mine[:2]], [2], config) != [""], "nothing was cut off here"
    other = np.vstack((mine[:2], [[50, 50, 60, 60, 0.2]]))
    assert compare_class([mine], [other], [5], config) == [""], "either may be the last that is kept"
    assert compare_class([mine], [other], [2], config) != [""]


def test_suppression_in_any_order_of_equal_scores() -> None:
    dets = np.array([[0, 0, 9, 9, 0.5], [1, 0, 10, 9, 0.5], [50, 50, 60, 60, 0.1]], np.float32)
    assert suppression_problem(dets, dets[[0, 2]], 0.3) == suppression_problem(dets, dets[[1, 2]], 0.3) == ""
    assert "overlaps another" in suppression_problem(dets, dets, 0.3)
    assert "is missing" in suppression_problem(dets, dets[:1], 0.3)
    assert "descending" in suppression_problem(dets, dets[[2, 0]], 0.3)
    assert "none of the boxes" in suppression_problem(dets, dets + 1, 0.3)
