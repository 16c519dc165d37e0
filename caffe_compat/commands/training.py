"""What ``tools/train_net.py`` and ``tools/caffe.py train`` do."""

from __future__ import annotations

import logging
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from caffe_compat import log
from caffe_compat.commands.describing import describe_snapshots
from caffe_compat.commands.loading import Waiting, data_layers, set_workers
from caffe_compat.commands.processes import seen
from caffe_compat.commands.training_builds import DETECTOR_ITERS, Task, TrainOptions, built, prepared, weights_given
from caffe_compat.commands.training_checks import check_start, shorten_tests
from caffe_compat.detection.net_files import test_database
from caffe_compat.distributed.group import Group
from caffe_compat.distributed.same import check_same
from caffe_compat.distributed.several import LostError, join
from caffe_compat.errors import SolverError, in_file, printable
from caffe_compat.ranks import here
from caffe_compat.resources import program
from caffe_compat.solver.config import weight_files
from caffe_compat.solver.joining import join as join_solver
from caffe_compat.solver.metrics import metrics_path, record_metrics
from caffe_compat.solver.signals import SignalHandler
from caffe_compat.solver.solver import Solver
from caffe_compat.transfer.files import after_training

__all__ = ["DETECTOR_ITERS", "TrainOptions", "train"]


def train(options: TrainOptions) -> int:
    """Train as the options say, with the other processes that torchrun has started, if there are some.

    Of several processes rank 0 logs, writes and prints.

    Returns:
        0 when ``max_iter`` was reached; when a signal stopped it before, 128 + its number, as shells have it: 130 for
        Ctrl-C, 143 for SIGTERM.

    Raises:
        CaffeCompatError: naming the file, layer or field that is wrong.
    """
    ranks = here()
    if ranks.is_first:
        log.to_stderr()
    else:
        log.to_stderr(logging.ERROR)
    with join(ranks) as group, group.watched():
        return _train(options, group)


def _train(options: TrainOptions, group: Group) -> int:
    with group.together():
        task = prepared(options, group.ranks)
        handler = SignalHandler(options.sigint_effect, options.sighup_effect)
    task = _agreed(task, group)
    solver = _start(task, group)
    options = task.options
    if options.metrics and group.ranks.is_first:
        about = {"solver": options.solver, "weights": _weights(task)}
        about |= {"amp": options.amp} if options.amp else {}
        record_metrics(solver, about, options.tensorboard)
        Waiting(solver)
    log.info("Starting Optimization", "caffe.cpp:248")
    _solve(solver, handler, options)
    stopped_by = group.highest(handler.stopped_by)
    if solver.stopped_early:
        hint = f"go on with --snapshot {solver.resume_from}" if solver.resume_from else "there is no snapshot"
        log.info(f"Stopped at iteration {solver.iter}; {hint}", "caffe.cpp:255")
        if options.tell_next and solver.resume_from:
            _print_next(group, [_again(options, solver.resume_from, group)])
        return 128 + stopped_by
    log.info("Optimization Done.", "caffe.cpp:259")
    if options.tell_next:
        _tell_next(task, solver, group)
    return 0


def _agreed(task: Task, group: Group) -> Task:
    """The same with the state that rank 0 has found and the seed that it has drawn, once all see the same files."""
    if not group.ranks.several:
        return task
    snapshot, drawn = group.same(task.options.snapshot), group.same(task.drawn)
    weights = None if snapshot else task.options.weights
    task = replace(task, options=replace(task.options, snapshot=snapshot, weights=weights), drawn=drawn)
    with group.together():
        facts = dict(seen(task.param, _weights(task), snapshot, task.imdb))
    check_same(group, facts)
    return task


def _weights(task: Task) -> list[str]:
    """The files that a training starts from."""
    return weights_given(task.options) or weight_files(task.param)


def _start(task: Task, group: Group) -> Solver:
    """The solver where its training starts or goes on, with the others of a group."""
    options = task.options
    solver: Solver | None = None
    mine = 0 if group.ranks.is_first or task.imdb is None else 1  # rank 0 computes what the others find in files
    for turn in range(2 if group.ranks.several else 1):
        with group.together(patient=True):
            if turn == mine:
                solver = built(task)
    assert solver is not None
    with group.together():
        if task.imdb is None:
            describe_snapshots(solver, options.solver)
        set_workers([solver.net, *solver.test_nets], options.workers)
        solver.stop_at_nan, solver.amp = options.stop_at_nan, options.amp
        if options.stop_at_nan and task.imdb is None and not options.snapshot:
            given = weights_given(options)
            check_start(solver, weight_files(task.param) if given is None else given)
        if options.stop_at_nan:
            shorten_tests(solver)
    with in_file(options.solver):
        join_solver(solver, group)
    with group.together():
        if options.snapshot:
            log.info(f"Resuming from {options.snapshot}", "caffe.cpp:242")
            solver.restore(options.snapshot)
    return solver


def _solve(solver: Solver, handler: SignalHandler, options: TrainOptions) -> None:
    start = time.perf_counter()
    with in_file(options.solver), handler, _progress(solver):
        solver.poll = handler.poll
        try:
            solver.solve()
        except LostError as error:
            last = solver.resume_from or options.snapshot
            hint = f"the last snapshot is {last}" if last else "there is no snapshot"
            raise LostError(f"{error.message}; {hint}") from error
        except SolverError:
            if last := solver.resume_from or options.snapshot:
                log.info(f"The last snapshot is {last}", "solver.cpp:447")
            raise
        finally:  # what was read ahead nobody wants
            for layer in data_layers([solver.net, *solver.test_nets]):
                layer.close()
    if options.metrics:
        _tell_waiting(solver, time.perf_counter() - start)


def _tell_next(task: Task, solver: Solver, group: Group) -> None:
    """The commands that come next, where the files for them stand beside the solver."""
    options = task.options
    folder = Path(options.solver).parent
    model = f"{solver.param.snapshot_prefix}_iter_{solver.iter}.caffemodel"
    test = folder / "test.prototxt"
    commands: list[str] = []
    if options.imdb is not None and test.exists():
        words = ["--def", str(test), "--net", model, "--imdb", test_database(options.imdb)]
        words += ["--cfg", options.cfg] if options.cfg else []
        words += ["--set", *options.pairs] if options.pairs else []
        if task.masks:
            words += ["--sds", "1", "--sds_detection_file", "detections.npz"]
        elif options.proposals:
            words += ["--proposals", options.proposals]
        commands.append(f"{program('test_net')} {shlex.join(words)}")
    elif options.imdb is None and (folder / "student_deploy.prototxt").exists() and os.path.exists(model):
        commands += after_training(folder, model, (folder / "surgery.json").exists())
    metrics = metrics_path(solver.param.snapshot_prefix)
    if options.metrics and metrics.exists():
        commands.append(f"{program('report')} {shlex.quote(str(metrics))}")
    _print_next(group, commands)


def _print_next(group: Group, commands: Sequence[str]) -> None:
    if commands and group.ranks.is_first:
        print(printable("\n".join(["next:", *(f"  {command}" for command in commands)])))


def _again(options: TrainOptions, state: str, group: Group) -> str:
    """The command that goes on from a snapshot, with as many processes."""
    words = ["--solver", options.solver, "--snapshot", state]
    for name in ("gpu", "iters", "imdb", "cfg", "proposals", "dialect", "workers"):
        value = getattr(options, name)
        words += [f"--{name}", str(value)] if value not in (None, "") else []
    words += ["--parity"] if options.parity else []
    words += ["--amp", options.amp] if options.amp else []
    words += [] if options.tensorboard else ["--no-tensorboard"]
    words += ["--set", *options.pairs] if options.pairs else []
    several = [str(group.ranks.world)] if group.ranks.several else []
    if several and "TORCHELASTIC_RUN_ID" in os.environ:
        local = os.environ.get("LOCAL_WORLD_SIZE", several[0])
        return f"torchrun --nproc-per-node {local} {program('train_net')} {shlex.join(words)}"
    words += ["--processes", *several] if several else []
    return f"{program('train_net')} {shlex.join(words)}"


def _tell_waiting(solver: Solver, seconds: float) -> None:
    """How long training waited for what its data layers read."""
    for layer in data_layers([solver.net]):
        part = 100 * layer.waited / seconds if seconds > 0 else 0.0
        log.info(
            f"Waited {layer.waited:.2f} s of {seconds:.1f} s ({part:.1f} %) for minibatches of layer '{layer.name}'",
            "train.py:0",
        )


def _progress(solver: Solver) -> tqdm[None]:
    """A bar on standard error where that is a terminal."""
    hidden = not sys.stderr.isatty() or not solver.group.ranks.is_first
    bar: tqdm[None] = tqdm(total=solver.param.max_iter, initial=solver.iter, unit="it", disable=hidden, leave=False)

    known = False

    def update(iteration: int, loss: float) -> None:
        nonlocal known
        known = known or not math.isnan(loss)
        if known:  # before that NaN is what a GPU still computes
            bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
        bar.update(1)

    solver.on_iteration = update
    return bar
