"""PSROIPooling against loops written down from psroi_pooling_layer.cpp, in float32 as there."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.onnx import export_onnx

f32 = np.float32


def _round(value: float) -> float:
    return math.copysign(math.floor(abs(float(value)) + 0.5), value)


def _slow(
    feature: np.ndarray, rois: np.ndarray, seed: np.ndarray, scale: float, group: int
) -> tuple[np.ndarray, np.ndarray]:
    """Top and diff of the features, number by number; edges in float32, sums in float64."""
    _, _, height, width = feature.shape
    top, diff = np.zeros(seed.shape), np.zeros(feature.shape)
    for n, d, ph, pw in np.ndindex(top.shape):
        x1, y1 = (f32(_round(rois[n, k])) * f32(scale) for k in (1, 2))
        x2, y2 = (f32(_round(rois[n, k]) + 1.0) * f32(scale) for k in (3, 4))
        bin_w, bin_h = (max(f32(high - low), f32(0.1)) / f32(group) for low, high in ((x1, x2), (y1, y2)))
        hs, he = math.floor(f32(ph) * bin_h + y1), math.ceil(f32(ph + 1) * bin_h + y1)
        ws, we = math.floor(f32(pw) * bin_w + x1), math.ceil(f32(pw + 1) * bin_w + x1)
        hs, he = (min(max(v, 0), height) for v in (hs, he))
        ws, we = (min(max(v, 0), width) for v in (ws, we))
        if he <= hs or we <= ws:
            continue
        image, channel, area = int(rois[n, 0]), (d * group + ph) * group + pw, (he - hs) * (we - ws)
        for h in range(hs, he):
            for w in range(ws, we):
                top[n, d, ph, pw] += feature[image, channel, h, w] / area
                diff[image, channel, h, w] += seed[n, d, ph, pw] / area
    return top, diff


def _rois(random: np.random.Generator, number: int) -> np.ndarray:
    """Random ones, halves, ones outside, points and inverted ones."""
    corners = random.random((number, 4)) * 130 - 15
    corners[: number // 2, 2:] = corners[: number // 2, :2] + random.random((number // 2, 2)) * 60
    odd = [[0.5, 1.5, 2.5, 31.5], [-0.5, -1.5, 40.49999, 15], [200, 200, 300, 300], [7, 7, 7, 7], [50, 50, 3, 4]]
    values = np.concatenate([corners, odd, np.floor(random.random((5, 4)) * 8) * 16])
    return np.concatenate([random.integers(0, 2, (len(values), 1)), values], 1).astype(f32)


@pytest.mark.parametrize(("scale", "group", "outputs"), [(0.0625, 3, 2), (0.0625, 7, 1), (0.25, 2, 3), (1 / 3, 1, 2)])
def test_number_by_number(scale: float, group: int, outputs: int) -> None:
    random = np.random.default_rng(group)
    feature, rois = random.normal(size=(2, outputs * group**2, 7, 9)).astype(f32), _rois(random, 20)
    body = f"psroi_pooling_param {{ spatial_scale: {scale} output_dim: {outputs} group_size: {group} }}"
    net = one_net("PSROIPooling", body, [feature.shape, rois.shape])
    layer, bottom = net.layer("under_test"), torch.from_numpy(feature).requires_grad_()
    top = layer(bottom, torch.from_numpy(rois))
    seed = random.normal(size=top.shape).astype(f32)
    top.backward(torch.from_numpy(seed))
    expected, diff = _slow(feature, rois, seed, scale, group)
    np.testing.assert_allclose(top.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bottom.grad.numpy(), diff, rtol=1e-5, atol=1e-6)
    model = export_onnx(net, dynamic=())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (exported,) = session.run(None, {"x0": feature, "x1": rois})
    np.testing.assert_allclose(exported, expected, rtol=1e-5, atol=1e-6)


def test_no_regions_and_no_pixels() -> None:
    body = "psroi_pooling_param { spatial_scale: 0.5 output_dim: 1 group_size: 2 }"
    for feature, rois in (((1, 4, 3, 3), (0, 5)), ((1, 4, 0, 3), (2, 5))):
        bottom = torch.zeros(feature, requires_grad=True)
        top = one_layer("PSROIPooling", body, feature, rois)(bottom, torch.zeros(rois))
        top.sum().backward()
        assert top.shape == (rois[0], 1, 2, 2) and not top.any() and bottom.grad.shape == feature


def test_refusals() -> None:
    body = "psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 3 }"
    with pytest.raises(ShapeError, match=r"under_test.*expected output_dim 2 x group_size 3 squared \(18"):
        one_layer("PSROIPooling", body, (1, 17, 5, 5), (3, 5))
    with pytest.raises(ShapeError, match="expected regions R x 5"):
        one_layer("PSROIPooling", body, (1, 18, 5, 5), (3, 4))
    with pytest.raises(LayerError, match="group_size is 0"):
        one_layer("PSROIPooling", body.replace("3", "0"), (1, 18, 5, 5), (3, 5))
    layer = one_layer("PSROIPooling", body, (1, 18, 5, 5), (1, 5))
    with pytest.raises(LayerError, match="under_test.*an image index.*is 1, expected 0 to 0"):
        layer(torch.zeros(1, 18, 5, 5), torch.tensor([[1.0, 0, 0, 3, 3]]))
    with pytest.raises(LayerError, match="under_test.*region 0 in bottom 'x1'.*nan.*expected finite"):
        layer(torch.zeros(1, 18, 5, 5), torch.tensor([[0, 0, torch.nan, 3, 3]]))
