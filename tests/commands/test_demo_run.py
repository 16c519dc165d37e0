"""Scores of the demo: NaN is none."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from onnx_nets import ip, layer, make_net, source

from caffe_compat.commands.demo_run import accuracy
from caffe_compat.errors import DataError

TEXT = source("data", 1, 3, 4, 4) + ip("f", "data", "f", 3) + layer("Softmax", "prob", "f", "prob")


def test_accuracy_of_nan_is_an_error(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "list.txt").write_text("a.png 0\na.png 1\na.png 2\n")
    net = make_net(TEXT)
    assert accuracy(net, tmp_path / "list.txt", tmp_path) == pytest.approx(1 / 3)
    with torch.no_grad():
        net.layer("f").blob(1)[0] = math.nan
    with pytest.raises(DataError, match="output 'prob': 9 of 9 values are NaN"):
        accuracy(net, tmp_path / "list.txt", tmp_path)
