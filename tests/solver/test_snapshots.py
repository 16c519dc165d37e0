"""Snapshots: what is written, and which states a solver goes on from."""

from __future__ import annotations

import logging
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.errors import MissingFileError, SolverError
from caffe_compat.proto import caffe_pb2, hdf5, parse_text, read_state
from caffe_compat.proto.state import SolverState, write_state
from caffe_compat.solver import Solver, load_solver, snapshots, solver_class

FOREIGN = Path(__file__).resolve().parents[1] / "data" / "foreign"
SOLVER = """
net_param { name: "small" layer { name: "x" type: "DummyData" top: "x" top: "y"
    dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 4 } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 4 } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" } }
base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 4
"""


def make(text: str = "") -> Solver:
    param = parse_text(SOLVER + text, caffe_pb2.SolverParameter)
    return solver_class(param)(param)


def test_old_states_have_four_axes(tmp_path: Path) -> None:
    solver = make("snapshot_after_train: false")
    stored = read_state(FOREIGN / "legacy.solverstate")
    assert [blob.shape for blob in stored.history] == [(1, 1, 4, 3), (1, 1, 1, 4)]
    solver.restore(FOREIGN / "legacy.solverstate")
    assert solver.iter == 2
    solver.solve()
    assert solver.iter == 4
    values = [np.arange(blob.size, dtype=np.float32).reshape(blob.shape) for blob in stored.history]
    write_state(tmp_path / "x.solverstate", replace(stored, history=values))
    solver.restore(tmp_path / "x.solverstate")
    for mine, theirs in zip(solver.history, values, strict=True):
        assert np.array_equal(mine.numpy().ravel(), theirs.ravel())


@pytest.mark.parametrize("shape", [(4, 1, 3, 2), (3, 4), (12,), (1, 1, 1, 4, 3)])
def test_other_shapes_are_refused_before_anything_changes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "x.solverstate"
    write_state(path, SolverState(7, history=(np.ones(shape, np.float32), np.ones(4, np.float32))))
    solver = make()
    with pytest.raises(SolverError, match=r"x\.solverstate: history blob 0 has shape .*expected \[4, 3\] \(layer 'ip'"):
        solver.restore(path)
    assert solver.iter == 0 and not any(blob.any() for blob in solver.history)


def test_a_state_is_plain_data(tmp_path: Path) -> None:
    solver = make(f'snapshot_prefix: "{tmp_path}/s"')
    state = SolverState(3, "", 1, (np.zeros((4, 3), np.float32),))
    model, path = snapshots.write(solver.param, solver.net, state)
    back = snapshots.read(path)
    assert (back.iter, back.current_step, back.learned_net) == (3, 1, model) and len(back.history) == 1
    with pytest.raises(FrozenInstanceError):
        back.iter = 4  # type: ignore[misc]
    Path(model).rename(tmp_path / "elsewhere")
    with pytest.raises(MissingFileError, match=r"the weights that .*s_iter_3\.solverstate names"):
        snapshots.read(path)
    write_state(path, replace(state, learned_net=""))
    assert snapshots.read(path).learned_net == ""


@pytest.mark.parametrize("format_", ["BINARYPROTO", "HDF5"])
def test_lines_of_snapshots(tmp_path: Path, caplog: pytest.LogCaptureFixture, format_: str) -> None:
    caplog.set_level(logging.INFO, "caffe_compat")
    hdf5._tell_class.cache_clear()
    solver = make(f'snapshot_prefix: "{tmp_path}/s" snapshot_format: {format_}')
    solver.step(1)
    caplog.clear()
    model, state = solver.snapshot()
    assert solver.resume_from == state
    make().restore(state)
    make().restore(state)
    found = [f"{record.source}] {record.getMessage()}" for record in caplog.records]  # type: ignore[attr-defined]
    found = [line for line in found if "napshot" in line or "H5T" in line or "history" in line]
    if format_ == "HDF5":
        assert found == [
            f"solver.cpp:457] Snapshotting to HDF5 file {tmp_path}/s_iter_1.caffemodel.h5",
            f"sgd_solver.cpp:283] Snapshotting solver state to HDF5 file {tmp_path}/s_iter_1.solverstate.h5",
            "hdf5.cpp:32] Datatype class: H5T_FLOAT",
        ]
    else:
        assert found == [
            f"solver.cpp:447] Snapshotting to binary proto file {tmp_path}/s_iter_1.caffemodel",
            f"sgd_solver.cpp:273] Snapshotting solver state to binary proto file {tmp_path}/s_iter_1.solverstate",
            "sgd_solver.cpp:318] SGDSolver: restoring history",
            "sgd_solver.cpp:318] SGDSolver: restoring history",
        ]


def test_an_error_in_a_net_names_solver_and_net(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text('layer { name: "x" type: "Nothing" }')
    (tmp_path / "s.prototxt").write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed"')
    with pytest.raises(Exception, match=rf"^{tmp_path}/s.prototxt: {tmp_path}/net.prototxt: layer 'x'"):
        load_solver(tmp_path / "s.prototxt")
    (tmp_path / "net.prototxt").unlink()
    with pytest.raises(MissingFileError, match=rf"^{tmp_path}/s.prototxt: Could not open file {tmp_path}/net.prototxt"):
        load_solver(tmp_path / "s.prototxt")


def test_history_in_the_solvers_shapes() -> None:
    own = [torch.zeros(4, 3), torch.zeros(4), torch.zeros(())]
    learnables = make().learnables[:1] * 3
    stored = [np.arange(12, dtype=np.float32).reshape(1, 1, 4, 3), np.ones(4, np.float32), np.ones((1, 1, 1, 1))]
    assert [tuple(blob.shape) for blob in snapshots.history(stored, own, learnables, "SGD")] == [(4, 3), (4,), ()]
    with pytest.raises(SolverError, match="the state has 2, SGD on this net has 3"):
        snapshots.history(stored[:2], own, learnables, "SGD")


def test_what_a_killed_run_left_is_removed_at_the_start(tmp_path: Path) -> None:
    (tmp_path / ".s_iter_7.caffemodel.4194304-3.tmp").write_bytes(b"half")
    (tmp_path / "s_iter_6.caffemodel").write_bytes(b"whole")
    snapshots.check_prefix(make(f'snapshot_prefix: "{tmp_path}/s" snapshot: 1').param)
    assert [path.name for path in tmp_path.iterdir()] == ["s_iter_6.caffemodel"]
