"""What a solver reports and multiplies with, at the edges that the golden solver runs do not reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from caffe_compat.proto import caffe_pb2
from caffe_compat.solver import load_solver
from caffe_compat.solver.policies import learning_rate

NET = """
layer { name: "x" type: "DummyData" top: "x" top: "t"
  dummy_data_param { shape { dim: 2 dim: 3 } data_filler { type: "gaussian" } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }
"""


@pytest.mark.parametrize(("max_iter", "window"), [(6, 4), (7, 3), (8, 4), (3, 5), (4, 1)])
def test_last_loss_takes_its_turn_in_the_window(tmp_path: Path, max_iter: int, window: int) -> None:
    """The pass after training replaces loss number (iterations since the start) mod window, as ``Solver::Solve``."""
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: {max_iter} display: 1 '
        f"random_seed: 3 average_loss: {window} snapshot_after_train: false"
    )
    solver = load_solver(tmp_path / "solver.prototxt")
    losses: list[float] = []
    forward = solver.engine.forward_loss

    def noted(start: int = 0, end: int | None = None) -> Tensor | float:
        loss = forward(start, end)
        losses.append(float(loss))
        return loss

    solver.engine.forward_loss = noted  # type: ignore[method-assign]
    solver.solve()
    assert len(losses) == max_iter + 1
    assert solver.smoothed_loss == pytest.approx(np.mean(losses[-window:]))


@pytest.mark.parametrize(("power", "rate"), [(0.0, 0.5), (1.0, -0.1), (2.0, 0.02), (0.5, float("nan"))])
def test_poly_beyond_max_iter_is_what_pow_gives(power: float, rate: float) -> None:
    param = caffe_pb2.SolverParameter(lr_policy="poly", base_lr=0.5, power=power, max_iter=10)
    assert learning_rate(param, 12, 0)[0] == pytest.approx(rate, nan_ok=True)
