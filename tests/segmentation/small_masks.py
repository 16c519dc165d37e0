"""A small hypercolumn net on a few drawn scenes: what its training and its test need, in a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from program import call

from caffe_compat.datasets import find_imdb
from caffe_compat.evaluation.detections import Detections, write_detections
from caffe_compat.net import load_net

TRAIN, TEST = "tree:scenes,split=train", "tree:scenes,split=test"
OUT, TESTED = Path("output/sds/masks/scenes_images_train"), Path("output/sds/masks/scenes_images_test")
TRAINING = ["--solver", "masks/solver.prototxt", "--cfg", "masks/config.yml", "--imdb", TRAIN, "--gpu", -1]
TRAINING += ["--weights", "detector.caffemodel"]
TESTING = ["--def", "masks/test.prototxt", "--cfg", "masks/config.yml", "--imdb", TEST, "--sds", 1]


def write_scenes(folder: Path) -> None:
    """16 frames to train on, 5 to test on, and a detector with weights of fillers."""
    sizes = ["--train", 16, "--pairs", 1, "--val", 1, "--test", 5, "--width", 96, "--height", 72, "--seed", 2]
    assert call("make_scenes", "--out", "scenes", *sizes, "--workers", 1, folder=folder).status == 0
    words = ["--net", "small", "--classes", 8, "--fillers", "--folder", "detector"]
    assert call("make_detection", *words, folder=folder).status == 0
    net = load_net(folder / "detector" / "train.prototxt", phase="TRAIN")
    net.save(folder / "detector.caffemodel")


def write_run(folder: Path, made: Path, *more: object, name: str = "masks") -> None:
    """The scenes and the detector that were made elsewhere, and a hypercolumn net of few iterations."""
    if not (folder / "scenes").exists():
        shutil.copytree(made / "scenes", folder / "scenes")
        shutil.copy(made / "detector.caffemodel", folder)
    words = ["--net", "small", "--imdb", TRAIN, "--folder", name, "--short-side", 72, "--base-lr", 0.05]
    words += ["--iter-size", 2, "--samples", 3, "--iters", 6, "--snapshot-iters", 3, *more]
    assert call("make_sds", *words, folder=folder).status == 0


def near_objects(folder: Path, count: int = 4) -> Detections:
    """Detections of the test frames: the objects' boxes, moved a little, and some of other classes."""
    imdb, rng = find_imdb(TEST.replace("tree:", f"tree:{folder}/")), np.random.default_rng(4)
    boxes = [[np.zeros((0, 5), np.float32) for _ in imdb.records] for _ in imdb.classes]
    for i, record in enumerate(imdb.records):
        for name, box in zip(record.classes, record.boxes, strict=True):
            moved = np.repeat(box[None], count, 0) + rng.normal(0, 12, (count, 4)) * np.arange(count)[:, None]
            corners = np.hstack((np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])))
            scores = np.sort(rng.random(count))[::-1, None]
            for c, rows in ((imdb.classes.index(name), slice(0, None, 2)), (int(rng.integers(8)), slice(1, None, 2))):
                new = np.hstack((corners, scores))[rows].astype(np.float32)
                boxes[c][i] = np.concatenate((boxes[c][i], new))
    return Detections(imdb.classes, tuple(record.name for record in imdb.records), boxes)


def write_near(folder: Path) -> Detections:
    """The same as ``near.npz``."""
    found = near_objects(folder)
    write_detections(folder / "near.npz", found)
    return found
