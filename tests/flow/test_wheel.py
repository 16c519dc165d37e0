"""Middlebury's colours, against torchvision's translation of its code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.utils import flow_to_image

from caffe_compat.errors import DataError
from caffe_compat.flow import color_wheel


def test_colours_are_those_of_torchvision() -> None:
    flow = np.random.default_rng(0).normal(0, 3, (40, 50, 2)).astype(np.float32)
    theirs = flow_to_image(torch.from_numpy(flow).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    mine = color_wheel(flow)
    assert np.abs(mine.astype(int) - theirs).max() <= 1  # it computes in float32
    assert (mine == theirs).mean() > 0.99


def test_what_colours_mean() -> None:
    flow = np.zeros((1, 6, 2), np.float32)
    flow[0, :, 0] = [0, 4, 2, 8, np.nan, -4]
    picture = color_wheel(flow, 4)[0]
    assert picture[0].tolist() == [255, 255, 255]  # no motion
    assert picture[1, 0] == 255 and picture[1, 1:].max() < 20  # to the right: red
    assert picture[2, 0] == 255 and 100 < picture[2, 1] < 150  # half as far: half as full
    assert picture[3, 0] == 191  # farther than asked for: darker
    assert picture[4].tolist() == [0, 0, 0]  # not known
    assert picture[5, 0] < 20  # to the left: cyan or so
    assert (color_wheel(np.zeros((2, 3, 2))) == 255).all()
    assert color_wheel(np.zeros((0, 3, 2))).shape == (0, 3, 3)


def test_what_is_not_drawn() -> None:
    for flow, longest, told in (
        (np.zeros((2, 2)), None, "expected"),
        (np.full((2, 2, 2), np.inf), None, "infinite at 4"),
        (np.zeros((2, 2, 2)), 0, "positive"),
        (np.zeros((2, 2, 2)), np.nan, "positive"),
    ):
        with pytest.raises(DataError, match=told):
            color_wheel(flow, longest)
