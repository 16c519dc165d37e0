"""PWC-Net's Warp against loops written down from ``warp_layer.cu``, gradients too."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.errors import ShapeError


def _places(image: np.ndarray, flow: np.ndarray):  # type: ignore[no-untyped-def]
    """Index of the top and the place of each pixel that lies in the image."""
    n, c, h, w = image.shape
    for i, j, s, t in itertools.product(range(n), range(c), range(h), range(w)):
        x, y = t + flow[i, 0, s, t], s + flow[i, 1, s, t]
        if 0 <= x <= w - 1 and 0 <= y <= h - 1:
            fx, fy, cx, cy = math.floor(x), math.floor(y), math.ceil(x), math.ceil(y)
            yield (i, j, s, t), (fx, fy, cx, cy), (x - fx, y - fy)


def _forward(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """WarpForwardGPU."""
    top = np.zeros_like(image)
    for at, (fx, fy, cx, cy), (ax, ay) in _places(image, flow):
        pic = image[at[0], at[1]]
        top[at] = (1 - ax) * (1 - ay) * pic[fy, fx] + ax * (1 - ay) * pic[fy, cx]
        top[at] += (1 - ax) * ay * pic[cy, fx] + ax * ay * pic[cy, cx]
    return top


def _backward(image: np.ndarray, flow: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """WarpBackwardGPU_dU and WarpBackwardGPU_dFlow."""
    h, w = image.shape[2:]
    d_image, d_flow = np.zeros_like(image), np.zeros_like(flow)
    for at, (fx, fy, cx, cy), (ax, ay) in _places(image, flow):
        i, j, s, t = at
        pic, dv = image[i, j], seed[at]
        for row, column, weight in (
            (fy, fx, (1 - ax) * (1 - ay)), (fy, cx, ax * (1 - ay)), (cy, fx, (1 - ax) * ay), (cy, cx, ax * ay),
        ):  # fmt: skip
            d_image[i, j, row, column] += weight * dv
        d_flow[i, 0, s, t] += ((1 - ay) * (pic[fy, cx] - pic[fy, fx]) + ay * (pic[cy, cx] - pic[cy, fx])) * dv
        d_flow[i, 1, s, t] += ((1 - ax) * (pic[cy, fx] - pic[fy, fx]) + ax * (pic[cy, cx] - pic[fy, cx])) * dv
        if fx == cx:
            left = [pic[row, fx] - pic[row, fx - 1] if fx > 0 else 0 for row in (fy, cy)]
            right = [pic[row, fx + 1] - pic[row, fx] if fx + 1 < w else 0 for row in (fy, cy)]
            d_flow[i, 0, s, t] += ((1 - ay) * (right[0] + left[0]) / 2 + ay * (right[1] + left[1]) / 2) * dv
        if fy == cy:
            above = [pic[fy, column] - pic[fy - 1, column] if fy > 0 else 0 for column in (fx, cx)]
            below = [pic[fy + 1, column] - pic[fy, column] if fy + 1 < h else 0 for column in (fx, cx)]
            d_flow[i, 1, s, t] += ((1 - ax) * (below[0] + above[0]) / 2 + ax * (below[1] + above[1]) / 2) * dv
    return d_image, d_flow


@pytest.mark.parametrize("whole", [False, True])
def test_number_by_number(whole: bool) -> None:
    """Flows between pixels, and (of quarters and halves) many that point at pixels, edges and beyond."""
    random = np.random.default_rng(0)
    image, seed = random.normal(size=(2, 3, 5, 6)), random.normal(size=(2, 3, 5, 6))
    flow = random.integers(-12, 13, (2, 2, 5, 6)) / 4 if whole else random.normal(size=(2, 2, 5, 6)) * 2
    bottoms = [torch.from_numpy(values).requires_grad_() for values in (image, flow)]
    top = one_layer("Warp", "", image.shape, flow.shape)(*bottoms)
    np.testing.assert_allclose(top.detach().numpy(), _forward(image, flow), atol=1e-12)
    top.backward(torch.from_numpy(seed))
    for bottom, want in zip(bottoms, _backward(image, flow, seed), strict=True):
        assert bottom.grad is not None
        np.testing.assert_allclose(bottom.grad.numpy(), want, atol=1e-12)


def test_behind_the_last_pixel_is_outside() -> None:
    image = torch.tensor([[[[1.0, 2, 4]]]])
    flow = torch.tensor([[[[2.0, 1.25, -2]], [[0.0, 0, 0]]]])
    assert one_layer("Warp", "", (1, 1, 1, 3), (1, 2, 1, 3))(image, flow).flatten().tolist() == [4, 0, 1]
    nowhere = torch.full_like(flow, math.nan)
    assert one_layer("Warp", "", (1, 1, 1, 3), (1, 2, 1, 3))(image, nowhere).flatten().tolist() == [0, 0, 0]


def test_refusals() -> None:
    with pytest.raises(ShapeError, match=r"'under_test'.*N x 2 x H x W"):
        one_net("Warp", "", [(1, 3, 4, 4), (1, 2, 4, 5)])
