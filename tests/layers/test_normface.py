"""NormFace's layers and losses against loops written down from the source of happynear/caffe-windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net
from torch import Tensor

from caffe_compat.description import State, describe_net
from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers.fillers import Filler
from caffe_compat.layers.normalize import Normalize
from caffe_compat.layers.normface import UnitNormalize
from caffe_compat.net.net import Net
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse


def _leaf(x: np.ndarray) -> Tensor:
    return torch.from_numpy(x).requires_grad_()


@pytest.mark.parametrize("kind", ["L2", "L1"])
@pytest.mark.parametrize("passes", [True, False])
def test_normalize(kind: str, passes: bool) -> None:
    random = np.random.default_rng(0)
    x, dy, dn = random.normal(size=(2, 3, 4)), random.normal(size=(2, 3, 4, 1)), random.normal(size=(2, 1, 4, 1))
    x[0, 1, 2] = 0
    body = f'normalize_param {{ normalize_type: "{kind}" bp_norm: {str(passes).lower()} }}'
    bottom = _leaf(x)
    top, length = one_layer("Normalize", body, x.shape, tops=("y", "n"))(bottom)
    want, diff = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    for n, s in np.ndindex(2, 4):
        norm = sum(v * v for v in x[n, :, s]) + 1e-6 if kind == "L2" else sum(map(abs, x[n, :, s])) + 1e-6
        norm = math.sqrt(norm) if kind == "L2" else norm
        assert length[n, 0, s, 0].item() == pytest.approx(norm)
        want[n, :, s] = x[n, :, s] / norm
        a = sum(want[n, c, s] * dy[n, c, s, 0] for c in range(3))
        for c in range(3):
            slope = want[n, c, s] if kind == "L2" else float(np.sign(x[n, c, s]))
            diff[n, c, s] = (dy[n, c, s, 0] - slope * a) / norm + (dn[n, 0, s, 0] * slope if passes else 0)
    np.testing.assert_allclose(top.detach().numpy()[..., 0], want, rtol=1e-12)
    total = (top * torch.from_numpy(dy)).sum()
    (total + (length * torch.from_numpy(dn)).sum() if passes else total).backward()
    assert passes or not length.requires_grad
    assert bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.numpy(), diff, rtol=1e-10, atol=1e-12)


def test_the_rest_of_a_net_says_which_normalize_is_meant() -> None:
    text = 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 dim: 3 } } }'
    text += 'layer { name: "n" type: "Normalize" bottom: "d" top: "n" }'
    more = 'layer { name: "i" type: "InnerDistance" bottom: "n" top: "i" inner_distance_param { num_output: 2 } }'
    for whole, kind in ((text, Normalize), (text + more, UnitNormalize)):
        assert type(Net(describe_net(parse(whole, caffe_pb2.NetParameter), State("TEST"))).layer("n")) is kind


@pytest.mark.parametrize("kind", ["L2", "L1"])
@pytest.mark.parametrize("own", [False, True])
def test_inner_distance(kind: str, own: bool) -> None:
    random = np.random.default_rng(1)
    x, w, dy = random.normal(size=(3, 4)), random.normal(size=(5, 4)), random.normal(size=(3, 5))
    x[0] = w[1]  # a distance of 0
    label = np.array([1.0, 4, 1])
    body = f'inner_distance_param {{ distance_type: "{kind}" update_center_only: {str(own).lower()} }}'
    shapes = [x.shape, w.shape, label.shape][: 2 + own]
    bottoms = [_leaf(x), _leaf(w), torch.from_numpy(label)][: 2 + own]
    top = one_layer("InnerDistance", body, *shapes)(*bottoms)
    top.backward(torch.from_numpy(dy))
    want, dx, dw = np.zeros((3, 5)), np.zeros_like(x), np.zeros_like(w)

    def slope(seed: float, value: float) -> float:
        return seed * value * 2 if kind == "L2" else seed * (value > 0) - (value < 0)  # without parentheses there

    for m, n, k in np.ndindex(3, 5, 4):
        step = x[m, k] - w[n, k]
        want[m, n] += step * step if kind == "L2" else abs(step)
        dx[m, k] += slope(dy[m, n], step)
        if not own or n == label[m]:
            dw[n, k] += slope(dy[m, n], -step)
    np.testing.assert_allclose(top.detach().numpy(), want, rtol=1e-10, atol=1e-12)
    for bottom, diff in zip(bottoms, (dx, dw), strict=False):
        assert bottom.grad is not None
        np.testing.assert_allclose(bottom.grad.numpy(), diff, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["InnerDistance", "InnerProduct"])
def test_weights_become_of_length_1_for_good(kind: str) -> None:
    section = {"InnerDistance": "inner_distance_param", "InnerProduct": "inner_product_param"}[kind]
    body = f"{section} {{ num_output: 2 normalize: true bias_term: false }}"
    layer = one_layer(kind, body, (1, 3), blob0=torch.tensor([[3.0, 0, 4], [0, 0, 0]]))
    top = layer(torch.tensor([[1.0, 2, 3]]))
    weight = torch.tensor([[0.6, 0, 0.8], [0, 0, 0]])
    torch.testing.assert_close(layer.blobs[0].detach(), weight, atol=1e-6, rtol=0)
    x = torch.tensor([1.0, 2, 3])
    want = weight @ x if kind == "InnerProduct" else (x - weight).square().sum(1)
    torch.testing.assert_close(top[0].detach(), want, atol=1e-5, rtol=0)


def test_channel_scale() -> None:
    random = np.random.default_rng(2)
    x, s, dy = random.normal(size=(2, 3, 2, 2)), random.normal(size=(2, 1, 2, 2)), random.normal(size=(2, 3, 2, 2))
    for forward, feature, factor in np.ndindex(2, 2, 2):
        fields = zip(
            ("do_forward", "do_backward_feature", "do_backward_scale"), (forward, feature, factor), strict=True
        )
        body = " ".join(f"{name}: {str(bool(value)).lower()}" for name, value in fields)
        bottoms = _leaf(x), _leaf(s)
        top = one_layer("ChannelScale", f"channel_scale_param {{ {body} }}", x.shape, s.shape)(*bottoms)
        top.backward(torch.from_numpy(dy))
        assert bottoms[0].grad is not None and bottoms[1].grad is not None
        np.testing.assert_allclose(top.detach().numpy(), x * s if forward else x)
        np.testing.assert_allclose(bottoms[0].grad.numpy(), s * dy if feature else dy)
        np.testing.assert_allclose(bottoms[1].grad.numpy(), (x * dy).sum(1, keepdims=True) * factor, atol=1e-12)


def test_flip() -> None:
    x = torch.randn(2, 3, 4, 5)
    for wide, high in np.ndindex(2, 2):
        body = f"flip_param {{ flip_width: {str(bool(wide)).lower()} flip_height: {str(bool(high)).lower()} }}"
        top = one_layer("Flip", body, x.shape)(x)
        for h, w in np.ndindex(4, 5):
            assert torch.equal(top[:, :, h, w], x[:, :, 3 - h if high else h, 4 - w if wide else w])


def _slow_contrastive(
    d: np.ndarray, label: np.ndarray, o: dict[str, float]
) -> tuple[float, np.ndarray, tuple[float, float]]:
    """Forward_cpu and Backward_cpu of general_constrastive_loss_layer.cpp; the diff of the bottom, and the means."""
    num, dim = d.shape
    diff, worst, best = np.zeros_like(d), [0] * num, 0
    pulled = pushed = 0.0
    for i in range(num):
        for j in range(dim):
            if j == label[i]:
                value = min(o["outlier"], max(0.0, d[i, j] - o["pm"]))
                diff[i, j] = value * o["pw"]
                pulled += value
                if o["one_pull"] and diff[i, j] < diff[best, label[best]]:
                    best = i
            elif d[i, j] < o["nm"]:
                diff[i, j] = (math.exp(-d[i, j]) if o["exp"] else max(0.0, o["nm"] - d[i, j])) * o["nw"]
                pushed += max(0.0, o["nm"] - d[i, j])
                if o["one_push"] and diff[i, j] > diff[i, worst[i]]:
                    worst[i] = j
            else:
                diff[i, j] = 0
        if o["first"] and d[i, label[i]] > o["upper"]:
            diff[i, np.arange(dim) != label[i]] = 0
    for i, j in np.ndindex(num, dim):
        if (o["one_pull"] and j == label[i] and i != best) or (o["one_push"] and j != label[i] and j != worst[i]):
            diff[i, j] = 0
    loss = np.abs(diff).sum() / num
    total = 0.0
    for i in range(num):
        if o["first"] and d[i, label[i]] > o["upper"]:
            diff[i] = 0
            diff[i, label[i]] = o["pw"]
            continue
        for j in range(dim):
            if j == label[i]:
                held = o["pm"] < d[i, j] < o["outlier"] and not (o["one_pull"] and i != best)
                diff[i, j] = o["pw"] if held else 0
            elif d[i, j] < o["nm"] and not (o["one_push"] and j != worst[i]):
                push = (math.exp(-d[i, j]) if o["exp"] else 1.0) * o["nw"]
                diff[i, j] = -push
                total += push
            else:
                diff[i, j] = 0
    if o["push"]:
        total = abs(total) / o["push"] / num
        if total > o["pw"]:
            for i, j in np.ndindex(num, dim):
                if j != label[i]:
                    diff[i, j] /= total
    return loss, diff / num, (pulled / num, pushed / num / (dim - 1))


_NAMES = {
    "pm": "positive_margin",
    "nm": "negative_margin",
    "pw": "positive_weight",
    "nw": "negative_weight",
    "outlier": "positive_outlier_thresh",
    "upper": "positive_upper_bound",
    "one_pull": "max_positive_only",
    "one_push": "max_negative_only",
    "first": "positive_first",
    "exp": "exp_negative_weight",
    "push": "normalize_negative",
    "hardest": "hardest_only",
    "center": "add_center_loss",
}
_DEFAULTS = {
    name: float(value)
    for name, value in zip(_NAMES, (0, 1, 1, 1, 4, 1, 0, 0, 0, 0, 0), strict=False)  # the defaults of the message
}


def _kept(options: dict[str, float]) -> dict[str, float]:
    """As a message keeps them."""
    return {name: float(np.float32(value)) for name, value in options.items()}


def _fields(options: dict[str, float]) -> str:
    flags = {"one_pull", "one_push", "first", "exp", "center", "hardest"}
    return " ".join(
        f"{_NAMES[name]}: {str(bool(value)).lower() if name in flags else value}" for name, value in options.items()
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pm": 0.3, "nm": 1.5, "pw": 2.0, "nw": 0.5, "outlier": 0.9},
        {"exp": 1, "nw": 0.7},
        {"one_push": 1},
        {"one_push": 1, "exp": 1, "first": 1, "upper": 0.6},
        {"one_pull": 1, "pm": 0.2},
        {"first": 1, "upper": 0.8},
        {"push": 0.5, "nw": 3.0},
        {"push": 50.0},
    ],
)
def test_contrastive_loss(options: dict[str, float]) -> None:
    random = np.random.default_rng(3)
    d = np.round(random.random((6, 5)) * 2, 1)  # with equal ones
    label = np.array([0, 1, 4, 0, 2, 3])
    loss, diff, means = _slow_contrastive(d, label, _DEFAULTS | _kept(options))
    body = f"general_contrastive_loss_param {{ {_fields(options)} }}"
    layer = one_layer("GeneralContrastiveLoss", body, d.shape, label.shape, tops=("loss", "means"))
    bottom = _leaf(d)
    got, mean = layer(bottom, torch.from_numpy(label).double())
    (3 * got).backward()
    assert got.item() == pytest.approx(loss) and mean.tolist() == pytest.approx(means) and bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.numpy(), 3 * diff, rtol=1e-10, atol=1e-12)


def test_contrastive_loss_of_another_blob() -> None:
    d, other, label = torch.rand(3, 4).requires_grad_(), torch.rand(3, 4), torch.tensor([0.0, 3, 1])
    three = one_layer("GeneralContrastiveLoss", "", (3, 4), (3,), (3, 4))(d, label, other)[0]
    two = one_layer("GeneralContrastiveLoss", "", (3, 4), (3,))
    same = other.clone().requires_grad_()
    want = two(same, label)[0]
    three.backward()
    want.backward()
    assert torch.equal(three, want) and d.grad is not None and same.grad is not None and torch.equal(d.grad, same.grad)


def _slow_triplet(
    d: np.ndarray, label: np.ndarray, weight: np.ndarray, o: dict[str, float]
) -> tuple[float, np.ndarray, tuple[float, float]]:
    """Forward_cpu and Backward_cpu of general_triplet_loss_layer.cpp."""
    num, dim = d.shape
    diff, hardest = np.zeros_like(d), [-1] * num
    near = far = 0.0
    for i in range(num):
        same = d[i, label[i]]
        near += same
        for j in range(dim):
            if j != label[i]:
                diff[i, j] = max(0.0, same + o["pm"] - d[i, j]) * o["nw"]
                far += d[i, j]
                if o["hardest"] and diff[i, j] > 0 and (hardest[i] < 0 or diff[i, j] > diff[i, hardest[i]]):
                    hardest[i] = j
        if o["hardest"] and hardest[i] >= 0:
            diff[i, [j for j in range(dim) if j not in (label[i], hardest[i])]] = 0
        if o["first"] and same > o["upper"]:
            diff[i, np.arange(dim) != label[i]] = 0
    loss = np.abs(diff).sum() / num
    for i in range(num):
        same = d[i, label[i]]
        if o["first"] and same > o["upper"]:
            diff[i] = 0
            diff[i, label[i]] = o["pw"]
            continue
        pushes = 0
        if o["hardest"]:
            if hardest[i] >= 0 and d[i, hardest[i]]:
                diff[i, hardest[i]] = -o["nw"]
                pushes += 1
        else:
            for j in range(dim):
                if j != label[i]:
                    diff[i, j] = -o["nw"] if same + o["pm"] > d[i, j] else 0
                    pushes += same + o["pm"] > d[i, j]
        if o["center"] or pushes > 0:
            diff[i, label[i]] = o["pw"]
    return loss, diff * weight[:, None] / num, (near / num, far / num / (dim - 1))


@pytest.mark.parametrize("hardest", [0, 1])
@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("weighted", [False, True])
def test_triplet_loss(hardest: int, center: int, first: int, weighted: bool) -> None:
    random = np.random.default_rng(4)
    d = np.round(random.random((6, 5)) * 2, 1)
    label = np.array([0, 1, 4, 0, 2, 3])
    d[0], d[1, 2] = [0.1, 2, 2, 2, 2], 0  # nothing near, and a distance of 0
    weight = random.random(6) if weighted else np.ones(6)
    options = {"hardest": hardest, "center": center, "first": first, "upper": 0.9, "pm": 0.3, "pw": 2.0, "nw": 0.5}
    loss, diff, means = _slow_triplet(d, label, weight, _kept(options))
    text = _fields(options).replace("positive_margin", "margin")
    shapes = [d.shape, label.shape, weight.shape][: 2 + weighted]
    layer = one_layer("GeneralTripletLoss", f"general_triplet_loss_param {{ {text} }}", *shapes, tops=("loss", "means"))
    bottom = _leaf(d)
    got, mean = layer(bottom, torch.from_numpy(label).double(), *[torch.from_numpy(weight)][: int(weighted)])
    got.backward()
    assert got.item() == pytest.approx(loss) and mean.tolist() == pytest.approx(means) and bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.numpy(), diff, rtol=1e-10, atol=1e-12)


def test_accuracy_of_distances() -> None:
    d = torch.tensor([[0.1, 0.3, 0.2], [0.5, 0.5, 0.9], [0.5, 0.5, 0.9], [3.0, 2, 1]])
    label = torch.tensor([0.0, 0, 1, 0])  # right; a tie with a higher class; with a lower one; wrong
    for k, want in ((1, 0.5), (2, 0.75), (3, 1.0)):
        layer = one_layer("Accuracy", f"accuracy_param {{ min_is_better: true top_k: {k} }}", (4, 3), (4,))
        assert layer(d, label)[0].item() == want


def test_insanity() -> None:
    layer = one_layer("Insanity", "insanity_param { lb: 2 ub: 4 }", (200, 50), phase="TRAIN")
    x = torch.randn(200, 50).requires_grad_()
    top = layer(x)
    top.sum().backward()
    low = x.detach() <= 0
    assert x.grad is not None and torch.equal(top[~low], x[~low]) and bool((x.grad[~low] == 1).all())
    divisor = (1 / x.grad[low]).detach()
    assert 2 <= divisor.min() < 2.1 and 3.9 < divisor.max() <= 4 and abs(divisor.mean() - 3) < 0.05
    torch.testing.assert_close(top[low].detach(), x[low].detach() * x.grad[low])
    still = one_layer("Insanity", "insanity_param { lb: 2 ub: 4 }", (1, 2))
    torch.testing.assert_close(still(torch.tensor([[-1.0, 3]])), torch.tensor([[-math.log(2) / 2, 3]]))


def test_clamped_scale_and_fillers() -> None:
    layer = one_layer(
        "Scale", "scale_param { min_value: 0.5 max_value: 2 }", (1, 3), blob0=torch.tensor([0.1, 1.0, 7.0])
    )
    assert layer(torch.ones(1, 3)).tolist() == [[0.5, 1, 2]] and layer.blobs[0].tolist() == [0.5, 1, 2]
    rows = Filler("gaussian_unitball").fill_(torch.empty(50, 4)).square().sum(1)
    torch.testing.assert_close(rows, torch.ones(50))
    wide = Filler("msra", alpha=3.0).fill_(torch.empty(400, 100))
    assert wide.std().item() == pytest.approx(math.sqrt(2 / 100 / 10), rel=0.03)
    body = 'parameter_param { shape { dim: 5 dim: 3 } blob_filler { type: "gaussian_unitball" } }'
    top = one_net("Parameter", body, []).layer("under_test")()
    torch.testing.assert_close(top.detach().square().sum(1), torch.ones(5))


def test_given_product() -> None:
    x, w, b = torch.randn(3, 2, 4), torch.randn(5, 4, 1), torch.randn(5)
    body = "inner_product_param { axis: 2 }"
    top = one_layer("InnerProduct", body, x.shape, w.shape, b.shape, dialect="normface")(x, w, b)
    torch.testing.assert_close(top, x @ w[..., 0].T + b)


@pytest.mark.parametrize(
    ("kind", "body", "shapes", "error", "what"),
    [
        ("Normalize", 'normalize_param { normalize_type: "L3" }', [(2, 3)], LayerError, "normalize_type is 'L3'"),
        ("Normalize", "normalize_param { fix_gradient: true }", [(2, 3)], LayerError, "fix_gradient is true"),
        ("InnerDistance", "inner_distance_param { transpose: true }", [(2, 3)], LayerError, "transpose is true"),
        ("InnerDistance", "inner_distance_param { update_center_only: true }", [(2, 3)], LayerError, "has 1 bottoms"),
        ("InnerDistance", "", [(2, 3), (4, 2)], ShapeError, "expected 3 numbers"),
        ("ChannelScale", "", [(2, 3, 2, 2), (2, 1)], ShapeError, "one number for each pixel"),
        ("ChannelScale", "channel_scale_param { global_scale: true }", [(2, 3), (2, 1)], LayerError, "global_scale"),
        ("Flip", "", [(2, 3)], ShapeError, "expected 4 axes"),
        ("InnerProduct", "", [(2, 3), (4, 3)], LayerError, "a third bottom with bias_term only"),
        (
            "GeneralContrastiveLoss",
            "general_contrastive_loss_param { add_intra_mae: true }",
            [(2, 3), (2,)],
            LayerError,
            "add_intra_mae",
        ),
        ("GeneralTripletLoss", "", [(2, 1), (2,)], ShapeError, "two or more"),
        ("Insanity", "insanity_param { lb: 3 ub: 2 }", [(2, 3)], LayerError, "lb below ub"),
        ("Softmax", 'softmax_param { normalize_type: "L2" }', [(2, 3)], LayerError, "expected Softmax"),
    ],
)
def test_refusals(kind: str, body: str, shapes: list[tuple[int, ...]], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=f"under_test.*{what}"):
        one_layer(kind, body, *shapes, dialect="normface" if kind == "InnerProduct" else "")
