"""Learning rates of forks: plateau (weiliu89/caffe), multifixed and warm-up (intel), rise and least rate (NVIDIA)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe_compat.errors import SolverError
from caffe_compat.proto import caffe_pb2, parse_text
from caffe_compat.proto.hdf5 import read_state_hdf5
from caffe_compat.proto.state import read_state
from caffe_compat.solver import SGDSolver
from caffe_compat.solver.policies import Plateau, check_policy, learning_rate, momentum


def _param(text: str) -> Any:
    return parse_text(text, caffe_pb2.SolverParameter)


def _slow_plateau(losses: list[float], windows: list[int]) -> list[int]:
    """The steps, as sgd_solver.cpp counts them."""
    least, last, step, steps = 3.4e38, 0, 0, []
    for iteration, loss in enumerate(losses):
        if loss < least:
            least, last = loss, iteration
        if step < len(windows):
            due = last + windows[step]
            if iteration >= due:
                step += 1
                last = iteration
        steps.append(step)
    return steps


def test_plateau_steps_against_the_loop() -> None:
    random = np.random.default_rng(3)
    seen = set()
    for windows in ([3, 3, 3], [1], [2, 5], []):
        param = _param(" ".join(f"plateau_winsize: {size}" for size in windows))
        losses = [float(value) for value in random.random(40).astype(np.float32) + 1 / (1 + np.arange(40))]
        plateau, step, steps = Plateau(), 0, []
        for iteration, loss in enumerate(losses):
            step = plateau.step(param, iteration, step, loss)
            steps.append(step)
        assert steps == _slow_plateau(losses, windows)
        seen.add(steps[-1])
    assert seen == {0, 1, 2, 3}


def test_plateau_rate() -> None:
    """Losses 5, 4, 4, 4: two iterations without a new least after iteration 1, so the rate falls at iteration 3."""
    param, plateau, step, rates = (
        _param('lr_policy: "plateau" base_lr: 0.5 gamma: 0.1 plateau_winsize: 2'),
        Plateau(),
        0,
        [],
    )
    for iteration, loss in enumerate([5.0, 4.0, 4.0, 4.0, 4.0, 4.0]):
        step = plateau.step(param, iteration, step, loss)
        rates.append(learning_rate(param, iteration, step)[0])
    assert rates == pytest.approx([0.5, 0.5, 0.5, 0.05, 0.05, 0.05]) and plateau == Plateau(4.0, 3)


def test_multifixed_takes_the_first_stage_that_is_not_over() -> None:
    param = _param(
        'lr_policy: "multifixed" stagelr: 0.1 stagelr: 0.2 stagelr: 0.3 stageiter: 2 stageiter: 4 stageiter: 6'
    )
    rates = [learning_rate(param, iteration, 0)[0] for iteration in range(9)]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3])


def test_warm_up_on_a_line_with_the_momentum_of_the_rise() -> None:
    param = _param('lr_policy: "fixed" base_lr: 0.5 momentum: 0.8 warmup_iter: 4 warmup_start_lr: 0.1')
    assert [learning_rate(param, i, 0)[0] for i in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
    assert [momentum(param, i) for i in range(6)] == pytest.approx([0.8, 1.6, 1.2, 0.8 * 4 / 3, 0.8, 0.8])


def test_a_rise_and_a_least_rate() -> None:
    param = _param('lr_policy: "poly" power: 2 base_lr: 0.5 min_lr: 0.1 rampup_interval: 2 rampup_lr: 0.1 max_iter: 4')
    want = [0.1, 0.1 + 0.4 / 4, 0.4 * 0.25 + 0.1, 0.4 * 0.0625 + 0.1, 0.1]
    assert [learning_rate(param, i, 0)[0] for i in range(5)] == pytest.approx(want)
    param = _param('lr_policy: "exp" gamma: 0.5 base_lr: 1 min_lr: 0.2')
    assert [learning_rate(param, i, 0)[0] for i in range(4)] == pytest.approx([1, 0.5, 0.25, 0.2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('lr_policy: "multifixed" stagelr: 0.1', "1 stagelr and 0 stageiter"),
        ('lr_policy: "multifixed"', "0 stagelr and 0 stageiter"),
        ('lr_policy: "fixed" warmup_iter: 3', "warmup_start_lr is 0, expected more than 0"),
        ('lr_policy: "plateau" gamma: -1', "gamma is -1"),
        ('lr_policy: "poly" base_lr: 0.1 min_lr: 0.2', "min_lr is 0.2"),
        ('lr_policy: "fixed" min_lr: -1', "min_lr is -1"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(SolverError, match=message):
        check_policy(_param(text))


NET = """net_param {
  layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 1 dim: 1 }
    data_filler { value: 1 } data_filler { value: 0 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 bias_term: false
    weight_filler { type: "constant" value: 1 } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
} solver_mode: CPU random_seed: 1 """


def test_the_warm_up_in_a_solver() -> None:
    """The loss is w^2 / 2 with gradient w; v <- m v + rate w, w <- w - v."""
    solver = SGDSolver(
        _param(NET + 'lr_policy: "fixed" base_lr: 0.2 momentum: 0.5 warmup_iter: 2 warmup_start_lr: 0.1')
    )
    w, v = 1.0, 0.0
    for rate, factor in ((0.1, 0.5), (0.15, 0.75), (0.2, 0.5), (0.2, 0.5)):
        v = factor * v + rate * w
        w -= v
        solver.step(1)
        assert solver.learnables[0].parameter.item() == pytest.approx(w, rel=1e-6)


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_a_resumed_plateau_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """The rate is too high, so that the loss rises after some iterations; what is remembered survives a snapshot."""
    monkeypatch.chdir(tmp_path)
    text = NET + 'lr_policy: "plateau" base_lr: 2.02 gamma: 0.999 plateau_winsize: 3 plateau_winsize: 2 max_iter: 9 '
    text += f'snapshot_prefix: "p" snapshot_format: {form}'
    whole = SGDSolver(_param(text))
    whole.step(9)
    first = SGDSolver(_param(text))
    first.step(4)
    state = first.snapshot()[1]
    held = (read_state if form == "BINARYPROTO" else read_state_hdf5)(state)
    assert held.plateau == (0.5, 3) and held.current_step == 1  # the least was the first loss; the step came 3 later
    again = SGDSolver(_param(text))
    again.restore(state)
    assert again.plateau == Plateau(0.5, 3)
    again.step(5)
    assert again.current_step == whole.current_step == 2
    assert again.plateau == whole.plateau
    torch.testing.assert_close(again.learnables[0].parameter, whole.learnables[0].parameter, rtol=0, atol=0)


def test_states_of_other_policies_hold_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    solver = SGDSolver(_param(NET + 'lr_policy: "fixed" base_lr: 0.1 snapshot_prefix: "p"'))
    solver.step(1)
    state = solver.snapshot()[1]
    assert read_state(state).plateau is None
    message = caffe_pb2.SolverState.FromString(Path(state).read_bytes())
    assert not message.HasField("minimum_loss") and not message.HasField("iter_last_event")
