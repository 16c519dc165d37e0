"""Snapshots: ``<prefix>_iter_<N>.caffemodel`` and ``.solverstate``, binary or HDF5, as Caffe writes and reads them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe_compat import log
from caffe_compat.errors import SolverError
from caffe_compat.files import open_existing
from caffe_compat.proto import caffe_pb2, hdf5
from caffe_compat.proto.state import State, read_state, write_state

if TYPE_CHECKING:
    from caffe_compat.solver.solver import Solver

__all__ = ["check_prefix", "read", "write"]


def check_prefix(param: Any) -> None:
    """Make sure at the start that snapshots can be written.

    Raises:
        SolverError: no prefix, or its folder cannot be written to.
    """
    if not param.snapshot:
        return
    if not param.snapshot_prefix:
        raise SolverError("snapshot_prefix is not set, expected a path as snapshot is set")
    folder = Path(param.snapshot_prefix).parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SolverError(
            f"cannot write to snapshot prefix '{param.snapshot_prefix}': {error.strerror or error}"
        ) from error


def write(solver: Solver) -> tuple[str, str]:
    """Write weights, then state; returns both paths."""
    param = solver.param
    stem = f"{param.snapshot_prefix}_iter_{solver.iter}"
    in_hdf5 = param.snapshot_format == caffe_pb2.SolverParameter.HDF5
    ending, kind = (".h5", "HDF5") if in_hdf5 else ("", "binary proto")
    model, state = f"{stem}.caffemodel{ending}", f"{stem}.solverstate{ending}"
    log.info(f"Snapshotting to {kind} file {model}", "solver.cpp:448")
    save = solver.net.save_hdf5 if in_hdf5 else solver.net.save
    save(model, param.snapshot_diff)
    log.info(f"Snapshotting solver state to {kind} file {state}", "sgd_solver.cpp:273")
    history = [blob.detach().cpu().numpy() for blob in solver.history]
    store = hdf5.write_state_hdf5 if in_hdf5 else write_state
    store(state, State(solver.iter, model, solver.current_step, history))
    return model, state


def read(solver: Solver, path: str | os.PathLike[str]) -> None:
    """Restore iteration, weights, step and history."""
    state = hdf5.read_state_hdf5(path) if os.fspath(path).endswith(".h5") else read_state(path)
    model = _model_path(state.learned_net, path) if state.learned_net else None
    if model is not None:
        open_existing(model, f"the weights that {path} names").close()
    log.info("SGDSolver: restoring history", "sgd_solver.cpp:318")
    try:
        solver.set_history(state.history)
    except SolverError as error:
        raise SolverError(f"{path}: {error}") from error
    if model is not None:
        solver.net.copy_from(model)
    solver.iter, solver.current_step = state.iter, state.current_step
    solver.seek_data()


def _model_path(learned_net: str, state: str | os.PathLike[str]) -> str:
    """The weights as stored (relative to the current folder), else beside the state file."""
    beside = os.path.join(os.path.dirname(state), os.path.basename(learned_net))
    if not os.path.exists(learned_net) and os.path.exists(beside):
        return beside
    return learned_net
