"""Arithmetic layers against figures measured on Caffe, and its quirks."""

import pytest
import torch
from one_layer import numbers, one_layer, one_net, seq

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.net import BlobNet

MEASURED = [
    ("Power", "power_param { power: 3 scale: 2 shift: 1 }", (1, 6), "-1 0.216 10.648 -0.216 1 17.576",
     "-6 -0.432 17.424 -1.728 0 32.448"),
    ("Log", "log_param { base: 10 scale: 0.5 shift: 2 }", (1, 3), "0.176091 0.278754 0.361728",
     "-0.144765 -0.0228576 0.0566471"),
    ("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", (1, 3), "1.41421 1.86607 2.46229",
     "-0.490129 -0.129346 0.512019"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "shape", "top", "diff"), MEASURED)
def test_measured_on_caffe(kind, body, shape, top, diff):
    bottom = seq(*shape).requires_grad_()
    value = one_layer(kind, body, shape)(bottom)
    value.backward(seq(*shape))
    torch.testing.assert_close(value.detach().flatten(), numbers(top), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bottom.grad.flatten(), numbers(diff), rtol=1e-5, atol=1e-6)


def test_scale_measured_on_caffe():
    layer = one_layer(
        "Scale", "scale_param { bias_term: true }", (2, 3, 2), blob0=numbers("1 2 3"), blob1=numbers(".1 .2 .3")
    )
    bottom = seq(2, 3, 2).requires_grad_()
    top = layer(bottom)
    top.backward(seq(2, 3, 2))
    torch.testing.assert_close(top.detach().flatten(), numbers("-0.9 -0.1 1.4 -1.4 0.3 2.7 -0.5 0.3 2.2 -0.6 1.5 -2.7"))
    torch.testing.assert_close(bottom.grad.flatten(), numbers("-1 -0.2 1.2 -1.6 0 2.4 -0.6 0.2 2 -0.8 1.2 -3"))
    torch.testing.assert_close(layer.blobs[0].grad, numbers("1.44 2.16 1.8"))
    torch.testing.assert_close(layer.blobs[1].grad, numbers("-1.6 0.4 0.2"), rtol=1e-5, atol=1e-6)


def test_power_without_shift_has_no_gradient_at_zero():
    bottom = torch.tensor([0.0, 2.0], requires_grad=True)
    one_layer("Power", "power_param { power: 3 }", (2,))(bottom).sum().backward()
    assert bottom.grad[0].isnan()
    assert bottom.grad[1] == 12


@pytest.mark.parametrize(
    ("body", "value"), [("power: 0", 1), ("scale: 0 shift: 3 power: 2", 9), ("power: 0 shift: 7", 1)]
)
def test_constant_power(body, value):
    top = one_layer("Power", f"power_param {{ {body} }}", (2, 3))(seq(2, 3))
    assert torch.equal(top, torch.full((2, 3), float(value)))


@pytest.mark.parametrize(
    ("kind", "body", "derivative"),
    [
        ("Power", "power_param { scale: 3 shift: 1 }", lambda y: torch.full_like(y, 3.0)),
        ("Power", "power_param { power: 2 scale: 3 shift: 1 }", lambda y: 6 * (3 * y + 1)),
        ("Power", "power_param { power: 3 shift: 2 }", lambda y: 3 * y / (y + 2)),
        ("Log", "log_param { shift: 3 }", lambda y: 1 / (y + 3)),
    ],
)
def test_in_place_bottom_diff_is_the_square_of_the_derivative_at_the_top(kind, body, derivative):
    bottom = seq(2, 5).requires_grad_()
    top = one_net(kind, body, [(2, 5)], tops=["x0"])(x0=bottom)["x0"]
    top.backward(seq(2, 5))
    torch.testing.assert_close(top.detach(), one_layer(kind, body, (2, 5))(bottom.detach()))
    torch.testing.assert_close(bottom.grad, derivative(top.detach()).square())


def test_eltwise_max_ties_go_to_the_second_bottom_only():
    bottoms = [torch.tensor([1.0, 2.0, 0.0], requires_grad=True) for _ in range(3)]
    one_layer("Eltwise", "eltwise_param { operation: MAX }", (3,), (3,), (3,))(*bottoms).sum().backward()
    assert [bottom.grad.tolist() for bottom in bottoms] == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_eltwise_product_gradients_at_zero():
    for stable, expected in (("true", 3.0), ("false", float("nan"))):
        a, b = torch.zeros(1, requires_grad=True), torch.full((1,), 3.0, requires_grad=True)
        body = f"eltwise_param {{ operation: PROD stable_prod_grad: {stable} }}"
        one_layer("Eltwise", body, (1,), (1,))(a, b).backward()
        torch.testing.assert_close(a.grad, torch.tensor([expected]), equal_nan=stable == "false")
        assert b.grad == 0


def test_eltwise_sum_in_place_forgets_the_overwritten_bottom():
    a, b = torch.ones(1, requires_grad=True), torch.full((1,), 10.0, requires_grad=True)
    top = one_layer("Eltwise", "eltwise_param { coeff: 2 coeff: 3 }", (1,), (1,), tops=["x0"])(a, b)
    top.backward()
    assert (top.item(), a.grad.item(), b.grad.item()) == (30, 2, 6)


@pytest.mark.parametrize(("axis", "shape"), [(0, (2, 3)), (1, (3,)), (-2, (4, 5)), (0, ()), (0, (2, 3, 4, 5))])
def test_two_bottoms_broadcast_from_axis(axis, shape):
    bottom, operand = seq(2, 3, 4, 5), seq(*shape)
    start = axis % 4
    index = [slice(None) if start <= i < start + len(shape) else None for i in range(4)]
    spread = operand[tuple(index)] if shape else operand
    layers = [
        one_layer(kind, f"{field} {{ axis: {axis} }}", (2, 3, 4, 5), shape)
        for kind, field in (("Scale", "scale_param"), ("Bias", "bias_param"))
    ]
    torch.testing.assert_close(layers[0](bottom, operand), bottom * spread)
    torch.testing.assert_close(layers[1](bottom, operand), bottom + spread)


@pytest.mark.parametrize(("batch", "replaced"), [(1, True), (2, False)])
def test_scale_diff_is_overwritten_for_one_image(batch, replaced):
    net = BlobNet(one_net("Scale", "loss_weight: 1", [(batch, 3, 2, 2)]))
    net.blob("x0").data[...] = seq(batch, 3, 2, 2).numpy()
    for _ in range(2):
        net.forward()
        net.backward()
    once = seq(batch, 3, 2, 2).sum((0, 2, 3))
    diff = torch.from_numpy(net.param_blob(len(net.net.nodes) - 1, 0).diff)
    torch.testing.assert_close(diff, once if replaced else 2 * once, rtol=1e-5, atol=1e-5)


def test_constant_scale_of_caffe_sds():
    layer = one_layer("Scale", "scale_param { scale: 0.5 }", (2, 3))
    assert not layer.blobs
    assert torch.equal(layer(seq(2, 3)), seq(2, 3) * 0.5)


def test_sum_takes_trailing_ones():
    top = one_layer("Sum", "", (2, 3, 1, 1), (2, 3))(seq(2, 3, 1, 1), seq(2, 3))
    torch.testing.assert_close(top, 2 * seq(2, 3, 1, 1))


@pytest.mark.parametrize(
    ("kind", "body", "shapes", "message"),
    [
        ("Exp", "exp_param { base: 0 }", [(2,)], "base is 0, expected a positive number"),
        ("Log", "log_param { base: 1 }", [(2,)], "base is 1"),
        ("Eltwise", "eltwise_param { coeff: 1 }", [(2,), (2,)], "coeff has 1 entries, expected one per bottom"),
        (
            "Eltwise",
            "eltwise_param { operation: MAX coeff: 1 coeff: 1 }",
            [(2,), (2,)],
            "coeff is for SUM, not for MAX",
        ),
        ("Eltwise", "", [(2,), (3,)], r"bottom 1 has shape \[3\], expected that of bottom 0, \[2\]"),
        ("Bias", "bias_param { num_axes: 4 }", [(2, 3)], "reach beyond the 2 axes"),
        ("Scale", "scale_param { num_axes: -2 }", [(2, 3)], "num_axes is -2"),
        ("Scale", "", [(2, 3), (4,)], r"bottom 1 has shape \[4\], expected that of axes 1 to 1"),
        ("Scale", "scale_param { scale: 2 bias_term: true }", [(2, 3)], "scale_param.bias_term means nothing"),
        ("Sum", "", [(2, 3), (2, 3, 2)], r"bottom 1 has shape \[2, 3, 2\]"),
    ],
)
def test_refusals(kind, body, shapes, message):
    with pytest.raises(LayerError, match=message):
        one_layer(kind, body, *shapes)


def test_learned_scale_keeps_its_channels():
    with pytest.raises(ShapeError, match="the learned blob has shape"):
        one_layer("Scale", "", (2, 3)).top_shapes([(2, 4)])
