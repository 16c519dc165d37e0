"""Caffe's solvers, bit by bit: update rules, policies, clipping, tests, snapshots."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch

from caffe_compat.errors import in_file
from caffe_compat.proto import read_solver
from caffe_compat.solver.actions import Action
from caffe_compat.solver.rules import (
    SOLVERS,
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    solver_class,
)
from caffe_compat.solver.solver import Solver

__all__ = [
    "SOLVERS",
    "Action",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NesterovSolver",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "load_solver",
    "solver_class",
]


def load_solver(
    path: str | os.PathLike[str],
    weights: Iterable[str] | None = None,
    device: torch.device | str | None = None,
    kind: type[Solver] | None = None,
) -> Solver:
    """Build the solver that a solver prototxt asks for (or the rule ``kind``), with its nets.

    Raises:
        CaffeCompatError: naming the solver file and what is wrong in it or in one of its nets.
    """
    param = read_solver(path)
    with in_file(path):
        return (kind or solver_class(param))(param, weights, device)
