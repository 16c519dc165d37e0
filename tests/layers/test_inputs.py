"""Layers without bottoms."""

import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError
from caffe_compat.net import BlobNet, load_net


def test_dummy_data_keeps_constants_and_redraws_the_rest():
    body = "dummy_data_param { shape { dim: 50 } data_filler { value: 3 } data_filler { type: 'gaussian' } }"
    layer = one_layer("DummyData", body, tops=["a", "b"])
    constant, random = layer()
    assert torch.equal(constant, torch.full((50,), 3.0))
    constant[0] = 9
    again = layer()
    assert again[0][0] == 9
    assert not torch.equal(again[1], random)


def test_dummy_data_legacy_dims():
    body = "dummy_data_param { num: 2 num: 3 channels: 1 height: 4 width: 5 }"
    assert [tuple(top.shape) for top in one_layer("DummyData", body, tops=["a", "b"])()] == [(2, 1, 4, 5), (3, 1, 4, 5)]


def test_dummy_data_follows_the_net_to_another_type():
    layer = one_layer("DummyData", "dummy_data_param { shape { dim: 2 } data_filler { type: 'uniform' } }")
    assert layer.double()()[0].dtype == torch.float64


def test_parameter_diff_is_set_not_added_to(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        "layer { name: 'p' type: 'Parameter' top: 'p' parameter_param { shape { dim: 3 } } }"
        "layer { name: 's' type: 'Reduction' bottom: 'p' top: 's' loss_weight: 2 }"
    )
    net = BlobNet(load_net(path))
    for _ in range(2):
        net.forward()
        net.backward()
    assert net.param_blob(0, 0).diff.tolist() == [2, 2, 2]


def test_parameter_loses_a_loss_weight():
    """Caffe keeps it in the diff of the top, which is the diff of the blob by the forward pass."""
    module = one_net("Parameter", "loss_weight: 2 parameter_param { shape { dim: 3 } }", [])
    module.learnables[0].parameter.data.fill_(1.0)
    net = BlobNet(module)
    assert net.forward() == 0
    net.backward()
    assert net.param_blob(0, 0).diff.tolist() == [0, 0, 0]
    assert module.loss(module()) == 0


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("DummyData", "dummy_data_param { shape { dim: 1 } num: 1 }", "both shape and num"),
        ("DummyData", "dummy_data_param { num: 1 channels: 1 height: 1 }", "need 1 entry or one per top"),
        ("DummyData", "dummy_data_param { }", "has 0 shapes"),
        (
            "DummyData",
            "dummy_data_param { shape { dim: 1 } data_filler { } data_filler { } }",
            "2 entries of data_filler",
        ),
        (
            "DummyData",
            "dummy_data_param { shape { dim: 2 } data_filler { type: 'bilinear' } }",
            "needs a blob of 4 axes",
        ),
        ("Input", "input_param { shape { dim: 1 } shape { dim: 1 } }", "has 2 shapes, expected 1 or one per top"),
    ],
)
def test_refusals(kind, body, message):
    with pytest.raises(LayerError, match=message):
        one_layer(kind, body, tops=["a", "b", "c"])
