"""Permute and PriorBox against loops that follow weiliu89/caffe's source line by line."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net, seq

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.net import BlobNet

f32 = np.float32


def _permuted(bottom: np.ndarray, order: list[int]) -> np.ndarray:
    """Permute() of permute_layer.cpp, with its steps."""
    order = order + [axis for axis in range(bottom.ndim) if axis not in order]
    top_shape = [bottom.shape[axis] for axis in order]
    old = [math.prod(bottom.shape[axis + 1 :]) for axis in range(bottom.ndim)]
    new = [math.prod(top_shape[axis + 1 :]) for axis in range(bottom.ndim)]
    flat, top = bottom.reshape(-1), np.empty(bottom.size, bottom.dtype)
    for index in range(bottom.size):
        rest, place = index, 0
        for axis in range(bottom.ndim):
            place += rest // new[axis] * old[order[axis]]
            rest %= new[axis]
        top[index] = flat[place]
    return top.reshape(top_shape)


@pytest.mark.parametrize("order", [list(order) for order in itertools.permutations(range(3))] + [[2], [1], [0], []])
def test_permute(order: list[int]) -> None:
    bottom = seq(2, 3, 4).requires_grad_()
    body = f"permute_param {{ {' '.join(f'order: {axis}' for axis in order)} }}"
    top = one_layer("Permute", body, (2, 3, 4))(bottom)
    assert np.array_equal(top.detach().numpy(), _permuted(bottom.detach().numpy(), order))
    assert top.is_contiguous()
    seed = torch.arange(24.0).reshape(top.shape)
    top.backward(seed)
    full = order + [axis for axis in range(3) if axis not in order]
    assert np.array_equal(bottom.grad.numpy(), np.transpose(seed.numpy(), np.argsort(full)))


def test_permute_without_change_shares_its_memory() -> None:
    for order, shared in (("order: 0 order: 1", True), ("order: 1", False)):
        net = BlobNet(one_net("Permute", f"permute_param {{ {order} }}", [(1, 2)]))
        net.blob("x0").tensor.fill_(1)
        net.forward()
        net.blob("y").tensor.fill_(7)
        assert bool((net.blob("x0").tensor == 7).all()) is shared


@pytest.mark.parametrize(
    ("order", "message"), [("order: 1 order: 1", "every axis once"), ("order: 3", "expected axes 0 to 2")]
)
def test_permute_refusals(order: str, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        one_net("Permute", f"permute_param {{ {order} }}", [(2, 3, 4)])


def _priors(cells: tuple[int, int], pixels: tuple[int, int], **given) -> np.ndarray:  # type: ignore[no-untyped-def]
    """LayerSetUp and Forward_cpu of prior_box_layer.cpp, one number at a time."""
    ratios = [f32(1)]
    for ratio in map(f32, given.get("ratios", [])):
        if any(abs(float(ratio) - float(known)) < 1e-6 for known in ratios):
            continue
        ratios.append(ratio)
        if given.get("flip", True):
            ratios.append(f32(1.0 / float(ratio)))
    step_h, step_w = given.get("step") or (f32(pixels[0]) / f32(cells[0]), f32(pixels[1]) / f32(cells[1]))
    offset = f32(given.get("offset", 0.5))
    boxes: list[float] = []

    def put(x: np.float32, y: np.float32, w: np.float32, h: np.float32) -> None:
        boxes.extend(
            f32(value)
            for value in (
                (float(x) - float(w) / 2) / pixels[1],
                (float(y) - float(h) / 2) / pixels[0],
                (float(x) + float(w) / 2) / pixels[1],
                (float(y) + float(h) / 2) / pixels[0],
            )
        )

    for h in range(cells[0]):
        for w in range(cells[1]):
            x, y = (f32(w) + offset) * f32(step_w), (f32(h) + offset) * f32(step_h)
            for s, smallest in enumerate(given["min"]):
                low = int(smallest)
                put(x, y, f32(low), f32(low))
                if given.get("max"):
                    side = f32(math.sqrt(low * int(given["max"][s])))
                    put(x, y, side, side)
                for ratio in ratios:
                    if abs(float(ratio) - 1) >= 1e-6:
                        root = math.sqrt(float(ratio))
                        put(x, y, f32(low * root), f32(low / root))
    if given.get("clip"):
        boxes = [min(max(box, f32(0)), f32(1)) for box in boxes]
    variances = [f32(value) for value in given.get("variances", [0.1])]
    second = [variances[index % len(variances)] for index in range(len(boxes))]
    return np.array([[boxes, second]], np.float32)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("min_size: 30", {"min": [30]}),
        ("min_size: 30.9 max_size: 60.5", {"min": [30.9], "max": [60.5]}),  # cut to whole pixels
        (
            "min_size: 4 min_size: 9 max_size: 7 max_size: 20 aspect_ratio: 2",
            {"min": [4, 9], "max": [7, 20], "ratios": [2]},
        ),
        ("min_size: 8 aspect_ratio: 2 aspect_ratio: 3 flip: false", {"min": [8], "ratios": [2, 3], "flip": False}),
        ("min_size: 8 aspect_ratio: 1 aspect_ratio: 2 aspect_ratio: 0.5", {"min": [8], "ratios": [1, 2, 0.5]}),
        ("min_size: 8 clip: true variance: 0.3", {"min": [8], "clip": True, "variances": [0.3]}),
        (
            "min_size: 8 step: 9 offset: 0.25 variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4",
            {"min": [8], "step": (9, 9), "offset": 0.25, "variances": [0.1, 0.2, 0.3, 0.4]},
        ),
        ("min_size: 8 step_h: 9 step_w: 7.3", {"min": [8], "step": (9, 7.3)}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cells", [(1, 1), (3, 2), (5, 7)])
def test_prior_boxes(text: str, given: dict[str, object], cells: tuple[int, int]) -> None:
    layer = one_layer("PriorBox", f"prior_box_param {{ {text} }}", (2, 4, *cells), (2, 3, 41, 67))
    top = layer(torch.zeros(2, 4, *cells), torch.zeros(2, 3, 41, 67))
    assert np.array_equal(top.numpy(), _priors(cells, (41, 67), **given))
    assert tuple(top.shape) == layer.top_shapes([(2, 4, *cells), (2, 3, 41, 67)])[0]


def test_prior_boxes_of_ssd300() -> None:
    """conv4_3 of SSD300: 38 x 38 cells of step 8, 4 boxes each."""
    text = "min_size: 30 max_size: 60 aspect_ratio: 2 flip: true clip: false step: 8 variance: 0.1"
    top = one_layer("PriorBox", f"prior_box_param {{ {text} }}", (1, 512, 38, 38), (1, 3, 300, 300))(
        torch.zeros(1, 512, 38, 38), torch.zeros(1, 3, 300, 300)
    )
    assert top.shape == (1, 2, 38 * 38 * 4 * 4)
    np.testing.assert_allclose(top[0, 0, :4], (np.array([4, 4, 4, 4]) + [-15, -15, 15, 15]) / 300, rtol=1e-6)


def test_prior_boxes_follow_other_sizes() -> None:
    layer = one_layer("PriorBox", "prior_box_param { min_size: 5 }", (1, 2, 3, 3), (1, 3, 30, 30))
    for cells, pixels in (((3, 3), (30, 30)), ((2, 4), (20, 40)), ((3, 3), (30, 30))):
        top = layer(torch.zeros(1, 2, *cells), torch.zeros(1, 3, *pixels))
        assert np.array_equal(top.numpy(), _priors(cells, pixels, min=[5]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "min_size is .*expected one or more positive"),
        ("min_size: 0", "min_size"),
        ("min_size: 3 max_size: 2", "max_size is 2, expected more than the min_size 3"),
        ("min_size: 3 min_size: 4 max_size: 9", "2 min_size and 1 max_size"),
        ("min_size: 3 variance: 1 variance: 2", "variance .*expected none, 1 or 4"),
        ("min_size: 3 variance: 0", "variance"),
        ("min_size: 3 aspect_ratio: 0", "aspect_ratio"),
        ("min_size: 3 step: 2 step_h: 2 step_w: 2", "expected step OR both step_h and step_w"),
        ("min_size: 3 step_h: 2", "expected step OR"),
        ("min_size: 3 img_h: 2", "expected img_size OR"),
        ("min_size: 3 step: -1", "positive"),
    ],
)
def test_prior_box_refusals(text: str, message: str) -> None:
    with pytest.raises(LayerError, match=f"layer 'under_test' .PriorBox.: .*{message}"):
        one_net("PriorBox", f"prior_box_param {{ {text} }}", [(1, 2, 3, 3), (1, 3, 9, 9)])


def test_prior_box_without_image() -> None:
    with pytest.raises(LayerError, match="has no image, expected a second bottom, or prior_box_param.img_size"):
        one_net("PriorBox", "prior_box_param { min_size: 3 }", [(1, 2, 3, 3)])
    assert one_layer("PriorBox", "prior_box_param { min_size: 3 img_h: 8 img_w: 9 }", (1, 2, 3, 3)) is not None
    with pytest.raises(ShapeError, match="map of at least one cell"):
        one_net("PriorBox", "prior_box_param { min_size: 3 }", [(1, 2, 0, 3), (1, 3, 9, 9)])


def test_clustered_boxes() -> None:
    """OpenVINO's PriorBoxClustered: the sizes as listed, in float, centred in each cell."""
    body = "prior_box_param { width: 9.4 width: 25 height: 15 height: 39.6 step: 16 variance: 0.1 %s }"
    top = one_layer("PriorBoxClustered", body % "", (1, 2, 3, 2), (1, 3, 48, 40))(
        torch.zeros(1, 2, 3, 2), torch.zeros(1, 3, 48, 40)
    )
    want = []
    for y, x, (w, h) in itertools.product(range(3), range(2), ((9.4, 15), (25, 39.6))):
        cx, cy = (x + 0.5) * 16, (y + 0.5) * 16
        want += [(cx - w / 2) / 40, (cy - h / 2) / 48, (cx + w / 2) / 40, (cy + h / 2) / 48]
    assert top.shape == (1, 2, 48) and np.allclose(top[0, 0].numpy(), want, atol=1e-6)
    assert bool((top[0, 1] == f32(0.1)).all())
    for text, message in (
        ("width: 3", "3 width and 2 height"),
        ("width: -1 height: 2", "positive"),
        ("min_size: 3", "min_size means nothing"),
    ):
        with pytest.raises(LayerError, match=f"'under_test'.*{message}"):
            one_net("PriorBoxClustered", body % text, [(1, 2, 3, 2), (1, 3, 48, 40)])
    with pytest.raises(LayerError, match="width.*means nothing"):
        one_net("PriorBox", "prior_box_param { min_size: 4 width: 3 }", [(1, 2, 3, 2), (1, 3, 48, 40)])
