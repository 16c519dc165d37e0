"""Scores of the demo: NaN is none."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from onnx_nets import ip, layer, make_net, source

from caffe_compat.commands.demo_run import SMALL, Demo, accuracy
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


def test_scoring_stands_where_the_lists_are_relative_to(tmp_path, monkeypatch):
    """The commands run in the demo's folder, wherever the user stands; so do the nets that are scored."""
    monkeypatch.setattr(Demo, "_tool", lambda self, *words, log=None: None)
    monkeypatch.setattr(Demo, "score", lambda self: Path.cwd())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Demo(tmp_path, scale=SMALL).run() == tmp_path
    assert Path.cwd() == tmp_path / "elsewhere"


def test_training_is_taken_for_done_only_if_it_was_made_of_the_same(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(Demo, "_tool", lambda self, *words, log=None: calls.append([str(word) for word in words]))
    (tmp_path / "prototxt/demo/teacher").mkdir(parents=True)
    solver = tmp_path / "prototxt/demo/teacher/solver.prototxt"
    solver.write_text("max_iter: 8")
    demo = Demo(tmp_path)
    output = tmp_path / "output/demo"
    demo._train("teacher/solver.prototxt", "teacher", 8)
    assert len(calls) == 1 and "--snapshot" not in calls[0]
    (output / "teacher_iter_4.solverstate").write_text("")
    demo._train("teacher/solver.prototxt", "teacher", 8)
    assert calls[1][-1] == "output/demo/teacher_iter_4.solverstate"
    (output / "teacher_iter_8.caffemodel").write_text("")
    demo._train("teacher/solver.prototxt", "teacher", 8)
    assert len(calls) == 2 and "teacher_iter_8.caffemodel is there already" in capsys.readouterr().out
    solver.write_text("max_iter: 9")
    with pytest.raises(DataError, match=r"the training 'teacher' exists and was made with teacher/solver.prototxt ="):
        demo._train("teacher/solver.prototxt", "teacher", 8)
    (output / "teacher.json").unlink()
    with pytest.raises(DataError, match=r"does not say how it was made; remove output/demo"):
        demo._train("teacher/solver.prototxt", "teacher", 8)
    assert len(calls) == 2
