"""NaN equals nothing in NumPy's assertions, as these tests use them."""

from __future__ import annotations

import numpy as np
import pytest

NAN = np.array([1, np.nan])


def test_nan_equals_nothing() -> None:
    for check in (np.testing.assert_allclose, np.testing.assert_array_equal):
        check(NAN[:1], NAN[:1])
        check(NAN, NAN, equal_nan=True)
        with pytest.raises(AssertionError):
            check(NAN, NAN)
