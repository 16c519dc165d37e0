"""Shape layers: shapes of Caffe's documentation and measurements, views, refusals."""

import pytest
import torch
from one_layer import numbers, one_layer, seq

from caffe_compat.errors import LayerError

RESHAPES = [
    ("shape { dim: 0 dim: 3 dim: -1 }", (2, 6, 4), (2, 3, 8)),
    ("shape { dim: -1 } axis: 1", (2, 6, 4), (2, 24)),
    ("shape { dim: 1 } axis: -1 num_axes: 0", (2, 6), (2, 6, 1)),
    ("shape { dim: 2 dim: 3 } axis: 1 num_axes: 1", (2, 6, 4), (2, 2, 3, 4)),
    ("shape { dim: 0 } axis: -2 num_axes: 1", (2, 6, 4), (2, 6, 4)),
    ("shape { }", (1, 1), ()),
]


@pytest.mark.parametrize(("body", "shape", "expected"), RESHAPES)
def test_reshape(body, shape, expected):
    layer = one_layer("Reshape", f"reshape_param {{ {body} }}", shape)
    bottom = seq(*shape)
    top = layer(bottom)
    assert tuple(top.shape) == expected
    assert top.data_ptr() == bottom.data_ptr()


@pytest.mark.parametrize(
    ("body", "expected"),
    [("", (2, 60)), ("axis: 0", (120,)), ("axis: 1 end_axis: 2", (2, 12, 5)), ("axis: 2 end_axis: 1", (2, 3, 1, 4, 5))],
)
def test_flatten(body, expected):
    bottom = seq(2, 3, 4, 5)
    top = one_layer("Flatten", f"flatten_param {{ {body} }}", (2, 3, 4, 5))(bottom)
    assert tuple(top.shape) == expected
    assert top.data_ptr() == bottom.data_ptr()


def test_slice_and_concat_are_inverse():
    bottom = seq(2, 6, 3)
    parts = one_layer("Slice", "slice_param { slice_point: 1 slice_point: 4 }", (2, 6, 3), tops=["a", "b", "c"])(bottom)
    assert [part.shape[1] for part in parts] == [1, 3, 2]
    whole = one_layer("Concat", "", *[part.shape for part in parts])(*parts)
    assert torch.equal(whole, bottom)


def test_last_slice_may_be_empty():
    layer = one_layer("Slice", "slice_param { slice_point: 6 }", (2, 6), tops=["a", "b"])
    assert [tuple(part.shape) for part in layer(seq(2, 6))] == [(2, 6), (2, 0)]


def test_aliases_share_memory():
    bottom = seq(2, 3)
    tops = one_layer("Split", "", (2, 3), tops=["a", "b"])(bottom)
    single = one_layer("Concat", "", (2, 3))(bottom)
    assert {top.data_ptr() for top in (*tops, single)} == {bottom.data_ptr()}


def test_tile_measured_on_caffe():
    bottom = seq(1, 2, 2).requires_grad_()
    top = one_layer("Tile", "tile_param { axis: 1 tiles: 2 }", (1, 2, 2))(bottom)
    top.backward(seq(1, 4, 2))
    torch.testing.assert_close(top.detach().flatten(), numbers("-1 -0.2 0.6 -0.8 -1 -0.2 0.6 -0.8"))
    torch.testing.assert_close(bottom.grad.flatten(), numbers("-1 0.6 0 -0.6"), rtol=1e-5, atol=1e-6)


def test_repmat_makes_four_axes():
    top = one_layer("RepMat", "repmat_param { rep_n: 2 rep_h: 3 }", (2, 3))(seq(2, 3))
    assert torch.equal(top, seq(2, 3)[:, :, None, None].repeat(2, 1, 3, 1))


@pytest.mark.parametrize(
    ("kind", "body", "shapes", "tops", "message"),
    [
        ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", [(2, 3)], ["y"], "at most one -1"),
        ("Reshape", "reshape_param { shape { dim: 4 dim: -1 } }", [(2, 3)], ["y"], "not divisible"),
        ("Reshape", "reshape_param { shape { dim: 4 } }", [(2, 3)], ["y"], "output count 4"),
        ("Reshape", "reshape_param { shape { dim: 2 dim: 3 dim: 0 } }", [(2, 3)], ["y"], "copies dim 2"),
        ("Reshape", "reshape_param { shape { dim: 0 dim: 0 } }", [(2, 3)], ["x0"], "in place"),
        ("Flatten", "flatten_param { axis: 4 }", [(2, 3)], ["y"], "axis is 4, expected -2 to 1"),
        ("Concat", "concat_param { axis: 1 concat_dim: 1 }", [(2, 3), (2, 3)], ["y"], "both axis and concat_dim"),
        ("Concat", "", [(2, 3), (1, 3)], ["y"], "except along axis 1"),
        ("Slice", "slice_param { slice_dim: 1 axis: 1 }", [(2, 4)], ["a", "b"], "both axis and slice_dim"),
        ("Slice", "", [(2, 3)], ["a", "b"], "3 entries along axis 1 into 2 equal tops"),
        ("Slice", "slice_param { slice_point: 2 slice_point: 2 }", [(2, 3)], ["a", "b", "c"], "expected growing"),
        ("Slice", "slice_param { slice_point: 1 }", [(2, 3)], ["a", "b", "c"], "has 1 entries, expected 2"),
        ("Slice", "slice_param { slice_point: 4 }", [(2, 3)], ["a", "b"], "expected at most 3"),
        ("Tile", "", [(2, 3)], ["y"], "tiles is 0"),
        ("RepMat", "", [(1, 1, 1, 1, 1)], ["y"], "at most 4 axes"),
        ("Silence", "", [(2,)], ["y"], "at most 0|produces 0 top"),
    ],
)
def test_refusals(kind, body, shapes, tops, message):
    with pytest.raises(LayerError, match=message):
        one_layer(kind, body, *shapes, tops=tops)
