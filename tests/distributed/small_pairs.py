"""A small net over pairs with shared weights, BatchNorm and dropout, its solvers, and what they have written."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.state import read_state

NET = """
name: "pairs"
layer { name: "pairs" type: "PairedImageData" top: "data" top: "hha" include { phase: TRAIN }
  paired_image_data_param { source: "pairs.txt" batch_size: 2 crop_height: 12 crop_width: 10
    shuffle: true mirror: true mean_value: 100 scale: 0.02 prefetch: 2 } }
layer { name: "pairs" type: "PairedImageData" top: "data" top: "hha" include { phase: TEST }
  paired_image_data_param { source: "pairs.txt" batch_size: 1 mean_value: 100 scale: 0.02 prefetch: 2 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 0 } param { lr_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 0.2 } } }
layer { name: "first" type: "Convolution" bottom: "hha" top: "first" param { name: "w" }
  convolution_param { bias_term: false num_output: 3 kernel_size: 3 pad: 1
    weight_filler { type: "gaussian" std: 0.2 } } }
layer { name: "norm" type: "BatchNorm" bottom: "first" top: "norm" param { lr_mult: 0 decay_mult: 0 }
  param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 } }
layer { name: "drop" type: "Dropout" bottom: "norm" top: "norm" }
layer { name: "again" type: "Convolution" bottom: "norm" top: "again" param { name: "w" }
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "da_conv" type: "Convolution" bottom: "again" top: "da_conv"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 0.2 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "da_conv" bottom: "conv" top: "loss" loss_weight: 0.1 }
layer { name: "ev" type: "ExplainedVariance" bottom: "da_conv" bottom: "conv" top: "ev" include { phase: TEST } }
"""
SOLVER = """
net: "net.prototxt" test_iter: 5 test_interval: 4 base_lr: 0.01 lr_policy: "multistep" gamma: 0.5 stepvalue: 5
weight_decay: 0.05 max_iter: 8 snapshot: 4 display: 1 average_loss: 2 random_seed: 7 snapshot_prefix: "out/{name}"
"""
RULES = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.9 delta: 1e-4",
    "Adam": "momentum: 0.9 momentum2: 0.99",
}


def make(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    rng, lines = np.random.default_rng(0), []
    for index in range(13):
        for kind in ("rgb", "hha"):
            cv2.imwrite(str(folder / f"{kind}{index}.png"), rng.integers(0, 255, (16, 14, 3), np.uint8))
        lines.append(f"rgb{index}.png hha{index}.png\n")
    (folder / "pairs.txt").write_text("".join(lines))
    (folder / "net.prototxt").write_text(NET)
    return folder


def solver(folder: Path, name: str, rule: str = "SGD", **more: object) -> str:
    words = " ".join(f"{key}: {value}" for key, value in more.items())
    text = SOLVER.format(name=name)
    for key in more:
        text = re.sub(rf"\b{key}: \S+", "", text)
    (folder / f"{name}.prototxt").write_text(f'{text} type: "{rule}" {RULES[rule]} {words}')
    return f"{name}.prototxt"


def arrays(folder: Path, name: str, iteration: int) -> tuple[dict[str, list[np.ndarray]], tuple[np.ndarray, ...]]:
    stem = folder / "out" / f"{name}_iter_{iteration}"
    net = caffe_pb2.NetParameter.FromString(Path(f"{stem}.caffemodel").read_bytes())
    weights = {layer.name: [np.array(blob.data, np.float32) for blob in layer.blobs] for layer in net.layer}
    return weights, read_state(f"{stem}.solverstate").history


def assert_alike(folder: Path, one: str, other: str, iteration: int = 8, rest: float = 2e-5) -> None:
    """Weights, but for the statistics of batches that other processes saw, and histories."""
    (ours, history), (theirs, past) = arrays(folder, one, iteration), arrays(folder, other, iteration)
    assert sorted(ours) == sorted(theirs)
    for layer in ours:
        if layer != "norm":
            for mine, yours in zip(ours[layer], theirs[layer], strict=True):
                np.testing.assert_allclose(mine, yours, rtol=rest, atol=rest * np.abs(yours).max(), err_msg=layer)
    for mine, yours in zip(history, past, strict=True):
        np.testing.assert_allclose(mine, yours, rtol=rest, atol=rest * max(np.abs(yours).max(), 1e-12))
