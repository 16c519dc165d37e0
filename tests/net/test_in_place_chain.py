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


@pytest.mark.parametrize("first", ["Exp", "Sigmoid", "ReLU", "Softmax", "BatchNorm", "Scale", "PReLU"])
def test_relu_that_changes_nothing_or_what_nobody_reads_keeps_the_gradient(tmp_path: Path, first: str) -> None:
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


def test_relu_keeps_the_product_that_its_unstable_gradient_reads(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "x" type: "Input" top: "x" top: "y" input_param { shape { dim: 4 } } }'
        'layer { name: "p" type: "Eltwise" bottom: "x" bottom: "y" top: "p"'
        "  eltwise_param { operation: PROD stable_prod_grad: false } }"
        'layer { name: "relu" type: "ReLU" bottom: "p" top: "p" }'
    )
    x = torch.tensor([1.0, -2.0, 3.0, 4.0], requires_grad=True)
    y = torch.tensor([2.0, 2.0, -1.0, 0.5])
    load_net(path)(x=x, y=y)["p"].sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([2.0, 0.0, 0.0, 0.5]))
