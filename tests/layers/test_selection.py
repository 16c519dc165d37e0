"""Selecting layers against figures measured on Caffe and slow references."""

import pytest
import torch
from one_layer import numbers, one_layer, seq

from caffe_compat.errors import LayerError, ShapeError


def test_argmax_measured_on_caffe():
    top = one_layer("ArgMax", "argmax_param { out_max_val: true top_k: 3 }", (1, 6))(seq(1, 6))
    assert tuple(top.shape) == (1, 2, 3)
    torch.testing.assert_close(top.flatten(), numbers("5 2 4 0.8 0.6 0"))


def test_argmax_of_equal_numbers_is_the_last():
    bottom = torch.zeros(1, 60)
    assert one_layer("ArgMax", "", (1, 60))(bottom).item() == 59
    assert one_layer("ArgMax", "argmax_param { axis: 1 top_k: 3 }", (1, 60))(bottom).tolist() == [[59, 58, 57]]


@pytest.mark.parametrize(("body", "top_k", "values"), [("top_k: 4", 4, False), ("top_k: 3 out_max_val: true", 3, True)])
def test_argmax_along_an_axis(body, top_k, values):
    bottom = seq(2, 13, 3)  # 11 different numbers: ties occur
    top = one_layer("ArgMax", f"argmax_param {{ axis: 1 {body} }}", (2, 13, 3))(bottom)
    for n in range(2):
        for x in range(3):
            order = sorted(((float(v), i) for i, v in enumerate(bottom[n, :, x])), reverse=True)[:top_k]
            assert top[n, :, x].tolist() == [value if values else index for value, index in order]


def test_reduction_measured_on_caffe():
    bottom = seq(2, 3).requires_grad_()
    top = one_layer("Reduction", "reduction_param { operation: ASUM axis: 1 coeff: 2 }", (2, 3))(bottom)
    top.backward(seq(2))
    torch.testing.assert_close(top.detach(), numbers("3.6 3.2"))
    torch.testing.assert_close(bottom.grad.flatten(), numbers("2 2 -2 0.4 0 -0.4"))


def test_reduction_to_a_scalar():
    layer = one_layer("Reduction", "reduction_param { operation: MEAN coeff: 3 }", (2, 3))
    assert layer.top_shapes([(2, 3)]) == [()]
    torch.testing.assert_close(layer(seq(2, 3)), 3 * seq(2, 3).mean())


def test_crop():
    bottom, size = seq(2, 4, 6, 7).requires_grad_(), torch.zeros(9, 9, 3, 2)
    top = one_layer("Crop", "crop_param { offset: 1 offset: 4 }", (2, 4, 6, 7), (9, 9, 3, 2))(bottom, size)
    assert torch.equal(top, bottom[:, :, 1:4, 4:6])
    top.sum().backward()
    assert bottom.grad.sum() == 2 * 4 * 3 * 2


def test_filter_keeps_rows_where_the_selector_is_not_zero():
    layer = one_layer("Filter", "", (4, 2), (4,), (4, 1), tops=["a", "b"])
    bottom = seq(4, 2).requires_grad_()
    rows, flat = layer(bottom, torch.arange(4.0), torch.tensor([[0.0], [2.0], [0.0], [-1.0]]))
    assert torch.equal(rows, bottom[[1, 3]])
    assert flat.tolist() == [1, 3]
    rows.sum().backward()
    assert bottom.grad.tolist() == [[0, 0], [1, 1], [0, 0], [1, 1]]
    assert layer(bottom, torch.arange(4.0), torch.zeros(4, 1))[0].shape == (0, 2)


def test_taken_twice_adds_up_in_batchreindex_and_is_copied_in_pickitems():
    index, seed = torch.tensor([2.0, 0.0, 2.0]), torch.tensor([[1.0], [2.0], [5.0]])
    for kind, expected in (("BatchReindex", [[2.0], [0.0], [6.0]]), ("PickItems", [[2.0], [0.0], [5.0]])):
        bottom = seq(3, 1).requires_grad_()
        top = one_layer(kind, "", (3, 1), (3,))(bottom, index)
        assert torch.equal(top, bottom[[2, 0, 2]])
        top.backward(seed)
        assert bottom.grad.tolist() == expected


def test_pickslice():
    bottom, index = seq(3, 6, 2, 2).requires_grad_(), torch.tensor([2.0, 0.0, 1.9])
    top = one_layer("PickSlice", "pick_slice_param { channels: 2 }", (3, 6, 2, 2), (3,))(bottom, index)
    expected = torch.stack([bottom[i, 2 * k : 2 * k + 2] for i, k in enumerate((2, 0, 1))])
    assert torch.equal(top, expected)
    top.sum().backward()
    assert bottom.grad.sum() == top.numel()


@pytest.mark.parametrize(("kind", "body"), [("BatchReindex", ""), ("PickItems", ""), ("PickSlice", "channels: 2")])
@pytest.mark.parametrize("value", [-1.0, 3.0])
def test_indices_out_of_range(kind, body, value):
    layer = one_layer(kind, f"pick_slice_param {{ {body} }}" if body else "", (3, 6), (3,))
    with pytest.raises(ShapeError, match="expected 0 to 2"):
        layer(seq(3, 6), torch.tensor([0.0, value, 1.0]))


@pytest.mark.parametrize(
    ("kind", "body", "shapes", "tops", "message"),
    [
        ("ArgMax", "argmax_param { top_k: 0 }", [(2, 3)], ["y"], "expected at least 1"),
        ("ArgMax", "argmax_param { top_k: 4 axis: 1 }", [(2, 3)], ["y"], "expected at most 3"),
        ("Crop", "crop_param { offset: 2 }", [(1, 1, 4, 4), (1, 1, 3, 3)], ["y"], "out of bounds"),
        ("Crop", "crop_param { axis: 1 offset: 0 offset: 1 }", [(1, 1, 4, 4)] * 2, ["y"], "expected none, 1 or 3"),
        ("Crop", "", [(1, 1, 4, 4), (4, 4)], ["y"], "at least 4 axes"),
        ("Filter", "", [(3, 2), (3, 2)], ["y"], "the selector has shape"),
        ("Filter", "", [(3, 2), (3,)], ["y", "z"], "has 2 tops, expected one per bottom but the last"),
        ("Filter", "", [(4, 2), (3,)], ["y"], "expected 3 rows"),
        ("BatchReindex", "", [(4, 2), (3, 1)], ["y"], "expected one axis of indices"),
        ("PickSlice", "pick_slice_param { channels: 1 }", [(4,), (4,)], ["y"], "2 to 4 axes"),
        ("PickSlice", "pick_slice_param { channels: 1 }", [(4, 2), (3,)], ["y"], "one index per item"),
    ],
)
def test_refusals(kind, body, shapes, tops, message):
    with pytest.raises(LayerError, match=message):
        one_layer(kind, body, *shapes, tops=tops)
