"""CtcLoss, LabelsequenceAccuracy and ContinuationIndicator, against sums and loops over every path."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError


def _collapsed(path: tuple[int, ...], blank: int) -> list[int]:
    """GetLabelseqs."""
    found, before = [], blank
    for label in path:
        if label not in (before, blank):
            found.append(label)
        before = label
    return found


def _slow_ctc(scores: np.ndarray, labels: np.ndarray, blank: int) -> float:
    """The mean of -log of the sum over all paths that collapse to the labels; 0 where there is none."""
    steps, items, classes = scores.shape
    chances = np.exp(scores) / np.exp(scores).sum(2, keepdims=True)
    losses = []
    for item in range(items):
        wanted = [int(label) for label in labels[item] if label != blank]
        total = sum(
            np.prod([chances[t, item, c] for t, c in enumerate(path)])
            for path in itertools.product(range(classes), repeat=steps)
            if _collapsed(path, blank) == wanted
        )
        losses.append(-np.log(total) if total else 0.0)
    return float(np.mean(losses))


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_ctc_loss(blank: int) -> None:
    random = np.random.default_rng(blank)
    scores = random.normal(0, 2, (5, 4, 3))
    one, other = (label for label in range(3) if label != blank)
    # a repetition; a blank between; only blanks; too long with its repetitions
    labels = np.array([[one, one, blank], [blank, other, one], [blank] * 3, [one, one, one]])
    layer = one_layer(
        "CtcLoss",
        f"ctc_loss_param {{ alphabet_size: 3 time_step: 4 blank_label: {blank} }}",
        (5, 4, 3),
        (4, 3),
        phase="TRAIN",
    )
    leaf = torch.from_numpy(scores).requires_grad_()
    loss = layer(leaf, torch.from_numpy(labels.astype(np.float64)))
    assert float(loss) == pytest.approx(_slow_ctc(scores[:4], labels, blank), rel=1e-9)
    loss.backward()
    assert leaf.grad is not None
    for place in np.ndindex(*scores.shape):
        moved = []
        for sign in (1, -1):
            changed = scores.copy()
            changed[place] += sign * 1e-6
            moved.append(_slow_ctc(changed[:4], labels, blank))
        assert (moved[0] - moved[1]) / 2e-6 == pytest.approx(float(leaf.grad[place]), abs=1e-8)
    assert not leaf.grad[4].any() and not leaf.grad[:, 3].any() and leaf.grad[:4, 2].all()


@pytest.mark.parametrize("blank", [0, 2])
def test_sequence_accuracy(blank: int) -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 3, (40, 3, 3)).astype(np.float32)  # ties: the first of the best
    labels = random.integers(0, 3, (40, 2))
    hits = 0
    for row, wanted in zip(scores, labels, strict=True):
        path = tuple(int(np.argmax(step)) for step in row)
        hits += _collapsed(path, blank) == [label for label in wanted if label != blank]
    assert 0 < hits < 40
    body = f"labelsequence_accuracy_param {{ blank_label: {blank} }}"
    layer = one_layer("LabelsequenceAccuracy", body, (40, 3, 3), (40, 2))
    got = layer(torch.from_numpy(scores), torch.from_numpy(labels.astype(np.float32)))
    assert float(got) == pytest.approx(hits / 40)


def test_continuation_indicator() -> None:
    layer = one_layer("ContinuationIndicator", "continuation_indicator_param { time_step: 3 axis: 1 }", (5, 2, 7))
    assert layer(torch.rand(5, 2, 7)).tolist() == [[0, 0], [1, 1], [1, 1]]
    layer = one_layer("ContinuationIndicator", "continuation_indicator_param { time_step: 3 batch_size: 2 }")
    assert [layer().tolist() for _ in range(2)] == [[[0, 0], [1, 1], [1, 1]]] * 2


@pytest.mark.parametrize(
    ("kind", "body", "shapes", "message"),
    [
        ("ContinuationIndicator", "", [(2, 3)], "time_step is 0"),
        ("ContinuationIndicator", "continuation_indicator_param { time_step: 2 }", [], "batch_size 0, expected"),
        ("ContinuationIndicator", "continuation_indicator_param { time_step: 1 axis: 2 }", [(2, 3)], "axis is 2"),
        ("CtcLoss", "ctc_loss_param { alphabet_size: 3 }", [(5, 4, 3), (4, 3)], "time_step 0"),
        ("CtcLoss", "ctc_loss_param { alphabet_size: 3 time_step: 6 }", [(5, 4, 3), (4, 3)], "T x N x 3, T from 6"),
        ("CtcLoss", "ctc_loss_param { alphabet_size: 4 time_step: 5 }", [(5, 4, 3), (4, 3)], "T x N x 4"),
        (
            "CtcLoss",
            "ctc_loss_param { alphabet_size: 3 time_step: 5 blank_label: 3 }",
            [(5, 4, 3), (4, 3)],
            "blank_label is 3, expected 0 to 2",
        ),
        ("LabelsequenceAccuracy", "", [(2, 4, 3), (3, 3)], "expected N x T x C and N x L"),
    ],
)
def test_refusals(kind: str, body: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises((LayerError, ShapeError), match=message):
        one_layer(kind, body, *shapes)


def test_labels_that_are_none() -> None:
    layer = one_layer("CtcLoss", "ctc_loss_param { alphabet_size: 3 time_step: 5 }", (5, 1, 3), (1, 2))
    with pytest.raises(LayerError, match="all labels in bottom 'x1' are blank"):
        layer(torch.rand(5, 1, 3), torch.zeros(1, 2))
    with pytest.raises(LayerError, match="a label in bottom 'x1' is 3, expected 0 to 2"):
        layer(torch.rand(5, 1, 3), torch.tensor([[1.0, 3.0]]))
