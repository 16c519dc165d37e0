"""One run at a time writes snapshots of one prefix."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_compat.errors import SolverError
from caffe_compat.proto import caffe_pb2, parse_text
from caffe_compat.solver import Solver, solver_class
from caffe_compat.solver.lock import hold

HOLDER = """
import sys, time
from caffe_compat.solver.lock import hold
with hold(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
SOLVER = """
net_param { layer { name: "x" type: "DummyData" top: "x" top: "y"
    dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 2 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2 } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" } }
base_lr: 0.1 lr_policy: "fixed" max_iter: 2
"""


def make(prefix: Path, text: str = "") -> Solver:
    param = parse_text(f'{SOLVER} snapshot_prefix: "{prefix}" {text}', caffe_pb2.SolverParameter)
    return solver_class(param)(param)


def holder(prefix: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(prefix)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_run_says_so_and_stops(tmp_path: Path) -> None:
    prefix = tmp_path / "runs" / "net"
    process = holder(prefix)
    try:
        solver = make(prefix)
        with pytest.raises(SolverError, match=rf"process {process.pid} is training .*net\.lock.* snapshot_prefix"):
            solver.solve()
        assert solver.iter == 0
        make(prefix, "snapshot_after_train: false").solve()  # writes nothing
        make(tmp_path / "runs" / "other").solve()
    finally:
        process.communicate("", timeout=300)
    solver.solve()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        f"{name}_iter_2.{kind}" for name in ("net", "other") for kind in ("caffemodel", "solverstate")
    ]


def test_what_a_killed_run_left_keeps_nobody_out(tmp_path: Path) -> None:
    process = holder(tmp_path / "net")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    assert (tmp_path / "net.lock").exists()
    make(tmp_path / "net").solve()
    assert not (tmp_path / "net.lock").exists()


def test_steps_hold_the_lock_where_snapshots_are_due(tmp_path: Path) -> None:
    with hold(str(tmp_path / "net")):
        make(tmp_path / "net").step(1)
        solver = make(tmp_path / "net", "snapshot: 1")
        with pytest.raises(SolverError, match="is training"):
            solver.step(1)
    seen: list[bool] = []
    solver.on_start.append(lambda: seen.append((tmp_path / "net.lock").exists()))
    solver.step(1)
    solver.solve()
    assert seen == [True, True] and not (tmp_path / "net.lock").exists()


def test_an_error_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(str(tmp_path / "net")):
        raise ZeroDivisionError
    with hold(str(tmp_path / "net")):
        pass


def test_no_way_to_write_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SolverError, match="cannot write .*net.lock.* snapshot prefix"),
        hold(str(tmp_path / "file" / "net")),
    ):
        pass
