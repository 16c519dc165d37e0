"""Regions pooled without MaxRoiPool: the same bits as the layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto
from onnx_nets import conv, layer, make_net, operators, source

from caffe_compat.errors import ExportError
from caffe_compat.layers.roi_onnx import LONGEST
from caffe_compat.net import Net
from caffe_compat.onnx import Session, export_onnx, export_verified, to_half
from caffe_compat.onnx.roles import element_types

CASES = [  # map, bins, scale, opset
    ((1, 2, 43, 57), (6, 6), 1 / 16, 17),
    ((2, 3, 43, 57), (7, 7), 1 / 16, 21),
    ((1, 3, 1, 1), (6, 6), 1 / 16, 17),
    ((1, 2, 126, 126), (7, 7), 1 / 8, 18),
    ((2, 2, 1, 126), (3, 5), 1 / 3, 17),
    ((3, 2, 30, 2), (1, 1), 1 / 16, 17),
    ((1, 2, 13, 17), (1, 9), 0.0607, 17),
    ((1, 1, 5, 126), (1, 1), 1.0, 17),
]


def roi_net(shape: tuple[int, ...], bins: tuple[int, int], scale: float, rois: str = "rois") -> Net:
    body = f"roi_pooling_param {{ pooled_h: {bins[0]} pooled_w: {bins[1]} spatial_scale: {scale} }}"
    text = source("data", *shape) + source("rois", 3, 5)
    return make_net(text + layer("ROIPooling", "roi", f"data {rois}", "y", body))


def regions(number: int, shape: tuple[int, ...], scale: float, random: np.random.Generator) -> np.ndarray:
    """In and outside of the image, with corners on halves of cells, inverted, and far larger than the map."""
    height, width = shape[2:]
    image = np.array([width, height, width, height]) / scale
    part = number // 5
    corners = random.uniform(-0.5, 1.5, (number, 4)) * image
    corners[:part] = random.uniform(0, 1, (part, 4)) * image
    halves = np.round(random.uniform(-2, max(height, width) + 2, (part, 4))) + 0.5
    corners[part : 2 * part] = halves / scale
    corners[2 * part : 3 * part] = np.round(corners[2 * part : 3 * part] * 2) / 2
    corners[-part:] *= random.choice([1, 20, 400], (part, 1))
    right = random.random(number) < 0.7
    pairs = np.sort(corners.reshape(number, 2, 2), axis=1).reshape(number, 4)
    corners[right] = pairs[right]
    return np.concatenate([random.integers(0, shape[0], (number, 1)), corners], axis=1).astype(np.float32)


def run(net: Net, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(net(**{name: torch.from_numpy(value) for name, value in inputs.items()})["y"])


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("shape", "bins", "scale", "opset"), CASES)
def test_same_bits(shape: tuple[int, ...], bins: tuple[int, int], scale: float, opset: int, dynamic: bool) -> None:
    net = roi_net(shape, bins, scale)
    model = export_onnx(net, roi="gpu", dynamic=dynamic or ("batch",), opset=opset)
    assert "MaxRoiPool" not in operators(model) and len(model.graph.node) <= 95
    random = np.random.default_rng(0)
    inputs = {"data": random.standard_normal(shape).astype(np.float32), "rois": regions(10_000, shape, scale, random)}
    expected = run(net, inputs)
    session = Session(model)
    np.testing.assert_array_equal(session(inputs)["y"], expected)
    np.testing.assert_array_equal(Session(export_onnx(net))(inputs)["y"], expected)
    assert session({**inputs, "rois": inputs["rois"][:0]})["y"].shape == (0, *expected.shape[1:])
    assert len(np.unique(expected)) > 2 or shape[2:] == (1, 1), "nothing was compared"


def test_open_map_takes_any_size() -> None:
    net = roi_net((1, 2, 20, 30), (6, 6), 1 / 16)
    session = Session(export_onnx(net, roi="gpu", dynamic=True))
    random = np.random.default_rng(1)
    for shape in ((1, 2, 1, 1), (2, 2, 37, 63), (1, 2, 126, 5), (3, 2, 2, 90)):
        values = {"data": random.standard_normal(shape).astype(np.float32), "rois": regions(500, shape, 1 / 16, random)}
        np.testing.assert_array_equal(session(values)["y"], run(net, values))


def test_a_bin_that_is_too_long_is_infinite() -> None:
    """Rather than wrong, where the map is open; with a fixed size there is no such limit, nor for empty bins."""
    net = roi_net((1, 1, 8, 400), (1, 1), 1.0)
    inputs = {"data": np.random.default_rng(2).standard_normal((1, 1, 8, 400)).astype(np.float32)}
    ends = [LONGEST - 1, LONGEST, 399, 399]
    rois = np.array([[0, 0, 0, end, 7] for end in ends], np.float32)
    rois[3, 2:5:2] = 100, 120  # all of the width, but below the map
    expected = run(net, {**inputs, "rois": rois})
    found = Session(export_onnx(net, roi="gpu", dynamic=True))({**inputs, "rois": rois})["y"]
    assert found.ravel()[0] == expected.ravel()[0] and found.ravel()[3] == expected.ravel()[3] == 0
    assert np.isposinf(found.ravel()[1:3]).all()
    fixed = Session(export_onnx(net, roi="gpu", dynamic=()))
    for start in (0, 1):
        part = {**inputs, "rois": rois[start : start + 3]}
        np.testing.assert_array_equal(fixed(part)["y"], expected[start : start + 3])


@pytest.mark.parametrize("value", [0.49999997, 0.5, 1.5, 2.5, -0.5, -0.49999997, -2.5, 8388609.0, 4194304.5])
def test_halves_are_rounded_away_from_zero(value: float) -> None:
    """0.49999997 + 0.5 is 1 in float32, so adding a half is no rounding."""
    net = roi_net((1, 1, 6, 6), (1, 1), 1.0)
    data = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6) + 1
    corner = np.float32(value)
    rois = np.array([[0, corner, 0, corner, 0], [0, 0, corner, 0, corner], [0, 0, 0, corner, corner]], np.float32)
    found = Session(export_onnx(net, roi="gpu"))({"data": data, "rois": rois})["y"]
    np.testing.assert_array_equal(found, run(net, {"data": data, "rois": rois}))


def test_regions_with_more_axes(tmp_path: Path) -> None:
    text = source("data", 1, 2, 9, 9) + source("rois", 4, 5, 1, 1)
    net = make_net(text + layer("ROIPooling", "roi", "data rois", "y", "roi_pooling_param { pooled_h: 2 pooled_w: 3 }"))
    report = export_verified(net, tmp_path / "net.onnx", roi="gpu", dynamic=True, tolerance=0.0)
    assert report.passed, report.lines()


def test_unknown_way() -> None:
    with pytest.raises(ExportError, match="roi is 'tpu', expected cpu or gpu"):
        export_onnx(roi_net((1, 1, 4, 4), (1, 1), 1.0), roi="tpu")


@pytest.mark.parametrize("dynamic", [False, True])
def test_half_precision_pools_halves_at_exact_places(dynamic: bool) -> None:
    """Coordinates stay in float32, whose steps are below a cell at any size, though a division is among them."""
    text = source("image", 1, 3, 40, 60) + source("rois", 3, 5) + conv("data", "image", "data")
    pool = "roi_pooling_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.0625 }"
    net = make_net(text + layer("ROIPooling", "roi", "data rois", "y", pool))
    half = to_half(export_onnx(net, outputs=["data", "y"], roi="gpu", dynamic=dynamic or ("batch",)))
    kinds = element_types(half)
    made = {node.op_type: kinds[node.output[0]] for node in half.graph.node if node.name.startswith("roi/")}
    assert (
        made["GatherND"] == made["MaxPool"] == TensorProto.FLOAT16 and made["Sign"] == made["Div"] == TensorProto.FLOAT
    )
    random = np.random.default_rng(3)
    shape = (1, 3, 40, 60)
    image = random.standard_normal(shape).astype(np.float32)
    rois = regions(2000, shape, 1 / 16, random)
    found = Session(half)({"image": image, "rois": rois})
    data = found["data"].astype(np.float16).astype(np.float32)  # ONNX Runtime on a CPU leaves this rounding out
    expected = run(roi_net((1, 4, 40, 60), (3, 4), 1 / 16), {"data": data, "rois": rois})
    np.testing.assert_array_equal(found["y"], expected)
