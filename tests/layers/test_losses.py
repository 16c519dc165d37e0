"""Losses against their formulas, written out in NumPy, and Caffe's special cases."""

from pathlib import Path

import numpy as np
import pytest
import torch
from one_layer import one_layer, seq
from scipy.special import expit, log_softmax
from torch import Tensor

from caffe_compat.errors import LayerError, MissingFileError, ShapeError
from caffe_compat.proto import caffe_pb2

X = np.random.RandomState(0).standard_normal((2, 4, 3)).astype(np.float32)
LABELS = np.array([[0, 3, 1], [2, 2, 3]], np.float32)


def value_and_gradient(
    layer: torch.nn.Module, x: Tensor | np.ndarray, *more: Tensor | np.ndarray
) -> tuple[float, Tensor]:
    x = torch.as_tensor(x).clone().requires_grad_()
    result = layer(x, *(torch.as_tensor(value) for value in more))
    loss = result[0] if isinstance(result, tuple) else result
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.item(), gradient


@pytest.mark.parametrize(
    ("mode", "divisor"),
    [
        ("", 4),  # valid positions
        ("normalize: true", 4),
        ("normalize: false", 2),
        ("normalize: false normalization: NONE", 1),
        ("normalization: FULL", 6),
        ("normalization: BATCH_SIZE", 2),
    ],
)
def test_softmax_loss(mode: str, divisor: int) -> None:
    layer = one_layer("SoftmaxWithLoss", f"loss_param {{ ignore_label: 3 {mode} }}", (2, 4, 3), (2, 3))
    logs = log_softmax(X, axis=1)
    terms = [(n, c, k) for n in range(2) for k in range(3) if (c := int(LABELS[n, k])) != 3]
    expected = np.zeros_like(X)
    for n, c, k in terms:
        expected[n, :, k] = np.exp(logs[n, :, k]) / divisor
        expected[n, c, k] -= 1 / divisor
    loss, gradient = value_and_gradient(layer, X, LABELS)
    assert loss == pytest.approx(-sum(logs[term] for term in terms) / divisor, rel=1e-5)
    torch.testing.assert_close(gradient, torch.tensor(expected))


@pytest.mark.parametrize(("mode", "divisor"), [("", 4), ("normalize: false", 2), ("normalization: FULL", 6)])
def test_softmax_loss_with_a_weight_for_each_class(mode: str, divisor: int) -> None:
    weights = [0.25, 3.0, 1.5, 7.0]
    entries = " ".join(f"class_weighting: {weight}" for weight in weights)
    body = f"loss_param {{ ignore_label: 3 weight_by_label_freqs: true {entries} {mode} }}"
    x, loss, slope = X.astype(np.float64), 0.0, np.zeros_like(X, np.float64)
    for n, k in np.ndindex(2, 3):
        label = int(LABELS[n, k])
        if label == 3:
            continue
        p = np.exp(x[n, :, k]) / np.exp(x[n, :, k]).sum()
        loss -= np.log(p[label]) * weights[label]
        slope[n, :, k] = p
        slope[n, label, k] -= 1
        slope[n, :, k] *= weights[label]
    layer = one_layer("SoftmaxWithLoss", body, (2, 4, 3), (2, 3))
    found, gradient = value_and_gradient(layer, x, LABELS)
    assert found == pytest.approx(loss / divisor, rel=1e-12)
    np.testing.assert_allclose(gradient.numpy(), slope / divisor, rtol=1e-10, atol=1e-15)
    step = np.zeros_like(x)
    step[1, 2, 0] = 1e-5
    with torch.no_grad():
        high, low = (layer(torch.tensor(x + sign * step), torch.tensor(LABELS)).item() for sign in (1, -1))
    assert gradient[1, 2, 0].item() == pytest.approx((high - low) / 2e-5, rel=1e-6)


def test_class_weights_count_only_where_the_net_says_so() -> None:
    entries = " ".join(f"class_weighting: {weight}" for weight in (5, 6, 7, 8))
    plain, given = (
        one_layer("SoftmaxWithLoss", body, (2, 4, 3), (2, 3)) for body in ("", f"loss_param {{ {entries} }}")
    )
    assert value_and_gradient(plain, X, LABELS)[0] == value_and_gradient(given, X, LABELS)[0]
    with pytest.raises(ShapeError, match="class_weighting has 4 entries, expected one for each of the 5 classes"):
        one_layer("SoftmaxWithLoss", f"loss_param {{ weight_by_label_freqs: true {entries} }}", (2, 5, 3), (2, 3))
    with pytest.raises(LayerError, match="class_weighting is .*expected finite"):
        one_layer("SoftmaxWithLoss", "loss_param { class_weighting: nan }", (2, 5, 3), (2, 3))
    with pytest.raises(LayerError, match=r"loss_param.weight_by_label_freqs.* means nothing"):
        one_layer("SigmoidCrossEntropyLoss", "loss_param { weight_by_label_freqs: true }", (2, 5), (2, 5))


def test_softmax_loss_is_clamped_and_its_gradient_is_not() -> None:
    layer = one_layer("SoftmaxWithLoss", "", (1, 2), (1,))
    loss, gradient = value_and_gradient(layer, torch.tensor([[0.0, 1000.0]]), torch.zeros(1))
    assert loss == pytest.approx(87.33654, rel=1e-6)
    assert gradient.tolist() == [[-1, 1]]


def test_all_ignored_is_zero_not_nan() -> None:
    layer = one_layer("SoftmaxWithLoss", "loss_param { ignore_label: -1 }", (2, 3), (2,))
    loss, gradient = value_and_gradient(layer, seq(2, 3), -torch.ones(2))
    assert loss == 0
    assert not gradient.any()


def test_labels_are_cut_towards_zero() -> None:
    layer = one_layer("SoftmaxWithLoss", "", (2, 3), (2,))
    assert torch.equal(layer(seq(2, 3), torch.tensor([1.9, -0.9])), layer(seq(2, 3), torch.tensor([1.0, 0.0])))


@pytest.mark.parametrize(
    ("type_name", "shapes"),
    [
        ("SoftmaxWithLoss", [(2, 3), (2,)]),
        ("MultinomialLogisticLoss", [(2, 3), (2,)]),
        ("HingeLoss", [(2, 3), (2,)]),
        ("InfogainLoss", [(2, 3), (2,), (3, 3)]),
    ],
)
@pytest.mark.parametrize("label", [3, -1])
def test_label_without_class(type_name: str, shapes: list[tuple[int, ...]], label: int) -> None:
    layer = one_layer(type_name, "", *shapes)
    with pytest.raises(LayerError, match=rf"'under_test' .*a label in bottom 'x1' is {label}, expected 0 to 2"):
        layer(torch.rand(2, 3), torch.tensor([0.0, label]), *(torch.rand(shape) for shape in shapes[2:]))


@pytest.mark.parametrize(
    ("mode", "divisor"), [("", 2), ("normalize: true", 5), ("normalization: FULL", 6), ("normalization: NONE", 1)]
)
def test_sigmoid_cross_entropy(mode: str, divisor: int) -> None:
    x, target = X[:, 0], np.array([[0, 1, 0.3], [1, -1.7, 0]], np.float32)
    layer = one_layer("SigmoidCrossEntropyLoss", f"loss_param {{ ignore_label: -1 {mode} }}", (2, 3), (2, 3))
    terms = (np.log1p(np.exp(x)) - x * target) * (target.astype(int) != -1)
    loss, gradient = value_and_gradient(layer, x, target)
    assert loss == pytest.approx(terms.sum() / divisor, rel=1e-5)
    expected = (expit(x) - target) * (target.astype(int) != -1) / divisor
    torch.testing.assert_close(gradient, torch.tensor(expected))


def test_sigmoid_cross_entropy_of_huge_scores() -> None:
    layer = one_layer("SigmoidCrossEntropyLoss", "", (1, 2), (1, 2))
    assert layer(torch.tensor([[1e4, -1e4]]), torch.tensor([[0.0, 1.0]])).item() == pytest.approx(2e4)


def test_euclidean_sends_gradients_both_ways() -> None:
    layer = one_layer("EuclideanLoss", "", (2, 3), (2, 3, 1))
    a, b = seq(2, 3).requires_grad_(), (seq(2, 3, 1) * 2).requires_grad_()
    loss = layer(a, b)
    assert loss.item() == pytest.approx(((a - b[..., 0]) ** 2).sum().item() / 4)
    to_a, to_b = torch.autograd.grad(loss, (a, b))
    torch.testing.assert_close(to_a, (a - b[..., 0]).detach() / 2)
    torch.testing.assert_close(to_b[..., 0], -to_a)


@pytest.mark.parametrize(("norm", "power"), [("L1", 1), ("L2", 2)])
def test_hinge(norm: str, power: int) -> None:
    layer = one_layer("HingeLoss", f"hinge_loss_param {{ norm: {norm} }}", (2, 3), (2,))
    x = np.array([[0.5, -2, 0.25], [1, -1, 3]], np.float32)  # margins 0 at (1, 1) and (1, 0)
    sign = np.array([[-1, 1, 1], [-1, 1, 1]], np.float32)
    margin = np.maximum(0, 1 + sign * x)
    loss, gradient = value_and_gradient(layer, x, np.zeros(2, np.float32))
    assert loss == pytest.approx((margin**power).sum() / 2)
    slope = np.sign(margin) if power == 1 else 2 * margin
    torch.testing.assert_close(gradient, torch.tensor(sign * slope / 2))


def test_multinomial_gradient_below_the_threshold() -> None:
    layer = one_layer("MultinomialLogisticLoss", "", (2, 2), (2, 1))
    loss, gradient = value_and_gradient(layer, torch.tensor([[0.0, 1.0], [0.5, 0.5]]), torch.zeros(2, 1))
    assert loss == pytest.approx((np.log(1e20) + np.log(2)) / 2, rel=1e-5)
    torch.testing.assert_close(gradient, torch.tensor([[-0.5e20, 0], [-1, 0]]))


def infogain(x: np.ndarray, labels: np.ndarray, matrix: np.ndarray, divisor: int) -> tuple[float, np.ndarray]:
    logs, gradient, loss = log_softmax(x, axis=1), np.zeros_like(x), 0.0
    for n, k in np.ndindex(*labels.shape):
        row = matrix[int(labels[n, k])]
        loss -= (row * np.maximum(logs[n, :, k], np.log(1e-20))).sum()
        gradient[n, :, k] = np.exp(logs[n, :, k]) * row.sum() - row
    return loss / divisor, gradient / divisor


@pytest.mark.parametrize("scale", [1, 100])
def test_infogain(scale: int) -> None:
    matrix = np.random.RandomState(1).rand(4, 4).astype(np.float32)
    layer = one_layer("InfogainLoss", "", (2, 4, 3), (2, 3), (1, 1, 4, 4))
    loss, gradient = value_and_gradient(layer, X * scale, LABELS, matrix.reshape(1, 1, 4, 4))
    expected, slope = infogain(X * scale, LABELS, matrix, 6)
    assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, torch.tensor(slope), rtol=1e-5, atol=1e-6)


def test_infogain_from_a_file_with_a_second_top(tmp_path: Path) -> None:
    matrix = np.eye(4, dtype=np.float32)
    blob = caffe_pb2.BlobProto(num=1, channels=1, height=4, width=4, data=matrix.flatten().tolist())
    (tmp_path / "h.binaryproto").write_bytes(blob.SerializeToString())
    body = f'infogain_loss_param {{ source: "{tmp_path}/h.binaryproto" }}'
    layer = one_layer("InfogainLoss", body + " loss_weight: 1 loss_weight: 0", (2, 4, 3), (2, 3), tops=("loss", "prob"))
    loss, prob = layer(torch.tensor(X), torch.tensor(LABELS))
    plain = one_layer("SoftmaxWithLoss", "", (2, 4, 3), (2, 3))
    torch.testing.assert_close(loss, plain(torch.tensor(X), torch.tensor(LABELS)))
    torch.testing.assert_close(prob, torch.softmax(torch.tensor(X), 1))
    with pytest.raises(LayerError, match="both need a loss_weight"):
        one_layer("InfogainLoss", body, (2, 4, 3), (2, 3), tops=("loss", "prob"))


@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive(legacy: bool) -> None:
    a = np.array([[0, 0], [0, 0], [0, 3], [1, 1]], np.float32)
    b = np.array([[1, 2], [0.3, 0.4], [0, 0], [1, 1]], np.float32)
    layer = one_layer(
        "ContrastiveLoss", f"contrastive_loss_param {{ legacy_version: {str(legacy).lower()} }}", (4, 2), (4, 2), (4,)
    )
    # pair 0 similar, 1 close, 2 far, 3 equal
    d2, d = 0.25, 0.5
    hinge = [1 - d2, 1.0] if legacy else [(1 - d) ** 2, 1.0]
    slope = 1.0 if legacy else (1 - d) / (d + 1e-4)
    expected = np.zeros_like(a)
    expected[0], expected[1] = (a - b)[0] / 4, -slope * (a - b)[1] / 4
    loss, gradient = value_and_gradient(layer, a, b, np.array([1, 0, 0, 0.5], np.float32))
    assert loss == pytest.approx((5 + sum(hinge)) / 8)
    torch.testing.assert_close(gradient, torch.tensor(expected))


@pytest.mark.parametrize(
    ("type_name", "body", "shapes", "message"),
    [
        ("SoftmaxWithLoss", "", [(3, 5), (2,)], "should have the same number"),
        ("SoftmaxWithLoss", "", [(3, 5, 2), (3,)], "one label per position, 6 for"),
        ("SoftmaxWithLoss", "softmax_param { axis: 2 }", [(3, 5), (3,)], "softmax_param.axis is 2"),
        ("EuclideanLoss", "", [(3, 5), (3, 4)], "the same dimension"),
        ("SigmoidCrossEntropyLoss", "", [(3, 5), (3, 4)], "the same count"),
        ("MultinomialLogisticLoss", "", [(3, 5), (3, 2)], "one label per item"),
        ("InfogainLoss", "", [(3, 5), (3,), (4, 4)], "expected 25 values"),
        ("ContrastiveLoss", "", [(3, 5), (3, 4), (3,)], "expected N x C"),
    ],
)
def test_shapes_refused(type_name: str, body: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        one_layer(type_name, body, *shapes)


@pytest.mark.parametrize(
    ("body", "tops", "message"),
    [
        ("", ("y",), "source or a third bottom"),
        ("loss_param { normalize: true }", ("y",), "deprecated"),
        ("loss_weight: 1", ("y", "z"), "loss_weight has 1 entries"),
    ],
)
def test_infogain_refuses(body: str, tops: tuple[str, ...], message: str) -> None:
    shapes = [(3, 5), (3,)] + ([(5, 5)] if len(tops) == 2 else [])
    with pytest.raises(LayerError, match=message):
        one_layer("InfogainLoss", body, *shapes, tops=tops)


def test_infogain_file_absent() -> None:
    with pytest.raises(MissingFileError, match="absent.binaryproto"):
        one_layer("InfogainLoss", 'infogain_loss_param { source: "absent.binaryproto" }', (3, 5), (3,))


def test_softmax_loss_refuses_a_second_top() -> None:
    with pytest.raises(LayerError, match="produces 1 top"):
        one_layer("SoftmaxWithLoss", "loss_weight: 1 loss_weight: 0", (3, 5), (3,), tops=("loss", "prob"))
