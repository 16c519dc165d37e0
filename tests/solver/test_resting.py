"""Parameters with a rate of 0 are passed over, and nothing else comes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe_compat.proto import caffe_pb2
from caffe_compat.solver import solver_class
from caffe_compat.solver.resting import Resting

NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 }
    data_filler { type: "constant" value: 0.5 } data_filler { type: "constant" value: 1 } } }
layer { name: "low" type: "InnerProduct" bottom: "data" top: "low" param { lr_mult: 0 } param { lr_mult: 0 }
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "high" type: "InnerProduct" bottom: "low" top: "high" param { lr_mult: 1 } param { lr_mult: 2 }
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "high" bottom: "label" top: "loss" }
"""


def solver_of(kind: str, folder, **more):
    (folder / "net.prototxt").write_text(NET)
    param = caffe_pb2.SolverParameter(
        type=kind, train_net=str(folder / "net.prototxt"), base_lr=0.05, lr_policy="fixed", weight_decay=0.1,
        random_seed=3, snapshot_prefix=str(folder / "s"), **more,
    )  # fmt: skip
    return solver_class(param)(param)


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "Adam", "AdaGrad"])
def test_all_comes_out_as_if_they_were_not(kind, tmp_path, monkeypatch):
    momentum = {} if kind == "AdaGrad" else {"momentum": 0.9}
    first = solver_of(kind, tmp_path, iter_size=2, clip_gradients=0.5, **momentum)
    first.step(4)
    monkeypatch.setattr(Resting, "moving", lambda self, every, history: (list(range(len(every))), every))
    second = solver_of(kind, tmp_path, iter_size=2, clip_gradients=0.5, **momentum)
    second.step(4)
    for mine, theirs in zip(first.net.parameters(), second.net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)  # the norm of all is rounded otherwise
    for mine, theirs in zip(first.history, second.history, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    low = first.learnables[0].parameter
    assert (low.grad is None) == (kind in ("SGD", "Nesterov"))  # whose rate is in the velocity


def test_a_velocity_that_was_restored_moves_on(tmp_path):
    solver = solver_of("SGD", tmp_path, momentum=0.5)
    solver.step(1)
    assert [index for index, one in enumerate(solver.learnables) if one.parameter.grad is not None] == [2, 3]
    before = solver.learnables[0].parameter.detach().clone()
    solver.history[0].fill_(1.0)
    solver.snapshot()
    again = solver_of("SGD", tmp_path, momentum=0.5)
    again.step(1)
    again.restore(str(tmp_path / "s_iter_1.solverstate"))
    again.step(2)
    moved = before - again.learnables[0].parameter.detach()
    np.testing.assert_allclose(moved.numpy(), 0.75, rtol=1e-6)  # 1 / 2 and 1 / 4
    assert torch.equal(again.learnables[1].parameter, solver.learnables[1].parameter)


def test_a_gradient_that_somebody_made_counts(tmp_path):
    solver = solver_of("SGD", tmp_path, momentum=0.5)
    solver.learnables[0].parameter.grad = torch.ones_like(solver.learnables[0].parameter)
    assert solver._resting.moving(solver.learnables, solver.history)[0] == [0, 2, 3]
