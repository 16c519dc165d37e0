"""Small nets for the tests of pycaffe's interface."""

from __future__ import annotations

from pathlib import Path

MLP = """
name: "mlp" force_backward: true
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.1 } } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip" top: "ip2"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" include { phase: TRAIN } }
layer { name: "prob" type: "Softmax" bottom: "ip2" top: "prob" include { phase: TEST } }
"""

IMAGE = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 8 } } }
layer { name: "sum" type: "Convolution" bottom: "data" top: "sum"
  convolution_param { num_output: 3 group: 3 kernel_h: 6 kernel_w: 8 bias_term: false
    weight_filler { type: "constant" value: 1 } } }
"""

SOLVER = """
net: "net.prototxt" base_lr: 0.1 lr_policy: "step" gamma: 0.5 stepsize: 2 momentum: 0.9 max_iter: 4
snapshot_prefix: "s" test_iter: 1 test_interval: 100 test_initialization: false
"""


def write(text: str, name: str = "net.prototxt") -> str:
    """Write into the current folder; returns the name."""
    Path(name).write_text(text, encoding="utf-8")
    return name
