"""Chains of in-place layers: the module may overwrite only what no gradient needs any more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from caffe_compat import load_net

NET = """
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 dim: 4 dim: 4 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "x" top: "a"
  convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "gaussian" std: 0.3 }} }} }}
layer {{ name: "first" type: "{first}" bottom: "a" top: "{b}" }}
layer {{ name: "relu" type: "ReLU" bottom: "{b}" top: "{c}" relu_param {{ negative_slope: 0.2 }} }}
"""


@pytest.mark.parametrize("first", ["Exp", "Sigmoid", "TanH", "ELU", "ReLU", "Softmax", "BatchNorm", "Scale", "PReLU"])
def test_relu_after_an_in_place_layer_keeps_the_gradient(tmp_path: Path, first: str) -> None:
    gradients = []
    for b, c in (("a", "a"), ("b", "c")):
        path = tmp_path / "net.prototxt"
        path.write_text(NET.format(first=first, b=b, c=c))
        torch.manual_seed(0)
        net = load_net(path)
        x = torch.linspace(-2, 2, 96).view(2, 3, 4, 4).sin().requires_grad_()
        net(x=x)[c].square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0] is not None and gradients[0].isfinite().all()
