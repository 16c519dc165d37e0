"""``torch.compile`` of a net makes one graph, and keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from caffe_compat import load_net
from caffe_compat.resources import prototxt

INCEPTION = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 5 } }
layer { name: "1x1" type: "Convolution" bottom: "norm" top: "1x1" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "relu_1x1" type: "ReLU" bottom: "1x1" top: "1x1" }
layer { name: "3x3" type: "Convolution" bottom: "norm" top: "3x3"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu_3x3" type: "ReLU" bottom: "3x3" top: "3x3" }
layer { name: "side" type: "Pooling" bottom: "norm" top: "side" pooling_param { kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "output" type: "Concat" bottom: "1x1" bottom: "3x3" bottom: "side" top: "output" }
layer { name: "ave" type: "Pooling" bottom: "output" top: "ave" pooling_param { pool: AVE global_pooling: true } }
layer { name: "drop" type: "Dropout" bottom: "ave" top: "ave" }
layer { name: "ip" type: "InnerProduct" bottom: "ave" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("name", ["caffenet", "squeezenet", "inception"])
def test_one_graph(name: str, grad: bool, tmp_path: Path) -> None:
    if name == "inception":  # the parts of GoogLeNet
        path = tmp_path / "net.prototxt"
        path.write_text(INCEPTION)
    else:
        path = prototxt(f"{name}/deploy.prototxt")
    net = load_net(path)
    (image,) = net.input_names
    counter = CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    torch.manual_seed(0)
    for _ in range(3):
        images = torch.randn(2, *net.blob_shapes[image][1:])
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(compiled(**{image: images}), net(**{image: images}))
    assert counter.frame_count == 1
    if grad:
        (result,) = compiled(**{image: images}).values()
        result.square().sum().backward()
        assert all(learnable.parameter.grad is not None for learnable in net.learnables)
