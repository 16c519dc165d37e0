"""Where a layer declares which pixels it reads, no other pixel has an influence, and the outermost ones have one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from one_layer import one_net
from test_registry import CASES, Case, _bottoms, _layer, _net, _tuple
from torch import Tensor

from caffe_compat.layers import Layer
from caffe_compat.layers.reach import Spans
from caffe_compat.net.plan import layer_shapes


def _mapped(case: Case) -> bool:
    return any(len(shape) == 4 for shape in case[2]) and case[3].get("forward") is not False


MAPS = [case for case in CASES if _mapped(case.values[0])]


def _run(layer: Layer, bottoms: list[Tensor], top: int) -> Tensor:
    with torch.no_grad():
        return _tuple(layer(*[bottom.clone() for bottom in bottoms]))[top].clone()


def _changed(layer: Layer, bottoms: list[Tensor], which: int, outside: Spans, top: int) -> tuple[Tensor, Tensor]:
    """The top, and the top for other values of a bottom everywhere outside of ``outside``."""
    other = [bottom.clone() for bottom in bottoms]
    (y1, y2), (x1, x2) = outside
    keep = torch.zeros(bottoms[which].shape[2:], dtype=torch.bool)
    keep[max(y1, 0) : max(y2 + 1, 0), max(x1, 0) : max(x2 + 1, 0)] = True
    other[which] = torch.where(keep, bottoms[which], bottoms[which].flip(0, 1, 2, 3) * 1.5 + 0.25)
    return _run(layer, bottoms, top), _run(layer, other, top)


@pytest.mark.parametrize("case", MAPS)
def test_other_pixels_have_no_influence(case: Case) -> None:
    layer, bottoms = _layer(_net(case).double()), _bottoms(case, torch.float64)
    for parameter in layer.blobs:
        parameter.data = torch.linspace(0.5, 1.5, parameter.numel(), dtype=torch.float64).view(parameter.shape)
    shapes = [tuple(bottom.shape) for bottom in bottoms]
    checked = 0
    for top, shape in enumerate(layer_shapes(layer, shapes)):
        for which, bottom in enumerate(shapes):
            if len(shape) != 4 or len(bottom) != 4 or 0 in shape:
                continue
            for y, x in {(0, 0), (shape[2] // 2, shape[3] // 2), (shape[2] - 1, shape[3] - 1)}:
                spans = layer.reach(which, top, ((y, y), (x, x)), shapes)
                if spans is None or case[3].get("values", {}).get(which) is not None:
                    continue
                before, after = _changed(layer, bottoms, which, spans, top)
                torch.testing.assert_close(before[:, :, y, x], after[:, :, y, x], rtol=1e-9, atol=1e-9, equal_nan=True)
                checked += 1
    if not checked:
        pytest.skip("declares nothing: a unit may depend on all pixels")


DECLARED = {
    "Convolution": "convolution_param { num_output: 2 kernel_h: 3 kernel_w: 2 stride: 2 pad: 1 dilation: 2 }",
    "Deconvolution": "convolution_param { num_output: 2 kernel_h: 4 kernel_w: 5 stride_h: 2 stride_w: 3 pad: 1 }",
    "Im2col": "convolution_param { kernel_size: 3 stride: 2 pad: 2 }",
    "Pooling": "pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride: 2 pad: 1 }",
    "LRN": "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }",
    "SimpleUpsample": "upsample_param { height: 17 width: 5 }",
    "Upsample": "upsample_param { height: 7 width: 23 }",
    "ReLU": "",
    "Scale": "scale_param { filler { value: 2 } }",
    "Concat": "",
    "Slice": "",
    "BatchNorm": "",
    "Softmax": "",
    "Normalize": "norm_param { across_spatial: false }",
}


@pytest.mark.parametrize("kind", DECLARED)
def test_all_declared_pixels_count(kind: str) -> None:
    """Every row and column of the span, cut to the map, has an influence (of the sum of a pixel's channels)."""
    layer: Any = one_net(kind, DECLARED[kind], [(1, 2, 9, 11)]).double().layer("under_test")
    for parameter in layer.blobs:
        parameter.data = torch.linspace(0.5, 1.5, parameter.numel(), dtype=torch.float64).view(parameter.shape)
    bottom = torch.linspace(0.1, 3.0, 198, dtype=torch.float64).view(1, 2, 9, 11).sin().abs()
    bottom.requires_grad_()
    top = _tuple(layer(bottom))[0]
    for y in range(top.shape[2]):
        for x in range(top.shape[3]):
            ((y1, y2), (x1, x2)) = layer.reach(0, 0, ((y, y), (x, x)), [(1, 2, 9, 11)])
            (slope,) = torch.autograd.grad((top[0, :, y, x] ** 2 + top[0, :, y, x]).sum(), bottom, retain_graph=True)
            seen = slope[0].abs().sum(0) > 1e-12
            if kind in ("Convolution", "Deconvolution", "SimpleUpsample", "Upsample"):  # with holes
                rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
                limits = [(y1, y2, rows, 9), (x1, x2, columns, 11)]
                for first, last, found, size in limits:
                    inside = range(max(first, 0), min(last, size - 1) + 1)
                    assert set(found.tolist()) <= set(inside)
                    if kind == "Deconvolution":
                        assert set(found.tolist()) == set(inside)
            else:
                expected = torch.zeros(9, 11, dtype=torch.bool)
                expected[max(y1, 0) : max(y2 + 1, 0), max(x1, 0) : max(x2 + 1, 0)] = True
                assert torch.equal(seen, expected), (y, x)
