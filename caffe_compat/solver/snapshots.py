"""Snapshots: ``<prefix>_iter_<N>.caffemodel`` and ``.solverstate``, binary or HDF5, as Caffe writes and reads them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caffe_compat import log
from caffe_compat.errors import SolverError
from caffe_compat.files import open_existing, remove_leftovers
from caffe_compat.net import Learnable, Net
from caffe_compat.proto import caffe_pb2, hdf5
from caffe_compat.proto.state import SolverState, read_state, write_state

__all__ = ["check_prefix", "history", "is_hdf5", "read", "stem", "write"]


def check_prefix(param: Any) -> None:
    """Make sure at the start that snapshots can be written; removes what a run that was killed left unfinished.

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
    remove_leftovers(folder)


def stem(param: Any, iteration: int) -> str:
    """The path of the snapshot of an iteration, less its endings."""
    return f"{param.snapshot_prefix}_iter_{iteration}"


def write(
    param: Any, net: Net, state: SolverState, written: Callable[[str], None] = lambda model: None
) -> tuple[str, str]:
    """Write the weights of a net, then a solver state; returns both paths.

    Args:
        written: called with the path of the weights before the state is written, so that a state that is there has all
            that belongs to it.
        param: the ``SolverParameter``: prefix, format, and whether gradients go along.
        state: ``learned_net`` is set to the path of the weights.
    """
    base = stem(param, state.iter)
    if param.snapshot_format == caffe_pb2.SolverParameter.HDF5:
        model, path = f"{base}.caffemodel.h5", f"{base}.solverstate.h5"
        log.info(f"Snapshotting to HDF5 file {model}", "solver.cpp:457")
        net.save_hdf5(model, param.snapshot_diff)
        written(model)
        log.info(f"Snapshotting solver state to HDF5 file {path}", "sgd_solver.cpp:283")
        hdf5.write_state_hdf5(path, replace(state, learned_net=model))
    else:
        model, path = f"{base}.caffemodel", f"{base}.solverstate"
        log.info(f"Snapshotting to binary proto file {model}", "solver.cpp:447")
        net.save(model, param.snapshot_diff)
        written(model)
        log.info(f"Snapshotting solver state to binary proto file {path}", "sgd_solver.cpp:273")
        write_state(path, replace(state, learned_net=model))
    return model, path


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether Caffe takes a state file for HDF5: by its name."""
    return os.fspath(path).endswith(".h5")


def read(path: str | os.PathLike[str]) -> SolverState:
    """A solver state, whose ``learned_net`` is a weights file that exists, or ``""``.

    Raises:
        MissingFileError: there is no such file, or no weights where the state says.
        ModelFileError: it is malformed.
    """
    state = hdf5.read_state_hdf5(path) if is_hdf5(path) else read_state(path)
    if not state.learned_net:
        return state
    model = _model_path(state.learned_net, path)
    open_existing(model, f"the weights that {os.fspath(path)} names").close()
    return replace(state, learned_net=model)


def _model_path(learned_net: str, state: str | os.PathLike[str]) -> str:
    """The weights as stored (relative to the current folder), else beside the state file."""
    beside = os.path.join(os.path.dirname(state), os.path.basename(learned_net))
    if not os.path.exists(learned_net) and os.path.exists(beside):
        return beside
    return learned_net


def history(
    stored: Sequence[np.ndarray], own: Sequence[Tensor], learnables: Sequence[Learnable], rule: str
) -> list[Tensor]:
    """The history of a state in the shapes of a solver's own.

    Old states have four axes for every blob (a bias of N is 1 x 1 x 1 x N): there only the counts must agree, as in
    Caffe.

    Raises:
        SolverError: another number of blobs, or another shape.
    """
    if len(stored) != len(own):
        raise SolverError(
            f"incorrect length of history blobs: the state has {len(stored)}, {rule} on this net has {len(own)}"
        )
    for index, (theirs, mine) in enumerate(zip(stored, own, strict=True)):
        legacy = theirs.ndim == 4 and theirs.size == mine.numel()
        if not legacy and theirs.shape != tuple(mine.shape):
            owner = learnables[index % len(learnables)]
            raise SolverError(
                f"history blob {index} has shape {list(theirs.shape)}, expected {list(mine.shape)} "
                f"(layer '{owner.layer}', blob {owner.index})"
            )
    return [torch.from_numpy(theirs).view(mine.shape) for theirs, mine in zip(stored, own, strict=True)]
