"""InnerProduct and Embed."""

import pytest
import torch
from one_layer import numbers, one_layer, one_net, seq

from caffe_compat.errors import LayerError, NetError, ShapeError
from caffe_compat.net import BlobNet


def test_inner_product_measured_on_caffe():
    x = seq(1, 2, 3).requires_grad_()
    text = "inner_product_param { num_output: 2 axis: 2 transpose: true }"
    layer = one_layer("InnerProduct", text, x.shape, blob0=seq(3, 2), blob1=numbers(".1 .2"))
    y = layer(x)
    torch.testing.assert_close(y.detach().flatten(), numbers("0.98 1.04 0.9 1"))
    y.backward(seq(*y.shape))
    torch.testing.assert_close(x.grad.flatten(), numbers("1.04 -0.44 -0.16 -0.44 1 -0.64"))
    torch.testing.assert_close(layer.weight.grad.flatten(), numbers("0.52 0.84 0.2 0.04 -0.12 -0.76"))
    torch.testing.assert_close(layer.bias.grad, numbers("-0.4 -1"))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("transpose", [False, True])
def test_inner_product_axes(axis, transpose):
    x = seq(2, 3, 2, 4)
    lead = x.shape[: axis % 4]
    size = x.numel() // lead.numel()
    weight = seq(size, 3) if transpose else seq(3, size)
    text = f"inner_product_param {{ num_output: 3 axis: {axis} bias_term: false transpose: {str(transpose).lower()} }}"
    layer = one_layer("InnerProduct", text, x.shape, blob0=weight)
    expected = (x.reshape(-1, size) @ (weight if transpose else weight.t())).reshape(*lead, 3)
    torch.testing.assert_close(layer(x), expected)
    assert layer.top_shapes([x.shape]) == [tuple(expected.shape)]


def test_inner_product_keeps_its_input_size():
    layer = one_layer("InnerProduct", "inner_product_param { num_output: 2 }", (3, 8))
    assert layer(torch.zeros(5, 2, 2, 2)).shape == (5, 2)
    with pytest.raises(ShapeError, match="under_test.*has 6 values from axis 1 on, expected 8"):
        layer.top_shapes([(3, 6)])
    with pytest.raises(ShapeError, match="axis is 2"):
        one_layer("InnerProduct", "inner_product_param { num_output: 2 axis: 2 }", (3, 8))


def test_embed():
    text = "embed_param { num_output: 2 input_dim: 3 %s }"
    layer = one_layer("Embed", text % "", (4,), blob0=seq(3, 2), blob1=numbers("10 20"))
    y = layer(torch.tensor([2.9, 0, -0.5, 2]))  # truncated to integers
    torch.testing.assert_close(y.detach(), seq(3, 2)[[2, 0, 0, 2]] + numbers("10 20"))
    y.backward(torch.ones_like(y))
    assert layer.weight.grad.tolist() == [[2, 2], [0, 0], [2, 2]] and layer.bias.grad.tolist() == [4, 4]
    assert len(one_layer("Embed", text % "bias_term: false", (4,)).blobs) == 1


def test_embed_refusals():
    layer = one_layer("Embed", "embed_param { num_output: 2 input_dim: 3 }", (2,))
    for bad in (3.0, -1.0):
        with pytest.raises(LayerError, match=f"index {bad:g} in bottom 'x0', expected 0 to 2"):
            layer(torch.tensor([0, bad]))
    with pytest.raises(LayerError, match="input_dim is 0"):
        one_layer("Embed", "embed_param { num_output: 2 }", (2,))
    text = "embed_param { num_output: 2 input_dim: 3 } propagate_down: true loss_weight: 1"
    engine = BlobNet(one_net("Embed", text, [(2,)]))
    engine.forward()
    with pytest.raises(NetError, match="cannot backpropagate to bottom 'x0'"):
        engine.backward()
