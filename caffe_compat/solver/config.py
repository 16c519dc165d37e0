"""Which nets a solver definition asks for.

Source: BVLC Caffe 1.0, ``Solver::InitTrainNet`` and ``InitTestNets``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from caffe_compat import log
from caffe_compat.description import NetDescription, State, describe_net
from caffe_compat.errors import NetError, SolverError, in_file
from caffe_compat.net import load_description
from caffe_compat.proto import upgrade_net
from caffe_compat.proto.schema import PHASES
from caffe_compat.solver.adaptive import check_larc
from caffe_compat.solver.policies import check_policy

__all__ = ["NetSource", "SolverNets", "check_solver", "solver_nets", "tests_before", "weight_files"]

_INLINE = "<net in the solver>"
_TRAIN_LINES = {
    "train_net_param": "solver.cpp:73",
    "train_net": "solver.cpp:77",
    "net_param": "solver.cpp:82",
    "net": "solver.cpp:87",
}


@dataclass(frozen=True)
class NetSource:
    """A net that a solver asks for.

    Args:
        net: a file name, or a ``NetParameter`` of any format.
        phase: ``"TRAIN"`` or ``"TEST"``.
        extra: a ``NetState`` that is merged with that of the net, or None.
        told: what Caffe logs about it, with the tag.
        dialect: of :func:`~caffe_compat.description.describe_net`.
    """

    net: Any
    phase: str
    extra: Any
    told: tuple[str, str]
    dialect: str = ""

    def describe(self) -> NetDescription:
        """The net in its state.

        Raises:
            NetError: no layer is left in this state, or the net is wrong.
        """
        log.info(*self.told)
        if isinstance(self.net, str):
            description = load_description(self.net, _state(self.phase, self.extra), self.dialect)
        else:
            inner = upgrade_net(self.net, _INLINE).net  # a copy
            state = _state(self.phase, inner.state, self.extra)
            inner.ClearField("state")
            description = describe_net(inner, state, source=_INLINE, dialect=self.dialect)
        if not description.layers:
            with in_file(description.source):
                raise NetError(f"net '{description.name}' has no layers in phase {description.state.phase}")
        return description


@dataclass(frozen=True)
class SolverNets:
    """The train net and the test nets."""

    train: NetSource
    tests: tuple[NetSource, ...]


def check_solver(param: Any) -> None:
    """Refuse what Caffe refuses, before anything is built.

    Raises:
        SolverError: naming the field and what was expected.
    """
    check_policy(param)
    check_larc(param)
    if param.average_loss < 1:
        raise SolverError(f"average_loss is {param.average_loss}, expected 1 or more")
    if param.iter_size < 1:
        raise SolverError(f"iter_size is {param.iter_size}, expected 1 or more")
    if param.regularization_type not in ("L1", "L2"):
        raise SolverError(f"unknown regularization type '{param.regularization_type}', expected L1 or L2")


def solver_nets(param: Any) -> SolverNets:
    """The train net and all test nets that a ``SolverParameter`` asks for.

    Raises:
        SolverError: none or several train nets, or counts of test nets, test_iter and test_state that do not agree.
    """
    return SolverNets(_train_net(param), _test_nets(param))


def weight_files(param: Any) -> list[str]:
    """The ``weights`` field: every entry may be a comma-separated list."""
    return [part.strip() for entry in param.weights for part in entry.split(",") if part.strip()]


def tests_before(param: Any, iteration: int) -> int:
    """Tests before an iteration in a run from the start (that at the iteration itself is still to come)."""
    interval = int(param.test_interval)
    if interval <= 0 or iteration == 0:
        return 0
    return (iteration - 1) // interval + (1 if param.test_initialization else 0)


def _state(phase: str, *messages: Any) -> State:
    """Later messages win on scalars; stages add up."""
    level, stages = 0, []
    for message in messages:
        if message is None:
            continue
        if message.HasField("phase"):
            phase = PHASES[message.phase]
        if message.HasField("level"):
            level = message.level
        stages += list(message.stage)
    return State(phase, level, tuple(stages))


def _train_net(param: Any) -> NetSource:
    given = [name for name in ("net", "net_param", "train_net", "train_net_param") if param.HasField(name)]
    if len(given) != 1:
        raise SolverError(
            "expected exactly one of net, net_param, train_net, train_net_param, "
            + (f"got {' and '.join(given)}" if given else "got none")
        )
    state = param.train_state if param.HasField("train_state") else None
    name = given[0]
    net = getattr(param, name)
    what = f"specified in {name}." if name.endswith("_param") else f"from {name} file: {net}"
    return NetSource(net, "TRAIN", state, (f"Creating training net {what}", _TRAIN_LINES[name]), param.dialect)


def _test_nets(param: Any) -> tuple[NetSource, ...]:
    explicit = len(param.test_net) + len(param.test_net_param)
    generic = param.HasField("net") or param.HasField("net_param")
    iters = len(param.test_iter)
    if generic and iters < explicit:
        raise SolverError(f"test_iter has {iters} entries, expected at least one per test net ({explicit})")
    if not generic and iters != explicit:
        raise SolverError(f"test_iter has {iters} entries, expected one per test net ({explicit})")
    count = iters if generic else explicit
    if param.test_state and len(param.test_state) != count:
        raise SolverError(
            f"test_state has {len(param.test_state)} entries, expected none or one per test net ({count})"
        )
    if count and param.test_interval <= 0:
        raise SolverError(f"test_interval is {param.test_interval}, expected a positive number as there is a test net")
    nets = []
    for index in range(count):
        state = param.test_state[index] if param.test_state else None
        nets.append(_test_net(param, index, state))
    return tuple(nets)


def _test_net(param: Any, index: int, state: Any) -> NetSource:
    inline = len(param.test_net_param)
    if index < inline:
        what, value = "test_net_param", param.test_net_param[index]
    elif index < inline + len(param.test_net):
        what, value = "test_net file", param.test_net[index - inline]
    elif param.HasField("net"):
        what, value = "net file", param.net
    else:
        what, value = "net_param", param.net_param
    line = f"Creating test net (#{index}) specified by {what}" + (f": {value}" if isinstance(value, str) else "")
    return NetSource(value, "TEST", state, (line, "solver.cpp:172"), param.dialect)
