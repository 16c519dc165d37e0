"""Softmax against SciPy."""

import pytest
import torch
from one_layer import one_layer, seq
from scipy.special import softmax

from caffe_compat.errors import ShapeError


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_values(axis: int) -> None:
    layer = one_layer("Softmax", f"softmax_param {{ axis: {axis} }}", (2, 3, 4))
    x = seq(2, 3, 4) * 50
    torch.testing.assert_close(layer(x), torch.tensor(softmax(x.numpy(), axis=axis)))


def test_another_rank_at_run_time() -> None:
    layer = one_layer("Softmax", "softmax_param { axis: 2 }", (2, 3, 4))
    assert layer.top_shapes([(2, 3, 4, 5)]) == [(2, 3, 4, 5)]
    with pytest.raises(ShapeError, match=r"'under_test' \(Softmax\): softmax_param.axis is 2"):
        layer.top_shapes([(2, 3)])
