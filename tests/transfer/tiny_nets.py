"""Small nets and image pairs for the tests of transfer."""

from __future__ import annotations

import shlex
from pathlib import Path

import cv2
import numpy as np
import torch

from caffe_compat.net import load_net

TEACHER = """
name: "teacher"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "bn1" }
layer { name: "pool1" type: "Pooling" bottom: "bn1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "drop1" type: "Dropout" bottom: "pool1" top: "pool1" }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1" }
layer { name: "fc2" type: "InnerProduct" bottom: "norm1" top: "fc2"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc2" top: "prob" }
"""

TEACHER_TRAIN_VAL = """
name: "teacher"
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
  transform_param { crop_size: 32 } image_data_param { source: "nowhere.txt" batch_size: 2 } }
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 32 } image_data_param { source: "nowhere.txt" batch_size: 2 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc2" type: "InnerProduct" bottom: "pool1" top: "fc2"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc2" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "label" top: "loss" }
"""

STUDENT = """
name: "student"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
  convolution_param { num_output: 6 kernel_size: 5 stride: 2 pad: 1 weight_filler { type: "gaussian" std: 0.05 } } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2"
  convolution_param { num_output: 7 kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "r2" type: "ReLU" bottom: "c2" top: "c2" }
layer { name: "c3" type: "Convolution" bottom: "c2" top: "c3"
  convolution_param { num_output: 7 kernel_size: 3 stride: 2 } }
"""


MAKE_TRANSFER = shlex.split("""--teacher teacher.prototxt --student student.prototxt --output out --image-size 40 48
--source pairs/train_pairs.txt --val-source pairs/val_pairs.txt --layer pool1 --student-layer c2""")
"""Words of ``make_transfer`` in a folder with these nets and pairs."""


def write_nets(folder: Path) -> None:
    """``teacher.prototxt``, ``teacher_train_val.prototxt`` and ``student.prototxt``."""
    (folder / "teacher.prototxt").write_text(TEACHER)
    (folder / "teacher_train_val.prototxt").write_text(TEACHER_TRAIN_VAL)
    (folder / "student.prototxt").write_text(STUDENT)


def write_teacher(folder: Path) -> None:
    """``teacher.caffemodel``: random weights of ``teacher.prototxt``, with statistics that suit pictures."""
    torch.manual_seed(1)
    teacher = load_net(folder / "teacher.prototxt")
    teacher.layer("bn1").blobs[2].data.fill_(1)
    teacher.layer("bn1").blobs[1].data.fill_(900)
    teacher.save(folder / "teacher.caffemodel")


def write_pairs(
    folder: Path, count: int = 4, size: tuple[int, int] = (40, 48), lists: tuple[str, ...] = ("train", "val")
) -> None:
    """Pairs whose second image is a function of the first, and the lists ``train_pairs.txt`` and ``val_pairs.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    lines = []
    for index in range(count):
        first = cv2.resize(random.integers(0, 256, (5, 6, 3), dtype=np.uint8), size[::-1])
        cv2.imwrite(str(folder / f"a{index}.png"), first)
        cv2.imwrite(str(folder / f"b{index}.png"), 255 - first[..., ::-1])
        lines.append(f"a{index}.png b{index}.png\n")
    for name in lists:
        (folder / f"{name}_pairs.txt").write_text("".join(lines))
