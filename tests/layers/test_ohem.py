"""R-FCN's losses and its choice of hard examples against loops written down from the forks' sources."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers.sharing import Reread

NORMALIZERS = [
    ("", lambda n, hw, valid: valid),
    ("normalization: VALID", lambda n, hw, valid: valid),
    ("normalization: FULL", lambda n, hw, valid: n * hw),
    ("normalization: BATCH_SIZE", lambda n, hw, valid: n),
    ("normalize: false", lambda n, hw, valid: n),
    ("normalization: NONE", lambda n, hw, valid: 1),
    ("normalization: PRE_FIXED pre_fixed_normalizer: 2.5", lambda n, hw, valid: 2.5),
    ("normalization: PRE_FIXED pre_fixed_normalizer: 0.5", lambda n, hw, valid: 1),
    ("normalization: PRE_FIXED", lambda n, hw, valid: 1),
]
WEIGHTS = "loss_weight: 1 loss_weight: 0 loss_weight: 0"


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(("text", "divisor"), NORMALIZERS)
def test_softmax_number_by_number(text: str, divisor: object, ignored: bool) -> None:
    random = np.random.default_rng(0)
    scores, label = random.normal(size=(3, 4, 2, 2)) * 3, random.integers(0, 4, (3, 1, 2, 2))
    body = f"loss_param {{ {text} {'ignore_label: 2' if ignored else ''} }} {WEIGHTS}"
    layer = one_layer("SoftmaxWithLossOHEM", body, scores.shape, label.shape, tops=("l", "p", "e"))
    bottom = torch.from_numpy(scores).requires_grad_()
    loss, softmax, each = layer(bottom, torch.from_numpy(label).double())
    (3 * loss).backward()
    total, valid, losses, diff = 0.0, 0, np.zeros(label.shape), np.zeros(scores.shape)
    p = np.zeros(scores.shape)
    for n, i, j in np.ndindex(3, 2, 2):
        e = [math.exp(scores[n, c, i, j] - scores[n, :, i, j].max()) for c in range(4)]
        p[n, :, i, j] = [value / sum(e) for value in e]
        wanted = label[n, 0, i, j]
        if ignored and wanted == 2:
            continue
        losses[n, 0, i, j] = -math.log(p[n, wanted, i, j])
        total, valid = total + losses[n, 0, i, j], valid + 1
        diff[n, :, i, j] = p[n, :, i, j]
        diff[n, wanted, i, j] -= 1
    by = divisor(3, 4, valid)  # type: ignore[operator]
    assert loss.item() == pytest.approx(total / by, rel=1e-12)
    np.testing.assert_allclose(softmax.numpy(), p, rtol=1e-12)
    np.testing.assert_allclose(each.numpy(), losses, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(bottom.grad.numpy(), 3 * diff / by, rtol=1e-10, atol=1e-15)


def test_a_probability_of_zero_costs_what_flt_min_does() -> None:
    layer = one_layer("SoftmaxWithLossOHEM", "", (1, 2), (1,))
    bottom = torch.tensor([[0.0, 500.0]], requires_grad=True)
    (loss,) = layer(bottom, torch.tensor([0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1.17549435e-38), rel=1e-6) and bottom.grad.tolist() == [[-1, 1]]


def test_everything_ignored_is_no_loss() -> None:
    (loss,) = one_layer("SoftmaxWithLossOHEM", "loss_param { ignore_label: -1 }", (2, 3), (2,))(
        torch.randn(2, 3), torch.full((2,), -1.0)
    )
    assert loss.item() == 0


def test_several_tops_need_a_weight_each() -> None:
    with pytest.raises(LayerError, match="under_test.*each needs a loss_weight"):
        one_layer("SoftmaxWithLossOHEM", "", (2, 3), (2,), tops=("l", "p"))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("text", "divisor"), NORMALIZERS)
def test_smooth_l1_number_by_number(text: str, divisor: object, weighted: bool) -> None:
    random = np.random.default_rng(1)
    a, b, w = (random.normal(size=(3, 4, 2, 1)) * 2 for _ in range(3))
    b[0, 0, 0, 0], w[0, 0, 0, 0] = a[0, 0, 0, 0] - 1, 1  # exactly at the knee
    body = f"loss_param {{ {text} }} loss_weight: 1 loss_weight: 0"
    shapes = [a.shape] * (3 if weighted else 2)
    layer = one_layer("SmoothL1LossOHEM", body, *shapes, tops=("l", "e"))
    tensors = [torch.from_numpy(value).requires_grad_() for value in (a, b, w)[: len(shapes)]]
    loss, each = layer(*tensors)
    (2 * loss).backward()
    total, sums, slope = 0.0, np.zeros((3, 1, 2, 1)), np.zeros(a.shape)
    for n, c, i, j in np.ndindex(a.shape):
        d = (a - b)[n, c, i, j] * (w[n, c, i, j] if weighted else 1)
        error = 0.5 * d * d if abs(d) < 1 else abs(d) - 0.5
        slope[n, c, i, j] = d if abs(d) < 1 else np.sign(d)
        total += error
        sums[n, 0, i, j] += error
    by = divisor(3, 2, 3 * 2)  # type: ignore[operator]
    assert loss.item() == pytest.approx(total / by, rel=1e-12)
    np.testing.assert_allclose(each.numpy(), sums, rtol=1e-12)
    np.testing.assert_allclose(tensors[0].grad.numpy(), 2 * slope / by, rtol=1e-12)
    np.testing.assert_allclose(tensors[1].grad.numpy(), -2 * slope / by, rtol=1e-12)
    assert not weighted or tensors[2].grad is None


def test_under_the_names_of_caffe_rfcn() -> None:
    """Three tops of SoftmaxWithLoss, two of SmoothL1Loss, or a fixed normalizer: the numbers of the layers above."""
    scores, label, boxes = torch.randn(4, 3), torch.tensor([0.0, 2, 1, 2]), [torch.randn(4, 8) for _ in range(3)]
    fixed = "loss_param { pre_fixed_normalizer: 6 normalization: PRE_FIXED }"
    for kind, wanted, body, bottoms, tops in (
        ("SoftmaxWithLoss", "SoftmaxWithLossOHEM", WEIGHTS, [scores, label], ("l", "p", "e")),
        ("SmoothL1Loss", "SmoothL1LossOHEM", "loss_weight: 0 loss_weight: 0", boxes, ("l", "e")),
        ("SmoothL1Loss", "SmoothL1LossOHEM", fixed, boxes, "l"),
    ):
        shapes = [tuple(bottom.shape) for bottom in bottoms]
        found = one_layer(kind, body, *shapes, tops=tops, dialect="rfcn")(*bottoms)
        for one, other in zip(found, one_layer(wanted, body, *shapes, tops=tops)(*bottoms), strict=True):
            torch.testing.assert_close(one, other)
    assert found[0].item() == pytest.approx(_huber(boxes[2] * (boxes[0] - boxes[1])) / 6)
    plain = one_layer("SmoothL1Loss", "loss_weight: 1", *shapes)(*boxes)
    assert plain.item() == pytest.approx(_huber(boxes[2] * (boxes[0] - boxes[1])) / 4)


def _huber(values: torch.Tensor) -> float:
    return sum(0.5 * d * d if abs(d) < 1 else abs(d) - 0.5 for d in values.flatten().tolist())


def test_smooth_l1_keeps_its_difference() -> None:
    layer = one_layer("SmoothL1LossOHEM", "", (2, 3), (2, 3))
    then, now = [torch.randn(2, 3), torch.zeros(2, 3)], [torch.ones(2, 3, requires_grad=True), torch.zeros(2, 3)]
    (form,) = layer.backward_form(Reread(tuple(then), tuple(now), (torch.zeros(()),)))
    (found,) = torch.autograd.grad(form, now[0])
    torch.testing.assert_close(found, then[0].clamp(-1, 1) / 2)
    assert layer.default_loss_weight == 0


def _annotate(
    rois: np.ndarray, loss: np.ndarray, label: np.ndarray, w: np.ndarray, most: int
) -> tuple[np.ndarray, ...]:
    """box_annotator_ohem_layer.cpp with a stable sort, for maps of one pixel."""
    left = [most] * (int(rois[:, 0].max()) + 1)
    labels, weights = np.full(label.shape, -1.0), np.zeros(w.shape)
    for index in sorted(range(len(loss)), key=lambda i: -loss[i, 0]):
        image = int(rois[index, 0])
        if left[image] > 0:
            left[image] -= 1
            labels[index], weights[index] = label[index], w[index]
    return labels, weights


@pytest.mark.parametrize("most", [1, 3, 8, 100])
@pytest.mark.parametrize("ties", [False, True])
def test_annotator_keeps_the_worst_of_each_image(most: int, ties: bool) -> None:
    random = np.random.default_rng(most)
    rois = np.concatenate([random.choice([0, 2, 3], (30, 1)), random.random((30, 4))], 1)
    loss = random.integers(0, 3, (30, 1)).astype(float) if ties else random.random((30, 1))
    label, weights = random.integers(0, 9, (30, 1)).astype(float), random.random((30, 8))
    layer = one_layer(
        "BoxAnnotatorOHEM",
        f"box_annotator_ohem_param {{ roi_per_img: {most} }}",
        *(value.shape for value in (rois, loss, label, weights)),
        tops=("labels", "weights"),
    )
    tops = layer(*map(torch.from_numpy, (rois, loss, label, weights)))
    for top, wanted in zip(tops, _annotate(rois, loss, label, weights, most), strict=True):
        assert top.shape == (*wanted.shape, 1, 1)
        np.testing.assert_array_equal(top.numpy().reshape(wanted.shape), wanted)


def test_annotator_gives_no_gradient_and_takes_maps() -> None:
    net = one_net(
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 1 ignore_label: 7 }",
        [(1, 5, 1, 3), (1, 1, 1, 3), (1, 1, 1, 3), (1, 4, 1, 3)],
        ["a", "b"],
    )
    layer = net.layer("under_test")
    loss = torch.tensor([1.0, 3.0, 2.0]).view(1, 1, 1, 3).requires_grad_()
    labels, weights = layer(torch.zeros(1, 5, 1, 3), loss, torch.ones(1, 1, 1, 3), torch.ones(1, 4, 1, 3))
    assert labels.flatten().tolist() == [7, 1, 7] and weights[0, :, 0].sum(0).tolist() == [0, 4, 0]
    assert not labels.requires_grad and not weights.requires_grad


def test_annotator_refuses() -> None:
    body, tops = "box_annotator_ohem_param { roi_per_img: 2 }", ("a", "b")
    good = [(3, 5), (3, 1), (3, 1), (3, 8)]
    for index, shape in ((0, (3, 4)), (1, (3, 2)), (2, (4, 1)), (3, (3, 8, 2))):
        shapes = [*good[:index], shape, *good[index + 1 :]]
        with pytest.raises(ShapeError, match=f"bottom {index} has the shape"):
            one_layer("BoxAnnotatorOHEM", body, *shapes, tops=tops)
    layer = one_layer("BoxAnnotatorOHEM", body, *good, tops=tops)
    bottoms = [torch.zeros(shape) for shape in good]
    bottoms[1][1] = torch.nan
    with pytest.raises(LayerError, match="under_test.*bottom 'x1' holds NaN"):
        layer(*bottoms)
    with pytest.raises(LayerError, match="roi_per_img is 0"):
        one_layer("BoxAnnotatorOHEM", "box_annotator_ohem_param { roi_per_img: 0 }", *good, tops=tops)
