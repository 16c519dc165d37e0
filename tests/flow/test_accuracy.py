"""The error of flow against the true one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caffe_compat.errors import DataError
from caffe_compat.flow import flow_error, mean_error


def test_errors_by_hand() -> None:
    true = np.zeros((2, 2, 2), np.float32)
    true[1, 1] = np.nan
    flow = np.array([[[3, 4], [0, 0]], [[1, 0], [99, 99]]], np.float32)
    found = flow_error(flow, true)
    assert found.pixels == 3 and found.end_point == pytest.approx(2) and found.over_3 == pytest.approx(1 / 3)
    angles = [math.degrees(math.acos(1 / math.sqrt(26))), 0, 45]
    assert found.angle == pytest.approx(sum(angles) / 3)
    assert "end-point error 2.000 px" in str(found) and "3 pixels" in str(found)
    exact = flow_error(flow, flow)
    assert (exact.end_point, exact.over_3, exact.pixels) == (0, 0, 4) and exact.angle < 1e-5
    both = mean_error([found, exact])
    assert both.pixels == 7 and both.end_point == pytest.approx(6 / 7)


def test_what_cannot_be_compared() -> None:
    good = np.zeros((2, 3, 2))
    for flow, true, told in (
        (good, np.zeros((3, 2, 2)), r"flow \[2, 3, 2\], the true one \[3, 2, 2\]"),
        (np.zeros((2, 3)), np.zeros((2, 3)), "expected"),
        (np.full((2, 3, 2), np.nan), good, "NaN or infinite at 6"),
        (good, np.full((2, 3, 2), np.nan), "nowhere known"),
        (good, np.full((2, 3, 2), np.inf), "infinite in places"),
    ):
        with pytest.raises(DataError, match=told):
            flow_error(flow, true)
    with pytest.raises(DataError, match="no frame"):
        mean_error([])
