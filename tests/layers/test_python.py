"""Layers written by users."""

import pytest
import torch
from one_layer import one_layer, one_net, seq

from caffe_compat.errors import LayerError, NetError
from caffe_compat.layers.python import allow_python_layers
from caffe_compat.layers.python_blobs import LayerBlob
from caffe_compat.solver import load_solver


def body(name: str, text: str = "") -> str:
    return f"python_param {{ module: 'user_layers' layer: '{name}' param_str: '{text}' }}"


def test_forward_and_gradient():
    layer = one_layer("Python", body("Square", "3"), (2, 3))
    x = seq(2, 3).requires_grad_()
    (y,) = layer(x)
    y.sum().backward()
    assert torch.allclose(y, 3 * x**2)
    assert torch.allclose(x.grad, 6 * x)


def test_other_size_at_run_time():
    net = one_net("Python", body("Square", "1"), [(2, 3)])
    assert net(x0=torch.full((4, 1, 2), 3.0))["y"].eq(9).all()
    assert net(x0=seq(2, 3))["y"].shape == (2, 3)


def test_blobs_are_parameters():
    layer = one_layer("Python", body("Weighted"), (2, 3))
    assert [tuple(blob.shape) for blob in layer.blobs] == [(3,)]
    assert layer.blobs[0].eq(2).all()
    x = seq(2, 3)
    layer(x)[0].sum().backward()
    layer(x)[0].sum().backward()
    assert torch.allclose(layer.blobs[0].grad, 2 * x.sum(0))
    assert layer.instance.asked == [[False], [False]]
    with torch.no_grad():
        layer.blobs[0].fill_(5)
    assert torch.allclose(layer(x)[0], 5 * x)
    layer.instance.blobs[0].data[...] = 7
    assert layer.blobs[0].eq(7).all()


def test_in_place():
    text = body("AddOne")
    layer = one_layer("Python", text, (2, 3), tops=("x0",))
    x = seq(2, 3).requires_grad_()
    (y,) = layer(x)
    y.backward(seq(2, 3))
    assert torch.allclose(y, seq(2, 3) + 1)
    assert torch.equal(x.grad, seq(2, 3))
    assert torch.equal(x.detach(), seq(2, 3))


@pytest.mark.parametrize("phase, number", [("TRAIN", 0), ("TEST", 1)])
def test_attributes(phase, number):
    instance = one_layer("Python", body("Square", "2.5"), (1,), phase=phase).instance
    assert (instance.phase, instance.param_str, instance.param_str_, instance.type) == (number, "2.5", "2.5", "Python")


def test_users_errors_are_passed_on():
    with pytest.raises(ZeroDivisionError):
        one_layer("Python", body("Broken", "setup"), (2, 3))
    with pytest.raises(KeyError, match="in forward"):
        one_layer("Python", body("Broken", "forward"), (2, 3))(seq(2, 3))
    with pytest.raises(NetError, match="setup only"):
        one_layer("Python", body("Broken"), (2, 3))(seq(2, 3))


@pytest.mark.parametrize(
    "text, message",
    [
        ("module: 'no_such_module' layer: 'X'", "no_such_module"),
        ("module: 'user_layers' layer: 'Missing'", "no class 'Missing'"),
        ("module: 'user_layers' layer: 'NotALayer'", "not a class derived from Layer"),
        ("", "module is '', expected the dotted name"),
        ("module: './user_layers' layer: 'Square'", "expected the dotted name of a module"),
        ("module: '..user_layers' layer: 'Square'", "expected the dotted name of a module"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(LayerError, match=message):
        one_layer("Python", f"python_param {{ {text} }}", (2, 3))


def test_not_allowed():
    with allow_python_layers(False), pytest.raises(LayerError, match="not allowed"):
        one_layer("Python", body("Square", "1"), (2, 3))
    assert one_layer("Python", body("Square", "1"), (2, 3)) is not None


def test_blob():
    blob = LayerBlob((2, 3))
    blob.data[...] = 1
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 1, 1, 6)
    blob.reshape(3)
    assert blob.data.tolist() == [1, 1, 1]
    blob.reshape(4)
    assert blob.data.tolist() == [0] * 4
    assert blob.diff.shape == (4,)
    with pytest.raises(NetError):
        blob.reshape(-1)
    blob.reshape(1, 1, 1, 1, 2)
    with pytest.raises(NetError, match="at most 4 axes"):
        _ = blob.num


def test_seek_forget_and_start_over_reach_the_user():
    layer = one_layer("Python", body("Counter"))
    layer(), layer()
    assert layer.running_metric and layer.instance.batch == 2
    layer.seek(7)
    layer.start_over()
    layer.forget()
    assert layer()[0].item() == 7
    assert (layer.instance.tests, layer.instance.forgotten) == (1, 1)


def test_a_resumed_solver_seeks_in_python_layers(tmp_path):
    net = f'layer {{ name: "count" type: "Python" top: "n" {body("Counter")} }}\n' + (
        'layer { name: "ip" type: "InnerProduct" bottom: "n" top: "y" inner_product_param { num_output: 1 axis: 0 } }\n'
        'layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "y" top: "loss" loss_weight: 1 }\n'
    )
    (tmp_path / "net.prototxt").write_text(net)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" iter_size: 2 max_iter: 9\n'
        f'snapshot_prefix: "{tmp_path}/s"'
    )
    first = load_solver(tmp_path / "solver.prototxt")
    first.step(3)
    first.snapshot()
    second = load_solver(tmp_path / "solver.prototxt")
    second.restore(tmp_path / "s_iter_3.solverstate")
    counters = [solver.net.layer("count").instance.batch for solver in (first, second)]
    assert counters == [6, 6]
