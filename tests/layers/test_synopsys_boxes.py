"""Boxes and detections of nets converted from TensorFlow, and ICNet's pyramid, against loops from synopsys-caffe."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases_ssd import PRIORS
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers.bn import MovingBN, ScaleShiftBN

F32 = np.float32
SIZES = [(60.9, 90.2), (30.0, 45.0)]


def _slow_priors(tf: bool, swapped: bool, squares: bool) -> list[float]:
    """Forward_cpu of prior_box_layer.cpp: a map of 2 x 3 in an image of 150 x 200, aspect ratios 2 and 3, flipped."""
    found: list[float] = []

    def put(x: float, y: float, w: float, h: float, margin: float = 0.0) -> None:
        box = [(x - w / 2) / 200 + margin, (y - h / 2) / 150 + margin, (x + w / 2) / 200 - margin]
        box.append((y + h / 2) / 150 - margin)
        found.extend([box[1], box[0], box[3], box[2]] if swapped else box)

    for h, w in np.ndindex(2, 3):
        x = float((F32(w) + F32(0.5)) * (F32(200) / F32(3)))
        y = float((F32(h) + F32(0.5)) * (F32(150) / F32(2)))
        for low, high in ((int(a), int(b)) for a, b in SIZES):
            root = float(F32(math.sqrt(low * high)))
            put(x, y, low, low, 0.05 if tf and low == 60 else 0.0)
            if not tf and squares:
                put(x, y, root, root)
            for ratio in (F32(2), F32(1) / F32(2), F32(3), F32(1) / F32(3)):
                put(x, y, float(F32(low * math.sqrt(ratio))), float(F32(low / math.sqrt(ratio))))
            if tf and squares:
                put(x, y, root, root)
    return found


@pytest.mark.parametrize("tf", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("squares", [False, True])
def test_priors(tf: bool, swapped: bool, squares: bool) -> None:
    sizes = "".join(f" min_size: {low}" + (f" max_size: {high}" if squares else "") for low, high in SIZES)
    body = f"tf: {str(tf).lower()} yx_order: {str(swapped).lower()} aspect_ratio: [2, 3] {sizes}"
    layer = one_layer("PriorBox", f"prior_box_param {{ {body} }}", (1, 2, 2, 3), (1, 3, 150, 200))
    got = layer(torch.zeros(1, 2, 2, 3), torch.zeros(1, 3, 150, 200))[0, 0]
    np.testing.assert_allclose(got.numpy(), _slow_priors(tf, swapped, squares), atol=1e-6)


def test_unpermuted_predictions_are_those_that_permute_flatten_and_concat_make() -> None:
    """Two maps, of 2 x 3 cells with 2 boxes and of 1 x 2 with 3; no two scores are equal."""
    random, images, classes = np.random.default_rng(0), 2, 3
    maps = [(2, 3, 2), (1, 2, 3)]
    total = sum(h * w * r for h, w, r in maps)
    loc = [random.normal(size=(images, r * 4, h, w)) * 0.3 for h, w, r in maps]
    conf = [random.random((images, r * classes, h, w)) for h, w, r in maps]  # as a convolution for Permute makes them
    corners = random.random((total, 2)) * 0.6
    boxes = np.concatenate([corners, corners + 0.1 + 0.3 * random.random((total, 2))], 1)
    priors = np.stack([boxes, np.full_like(boxes, 0.1)]).reshape(1, 2, -1)
    common = (
        f"num_classes: {classes} code_type: CENTER_SIZE nms_param {{ nms_threshold: 0.4 top_k: 9 }} keep_top_k: 8 "
        "confidence_threshold: 0.2"
    )
    flat = [[np.moveaxis(x, 1, 3).reshape(images, -1) for x in values] for values in (loc, conf)]
    joined = [torch.from_numpy(np.concatenate(values, 1)) for values in flat]
    plain = one_layer(
        "DetectionOutput", f"detection_output_param {{ {common} }}", joined[0].shape, joined[1].shape, priors.shape
    )
    want = plain(*joined, torch.from_numpy(priors))
    own = [  # [class][ratio][y][x]
        x.reshape(images, r, classes, h * w).swapaxes(1, 2) for x, (h, w, r) in zip(conf, maps, strict=True)
    ]
    bottoms = [torch.from_numpy(np.ascontiguousarray(x)) for x in (*own, *loc, priors)]
    layer = one_layer(
        "DetectionOutput",
        f"detection_output_param {{ {common} no_permute: true nbottom: 2 }}",
        *(bottom.shape for bottom in bottoms),
    )
    assert len(want[0, 0]) == 16
    torch.testing.assert_close(layer(*bottoms), want)


def test_equal_scores_go_by_box_of_a_cell_first() -> None:
    """Two cells of two boxes each, far from each other; the priors lie cell by cell, the places box by box."""
    x = [0.0, 0.2, 0.4, 0.6]
    priors = torch.tensor([[[v, 0, v + 0.1, 0.1] for v in x], [[0.1] * 4] * 4]).reshape(1, 2, 16)
    body = "num_classes: 2 code_type: CENTER_SIZE no_permute: true nbottom: 1 nms_param { nms_threshold: 0.5 }"
    layer = one_layer("DetectionOutput", f"detection_output_param {{ {body} }}", (1, 2, 2, 2), (1, 8, 1, 2), (1, 2, 16))
    top = layer(torch.full((1, 2, 2, 2), 0.5), torch.zeros(1, 8, 1, 2), priors)
    np.testing.assert_allclose(top[0, 0, :, 3].numpy(), [0, 0.4, 0.2, 0.6], atol=1e-6)


def _slow_pyramid(x: np.ndarray) -> np.ndarray:
    """Forward_cpu of icnet_subgraph_layer.cpp and caffe_cpu_interp2, of one map."""
    height, width = x.shape
    top = x.copy()
    kernels = [(33, 65), (17, 33), (13, 25), (8, 15)]
    strides = [(33, 65), (16, 32), (10, 20), (5, 10)]
    for (kh, kw), (sh, sw) in zip(kernels, strides, strict=True):
        high, wide = math.ceil((height - kh) / sh) + 1, math.ceil((width - kw) / sw) + 1
        means = np.zeros((high, wide))
        for i, j in np.ndindex(high, wide):
            means[i, j] = x[i * sh : i * sh + kh, j * sw : j * sw + kw].mean()
        rh, rw = ((n - 1) / (m - 1) if m > 1 else 0.0 for n, m in ((high, height), (wide, width)))
        for h, w in np.ndindex(height, width):
            h1, w1 = int(rh * h), int(rw * w)
            hp, wp = int(h1 < high - 1), int(w1 < wide - 1)
            lh, lw = rh * h - h1, rw * w - w1
            top[h, w] += (1 - lh) * ((1 - lw) * means[h1, w1] + lw * means[h1, w1 + wp]) + lh * (
                (1 - lw) * means[h1 + hp, w1] + lw * means[h1 + hp, w1 + wp]
            )
    return top


@pytest.mark.parametrize("size", [(33, 65), (20, 37)])
def test_icnet_pyramid(size: tuple[int, int]) -> None:
    x = np.random.default_rng(1).normal(size=size)
    got = one_layer("ICNetSubgraph", "", (1, 1, *size))(torch.from_numpy(x)[None, None])[0, 0]
    np.testing.assert_allclose(got.numpy(), _slow_pyramid(x), atol=1e-5)


def test_icnet_says_which_bn_is_meant() -> None:
    assert type(one_layer("BN", "bn_param { icnet: true }", (1, 2, 3, 3))) is MovingBN
    assert type(one_layer("BN", "bn_param { icnet: false }", (1, 2, 3, 3))) is ScaleShiftBN
    with pytest.raises(LayerError, match="under_test.*slope_filler means nothing"):
        one_layer("BN", "bn_param { icnet: false slope_filler { value: 1 } }", (1, 2, 3, 3))


_OUT = "detection_output_param { num_classes: 2 %s }"


@pytest.mark.parametrize(
    ("body", "shapes", "error", "what"),
    [
        ("no_permute: true", [(1, 2, 1, 5), (1, 4, 1, 5), (1, 2, 20)], LayerError, "nbottom 6 and no_permute true"),
        ("nbottom: 1", [(1, 2, 1, 5), (1, 4, 1, 5), (1, 2, 20)], LayerError, "no_permute false"),
        (
            "no_permute: true nbottom: 1",
            [(1, 3, 1, 5), (1, 4, 1, 5), (1, 2, 20)],
            ShapeError,
            "expected N x 2 x R",
        ),
        (
            "no_permute: true nbottom: 1",
            [(1, 2, 2, 5), (1, 4, 1, 5), (1, 2, 20)],
            ShapeError,
            "expected 1 x 2 x 1 x 5",
        ),
        (
            "no_permute: true nbottom: 1",
            [(1, 2, 1, 4), (1, 4, 1, 4), (1, 2, 20)],
            ShapeError,
            "location predictions",
        ),
    ],
)
def test_refusals(body: str, shapes: list[tuple[int, ...]], error: type[Exception], what: str) -> None:
    assert np.size(PRIORS) == 40
    with pytest.raises(error, match=f"under_test.*{what}"):
        one_layer("DetectionOutput", _OUT % body, *shapes)
