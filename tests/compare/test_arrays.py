"""The rules of every comparison."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_compat.compare import Comparison, Difference, Row, difference, worst

NAN, INF = np.nan, np.inf


def array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("got", "expected", "absolute", "relative"),
    [
        (array(1, 2), array(1, 4), 2.0, 0.5),
        (array(-8, 2), array(-10, 2), 2.0, 0.2),  # relative to the largest magnitude
        (array(0.5), array(0), 0.5, 0.5),  # nothing to be relative to
        (array(INF, 1), array(INF, 2), 1.0, 0.5),  # an infinity equals itself
        (array(), array(), 0.0, 0.0),
        (np.float32(3), np.float64(2), 1.0, 0.5),
    ],
)
def test_difference(got: np.ndarray, expected: np.ndarray, absolute: float, relative: float) -> None:
    found = difference(np.asarray(got), np.asarray(expected))
    assert (found.absolute, found.relative, found.note) == (absolute, relative, "")
    assert found.within(relative) and not found.within(np.nextafter(relative, -1))
    assert found.shapes == (np.shape(got),)


@pytest.mark.parametrize(
    ("got", "expected", "note"),
    [
        (array(NAN, 1), array(NAN, 1), "1 of 2 values are NaN, in the reference 1"),
        (array(NAN, 1), array(1, 1), "1 of 2 values are NaN, in the reference 0"),
        (array(1, 1), array(NAN, NAN), "0 of 2 values are NaN, in the reference 2"),
        (array(INF, 1), array(-INF, 1), "inf absolute: 1 of 2 values are infinite on one side only"),
        (array(2, 1), array(INF, 1), "inf absolute: 1 of 2 values are infinite on one side only"),
        (array(2, 1), array(2), "shape [2], the reference has [1]"),
    ],
)
def test_what_never_agrees(got: np.ndarray, expected: np.ndarray, note: str) -> None:
    found = difference(got, expected)
    assert str(found) == note and found.absolute == found.relative == INF
    assert not found.within(INF)


def test_worst_of_several() -> None:
    found = worst([Difference(1, 0.1, ((2,),)), Difference(0.5, 0.2, ((3,),)), difference(array(NAN), array(1))])
    assert found.shapes == ((2,), (3,), (1,)) and "NaN" in found.note and not found.within(INF)
    assert worst([Difference(1, 0.1), Difference(0.5, 0.2)]) == Difference(1, 0.2)


def test_report_names_the_first() -> None:
    rows = [Row("a", "ReLU", "x", Difference(1e-6, 1e-6)), Row("b", "Power", "y", Difference(0.5, 0.25))]
    found = Comparison((*rows, Row("c", "Power", "z", Difference(9, 9))), 1e-4)
    assert found.first is rows[1]
    assert found.lines()[-1] == (
        "first divergence: layer 'b' (Power), blob 'y': 0.5 absolute, 0.25 relative (tolerance 0.0001)"
    )
    assert Comparison(tuple(rows), 0.25).lines()[-1] == "2 blobs agree within 0.25"
