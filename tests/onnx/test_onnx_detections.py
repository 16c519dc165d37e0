"""Detections in low precision: what is compared where the last bit decides which boxes stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from commands.test_own_objects import SSD
from onnx_nets import make_net

from caffe_compat.onnx import export_onnx
from caffe_compat.onnx.detections import are_rows, rows_difference
from caffe_compat.onnx.lower import Lower, lower

SURE, OTHER, WEAK = [0, 1, 0.9, 0.1, 0.1, 0.5, 0.5], [0, 2, 0.6, 0.4, 0.4, 0.8, 0.8], [0, 1, 0.1, 0.6, 0.1, 0.9, 0.4]
NOTHING = [0, -1, -1, -1, -1, -1, -1]


def rows(*given: list[float]) -> np.ndarray:
    return np.array(given, np.float32).reshape(1, 1, -1, 7)


@pytest.mark.parametrize(
    ("mine", "error"),
    [
        ((SURE, OTHER, WEAK), 0),
        ((OTHER, WEAK, SURE), 0),
        ((SURE, OTHER), 0.1 / 3.1),  # what the last bit decides weighs its score
        ((OTHER, WEAK), 0.9 / 2.3),
        (([*SURE[:2], 0.85, *SURE[3:]], OTHER, WEAK), 0.05),
        (([*SURE[:2], 0.9, 0.1, 0.1, 0.5, 0.3], OTHER, WEAK), 0.5 * 1.8 / 3.2),
        (([*SURE[:2], 0.9, 0.1, 0.1, 0.5, 0.29], OTHER, WEAK), 1.8 / 3.2),  # less than half in common: no partner
        (([0, 2, *SURE[2:]], OTHER, WEAK), 1.8 / 3.2),  # another label
        (([1, 1, *SURE[2:]], OTHER, WEAK), 1.8 / 3.2),  # another image
        ((SURE, SURE, OTHER, WEAK), 0.9 / 4.1),  # a row has one partner
        ((NOTHING,), 1),
    ],
)
def test_errors_by_hand(mine: tuple[list[float], ...], error: float) -> None:
    for got, expected in ((rows(*mine), rows(SURE, OTHER, WEAK)), (rows(SURE, OTHER, WEAK), rows(*mine))):
        assert are_rows(got) and are_rows(expected)
        assert rows_difference(got, expected).relative == pytest.approx(error, abs=1e-6)


def test_nothing_is_nothing() -> None:
    assert rows_difference(rows(NOTHING), rows(NOTHING)).within(0)
    flat = [0, 1, 0.5, 0.2, 0.2, 0.2, 0.6]  # without any area
    assert rows_difference(rows(flat), rows(flat)).within(0)
    assert not rows_difference(rows([0, 1, np.nan, 0, 0, 1, 1]), rows(SURE)).within(9)


def test_other_arrays_are_no_rows() -> None:
    assert not are_rows(np.random.default_rng(0).random((1, 1, 5, 7)).astype(np.float32))
    assert not are_rows(np.zeros((1, 7), np.float32)) and not are_rows(np.zeros((2, 1, 5, 7), np.float32))


def test_a_detector_in_float16() -> None:
    net = make_net(SSD).eval()
    with torch.no_grad():
        net.layer("c").blobs[0].mul_(0.2)
    model = export_onnx(net)
    made, report = lower(net, model, Lower("float16"))
    assert not report.refusal and 0 < report.differences["found"].relative < 0.02
    assert any(tensor.data_type == 10 for tensor in made.graph.initializer)
