"""Tiny data sets in the layouts of NYUD2's tree, VOC and COCO, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from caffe_compat.datasets import GroundTruth, NYUD2Tree
from caffe_compat.datasets.mat import write_mat
from tests.datasets.nyud2_files import cell

SPLITS = {"train": [5003, 5001], "val": [5002], "test": [5010, 5004]}
SIZE = (20, 30)


def save_picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    """A black picture of a height and width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
    return path


def truth_of(boxes: Sequence[Sequence[float]], names: list[str], size: tuple[int, int] = SIZE) -> GroundTruth:
    count = len(names)
    return GroundTruth(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        names=names,
        instance_ids=np.arange(1, count + 1),
        difficult=np.arange(count) % 2 == 1,
        truncated=np.zeros(count, bool),
        size=size,
    )


def make_tree(root: Path) -> NYUD2Tree:
    """NYUD2's tree below ``root/data/nyud2`` with two modalities, and proposals."""
    tree = NYUD2Tree(root / "data" / "nyud2")
    tree.write_splits(SPLITS)
    numbers = [number for part in SPLITS.values() for number in part]
    for number in numbers:
        for path in tree.image_paths(number, "images+hha"):
            save_picture(path)
        boxes = [[2, 3, 9, 12], [0, 0, 29, 19], [4, 4, 5, 5]]
        tree.write_ground_truth(number, truth_of(boxes, ["chair", "bed", "teapot"]))
    write_mat(
        root / "data" / "nyud2_mcg_boxes.mat",
        {
            "bboxes": cell([np.array([[4.0, 3, 13, 10], [1, 1, 20, 30]]) for _ in numbers]),
            "imnames": cell([f"img_{number}" for number in numbers]),
        },
    )
    return tree
