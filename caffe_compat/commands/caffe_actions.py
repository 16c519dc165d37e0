"""``caffe train``, ``test``, ``time`` and ``device_query``.

Source of flags and log lines: BVLC Caffe 1.0, ``tools/caffe.cpp`` (behaviour only).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from caffe_compat import log
from caffe_compat.alias import install
from caffe_compat.commands.flags import names_flag, stages_flag
from caffe_compat.commands.loading import set_workers
from caffe_compat.commands.training import TrainOptions
from caffe_compat.commands.training import train as run_training
from caffe_compat.devices import several
from caffe_compat.errors import UsageError
from caffe_compat.net import BlobNet, Net, load_net
from caffe_compat.net.debug import DebugInfo, log_structure
from caffe_compat.net.plan import with_all_parameters
from caffe_compat.proto.schema import PHASES
from caffe_compat.solver.scores import output_lines, outputs, score

__all__ = ["USED_FLAGS", "CaffeOptions", "caffe"]

EFFECTS = ("sigint_effect", "sighup_effect")
USED_FLAGS = {
    "train": (
        *("gpu", "processes", "solver", "weights", "snapshot", "level", "stage", "dialect", "amp", "workers"),
        *EFFECTS,
    ),
    "test": ("gpu", "model", "weights", "iterations", "level", "stage", "dialect", "workers"),
    "time": ("gpu", "model", "iterations", "phase", "level", "stage", "dialect", "workers"),
    "device_query": ("gpu",),
}
"""Commands, and the flags each reads."""


@dataclass(frozen=True)
class CaffeOptions:
    """The flags of ``caffe``, with its defaults."""

    gpu: str = ""
    processes: int = 0
    solver: str = ""
    model: str = ""
    weights: str = ""
    snapshot: str = ""
    iterations: int = 50
    phase: str = ""
    level: int = 0
    dialect: str = ""
    stage: str = ""
    amp: str = ""
    workers: str = ""
    sigint_effect: str = "stop"
    sighup_effect: str = "snapshot"


def caffe(command: str, options: CaffeOptions) -> int:
    """Run one command; the exit status.

    A flag that the command does not read is named in a warning.

    Raises:
        CaffeCompatError: what is wrong with the arguments, a file or the net.
    """
    commands = {"train": train, "test": test, "time": benchmark, "device_query": device_query}
    if command not in commands:
        raise UsageError(f"unknown command '{command}', expected one of {', '.join(commands)}")
    log.to_stderr()
    install()  # Python layers say "import caffe"
    for name, value in vars(options).items():
        if name not in USED_FLAGS[command] and value != getattr(CaffeOptions, name):
            log.warning(f"--{name} means nothing to 'caffe {command}'", "caffe.cpp:439")
    return commands[command](options)


def train(options: CaffeOptions) -> int:
    """Train, or go on training; 0 as in Caffe, also when a signal stopped it.

    See :func:`caffe_compat.commands.training.train`.
    """
    if not options.solver:
        raise UsageError("--solver is needed: a solver definition to train")
    run_training(
        TrainOptions(
            solver=options.solver,
            gpu=options.gpu or None,
            weights=options.weights or None,
            snapshot=options.snapshot or None,
            sigint_effect=options.sigint_effect,
            sighup_effect=options.sighup_effect,
            level=options.level,
            amp=options.amp,
            stages=stages_flag(options.stage),
            dialect=options.dialect,
            default_seed=False,
            stop_at_nan=False,
            metrics=False,
            tell_next=False,
            workers=options.workers or None,
        )
    )
    return 0


def test(options: CaffeOptions) -> int:
    """Run the TEST net for some iterations and log every output of every batch, then the means."""
    if not options.model:
        raise UsageError("--model is needed: a net definition to score")
    weights = names_flag(options.weights, "--weights")
    engine = _engine(options, "TEST", weights)
    log.info(f"Running for {options.iterations} iterations.", "caffe.cpp:290")

    def tell(batch: int) -> None:
        for line in output_lines(engine, outputs(engine), weighted=False):
            log.info(f"Batch {batch}, {line}", "caffe.cpp:313")

    scores = score(engine, options.iterations, seen=tell)
    log.info(f"Loss: {log.number(scores.loss())}", "caffe.cpp:318")
    for line in output_lines(engine, scores.means()):
        log.info(line, "caffe.cpp:330")
    return 0


def benchmark(options: CaffeOptions) -> int:
    """Time forward and backward of every layer.

    As in Caffe the gradients of all parameters are computed, also where no loss depends on them.
    """
    if not options.model:
        raise UsageError("--model is needed: a net definition to time")
    if options.phase not in ("", *PHASES):
        raise UsageError(f"--phase is '{options.phase}', expected TRAIN or TEST")
    engine = _engine(options, options.phase or "TRAIN", [])
    engine.net.plan = with_all_parameters(engine.net.plan)
    log.info("Performing Forward", "caffe.cpp:360")
    log.info(f"Initial loss: {log.number(engine.forward())}", "caffe.cpp:365")
    log.info("Performing Backward", "caffe.cpp:366")
    engine.backward()
    _time(engine, options.iterations)
    return 0


def _time(engine: BlobNet, iterations: int) -> None:
    log.info("*** Benchmark begins ***", "caffe.cpp:374")
    log.info(f"Testing for {iterations} iterations.", "caffe.cpp:375")
    nodes = engine.net.nodes
    forward, backward = [0.0] * len(nodes), [0.0] * len(nodes)
    clock = _Clock(engine.device)
    begin = clock.now()
    for iteration in range(iterations):
        start = clock.now()
        for number in range(len(nodes)):
            before = clock.now()
            engine.forward_layer(number)
            forward[number] += clock.now() - before
        for number in reversed(range(len(nodes))):
            before = clock.now()
            if nodes[number].needs_backward:
                engine.backward_layer(number)
            backward[number] += clock.now() - before
        passed = log.number(clock.now() - start)
        log.info(f"Iteration: {iteration + 1} forward-backward time: {passed} ms.", "caffe.cpp:403")
    total = clock.now() - begin
    log.info("Average time per layer: ", "caffe.cpp:406")
    share = max(iterations, 1)
    for node, there, back in zip(nodes, forward, backward, strict=True):
        log.info(f"{node.name:>10}\tforward: {log.number(there / share)} ms.", "caffe.cpp:409")
        log.info(f"{node.name:>10}\tbackward: {log.number(back / share)} ms.", "caffe.cpp:412")
    log.info(f"Average Forward pass: {log.number(sum(forward) / share)} ms.", "caffe.cpp:417")
    log.info(f"Average Backward pass: {log.number(sum(backward) / share)} ms.", "caffe.cpp:419")
    log.info(f"Average Forward-Backward: {log.number(total / share)} ms.", "caffe.cpp:421")
    log.info(f"Total Time: {log.number(total)} ms.", "caffe.cpp:423")
    log.info("*** Benchmark ends ***", "caffe.cpp:424")


class _Clock:
    """Milliseconds; on a GPU after all that was started has ended."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() * 1e3


def device_query(options: CaffeOptions) -> int:
    """Describe the CUDA devices of ``--gpu``."""
    if not options.gpu:
        raise UsageError("--gpu is needed: numbers of devices to describe, or 'all'")
    devices = several(options.gpu)
    log.info(f"Querying GPUs {options.gpu}", "caffe.cpp:138")
    for device in devices:
        found = torch.cuda.get_device_properties(device)
        for name, value in (
            ("Device id", device.index),
            ("Major revision number", found.major),
            ("Minor revision number", found.minor),
            ("Name", found.name),
            ("Total global memory", found.total_memory),
            ("Number of multiprocessors", found.multi_processor_count),
        ):
            log.info(f"{name + ':':<31}{value}", "common.cpp:178")
    return 0


def _engine(options: CaffeOptions, phase: str, weights: Sequence[str]) -> BlobNet:
    """The net of ``--model`` on the device of ``--gpu``."""
    device = next(iter(several(options.gpu)), torch.device("cpu"))
    if options.iterations < 0:
        raise UsageError(f"--iterations is {options.iterations}, expected 0 or more")
    if device.type == "cuda":
        log.info(f"Use GPU with device ID {device.index}", "caffe.cpp:275")
        log.info(f"GPU device name: {torch.cuda.get_device_name(device)}", "caffe.cpp:279")
    else:
        log.info("Use CPU.", "caffe.cpp:284")
    stages = stages_flag(options.stage)
    net: Net = load_net(options.model, weights, phase, options.level, stages, strict=False, dialect=options.dialect)
    net = net.to(device)
    set_workers([net], options.workers)
    log_structure(net)
    engine = BlobNet(net, keep_graph=False)
    DebugInfo(engine, net.description.debug_info)
    return engine
