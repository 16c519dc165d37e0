"""LARC against the update written down from NVIDIA/caffe's sgd_solver.cpp."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffe_compat.errors import SolverError
from caffe_compat.proto import caffe_pb2, parse_text
from caffe_compat.solver import SGDSolver

NET = """net_param {
  layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 1 dim: 2 }
    shape { dim: 1 dim: 3 } data_filler { value: 2 } data_filler { value: 1 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" param { lr_mult: MULT } param { lr_mult: 0 }
    inner_product_param { num_output: 3 weight_filler { type: "constant" value: 0.5 } bias_filler { value: 0.25 } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
} solver_mode: CPU random_seed: 1 lr_policy: "fixed" base_lr: 0.05 momentum: 0.5 weight_decay: 0.1 """


def _solver(text: str, mult: float = 3) -> SGDSolver:
    return SGDSolver(parse_text(NET.replace("MULT", str(mult)) + text, caffe_pb2.SolverParameter))


def _slow(steps: int, rule: Any, clip: float = 0) -> np.ndarray:
    """The weights after some updates; the loss is |w x + b - t|^2 / 2 with x of 2, b of 0.25 and t of 1."""
    w, h, x = np.full((3, 2), 0.5), np.zeros((3, 2)), np.full(2, 2.0)
    for _ in range(steps):
        y = w @ x + 0.25 - 1
        g = np.outer(y, x)
        if clip:
            g = g * min(1, clip / np.linalg.norm(g))
        local = 0.5 * 0.02 * np.linalg.norm(w) / np.linalg.norm(g)
        h = 0.5 * h + rule(local) * (g + 0.1 * w)
        w = w - h
    return w


@pytest.mark.parametrize(
    ("policy", "rule"), [("scale", lambda local: 0.05 * local), ("clip", lambda local: min(0.05, local))]
)
@pytest.mark.parametrize("more", ["", "clip_gradients: 0.5", "iter_size: 2"])
def test_rates(policy: str, rule: Any, more: str) -> None:
    solver = _solver(f'larc: true larc_policy: "{policy}" larc_eta: 0.02 {more}')
    solver.step(4)
    weight, bias = (learnable.parameter.detach().numpy() for learnable in solver.learnables)
    np.testing.assert_allclose(weight, _slow(4, rule, 0.5 if "clip" in more else 0), rtol=1e-5)
    assert (bias == 0.25).all()  # lr_mult 0


def test_a_clip_that_the_usual_rate_is_below() -> None:
    """The rate is the solver's: ``lr_mult`` says nothing but that the weights learn."""
    solver = _solver('larc: true larc_policy: "clip" larc_eta: 50')
    solver.step(1)
    want = 0.5 - 0.05 * ((0.5 * 4 + 0.25 - 1) * 2 + 0.1 * 0.5)
    np.testing.assert_allclose(solver.learnables[0].parameter.detach().numpy(), np.full((3, 2), want), rtol=1e-5)


def test_a_weight_of_nothing_has_the_rate_itself() -> None:
    text = NET.replace("value: 0.5", "value: 0").replace("MULT", "1") + "larc: true"
    solver = SGDSolver(parse_text(text, caffe_pb2.SolverParameter))
    solver.step(1)
    np.testing.assert_allclose(solver.learnables[0].parameter.detach().numpy(), np.full((3, 2), 0.05 * 0.75 * 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('larc_policy: "trust"', "unknown larc_policy 'trust', expected scale or clip"),
        ("larc_eta: -1", "larc_eta is -1"),
        ("larc_turbo: true", "larc_turbo is not done here"),
        ('type: "Nesterov"', "larc is for SGD, the solver is Nesterov"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(SolverError, match=message):
        _solver(f"larc: true {text}")
