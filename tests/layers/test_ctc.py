"""WarpCTCLoss and CTCGreedyDecoder of senlinuc/caffe_ocr, against sums over every path and loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from one_layer import one_layer

from caffe_compat.errors import LayerError, ShapeError


def _collapsed(path: tuple[int, ...], blank: int, merge: bool = True) -> list[int]:
    found, before = [], -1
    for label in path:
        if label != blank and not (merge and label == before):
            found.append(label)
        before = label
    return found


def _slow_ctc(scores: np.ndarray, labels: np.ndarray, blank: int) -> list[float]:
    """For each item -log of the sum over all paths that collapse to the labels; 0 where there is none."""
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
    return losses


@pytest.mark.parametrize("blank", [0, 2])
def test_loss(blank: int) -> None:
    """The loss is the mean, the gradient that of the sum, whatever comes down."""
    scores = np.random.default_rng(blank).normal(0, 2, (4, 4, 3))
    one, other = (label for label in range(3) if label != blank)
    labels = np.array([[one, one, blank], [blank, other, one], [blank] * 3, [one, one, one]])
    layer = one_layer("WarpCTCLoss", f"ctc_loss_param {{ blank_index: {blank} }}", (4, 4, 3), (4, 3), phase="TRAIN")
    leaf, given = torch.from_numpy(scores).requires_grad_(), torch.from_numpy(labels.astype(np.float64))
    loss = layer(leaf, given)
    assert float(loss.detach()) == pytest.approx(np.mean(_slow_ctc(scores, labels, blank)), rel=1e-9)
    assert float(layer(leaf.detach(), given)) == pytest.approx(float(loss.detach()), rel=1e-12)
    (7 * loss).backward()
    assert leaf.grad is not None
    for place in np.ndindex(*scores.shape):
        moved = []
        for sign in (1, -1):
            changed = scores.copy()
            changed[place] += sign * 1e-6
            moved.append(sum(_slow_ctc(changed, labels, blank)))
        assert (moved[0] - moved[1]) / 2e-6 == pytest.approx(float(leaf.grad[place]), abs=1e-7)
    assert not leaf.grad[:, 3].any() and leaf.grad[:, 2].all()


def _distance(a: list[int], b: list[int]) -> int:
    """By its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(_distance(a[1:], b) + 1, _distance(a, b[1:]) + 1, _distance(a[1:], b[1:]) + (0 if a[0] == b[0] else 1))


@pytest.mark.parametrize(("blank", "merge"), [(0, True), (1, False), (-1, True)])
def test_decoder(blank: int, merge: bool) -> None:
    random = np.random.default_rng(1)
    scores = random.integers(0, 3, (4, 60, 3)).astype(np.float32)  # ties: the first of the best
    labels = random.integers(-1, 3, (60, 3)).astype(np.float32)
    scores[:, 0] = np.eye(3)[blank]  # nothing said
    labels[0] = -1  # and nothing wanted
    other = 1 if blank == 0 else 0
    scores[:, 1], labels[1] = np.eye(3)[[other, blank, blank, blank]], [other, -1, 0]
    body = f"ctc_decoder_param {{ blank_index: {blank} ctc_merge_repeated: {str(merge).lower()} }}"
    last = 2 if blank < 0 else blank
    sequences = np.full((60, 4), -1.0)
    wrong = right = 0.0
    for n in range(60):
        path = tuple(int(np.argmax(scores[t, n])) for t in range(4))
        said = _collapsed(path, last, merge)
        sequences[n, : len(said)] = said
        wanted: list[int] = []
        for label in labels[n]:
            if label < 0:
                break
            if label != last:
                wanted.append(int(label))
        if said or wanted:
            wrong += _distance(said, wanted) / max(len(said), len(wanted))
            right += said == wanted
    assert right >= 1
    got = one_layer("CTCGreedyDecoder", body, (4, 60, 3))(torch.from_numpy(scores))
    assert got.shape == (60, 4, 1, 1) and np.array_equal(got.reshape(60, 4).numpy(), sequences)
    judged = one_layer("CTCGreedyDecoder", body, (4, 60, 3), (60, 3))(
        torch.from_numpy(scores), torch.from_numpy(labels)
    )
    assert judged.shape == (1, 2, 1, 1)
    np.testing.assert_allclose(judged.reshape(2).numpy(), [1 - wrong / 60, right / 60], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "body", "shapes", "message"),
    [
        ("WarpCTCLoss", "ctc_loss_param { blank_index: 3 }", [(5, 4, 3), (4, 3)], "blank_index is 3, expected 0 to 2"),
        ("WarpCTCLoss", "ctc_loss_param { blank_index: -1 }", [(5, 4, 3), (4, 3)], "blank_index is -1"),
        ("WarpCTCLoss", "ctc_loss_param { time_step: 3 }", [(5, 4, 3), (4, 3)], "time_step"),
        ("WarpCTCLoss", "", [(5, 4, 3), (5, 4), (5, 4)], "2 bottom"),
        ("WarpCTCLoss", "", [(5, 4, 3, 2), (4, 3)], "expected T x N x C"),
        ("WarpCTCLoss", "", [(5, 4, 3), (3, 3)], "expected 4 x L"),
        ("CTCGreedyDecoder", "", [(5, 4)], "expected T x N x C"),
        ("CTCGreedyDecoder", "", [(5, 4, 3), (4, 1, 1, 3)], "expected 4 x L"),
    ],
)
def test_refusals(kind: str, body: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises((LayerError, ShapeError), match=message):
        one_layer(kind, body, *shapes)


def test_labels_that_are_none() -> None:
    layer = one_layer("WarpCTCLoss", "", (5, 1, 3), (1, 2))
    with pytest.raises(LayerError, match="all labels in bottom 'x1' are blank"):
        layer(torch.rand(5, 1, 3), torch.zeros(1, 2))
    with pytest.raises(LayerError, match="a label in bottom 'x1' is -1, expected 0 to 2"):
        layer(torch.rand(5, 1, 3), torch.tensor([[-1.0, 1.0]]))
