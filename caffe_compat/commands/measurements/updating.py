"""The benchmarks of what follows a backward pass: updates of all rules, and of training in mixed precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from caffe_compat.commands.measurements import peers
from caffe_compat.commands.measurements.timing import alternate
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver import SOLVERS, Solver
from caffe_compat.solver.updates import Part, update

__all__ = ["against_autocast", "half_precision", "updates"]

Row = tuple[str, float, float, float, str]
RATE, DECAY, MOMENTUM = 1e-6, 5e-4, 0.9


def updates(rounds: int) -> Iterator[Row]:
    """An update of CaffeNet's 61 million weights, each rule against torch.optim's with ``foreach``; processor time."""
    weights = [parameter.detach() for parameter in peers.caffenet().parameters()]
    for name in SOLVERS:
        times = alternate(_ours(name, weights), _theirs(name, weights), rounds, time.process_time)
        yield f"{name} update of CaffeNet, CPU time (peer: foreach)", *times, "<= 1.00"


def _ours(name: str, weights: list[torch.Tensor]) -> Callable[[], None]:
    momentum = {"AdaGrad": 0.0, "RMSProp": 0.0}.get(name, MOMENTUM)
    param = caffe_pb2.SolverParameter(momentum=momentum, rms_decay=0.99, weight_decay=DECAY)
    rule = SOLVERS[name].__new__(SOLVERS[name])  # an update needs no nets
    rule.param, rule.iter = param, 10
    gradients = [torch.full_like(weight, 1e-3) for weight in weights]
    histories = tuple([torch.zeros_like(weight) for weight in weights] for _ in range(rule.histories))
    count = len(weights)
    whole = Part([weight.clone() for weight in weights], gradients, histories, [RATE] * count, [1.0] * count)
    return lambda: update(rule.compute_updates, whole, param)


def _theirs(name: str, weights: list[torch.Tensor]) -> Callable[[], object]:
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    kinds: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "SGD": lambda: torch.optim.SGD(parameters, RATE, MOMENTUM, weight_decay=DECAY, foreach=True),
        "Nesterov": lambda: torch.optim.SGD(
            parameters, RATE, MOMENTUM, weight_decay=DECAY, nesterov=True, foreach=True
        ),
        "AdaGrad": lambda: torch.optim.Adagrad(parameters, RATE, weight_decay=DECAY, foreach=True),
        "RMSProp": lambda: torch.optim.RMSprop(parameters, RATE, weight_decay=DECAY, foreach=True),
        "AdaDelta": lambda: torch.optim.Adadelta(parameters, RATE, weight_decay=DECAY, foreach=True),
        "Adam": lambda: torch.optim.Adam(parameters, RATE, weight_decay=DECAY, foreach=True),
    }
    return kinds[name]().step


def half_precision(solver: Solver, rounds: int) -> tuple[float, float, float]:
    """A training step in bfloat16 against the same solver's in float32; processor time."""

    def step(kind: str) -> None:
        solver.amp = kind
        solver.step(1)

    return alternate(lambda: step("bf16"), lambda: step(""), rounds, time.process_time)


def against_autocast(solver: Solver, step: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """The same against a hand-written step under torch's autocast."""

    def peer() -> None:
        with torch.autocast(solver.device.type, torch.bfloat16):
            step()

    solver.amp = "bf16"
    return alternate(lambda: solver.step(1), peer, rounds, time.process_time)
