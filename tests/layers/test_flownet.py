"""FlowNet2's layers against loops written down from its .cu files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flow_loops as loops
import numpy as np
import pytest
import torch
from one_layer import one_layer, one_net

from caffe_compat.errors import LayerError, ShapeError, WeightsError
from caffe_compat.layers.flow_losses import FlowNetL1Loss
from caffe_compat.layers.losses import L1Loss

NAMES = {
    "pad": "pad",
    "k": "kernel_size",
    "md": "max_displacement",
    "s1": "stride_1",
    "s2": "stride_2",
    "way": "single_direction",
}


def _body(p: dict[str, int]) -> str:
    fields = " ".join(f"{NAMES[key]}: {value}" for key, value in p.items() if key in NAMES)
    return f"correlation_param {{ {fields} {'correlation_type: SUBTRACT' if p.get('subtract') else ''} }}"


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


MAPS = [
    ("Correlation", {"pad": 2, "k": 1, "md": 2}, (2, 3, 4, 5)),
    ("Correlation", {"pad": 3, "k": 3, "md": 2, "s1": 2, "s2": 2}, (1, 2, 6, 5)),
    ("Correlation", {"pad": 4, "k": 1, "md": 5, "s2": 2, "s1": 3, "subtract": 1}, (1, 2, 7, 6)),
    ("Correlation", {"pad": 1, "k": 3, "md": 1, "subtract": 1}, (2, 2, 3, 4)),
    ("Correlation", {"pad": 0, "k": 1, "md": 0}, (1, 4, 2, 3)),
    ("Correlation1D", {"pad": 3, "k": 1, "md": 3}, (2, 3, 2, 5)),
    ("Correlation1D", {"pad": 5, "k": 3, "md": 4, "s1": 2, "s2": 2, "way": 1}, (1, 2, 5, 6)),
    ("Correlation1D", {"pad": 4, "k": 1, "md": 4, "way": -1}, (2, 2, 3, 5)),
    ("Correlation1D", {"pad": 4, "k": 3, "md": 4, "s2": 2, "way": -1, "subtract": 1}, (1, 2, 4, 5)),
]


@pytest.mark.parametrize(("kind", "p", "shape"), MAPS)
def test_correlation_number_by_number(kind: str, p: dict[str, int], shape: tuple[int, ...]) -> None:
    a, b = _random(*shape), _random(*shape, seed=1)
    b[0, 0] = a[0, 0]  # ties of SUBTRACT
    top = one_layer(kind, _body(p), shape, shape)(torch.from_numpy(a), torch.from_numpy(b))
    expected = loops.correlate(a, b, p, kind == "Correlation1D")
    assert top.shape == expected.shape
    np.testing.assert_allclose(top.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("p", "shape"),
    [
        ({"pad": 2, "k": 1, "md": 2, "subtract": 1}, (2, 2, 3, 4)),
        ({"pad": 3, "k": 3, "md": 2, "s1": 2, "s2": 2, "subtract": 1}, (1, 2, 4, 5)),
    ],
)
def test_gradients_of_subtract_are_the_forks(p: dict[str, int], shape: tuple[int, ...]) -> None:
    a, b = _random(*shape), _random(*shape, seed=1)
    b[0, 0, 0] = a[0, 0, 0]
    one, two = torch.from_numpy(a).requires_grad_(), torch.from_numpy(b).requires_grad_()
    top = one_layer("Correlation", _body(p), shape, shape)(one, two)
    seed = _random(*top.shape, seed=2)
    top.backward(torch.from_numpy(seed))
    for found, expected in zip((one.grad, two.grad), loops.subtract_gradient(a, b, seed, p), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_warp_number_by_number(fill: float) -> None:
    image, flow = _random(2, 3, 5, 6), 2 * _random(2, 2, 5, 6, seed=1)
    flow[0, :, 0, 0] = 0, 0
    flow[0, :, 4, 5] = 0.5, 0.5  # within the last pixel
    flow[0, :, 3, 5] = 1, 0  # at W
    flow[0, :, 2, 0] = -1e-3, 0
    flow[1, :, 1, 1] = np.nan, 0
    flow[1, :, 1, 2] = np.inf, 0
    body = "" if fill == 0 else "flow_warp_param { fill_value: NOT_A_NUMBER }"
    layer = one_layer("FlowWarp", body, image.shape, flow.shape)
    top = layer(torch.from_numpy(image), torch.from_numpy(flow).requires_grad_())
    expected = loops.warp(image, flow, fill)
    assert np.isnan(expected).any() == np.isnan(fill)
    np.testing.assert_allclose(top.detach().numpy(), expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_nothing_but_zeros_goes_back_from_what_lies_outside() -> None:
    flow = torch.tensor([9.0, torch.nan, -9.0, 0.25]).expand(1, 2, 1, 4).clone().requires_grad_()
    image = torch.arange(4.0).view(1, 1, 1, 4).requires_grad_()
    with torch.no_grad():
        flow[:, 1] = 0
        flow[:, 0] = torch.tensor([9.0, torch.nan, -9.0, 0.25])
    one_layer("FlowWarp", "", image.shape, flow.shape)(image, flow).sum().backward()
    assert flow.grad.tolist() == [[[[0, 0, 0, 0]], [[0, 0, 0, 0]]]]
    assert image.grad.tolist() == [[[[0, 0, 0, 1]]]]


RESAMPLED = [
    (7, 9, "LINEAR", True),
    (2, 3, "LINEAR", True),
    (2, 3, "LINEAR", False),
    (3, 9, "LINEAR", True),
    (5, 6, "LINEAR", True),
    (8, 11, "CUBIC", True),
    (2, 2, "CUBIC", True),
    (3, 2, "CUBIC", False),
    (4, 5, "NEAREST", True),
    (10, 12, "NEAREST", True),
    (1, 1, "LINEAR", True),
]


@pytest.mark.parametrize(("high", "wide", "kind", "antialias"), RESAMPLED)
def test_resample_number_by_number(high: int, wide: int, kind: str, antialias: bool) -> None:
    image = _random(2, 2, 5, 6)
    body = f"width: {wide} height: {high} type: {kind} antialias: {str(antialias).lower()}"
    layer = one_layer("Resample", f"resample_param {{ {body} }}", image.shape)
    expected = loops.resample(image, (high, wide), kind, antialias)
    np.testing.assert_allclose(layer(torch.from_numpy(image)).numpy(), expected, rtol=1e-5, atol=2e-6)


def test_what_is_not_finite_stays_within_its_window() -> None:
    image = _random(1, 1, 6, 20)
    image[0, 0, 2, 3] = np.nan
    top = one_layer("Resample", "resample_param { width: 30 height: 9 }", image.shape)(torch.from_numpy(image))
    expected = loops.resample(image, (9, 30), "LINEAR", True)
    np.testing.assert_array_equal(np.isnan(top.numpy()), np.isnan(expected))
    assert 0 < np.isnan(expected).sum() < expected.size / 2


@pytest.mark.parametrize("size", [(3, 4), (2, 2), (6, 5), (7, 8)])
def test_downsample_leaves_nan_out(size: tuple[int, int]) -> None:
    flow = _random(2, 2, 7, 8)
    flow[0, 0, :3, :3] = np.nan
    flow[1, :, 5, 6] = np.nan
    layer = one_layer("Downsample", "", flow.shape, (1, 1, *size))
    top = layer(torch.from_numpy(flow), torch.zeros(1, 1, *size)).numpy()
    expected = loops.downsample(flow, size)
    np.testing.assert_allclose(top, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert np.isnan(expected).any() or size == (2, 2)


def test_accum_number_by_number() -> None:
    one, two, like = _random(2, 2, 3, 4), _random(2, 1, 9, 2, seed=1), torch.zeros(1, 5, 6, 7)
    layer = one_layer("Accum", "accum_param { have_reference: true }", one.shape, two.shape, like.shape)
    top = layer(torch.from_numpy(one), torch.from_numpy(two), like).numpy()
    expected = np.concatenate([loops.upscale(one, (6, 7)), loops.upscale(two, (6, 7))], 1)
    np.testing.assert_allclose(top, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("", (5, 4)),
        ("top_height: 6 top_width: 6", (6, 6)),
        ("top_height: 9 top_width: 4", (5, 4)),  # both must be larger
        ("size_divisible_by: 8 top_height: 40 top_width: 40", (8, 8)),
        ("size_divisible_by: 4", (5, 4)),
    ],
)
def test_sizes_of_accum(body: str, made: tuple[int, int]) -> None:
    layer = one_layer("Accum", f"accum_param {{ {body} }}", (1, 1, 5, 2), (1, 2, 3, 4))
    assert layer.top_shapes([(1, 1, 5, 2), (1, 2, 3, 4)]) == [(1, 3, *made)]


def test_channel_norm() -> None:
    x = torch.tensor([3.0, 0.0, 4.0, 0.0]).view(1, 2, 1, 2).requires_grad_()
    top = one_layer("ChannelNorm", "", x.shape)(x)
    assert top.tolist() == [[[[5, 0]]]]
    top.backward(torch.full_like(top, 10))
    assert x.grad.flatten().tolist() == [6, 0, 8, 0]


LOSSES: list[tuple[str, dict[str, float]]] = [
    ("", {}),
    ("normalize_by_num_entries: true", {"entries": 1}),
    ("plateau: 0.5", {"plateau": 0.5}),
    ("l2_per_location: true", {"by_place": 1}),
    (
        "l2_per_location: true normalize_by_num_entries: true epsilon: 0.1",
        {"by_place": 1, "entries": 1, "epsilon": 0.1},
    ),
    ("l2_per_location: true l2_prescale_by_channels: true", {"by_place": 1, "prescale": 1}),
    ("l2_per_location: true plateau: 1", {"by_place": 1, "plateau": 1}),
]


@pytest.mark.parametrize(("body", "p"), LOSSES)
@pytest.mark.parametrize("bottoms", [1, 2])
def test_l1_loss_number_by_number(body: str, p: dict[str, float], bottoms: int) -> None:
    a, b = _random(2, 2, 3, 4), _random(2, 2, 3, 4, seed=1)
    b[0, 0, 1, 1] = a[0, 0, 1, 1]
    b[1, :, 0, 0] = np.nan
    b[1, 0, 2, 2] = np.nan
    values = [a, b] if bottoms == 2 else [a - b]
    layer = one_layer("L1Loss", f"l1_loss_param {{ {body} }}", *[value.shape for value in values])
    assert isinstance(layer, FlowNetL1Loss)
    inputs = [torch.from_numpy(value).requires_grad_() for value in values]
    loss = layer(*inputs)
    loss.backward()
    expected, diff = loops.l1_loss(a - b, p)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    for sign, value in zip((1, -1), inputs, strict=False):
        np.testing.assert_allclose(value.grad.numpy(), sign * diff, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "p"),
    [
        ("", {"p": 2, "q": 0.2, "p_epsilon": 0.1, "q_epsilon": 0.01}),
        ("normalize_by_num_entries: true", {"p": 1, "q": 0.4, "p_epsilon": 0.2, "q_epsilon": 0, "entries": 1}),
        ("l2_prescale_by_channels: true", {"p": 0.7, "q": 2, "p_epsilon": 0.01, "q_epsilon": 1, "prescale": 1}),
    ],
)
def test_lpq_loss_number_by_number(flags: str, p: dict[str, float]) -> None:
    a, b = _random(2, 2, 3, 4), _random(2, 2, 3, 4, seed=1)
    b[0, 0, 1, 1] = a[0, 0, 1, 1]
    b[1, :, 0, 0] = np.nan
    body = " ".join(f"{name}: {p[name]}" for name in ("p", "q", "p_epsilon", "q_epsilon"))
    layer = one_layer("LpqLoss", f"lpq_loss_param {{ {body} {flags} }}", a.shape, b.shape)
    one, two = torch.from_numpy(a).requires_grad_(), torch.from_numpy(b).requires_grad_()
    loss = layer(one, two)
    loss.backward()
    expected, diff = loops.lpq_loss(a - b, p)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(one.grad.numpy(), diff, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(two.grad.numpy(), -diff, rtol=1e-4, atol=1e-6)


def test_l1_loss_without_the_fields_is_nvidias() -> None:
    layer = one_layer("L1Loss", "", (2, 3), (2, 3))
    assert type(layer) is L1Loss


def test_the_mean_moves_with_each_pass_and_then_stays() -> None:
    body = "augmentation_param { recompute_mean: 2 mean_per_pixel: %s }"
    first, second, third = (torch.from_numpy(_random(2, 3, 2, 4, seed=seed)) for seed in range(3))
    for by_pixel in ("false", "true"):
        layer = one_layer("DataAugmentation", body % by_pixel, first.shape)
        axes = (0,) if by_pixel == "true" else (0, 2, 3)
        torch.testing.assert_close(layer(first), first - first.mean(axes, keepdim=True))
        mean = torch.cat([first, second]).mean(axes, keepdim=True)
        torch.testing.assert_close(layer(second), second - mean)
        torch.testing.assert_close(layer(third), third - mean)
        assert layer.blob(0).item() == 3


def test_the_mean_of_trained_weights_is_not_moved() -> None:
    body = "augmentation_param { recompute_mean: 1000 mean_per_pixel: false augment_during_test: true }"
    mean = torch.tensor([0.5, 0.25, 1.0])
    x = torch.ones(1, 3, 2, 2)
    layer = one_layer("DataAugmentation", body, x.shape, blob0=torch.tensor([1e5]), blob2=mean)
    torch.testing.assert_close(layer(x), x - mean.view(1, 3, 1, 1))
    assert layer.blob(2).flatten().tolist() == mean.tolist()


@pytest.mark.parametrize("by_pixel", ["false", "true"])
def test_weights_of_larger_pictures(tmp_path: Path, by_pixel: str) -> None:
    body = f"augmentation_param {{ recompute_mean: 5 mean_per_pixel: {by_pixel} }}"
    large, small = (one_net("DataAugmentation", body, [(1, 3, *size)]) for size in ((4, 6), (2, 3)))
    means = torch.from_numpy(_random(1, 3, 4, 6))
    with torch.no_grad():
        for blob, value in zip(large.layer("under_test").blobs, (9, means, means.mean((2, 3))), strict=True):
            blob.copy_(torch.as_tensor(value).reshape(-1).expand(blob.numel()).view(blob.shape))
    large.save(tmp_path / "w.caffemodel")
    small.copy_from(tmp_path / "w.caffemodel")
    x = torch.ones(1, 3, 2, 3)
    with torch.no_grad():
        top = small(x0=x)["y"]
    torch.testing.assert_close(top, x - means.mean((2, 3), keepdim=True))
    assert small.layer("under_test").blob(0).item() == 10


def test_weights_of_other_channels_are_refused(tmp_path: Path) -> None:
    body = "augmentation_param { recompute_mean: 5 }"
    one_net("DataAugmentation", body, [(1, 3, 4, 6)]).save(tmp_path / "w.caffemodel")
    with pytest.raises(WeightsError, match=r"w.caffemodel: layer 'under_test' .*expected 1, 1 x 2 x height x width"):
        one_net("DataAugmentation", body, [(1, 2, 4, 6)]).copy_from(tmp_path / "w.caffemodel")


def test_mean() -> None:
    body = "mean_param { operation: SUBTRACT value: 1 value: 2 mean_scale: 3 input_scale: 10 output_scale: 0.5 }"
    (top,) = one_layer("Mean", body, (1, 4, 1, 1))(torch.arange(4.0).view(1, 4, 1, 1))
    assert top.flatten().tolist() == [-1.5, 2, 8.5, 12]


def test_a_diagonal_filler_scales_each_channel() -> None:
    filler = 'weight_filler { type: "diagonal" diag_val: 0.5 diag_val: 3 }'
    body = f"convolution_param {{ num_output: 3 kernel_size: 2 {filler} }}"
    weight = one_layer("Convolution", body, (1, 4, 5, 5)).blob(0)
    expected = torch.zeros(3, 4, 2, 2)
    for index, value in enumerate((0.5, 3, 1)):
        expected[index, index] = value / 4
    torch.testing.assert_close(weight.detach(), expected)


REFUSED: list[tuple[str, str, list[tuple[int, ...]], Any, str]] = [
    ("Correlation", "correlation_param { max_displacement: 1 }", [(1, 2, 4, 4)] * 2, LayerError, "kernel_size is not"),
    ("Correlation", _body({"k": 2, "md": 1}), [(1, 2, 4, 4)] * 2, LayerError, "kernel_size is 2, expected an odd"),
    ("Correlation", _body({"k": 1, "md": 1, "s2": 0}), [(1, 2, 4, 4)] * 2, LayerError, "stride_2 0"),
    ("Correlation", _body({"k": 1, "md": 3}), [(1, 2, 4, 4)] * 2, ShapeError, "do not fit into the bottom"),
    ("Correlation", _body({"k": 1, "md": 1}), [(1, 2, 4, 4), (1, 3, 4, 4)], ShapeError, "expected equal ones"),
    ("Correlation", _body({"k": 1, "md": 1, "way": 1}), [(1, 2, 4, 4)] * 2, LayerError, "single_direction is for"),
    ("Correlation1D", _body({"k": 1, "md": 1, "way": -1}), [(1, 2, 4, 4)] * 2, LayerError, "pad is 0, expected 1"),
    ("Correlation1D", _body({"k": 1, "md": 1, "way": 2}), [(1, 2, 4, 4)] * 2, LayerError, "expected -1, 0 or 1"),
    ("FlowWarp", "", [(1, 3, 4, 4), (1, 3, 4, 4)], ShapeError, "N x 2 x H x W"),
    ("Resample", "", [(1, 3, 4, 4)], LayerError, "width 0 and height 0"),
    ("Resample", "resample_param { type: AREA width: 2 height: 2 }", [(1, 3, 4, 4)], LayerError, "type is AREA"),
    (
        "Resample",
        "resample_param { type: NEAREST width: 4 height: 1 }",
        [(1, 3, 4, 4)],
        ShapeError,
        "outside of the map",
    ),
    ("Downsample", "downsample_param { top_width: 5 top_height: 2 }", [(1, 3, 4, 4)], ShapeError, "cannot be brought"),
    ("Downsample", "downsample_param { top_width: 1 top_height: 2 }", [(1, 3, 4, 4)], ShapeError, "cannot be brought"),
    ("Accum", "accum_param { have_reference: true }", [(1, 3, 4, 4)], LayerError, "have_reference needs two"),
    ("Accum", "accum_param { size_divisible_by: 0 }", [(1, 3, 4, 4)], LayerError, "size_divisible_by is 0"),
    ("Accum", "", [(1, 3, 4, 1)], ShapeError, "in the fork it is NaN"),
    ("Mean", "mean_param { operation: ADD }", [(1, 3, 4, 4)], LayerError, "neither file nor value"),
    ("Mean", "mean_param { operation: ADD value: 1 value: 2 }", [(1, 3, 4, 4)], ShapeError, "multiple of 2 channels"),
    ("LpqLoss", "lpq_loss_param { p: 1 p: 2 q: 1 q: 1 }", [(1, 3, 4, 4)] * 2, LayerError, "has 2 p, 2 q"),
    ("LpqLoss", "lpq_loss_param { p: 0 q: 1 }", [(1, 3, 4, 4)] * 2, LayerError, "expected positive powers"),
    ("Eltwise", "", [(1, 3)], LayerError, r"takes at least 2 bottom"),
    (
        "DataAugmentation",
        "augmentation_param { crop_width: 2 crop_height: 2 }",
        [(1, 3, 4, 4)],
        LayerError,
        "crop_width",
    ),
]


@pytest.mark.parametrize(("kind", "body", "shapes", "error", "what"), REFUSED)
def test_refusals(kind: str, body: str, shapes: list[tuple[int, ...]], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=f"under_test.*{what}"):
        one_layer(kind, body, *shapes)
