"""The branch's small detectors, exported, and pictures for them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from caffe_compat import load_net
from caffe_compat.media import Preparation, Preprocessing
from caffe_compat.onnx import export_onnx

TRACE = Path(__file__).resolve().parent / "data" / "golden_fork" / "detection" / "trace"


def picture(seed: int, height: int = 24, width: int = 30) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def detector(folder: Path, both: bool = False, **options) -> tuple[list[object], dict[str, Preprocessing]]:
    """The branch's small detectors, exported; the words for ``detect`` that find the same."""
    names = ("test_fused.prototxt", "init.caffemodel") if both else ("test.prototxt", "fast_rcnn_iter_20.caffemodel")
    classes = ("__background__", *(f"class{k}" for k in range(19)))
    one = Preprocessing("hha", short_side=96, longest_side=2000, classes=classes)
    color = Preprocessing(short_side=96, longest_side=2000, classes=classes)
    wanted = {"data": color, "data_1": one} if both else {"data": one}
    net = load_net(TRACE / names[0], TRACE / names[1])
    shapes = dict.fromkeys(wanted, (1, 3, 96, 128))
    export_onnx(
        net, folder / "n.onnx", metadata={"preprocessing": Preparation(wanted).text()}, dynamic=True,
        inputs={**shapes, "rois": (4, 5)}, **options,
    )  # fmt: skip
    (folder / "classes.txt").write_text("\n".join(classes[1:]))
    options = ["--set", "TEST.SCALES", "[96]", "TEST.MAX_SIZE", "2000"]
    return ["--def", TRACE / names[0], "--net", TRACE / names[1], "--classes", "classes.txt", *options], wanted
