"""Small classification nets with fully connected layers, and proposals of the pairs of ``tiny_nets``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from caffe_compat.datasets.proposal_file import ProposalFile, write_proposal_file
from caffe_compat.net import load_net

NET = """
name: "{name}"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 24 dim: 24 }} }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param {{ num_output: {c1} kernel_size: 3 stride: 2 pad: 1
    weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }}
layer {{ name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param {{ num_output: {c2} kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }}
layer {{ name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "fc6" type: "InnerProduct" bottom: "pool2" top: "fc6"
  inner_product_param {{ num_output: {f6} weight_filler {{ type: "msra" }} bias_filler {{ value: 0.1 }} }} }}
layer {{ name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }}
layer {{ name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" }}
layer {{ name: "fc7" type: "InnerProduct" bottom: "fc6" top: "fc7"
  inner_product_param {{ num_output: {f7} weight_filler {{ type: "msra" }} bias_filler {{ value: 0.1 }} }} }}
layer {{ name: "relu7" type: "ReLU" bottom: "fc7" top: "fc7" }}
layer {{ name: "drop7" type: "Dropout" bottom: "fc7" top: "fc7" }}
layer {{ name: "fc8" type: "InnerProduct" bottom: "fc7" top: "fc8"
  inner_product_param {{ num_output: 4 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "fc8" top: "prob" }}
"""


def write_boxed_nets(folder: Path) -> None:
    """``boxed_teacher.prototxt`` with ``boxed_teacher.caffemodel``, and ``boxed_student.prototxt``."""
    teacher = folder / "boxed_teacher.prototxt"
    teacher.write_text(NET.format(name="teacher", c1=6, c2=8, f6=20, f7=16))
    (folder / "boxed_student.prototxt").write_text(NET.format(name="student", c1=5, c2=7, f6=24, f7=18))
    torch.manual_seed(2)
    load_net(teacher).save(folder / "boxed_teacher.caffemodel")


def write_proposals(path: Path, pairs: int = 4, size: tuple[int, int] = (40, 48), count: int = 30) -> list[np.ndarray]:
    """Boxes of the pictures ``a0.png`` ..., at least 8 pixels either way."""
    random = np.random.default_rng(8)
    found = []
    for _ in range(pairs):
        low = random.integers(0, (size[1] - 9, size[0] - 9), (count, 2))
        high = random.integers(low + 8, (size[1], size[0]))
        found.append(np.concatenate([low, high], 1).astype(np.float32))
    write_proposal_file(path, ProposalFile([f"a{number}" for number in range(pairs)], found))
    return found
