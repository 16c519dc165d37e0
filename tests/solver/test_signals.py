"""Signals that stop a run, or make it write a snapshot."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT

from caffe_compat.errors import UsageError
from caffe_compat.proto import read_state
from caffe_compat.solver import Action
from caffe_compat.solver.signals import SignalHandler

ROOT = Path(__file__).resolve().parents[2]
SOLVER = """
net_param { name: "tiny"
  layer { name: "x" type: "DummyData" top: "x" top: "y"
    dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 2 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2 } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" } }
base_lr: 0.1 lr_policy: "fixed" max_iter: 100000000 display: 1 snapshot_prefix: "tiny"
"""


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "action"),
    [(signal.SIGINT, Action.STOP), (signal.SIGTERM, Action.STOP), (signal.SIGHUP, Action.SNAPSHOT)],
)
def test_a_signal_is_one_action(number: int, action: Action) -> None:
    before = signal.getsignal(number)
    with SignalHandler() as handler:
        assert handler.poll() is Action.NONE
        send(number)
        assert handler.poll() is action and handler.poll() is Action.NONE
        assert handler.stopped_by == (number if action is Action.STOP else 0)
    assert signal.getsignal(number) is before


def test_effects_are_chosen_but_for_sigterm() -> None:
    with SignalHandler("snapshot", "none") as handler:
        send(signal.SIGTERM)
        send(signal.SIGINT)
        send(signal.SIGHUP)
        assert [handler.poll() for _ in range(4)] == [Action.NONE, Action.SNAPSHOT, Action.STOP, Action.NONE]
    with pytest.raises(UsageError, match="sighup_effect is 'bang'"):
        SignalHandler("stop", "bang")


def test_the_second_of_a_kind_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), SignalHandler():
        send(signal.SIGINT)
        send(signal.SIGINT)
    with pytest.raises(SystemExit) as ended, SignalHandler():
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert ended.value.code == 143


@pytest.mark.parametrize(
    ("words", "number", "status"),
    [
        (("train_net.py",), signal.SIGINT, 130),
        (("train_net.py",), signal.SIGTERM, 143),
        (("caffe.py", "train"), signal.SIGTERM, 0),
    ],
)
def test_a_stopped_run_leaves_a_snapshot(tmp_path: Path, words: tuple[str, ...], number: int, status: int) -> None:
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / words[0]), *words[1:], "--solver", "solver.prototxt"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert any("] Iteration 5 (" in line for line in process.stderr), "it ended before"
    process.send_signal(number)
    errors = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == status, errors
    (state,) = tmp_path.glob("tiny_iter_*.solverstate")
    iterations = read_state(state).iter
    assert iterations > 5 and (tmp_path / f"tiny_iter_{iterations}.caffemodel").exists()
    assert "Optimization stopped early." in errors
    assert re.search(rf"Stopped at iteration {iterations}; go on with --snapshot {state.name}$", errors.strip())
    assert not (tmp_path / "tiny.lock").exists()
