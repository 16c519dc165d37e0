"""MultiBoxLoss against loops that follow the original's source; gradients by finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net
from ssd_loops import match as slow_match
from ssd_loops import multibox

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers import Layer
from caffe_compat.layers.box_matching import Matching, match

CONFIGURATIONS: list[dict[str, Any]] = [
    {"classes": 4, "kind": "CENTER_SIZE", "loc_weight": 2.0},
    {"classes": 4, "kind": "CENTER_SIZE", "in_target": True, "neg_overlap": 0.3, "ratio": 1.5, "difficult": False},
    {"classes": 3, "kind": "CORNER", "background": 2, "match_type": "BIPARTITE", "normalization": "BATCH_SIZE"},
    {"classes": 3, "kind": "CORNER_SIZE", "l2": True, "overlap": 0.2, "normalization": "FULL", "inside_only": True},
    {"classes": 3, "kind": "CENTER_SIZE", "mining": "HARD_EXAMPLE", "samples": 9, "overlap": 0.2},
    {"classes": 3, "kind": "CENTER_SIZE", "mining": "NONE", "share": False, "normalization": "NONE"},
    {"classes": 3, "kind": "CENTER_SIZE", "mining": "NONE", "share": False, "use_prior": False, "overlap": 0.1},
    {"classes": 3, "kind": "CENTER_SIZE", "mining": "NONE", "logistic": True},
    {"classes": 3, "kind": "CENTER_SIZE", "logistic": True, "background": 1, "inside": True},
    {"classes": 3, "kind": "CENTER_SIZE", "use_prior": False, "inside": True, "overlap": 0.2},
    {"classes": 3, "kind": "CENTER_SIZE", "nms": 0.3, "top_k": 20},
    {"classes": 3, "kind": "CENTER_SIZE", "nms": 0.3, "top_k": 5, "nms_of_priors": True, "mining": "HARD_EXAMPLE"},
    {"classes": 3, "kind": "CENTER_SIZE", "nms": 0.3, "top_k": 0},
    {"classes": 2, "kind": "CENTER_SIZE", "agnostic": True},
]


def _text(given: dict[str, Any]) -> str:
    def flag(name: str, default: bool) -> str:
        return str(given.get(name, default)).lower()

    nms = f"nms_param {{ nms_threshold: {given['nms']} top_k: {given['top_k']} }}" if "nms" in given else ""
    return (
        f"loss_param {{ normalization: {given.get('normalization', 'VALID')} }} multibox_loss_param {{ "
        f"num_classes: {given['classes']} code_type: {given.get('kind', 'CORNER')} "
        f"share_location: {flag('share', True)} "
        f"loc_weight: {given.get('loc_weight', 1.0)} encode_variance_in_target: {flag('in_target', False)} "
        f"background_label_id: {given.get('background', 0)} overlap_threshold: {given.get('overlap', 0.5)} "
        f"match_type: {given.get('match_type', 'PER_PREDICTION')} neg_overlap: {given.get('neg_overlap', 0.5)} "
        f"neg_pos_ratio: {given.get('ratio', 3.0)} use_difficult_gt: {flag('difficult', True)} "
        f"mining_type: {given.get('mining', 'MAX_NEGATIVE')} sample_size: {given.get('samples', 64)} "
        f"use_prior_for_matching: {flag('use_prior', True)} bp_inside: {flag('inside', False)} "
        f"ignore_cross_boundary_bbox: {flag('inside_only', False)} map_object_to_agnostic: {flag('agnostic', False)} "
        f"loc_loss_type: {'L2' if given.get('l2') else 'SMOOTH_L1'} use_prior_for_nms: {flag('nms_of_priors', False)} "
        f"conf_loss_type: {'LOGISTIC' if given.get('logistic') else 'SOFTMAX'} {nms} }}"
    )


def _values(given: dict[str, Any], seed: int, dtype: type = np.float32) -> list[np.ndarray]:
    """Three images, the second without ground truth; one box is difficult, one row is none."""
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform(-0.1, 1.1, (30, 2, 2)), 1).reshape(-1, 4)
    corners[:, 2:] += 0.05
    priors = np.stack([corners, random.uniform(0.1, 0.3, corners.shape)]).reshape(1, 2, -1)
    labels = [label for label in range(given["classes"]) if label != given.get("background", 0)]
    boxes = np.sort(random.random((7, 2, 2)), 1).reshape(-1, 4)
    boxes[:4] = corners[:4] + random.normal(0, 0.02, (4, 4))  # some that priors are near
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 0.05)
    head = np.stack([[0, 0, 2, 2, 0, -1, 2], random.choice(labels, 7), np.zeros(7)], 1)
    truth = np.concatenate([head, boxes, np.eye(7)[:, 3:4]], 1)[None, None]
    each = 1 if given.get("share", True) else given["classes"]
    loc = random.normal(0, 1, (3, 30 * each * 4))
    conf = random.normal(0, 2, (3, 30 * given["classes"]))
    return [array.astype(dtype) for array in (loc, conf, priors, truth)]


def _layer(given: dict[str, Any], arrays: list[np.ndarray]) -> Layer:
    return one_layer("MultiBoxLoss", _text(given), *[array.shape for array in arrays])


@pytest.mark.parametrize("given", CONFIGURATIONS)
def test_against_the_loops(given: dict[str, Any]) -> None:
    for seed in range(4):
        arrays = _values(given, seed)
        want, matches, negatives = multibox(*arrays, given)
        got = _layer(given, arrays)(*map(torch.from_numpy, arrays))
        assert float(got) == pytest.approx(want, rel=2e-5), seed
        assert matches[1] == [] == negatives[1]


def test_something_is_matched_mined_and_dropped() -> None:
    """The configurations do what their names say."""
    given = CONFIGURATIONS[0]
    _, matches, negatives = multibox(*_values(given, 0), given)
    assert sum(g > -1 for g in matches[0]) >= 3 and negatives[0]
    hard = CONFIGURATIONS[4]
    _, kept, _ = multibox(*_values(hard, 0), hard)
    _, every, _ = multibox(*_values(hard, 0), {**hard, "mining": "NONE"})
    assert sum(g > -1 for g in kept[0]) < sum(g > -1 for g in every[0])


@pytest.mark.parametrize("given", [config for config in CONFIGURATIONS if not config.get("in_target")])
def test_gradient_by_finite_differences(given: dict[str, Any]) -> None:
    arrays = _values(given, 1, np.float64)
    layer = _layer(given, arrays).double()
    bottoms = [torch.from_numpy(array) for array in arrays]
    for bottom in bottoms[:2]:
        bottom.requires_grad_()
    layer(*bottoms).backward()
    random = np.random.default_rng(0)
    for bottom in bottoms[:2]:
        flat, slope = bottom.detach().view(-1), bottom.grad.view(-1)
        nonzero = slope.nonzero().flatten().numpy()
        chosen = random.choice(nonzero, min(6, len(nonzero)), replace=False) if len(nonzero) else []
        for place in (*chosen, *random.choice(len(flat), 4)):
            sums = []
            for step in (1e-6, -1e-6):
                flat[place] += step
                sums.append(layer(*bottoms).item())
                flat[place] -= step
            assert float(slope[place]) == pytest.approx((sums[0] - sums[1]) / 2e-6, rel=1e-4, abs=1e-7)


def test_gradient_with_the_variance_in_the_target_is_caffes() -> None:
    """Backward_cpu copies the diff of what was divided, undivided."""
    given = CONFIGURATIONS[1]
    arrays = _values(given, 1, np.float64)
    bottoms = [torch.from_numpy(array) for array in arrays]
    bottoms[0].requires_grad_()
    layer = _layer(given, arrays).double()
    layer(*bottoms).backward()
    slope = bottoms[0].grad.view(3, 30, 4)
    image, prior, side = slope.nonzero()[0].tolist()
    flat = bottoms[0].detach().view(3, 30, 4)
    step, sums = 1e-6, []
    for sign in (1, -1):
        flat[image, prior, side] += sign * step
        sums.append(layer(*bottoms).item())
        flat[image, prior, side] -= sign * step
    derivative = (sums[0] - sums[1]) / (2 * step)
    variance = arrays[2].reshape(2, 30, 4)[1, prior, side]
    assert float(slope[image, prior, side]) == pytest.approx(derivative * variance, rel=1e-4)


def test_matching_of_ties_and_strangers() -> None:
    """Equal overlaps: the earlier box, then the earlier ground truth; boxes far off are left alone."""
    boxes = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5], [0.9, 0.9, 1, 1], [0, 0, 0.5, 0.4]])
    truth = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5], [0.6, 0.6, 0.7, 0.7]])
    gts = [{"label": 1, "box": list(box)} for box in truth.numpy()]
    for kind in ("BIPARTITE", "PER_PREDICTION"):
        want = slow_match(gts, [list(box) for box in boxes.numpy()], -1, {"match_type": kind})
        found, best = match(boxes, truth, Matching(kind == "PER_PREDICTION", 0.5, False))
        assert found.tolist() == want[0]
        np.testing.assert_allclose(best, want[1])
    assert found.tolist() == [0, 1, -1, 0]


def test_without_any_ground_truth_the_loss_is_nothing() -> None:
    given = CONFIGURATIONS[0]
    arrays = _values(given, 0)
    arrays[3][..., 0] = -1
    bottoms = [torch.from_numpy(array).requires_grad_(index < 2) for index, array in enumerate(arrays)]
    loss = _layer(given, arrays)(*bottoms)
    loss.backward()
    assert float(loss) == 0
    assert float(bottoms[0].grad.abs().sum()) == 0 == float(bottoms[1].grad.abs().sum())


def test_propagate_down_leaves_a_part_out() -> None:
    given = CONFIGURATIONS[0]
    arrays = [torch.from_numpy(array) for array in _values(given, 0)]
    shapes = [tuple(array.shape) for array in arrays]
    flags = {"both": (True, True), "boxes": (True, False), "classes": (False, True)}
    losses = {}
    for name, (first, second) in flags.items():
        told = " ".join(f"propagate_down: {str(flag).lower()}" for flag in (first, second, False, False))
        losses[name] = float(one_layer("MultiBoxLoss", f"{_text(given)} {told}", *shapes)(*arrays))
    assert losses["both"] == pytest.approx(losses["boxes"] + losses["classes"])
    assert min(losses.values()) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "num_classes is 0"),
        ("num_classes: 3 do_neg_mining: false", "do_neg_mining: false and mining_type MAX_NEGATIVE, which contradict"),
        ("num_classes: 3 share_location: false", "share_location: false, expected NONE"),
        ("num_classes: 3 background_label_id: 3", "background_label_id is 3"),
        ("num_classes: 3 map_object_to_agnostic: true", "expected 2"),
        ("num_classes: 3 mining_type: HARD_EXAMPLE sample_size: 0", "sample_size is 0"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    shapes = [(1, 8), (1, 6), (1, 2, 8), (1, 1, 1, 8)]
    with pytest.raises(LayerError, match=f"layer 'under_test' .MultiBoxLoss.: .*{message}"):
        one_net("MultiBoxLoss", f"multibox_loss_param {{ {text} }}", shapes)


def test_sizes_and_numbers_that_do_not_fit() -> None:
    given = {"classes": 3, "kind": "CENTER_SIZE"}
    with pytest.raises(ShapeError, match="location predictions have the shape"):
        one_net("MultiBoxLoss", _text(given), [(1, 9), (1, 6), (1, 2, 8), (1, 1, 1, 8)])
    with pytest.raises(ShapeError, match="expected 1 x 1 x G x 8"):
        one_net("MultiBoxLoss", _text(given), [(1, 8), (1, 6), (1, 2, 8), (1, 7)])
    for row, message in (
        ([0, 0, 0, 0.1, 0.1, 0.4, 0.4, 0], "has the label 0, expected one of 3 classes but the background"),
        ([0, 3, 0, 0.1, 0.1, 0.4, 0.4, 0], "has the label 3"),
        ([0, 1, 0, np.nan, 0.1, 0.4, 0.4, 0], "bottom 3 'x3' is NaN"),
    ):
        arrays = _values(given, 0)
        arrays[3][0, 0, 0] = row
        with pytest.raises(LayerError, match=message):
            _layer(given, arrays)(*map(torch.from_numpy, arrays))
