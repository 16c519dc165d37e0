"""What is said of a call that a net cannot answer: errors of ours that name the input, not torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe_compat.errors import LayerError, NetError, ShapeError
from caffe_compat.net import Net, load_net
from caffe_compat.net.running import _differs

TEXT = """name: "tiny"
layer { name: "data" type: "Input" top: "data" top: "label" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 }
  shape { dim: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "pool" bottom: "label" top: "loss" }
"""


@pytest.fixture
def net(tmp_path) -> Net:
    path = tmp_path / "tiny.prototxt"
    path.write_text(TEXT)
    return load_net(path)


DATA, LABEL = torch.zeros(2, 3, 8, 8), torch.zeros(2)


def test_good_calls(net: Net) -> None:
    for label in (LABEL, LABEL.long(), LABEL.int()):
        assert net(data=DATA, label=label)["loss"].shape == ()
    assert net.double()(data=DATA.double(), label=LABEL.double(), blobs=["conv"])["conv"].dtype == torch.float64


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"data": DATA.byte(), "label": LABEL}, NetError, r"input 'data' is torch.uint8, expected torch.float32"),
        ({"data": DATA, "label": LABEL.bool()}, NetError, r"input 'label' is torch.bool"),
        ({"data": DATA.numpy(), "label": LABEL}, NetError, r"input 'data' is a ndarray, expected a torch.Tensor"),
        ({"data": [1, 2], "label": LABEL}, NetError, r"input 'data' is a list"),
        ({"data": DATA}, NetError, r"missing \['label'\]"),
        ({"dta": DATA, "label": LABEL}, NetError, r"missing \['data'\]; unknown \['dta'\]"),
        ({"data": DATA[0], "label": LABEL}, ShapeError, r"layer 'conv' .*\[3, 8, 8\], expected 4 axes"),
        ({"data": DATA[:, :2], "label": LABEL}, ShapeError, r"layer 'conv' .*expected 3 channels"),
        ({"data": DATA.double(), "label": LABEL}, LayerError, r"'data' is torch.float64, expected torch.float32"),
        ({"data": DATA.half(), "label": LABEL}, LayerError, r"'conv' .*'data' is torch.float16"),
        ({"data": DATA, "label": LABEL, "blobs": "conv"}, NetError, r"expected a list of names: \['conv'\]"),
        ({"data": DATA, "label": LABEL, "blobs": ["cnv"]}, NetError, r"did you mean 'conv'"),
    ],
)
def test_bad_calls(net: Net, given: dict[str, object], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        net(**given)


def test_another_device(net: Net) -> None:
    conv = next(node for node in net.nodes if node.name == "conv")
    assert _differs(conv, [DATA.to("meta")]) == "bottom 'data' is on meta, its weights are on cpu"
    assert _differs(conv, [DATA]) == ""


def test_inputs_without_a_name(net: Net) -> None:
    with pytest.raises(NetError, match=r"net 'tiny' takes its inputs by name: net\(data=..., label=...\)"):
        net(np.zeros((2, 3, 8, 8)))
