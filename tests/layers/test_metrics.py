"""Accuracy."""

import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError


@pytest.mark.parametrize(("top_k", "expected"), [(1, 0), (2, 1)])
def test_ties_count_against_the_label(top_k: int, expected: int) -> None:
    layer = one_layer("Accuracy", f"accuracy_param {{ top_k: {top_k} }}", (1, 3), (1,))
    assert layer(torch.tensor([[1.0, 1, 0]]), torch.zeros(1))[0].item() == expected


def test_each_class_and_ignored_labels() -> None:
    layer = one_layer("Accuracy", "accuracy_param { ignore_label: 2 }", (5, 4), (5,), tops=("all", "each"))
    scores = torch.eye(4)[[0, 1, 0, 2, 3]]
    total, each = layer(scores, torch.tensor([0.0, 0, 0, 2, 3]))
    assert total.item() == 0.75
    torch.testing.assert_close(each, torch.tensor([2 / 3, 0, 0, 1]))
    assert layer(scores, torch.full((5,), 2.0))[0].item() == 0


def test_spatial_labels() -> None:
    layer = one_layer("Accuracy", "", (1, 2, 2, 2), (1, 1, 2, 2))
    scores = torch.tensor([[[[1.0, 0], [0, 1]], [[0, 1], [1, 0]]]])
    assert layer(scores, torch.tensor([[[[0.0, 1], [1, 1]]]]))[0].item() == 0.75


def test_refusals() -> None:
    with pytest.raises(ShapeError, match="top_k is 6, expected at most 5"):
        one_layer("Accuracy", "accuracy_param { top_k: 6 }", (3, 5), (3,))
    with pytest.raises(ShapeError, match="expected 3 labels"):
        one_layer("Accuracy", "", (3, 5), (4,))
    with pytest.raises(LayerError, match="is 5, expected 0 to 4"):
        one_layer("Accuracy", "", (1, 5), (1,))(torch.zeros(1, 5), torch.tensor([5.0]))
