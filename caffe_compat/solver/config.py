"""Which nets a solver definition asks for.

Source: BVLC Caffe 1.0, ``Solver::InitTrainNet`` and ``InitTestNets``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from caffe_compat import log
from caffe_compat.description import NetDescription, State, describe_net
from caffe_compat.errors import SolverError
from caffe_compat.net import load_description
from caffe_compat.proto import upgrade_net
from caffe_compat.proto.schema import PHASES
from caffe_compat.solver.policies import check_policy

__all__ = ["SolverNets", "check_solver", "solver_nets", "weight_files"]

_INLINE = "<net in the solver>"


@dataclass(frozen=True)
class SolverNets:
    """Descriptions of the train net and the test nets."""

    train: NetDescription
    tests: tuple[NetDescription, ...]


def check_solver(param: Any) -> None:
    """Refuse what Caffe refuses, before anything is built.

    Raises:
        SolverError: naming the field and what was expected.
    """
    check_policy(param)
    if param.average_loss < 1:
        raise SolverError(f"average_loss is {param.average_loss}, expected 1 or more")
    if param.iter_size < 1:
        raise SolverError(f"iter_size is {param.iter_size}, expected 1 or more")
    if param.regularization_type not in ("L1", "L2"):
        raise SolverError(f"unknown regularization type '{param.regularization_type}', expected L1 or L2")


def solver_nets(param: Any) -> SolverNets:
    """Describe the train net and all test nets of a ``SolverParameter``.

    Raises:
        SolverError: none or several train nets, or counts of test nets, test_iter and test_state that do not agree.
    """
    return SolverNets(_train_net(param), _test_nets(param))


def weight_files(param: Any) -> list[str]:
    """The ``weights`` field: every entry may be a comma-separated list."""
    return [part.strip() for entry in param.weights for part in entry.split(",") if part.strip()]


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


def _from_file(path: str, phase: str, extra: Any) -> NetDescription:
    return load_description(path, _state(phase, extra))


def _from_message(message: Any, phase: str, extra: Any) -> NetDescription:
    inner = upgrade_net(message, _INLINE).net  # a copy
    state = _state(phase, message.state, extra)
    inner.ClearField("state")
    return describe_net(inner, state, source=_INLINE)


def _train_net(param: Any) -> NetDescription:
    given = [name for name in ("net", "net_param", "train_net", "train_net_param") if param.HasField(name)]
    if len(given) != 1:
        raise SolverError(
            "expected exactly one of net, net_param, train_net, train_net_param, "
            + (f"got {' and '.join(given)}" if given else "got none")
        )
    state = param.train_state if param.HasField("train_state") else None
    name = given[0]
    if name.endswith("_param"):
        log.info(f"Creating training net specified in {name}.", "solver.cpp:79")
        return _from_message(getattr(param, name), "TRAIN", state)
    path = getattr(param, name)
    log.info(f"Creating training net from {name} file: {path}", "solver.cpp:87")
    return _from_file(path, "TRAIN", state)


def _test_nets(param: Any) -> tuple[NetDescription, ...]:
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


def _test_net(param: Any, index: int, state: Any) -> NetDescription:
    inline = len(param.test_net_param)
    if index < inline:
        what, value = "test_net_param", param.test_net_param[index]
    elif index < inline + len(param.test_net):
        what, value = "test_net file", param.test_net[index - inline]
    elif param.HasField("net"):
        what, value = "net file", param.net
    else:
        what, value = "net_param", param.net_param
    if isinstance(value, str):
        log.info(f"Creating test net (#{index}) specified by {what}: {value}", "solver.cpp:172")
        return _from_file(value, "TEST", state)
    log.info(f"Creating test net (#{index}) specified by {what}", "solver.cpp:172")
    return _from_message(value, "TEST", state)
