"""RefineDet's DetectionOutput and MultiBoxLoss, and soft suppression, against loops written from the forks' source."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from one_layer import one_layer
from ssd_loops import multibox
from test_detection_output import _decode, _text, _values, detections, jaccard
from test_multibox import _text as loss_text
from test_multibox import _values as loss_values

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers import Layer
from caffe_compat.layers.refinedet import RefinedMultiBoxLoss, RefinedOutput

f32 = np.float32
PRIORS = 12


def _soft_nms(
    boxes: Any, scores: np.ndarray, threshold: float, nms: float, eta: float, top_k: int, theta: float = 0.5
) -> list[int]:
    """ApplySoftNMSFast, line by line; the queue is a vector of (score, index)."""
    order = sorted((i for i in range(len(scores)) if scores[i] > threshold), key=lambda i: -scores[i])
    if -1 < top_k < len(order):
        order = order[:top_k]
    queue = [(f32(scores[i]), i) for i in order]
    adaptive, kept = f32(nms), []
    while queue:
        score, index = queue[0]
        keep = True
        for other in kept:
            if not keep:
                break
            overlap = f32(jaccard(boxes[index], boxes[other]))
            lowered = f32(float(score) * math.exp(float(-(overlap * overlap) / f32(theta))))
            queue.append((lowered, index))
            queue.pop(0)
            queue.sort(key=lambda entry: -entry[0])  # stable, as stable_sort is
            keep = bool(overlap <= adaptive)
        if keep:
            kept.append(index)
        queue.pop(0)
        if keep and eta < 1 and adaptive > 0.5:
            adaptive *= f32(eta)
    return kept


def _refined_text(objectness: float | None, soft: float | None, **given: Any) -> str:
    text = _text(**given)
    if soft is not None:
        text = text.replace("nms_param {", f"nms_param {{ soft_nms: true theta: {soft}")
    if objectness is not None:
        text = text.replace("detection_output_param {", f"detection_output_param {{ objectness_score: {objectness}")
    return text


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("theta", "given"),
    [
        (0.5, {"classes": 3, "kind": "CENTER_SIZE", "threshold": 0.1, "nms": 0.45, "keep": 9}),
        (0.1, {"classes": 3, "kind": "CORNER", "nms": 0.7, "top_k": 9, "eta": 0.8}),
        (2.0, {"classes": 2, "kind": "CORNER", "background": -1, "nms": 1.5, "share": False}),
    ],
)
def test_soft_suppression(theta: float, given: dict[str, Any], ties: bool) -> None:
    for seed in range(4):
        arrays = _values(2, PRIORS, seed, ties, **given)
        layer = one_layer("DetectionOutput", _refined_text(None, theta, **given), *(a.shape for a in arrays))
        assert type(layer) is RefinedOutput

        def suppress(*args: Any) -> list[int]:
            return _soft_nms(*args, theta=theta)

        want = detections(*arrays, **given, suppress=suppress)
        got = layer(*map(torch.from_numpy, arrays)).numpy()
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    hard = detections(*arrays, **given)
    if not ties:  # what a comparison takes from the queue is lost, and the order is another
        assert hard.shape != want.shape or not np.array_equal(hard, want)


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("kind", ["CENTER_SIZE", "CORNER_SIZE"])
def test_refined_priors(kind: str, moved: bool) -> None:
    given = {"classes": 3, "kind": kind, "threshold": 0.3, "nms": 0.45, "keep": 9, "top_k": 8}
    loc, conf, priors = _values(2, PRIORS, 5, False, **given)
    random = np.random.default_rng(1)
    objects = random.random((2, PRIORS * 2)).astype(f32)
    objects[0, 1], objects[0, 3] = 0.4, np.nextafter(f32(0.4), f32(0))  # the threshold itself is an object
    moves = random.normal(0, 0.3, (2, PRIORS * 4)).astype(f32)
    bottoms = [loc, conf, priors, objects] + [moves] * moved
    layer = one_layer("DetectionOutput", _refined_text(0.4, None, **given), *(a.shape for a in bottoms))
    rows = []
    for image in range(2):
        scores = conf[image].reshape(PRIORS, 3).copy()
        for p in range(PRIORS):
            if objects[image, 2 * p + 1] < f32(0.4):
                scores[p] = [1, 0, 0]
        boxes, variances = priors.reshape(2, PRIORS, 4)
        if moved:
            codes = moves[image].reshape(PRIORS, 4)
            boxes = np.array([_decode(boxes[p], variances[p], kind, False, codes[p]) for p in range(PRIORS)], f32)
        own = np.stack([boxes, variances]).reshape(1, 2, -1)
        found = detections(loc[image : image + 1], scores.reshape(1, -1), own, **given)[0, 0]
        found[:, 0] = image
        rows.append(found)
    want = np.concatenate(rows)
    assert len(want) > 6 and (want[:, 1] >= 0).all()
    np.testing.assert_allclose(layer(*map(torch.from_numpy, bottoms))[0, 0].numpy(), want, rtol=1e-5, atol=1e-6)


def _loss(given: dict[str, Any], arrays: list[np.ndarray]) -> Layer:
    text = loss_text(given).replace(
        "multibox_loss_param {", f"multibox_loss_param {{ objectness_score: {given['objectness']}"
    )
    return one_layer("MultiBoxLoss", text, *(array.shape for array in arrays), phase="TRAIN")


LOSSES = [
    {"classes": 4, "kind": "CENTER_SIZE"},
    {"classes": 3, "kind": "CENTER_SIZE", "in_target": True, "inside": True, "overlap": 0.3},
    {"classes": 3, "kind": "CENTER_SIZE", "mining": "HARD_EXAMPLE", "samples": 9, "overlap": 0.2},
    {"classes": 3, "kind": "CENTER_SIZE", "use_prior": False, "inside": True, "overlap": 0.2},
    {"classes": 3, "kind": "CENTER_SIZE", "nms": 0.3, "top_k": 20, "nms_of_priors": True},
]


@pytest.mark.parametrize("bottoms", [5, 6])
@pytest.mark.parametrize("given", LOSSES)
def test_loss_against_the_loops(given: dict[str, Any], bottoms: int) -> None:
    for seed in range(2):
        random = np.random.default_rng(seed)
        arrays = loss_values(given, seed)
        objects = random.random((3, 60)).astype(f32)
        moves = random.normal(0, 0.3, (3, 120)).astype(f32)
        own = {**given, "objectness": 0.45, "objects": objects, **({"moved": moves} if bottoms == 6 else {})}
        every = [*arrays, objects, moves][:bottoms]
        layer = _loss(own, every)
        assert type(layer) is RefinedMultiBoxLoss
        want, _, negatives = multibox(*arrays, own)
        got = layer(*map(torch.from_numpy, every))
        np.testing.assert_allclose(float(got), want, rtol=2e-5)
        plain, _, others = multibox(*arrays, given)
        assert plain != pytest.approx(want, rel=1e-3)
        assert negatives != others or own.get("nms")


def test_gradient_of_the_refined_loss() -> None:
    given = {**LOSSES[0], "objectness": 0.45}
    arrays = loss_values(given, 3, np.float64)
    random = np.random.default_rng(0)
    every = [*arrays, random.random((3, 60)), random.normal(0, 0.3, (3, 120))]
    layer = _loss(given, every).double()
    tensors = [torch.from_numpy(array) for array in every]
    for number in (0, 1):
        tensors[number].requires_grad_()
    layer(*tensors).backward()
    for number in (0, 1):
        grad, step = tensors[number].grad, 1e-6
        assert grad is not None
        for place in random.choice(grad.numel(), 8, replace=False):
            values = []
            for sign in (1, -1):
                moved = [tensor.detach().clone() for tensor in tensors]
                moved[number].view(-1)[place] += sign * step
                values.append(float(layer(*moved)))
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(grad.view(-1)[place]), abs=1e-6)


def test_two_classes_take_every_object_for_one() -> None:
    given = {"classes": 2, "kind": "CENTER_SIZE"}
    loc, conf, priors, truth = loss_values(given, 0)
    many = truth.copy()
    many[0, 0, :, 1] = np.where(many[0, 0, :, 1] == 1, [1, 7, 20, 2, 3, 4, 5], many[0, 0, :, 1])
    layer = one_layer("MultiBoxLoss", loss_text(given), *(a.shape for a in (loc, conf, priors, truth)))
    losses = [float(layer(*map(torch.from_numpy, (loc, conf, priors, rows)))) for rows in (truth, many)]
    assert losses[0] == losses[1] > 0


def test_refusals() -> None:
    shapes = [(2, 20), (2, 15), (1, 2, 20), (2, 10), (2, 20)]
    text = "detection_output_param { num_classes: 3 code_type: CENTER_SIZE }"
    with pytest.raises(ShapeError, match=r"bottom 3 has the shape \[2, 15\], expected 2 x 10: 2 numbers of each of 5"):
        one_layer("DetectionOutput", text, *shapes[:3], (2, 15), (2, 20))
    with pytest.raises(LayerError, match="share_location is false with refined priors"):
        one_layer("DetectionOutput", text.replace("3 code", "3 share_location: false code"), *shapes)
    soft = "detection_output_param { num_classes: 3 nms_param { soft_nms: true theta: 0 } }"
    with pytest.raises(LayerError, match="theta is 0, expected a positive number"):
        one_layer("DetectionOutput", soft, *shapes[:3])
    layer = one_layer("DetectionOutput", text, *shapes)
    bottoms = [torch.zeros(shape) for shape in shapes]
    bottoms[2][0, 0, 2::4] = bottoms[2][0, 0, 3::4] = 0.5
    bottoms[3][1, 4] = math.nan
    with pytest.raises(LayerError, match=r"bottom 3 'x3' is NaN at \[1, 4\]"):
        layer(*bottoms)
