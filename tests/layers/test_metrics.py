"""Accuracy and SegAccuracy."""

import numpy as np
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
    with pytest.raises(ShapeError, match="expected one label per position, 3 for"):
        one_layer("Accuracy", "", (3, 5), (4,))
    with pytest.raises(LayerError, match="is 5, expected 0 to 4"):
        one_layer("Accuracy", "", (1, 5), (1,))(torch.zeros(1, 5), torch.tensor([5.0]))


def _pixels(scores: np.ndarray, labels: np.ndarray, ignored: tuple[int, ...], matrix: np.ndarray) -> list[float]:
    """seg_accuracy_layer.cpp and confusion_matrix.cpp, pixel by pixel; ``matrix`` is added to."""
    for n, h, w in np.ndindex(scores.shape[0], *scores.shape[2:]):
        label = int(labels[n, 0, h, w])
        if label not in ignored:
            matrix[label, max((scores[n, c, h, w], c) for c in range(scores.shape[1]))[1]] += 1
    total, recall, classes, jaccard = matrix.sum(), 0.0, 0, 0.0
    for c in range(len(matrix)):
        row, column, both = matrix[c].sum(), matrix[:, c].sum(), matrix[c, c]
        if row > 0:
            recall, classes = recall + both / row, classes + 1
        union = row + column - both
        jaccard += 1.0 if both == union else both / union
    return [
        matrix.trace() / total if total else 0.0,
        recall / classes if classes else 0.0,
        jaccard / len(matrix),
    ]


@pytest.mark.parametrize("ignored", [(), (255,), (1, 255), (0, 1, 2, 3, 255)])
@pytest.mark.parametrize("reset", [True, False])
def test_pixels_number_by_number(ignored: tuple[int, ...], reset: bool) -> None:
    random, shape = np.random.default_rng(len(ignored)), (2, 6, 4, 5)
    text = " ".join(f"ignore_label: {label}" for label in ignored) + f" reset: {str(reset).lower()}"
    layer = one_layer("SegAccuracy", f"seg_accuracy_param {{ {text} }}", shape, (2, 1, 4, 5)).double()
    assert layer.running_metric is not reset
    matrix = np.zeros((6, 6))
    for batch in range(4):
        if reset or batch == 2:
            layer.start_over()  # a new test
            matrix[:] = 0
        scores = random.integers(0, 3, shape).astype(float)  # many ties
        labels = random.integers(0, 4, (2, 1, 4, 5)).astype(float)
        labels[random.random(labels.shape) < 0.2] = 255 if 255 in ignored else 2
        top = layer(torch.from_numpy(scores), torch.from_numpy(labels))
        assert top.shape == (1, 1, 1, 3)
        np.testing.assert_allclose(top.flatten().numpy(), _pixels(scores, labels, ignored, matrix), rtol=1e-12)


def test_seg_accuracy_refusals() -> None:
    with pytest.raises(ShapeError, match="expected a label for each pixel"):
        one_layer("SegAccuracy", "", (2, 3, 4, 5), (2, 1, 4, 4))
    with pytest.raises(ShapeError, match="expected a label for each pixel"):
        one_layer("SegAccuracy", "", (2, 3, 4, 5), (2, 2, 4, 5))
    layer = one_layer("SegAccuracy", "seg_accuracy_param { ignore_label: 9 }", (1, 3, 1, 2), (1, 1, 1, 2))
    with pytest.raises(LayerError, match="a label in bottom 'x1' is 255, expected 0 to 2"):
        layer(torch.zeros(1, 3, 1, 2), torch.tensor([[[[9.0, 255.0]]]]))
