"""pycaffe's solvers over :mod:`caffe_compat.solver`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

from caffe_compat import solver as solvers
from caffe_compat.proto import read_solver
from caffe_compat.pycaffe.mode import current_device
from caffe_compat.pycaffe.net import Net

__all__ = [
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NesterovSolver",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "get_solver",
]


class Solver:
    """A solver with pycaffe's interface; a named class ignores the ``type`` field of the file."""

    rule: ClassVar[type[solvers.Solver]]

    def __init__(self, solver_file: str) -> None:
        self.solver = solvers.load_solver(os.fspath(solver_file), device=current_device(), kind=self.rule)
        self.net = Net.from_engine(self.solver.engine, self._follow_mode)
        self.test_nets = [Net.from_engine(engine, self._follow_mode) for engine in self.solver.test_engines]

    def _follow_mode(self) -> None:
        self.solver.to(current_device())

    @property
    def iter(self) -> int:
        """Updates done."""
        return self.solver.iter

    @property
    def lr(self) -> float:
        """The rate of the coming update."""
        return self.solver.lr

    @property
    def param(self) -> Any:
        """The SolverParameter."""
        return self.solver.param

    def step(self, iterations: int) -> None:
        """Do that many updates."""
        self._follow_mode()
        self.solver.step(iterations)

    def solve(self, resume_file: str | None = None) -> None:
        """Train to ``max_iter``."""
        self._follow_mode()
        self.solver.solve(resume_file)

    def snapshot(self) -> None:
        """Write weights and state."""
        self._follow_mode()
        self.solver.snapshot()

    def restore(self, path: str) -> None:
        """Go on from a ``.solverstate``."""
        self._follow_mode()
        self.solver.restore(path)

    def apply_update(self) -> None:
        """Apply the gradients that the net holds."""
        self._follow_mode()
        self.solver.apply_update()

    def share_weights(self, net: Net) -> None:
        """Let ``net`` use the parameters of the train net."""
        net.share_with(self.net)

    def add_callback(self, on_start: Callable[[], Any], on_gradients_ready: Callable[[], Any]) -> None:
        """Call the first before every iteration, the second before every update."""
        self.solver.on_start.append(on_start)
        self.solver.on_gradients_ready.append(on_gradients_ready)


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum."""

    rule = solvers.SGDSolver


class NesterovSolver(Solver):
    """Nesterov's accelerated gradient."""

    rule = solvers.NesterovSolver


class AdaGradSolver(Solver):
    """AdaGrad."""

    rule = solvers.AdaGradSolver


class RMSPropSolver(Solver):
    """RMSProp."""

    rule = solvers.RMSPropSolver


class AdaDeltaSolver(Solver):
    """AdaDelta."""

    rule = solvers.AdaDeltaSolver


class AdamSolver(Solver):
    """Adam."""

    rule = solvers.AdamSolver


_CLASSES = {
    cls.rule.type_name: cls
    for cls in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)
}


def get_solver(solver_file: str) -> Solver:
    """The solver that the ``type`` field of the file asks for."""
    return _CLASSES[solvers.solver_class(read_solver(solver_file)).type_name](solver_file)
