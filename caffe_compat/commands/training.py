"""What ``tools/train_net.py`` and ``tools/caffe.py train`` do."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from caffe_compat import log
from caffe_compat.commands.describing import describe_snapshots
from caffe_compat.commands.loading import Waiting, data_layers, set_workers
from caffe_compat.commands.training_checks import check_start, shorten_tests
from caffe_compat.config import Config, load_config, without_detection
from caffe_compat.datasets import ImageDatabase, find_imdb
from caffe_compat.datasets.imdb import ProposalSource
from caffe_compat.detection.net_files import test_database
from caffe_compat.detection.proposals import proposal_source
from caffe_compat.detection.snapshots import check_regression, read_regression, regression_path
from caffe_compat.detection.training import (
    DetectorRun,
    detector_solver,
    output_folder,
    set_snapshots,
)
from caffe_compat.devices import choose
from caffe_compat.errors import SolverError, UsageError, in_file, printable
from caffe_compat.proto import caffe_pb2, read_solver
from caffe_compat.proto.forks import check_dialect
from caffe_compat.resources import program
from caffe_compat.segmentation.training import (
    MaskRun,
    check_settings_file,
    mask_solver,
    named_database,
    read_settings,
    set_prefix,
)
from caffe_compat.solver.config import weight_files
from caffe_compat.solver.metrics import metrics_path, record_metrics
from caffe_compat.solver.resume import newest_state
from caffe_compat.solver.rules import solver_class
from caffe_compat.solver.signals import SignalHandler
from caffe_compat.solver.solver import Solver
from caffe_compat.transfer.files import after_training

__all__ = ["DETECTOR_ITERS", "TrainOptions", "train"]

T = TypeVar("T")

DETECTOR_ITERS = 40000
"""Iterations of a detector's training where neither ``--iters`` nor ``max_iter`` says how many, as in the branch."""


@dataclass(frozen=True)
class TrainOptions:
    """The command line of ``train_net.py``; see its help.

    ``caffe train`` has ``level`` and ``stages`` (for the train net; the level replaces that of the solver's
    ``train_state``), does not seed where the solver has no seed (``default_seed``), goes on with a loss that is not
    finite and with weights that do not fit (``stop_at_nan``), writes no file and no line that Caffe would not
    (``metrics``) and does not print what comes next (``tell_next``).
    """

    solver: str
    gpu: int | None = None
    iters: int | None = None
    weights: str | None = None
    snapshot: str | None = None
    resume: bool = False
    cfg: str | None = None
    pairs: list[str] = field(default_factory=list)
    imdb: str | None = None
    parity: bool = False
    proposals: str | None = None
    rand: bool = False
    sigint_effect: str = "stop"
    sighup_effect: str = "snapshot"
    level: int | None = None
    stages: tuple[str, ...] = ()
    dialect: str = ""
    default_seed: bool = True
    stop_at_nan: bool = True
    metrics: bool = True
    tell_next: bool = True
    tensorboard: bool = True
    amp: str = ""
    workers: str | None = None


def train(options: TrainOptions) -> int:
    """Train as the options say.

    Returns:
        0 when ``max_iter`` was reached; when a signal stopped it before, 128 + its number, as shells have it: 130 for
        Ctrl-C, 143 for SIGTERM.

    Raises:
        CaffeCompatError: naming the file, layer or field that is wrong.
    """
    log.to_stderr()
    if options.weights and options.snapshot:
        raise UsageError("give --weights to start from weights or --snapshot to resume, not both")
    config = load_config(options.cfg, options.pairs, options.parity or None)
    param = _read_solver(options)
    with in_file(options.solver):
        masks = named_database(param)
    name = options.imdb or masks
    imdb = None if name is None else find_imdb(name, config.root_dir or ".")
    if imdb is not None and (options.imdb is not None or masks is None):
        with in_file(options.solver):
            folder = output_folder(config, imdb)
            set_snapshots(param, config, folder) if masks is None else set_prefix(param, folder)
    if options.resume:
        options = _resumed(options, param.snapshot_prefix, masks is not None)
    handler = SignalHandler(options.sigint_effect, options.sighup_effect)
    if imdb is None:
        solver = _build(options, param, config)
    else:
        solver = (_build_detector if masks is None else _build_masks)(options, param, config, imdb)
    set_workers([solver.net, *solver.test_nets], options.workers)
    if imdb is None:
        describe_snapshots(solver, options.solver)
    solver.stop_at_nan, solver.amp = options.stop_at_nan, options.amp
    if options.stop_at_nan and imdb is None and not options.snapshot:
        given = _weights(options)
        check_start(solver, weight_files(param) if given is None else given)
    if options.stop_at_nan:
        shorten_tests(solver)
    if options.snapshot:
        log.info(f"Resuming from {options.snapshot}", "caffe.cpp:242")
        solver.restore(options.snapshot)
    if options.metrics:
        about = {"solver": options.solver, "weights": _weights(options) or weight_files(param)}
        about |= {"amp": options.amp} if options.amp else {}
        record_metrics(solver, about, options.tensorboard)
        Waiting(solver)
    log.info("Starting Optimization", "caffe.cpp:248")
    _solve(solver, handler, options)
    if solver.stopped_early:
        hint = f"go on with --snapshot {solver.resume_from}" if solver.resume_from else "there is no snapshot"
        log.info(f"Stopped at iteration {solver.iter}; {hint}", "caffe.cpp:255")
        if options.tell_next and solver.resume_from:
            _print_next([_again(options, solver.resume_from)])
        return 128 + handler.stopped_by
    log.info("Optimization Done.", "caffe.cpp:259")
    if options.tell_next:
        _tell_next(options, solver, masks is not None)
    return 0


def _solve(solver: Solver, handler: SignalHandler, options: TrainOptions) -> None:
    start = time.perf_counter()
    with in_file(options.solver), handler, _progress(solver):
        solver.poll = handler.poll
        try:
            solver.solve()
        except SolverError:
            if last := solver.resume_from or options.snapshot:
                log.info(f"The last snapshot is {last}", "solver.cpp:447")
            raise
    if options.metrics:
        _tell_waiting(solver, time.perf_counter() - start)


def _tell_next(options: TrainOptions, solver: Solver, masks: bool) -> None:
    """The commands that come next, where the files for them stand beside the solver."""
    folder = Path(options.solver).parent
    model = f"{solver.param.snapshot_prefix}_iter_{solver.iter}.caffemodel"
    test = folder / "test.prototxt"
    commands: list[str] = []
    if options.imdb is not None and test.exists():
        words = ["--def", str(test), "--net", model, "--imdb", test_database(options.imdb)]
        words += ["--cfg", options.cfg] if options.cfg else []
        words += ["--set", *options.pairs] if options.pairs else []
        if masks:
            words += ["--sds", "1", "--sds_detection_file", "detections.npz"]
        elif options.proposals:
            words += ["--proposals", options.proposals]
        commands.append(f"{program('test_net')} {shlex.join(words)}")
    elif options.imdb is None and (folder / "student_deploy.prototxt").exists() and os.path.exists(model):
        commands += after_training(folder, model, (folder / "surgery.json").exists())
    metrics = metrics_path(solver.param.snapshot_prefix)
    if options.metrics and metrics.exists():
        commands.append(f"{program('report')} {shlex.quote(str(metrics))}")
    _print_next(commands)


def _print_next(commands: Sequence[str]) -> None:
    if commands:
        print(printable("\n".join(["next:", *(f"  {command}" for command in commands)])))


def _again(options: TrainOptions, state: str) -> str:
    """The command that goes on from a snapshot."""
    words = ["--solver", options.solver, "--snapshot", state]
    for name in ("gpu", "iters", "imdb", "cfg", "proposals", "dialect", "workers"):
        value = getattr(options, name)
        words += [f"--{name}", str(value)] if value not in (None, "") else []
    words += ["--parity"] if options.parity else []
    words += ["--amp", options.amp] if options.amp else []
    words += [] if options.tensorboard else ["--no-tensorboard"]
    words += ["--set", *options.pairs] if options.pairs else []
    return f"{program('train_net')} {shlex.join(words)}"


def _resumed(options: TrainOptions, prefix: str, masks: bool) -> TrainOptions:
    """The same with the newest snapshot, if there is one."""
    if options.snapshot:
        raise UsageError("give --snapshot to go on from that state or --resume to find the newest, not both")
    with in_file(options.solver):
        check = check_settings_file if masks else None if options.imdb is None else check_regression
        state = newest_state(prefix, check)
    if state is None:
        log.info(f"No snapshot of {prefix} yet; starting from the beginning", "caffe.cpp:242")
        return options
    return replace(options, snapshot=state, weights=None)


def _build(options: TrainOptions, param: caffe_pb2.SolverParameter, config: Config) -> Solver:
    without_detection(config)
    if options.proposals is not None:
        raise UsageError("--proposals: only detection training (--imdb) reads this")
    if options.rand:
        param.random_seed = -1
    elif param.random_seed < 0 and options.default_seed:
        param.random_seed = config.rng_seed
    if options.level is not None:
        param.train_state.level = options.level
    param.train_state.stage.extend(options.stages)
    with in_file(options.solver):
        if param.snapshot_prefix:
            _make_folder(param.snapshot_prefix)
        return solver_class(param)(param, _weights(options), _device(options.gpu, param))


def _build_detector(
    options: TrainOptions, param: caffe_pb2.SolverParameter, config: Config, imdb: ImageDatabase
) -> Solver:
    if options.iters is None and not param.HasField("max_iter"):
        param.max_iter = DETECTOR_ITERS
    stored = read_regression(regression_path(options.snapshot)).settings if options.snapshot else None
    config = _seeded(options, param, config, stored)
    cache = Path(config.root_dir or ".") / "data" / "cache"

    def proposals() -> ProposalSource:
        return proposal_source(imdb, options.proposals, cache)

    run = DetectorRun(imdb, config, proposals, _weights(options), options.snapshot is not None, _track)
    with in_file(options.solver):
        _make_folder(param.snapshot_prefix)
        return detector_solver(param, run, _device(options.gpu, param))


def _build_masks(
    options: TrainOptions, param: caffe_pb2.SolverParameter, config: Config, imdb: ImageDatabase
) -> Solver:
    config = _seeded(options, param, config, read_settings(options.snapshot) if options.snapshot else None)
    cache = Path(config.root_dir or ".") / "data" / "cache"

    def proposals() -> ProposalSource:
        return proposal_source(imdb, options.proposals, cache)

    own = proposals if options.proposals is not None or imdb.proposals is not None else None
    run = MaskRun(imdb, config, own, _weights(options), options.snapshot is not None, _track)
    with in_file(options.solver):
        _make_folder(param.snapshot_prefix)
        return mask_solver(param, run, _device(options.gpu, param))


def _seeded(
    options: TrainOptions, param: caffe_pb2.SolverParameter, config: Config, settings: Mapping[str, Any] | None
) -> Config:
    """The options with the seed of the minibatches, and the solver with its own: drawn now, or a snapshot's."""
    if options.snapshot and settings is not None:
        seed, own = settings.get("RNG_SEED"), settings.get("random_seed")
        if not isinstance(seed, int) or not isinstance(own, int):
            raise SolverError(f"{options.snapshot}: what stands beside it does not hold the seeds of the run")
        if seed != config.rng_seed:
            log.info(f"RNG_SEED is {seed}, that of the snapshot", "train_net.py:0")
        param.random_seed = own
        return replace(config, rng_seed=seed)
    if options.rand:
        config = replace(config, rng_seed=secrets.randbits(32))
        log.info(f"RNG_SEED {config.rng_seed} was drawn", "train_net.py:0")
    if options.rand or param.random_seed < 0:
        param.random_seed = config.rng_seed
    return config


def _read_solver(options: TrainOptions) -> caffe_pb2.SolverParameter:
    param = read_solver(options.solver)
    if options.iters is not None:
        if options.iters < 0:
            raise UsageError(f"--iters is {options.iters}, expected 0 or more")
        param.max_iter = options.iters
    if options.dialect:
        param.dialect = check_dialect(options.dialect)
    return param


def _weights(options: TrainOptions) -> list[str] | None:
    """Weight files; None for those that the solver names."""
    if options.weights:
        return [name.strip() for name in options.weights.split(",") if name.strip()]
    return [] if options.snapshot else None


def _make_folder(prefix: str) -> None:
    try:
        Path(prefix).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SolverError(
            f"snapshot_prefix is '{prefix}', cannot make its folder: {error.strerror or error}"
        ) from error


def _device(gpu: int | None, param: caffe_pb2.SolverParameter) -> torch.device:
    """``--gpu``; without it what ``solver_mode`` asks for, where the machine has it."""
    device = choose(gpu)
    wants = param.HasField("solver_mode") and param.solver_mode == caffe_pb2.SolverParameter.GPU
    if gpu is None and wants:
        try:
            device = choose(param.device_id, "solver_mode: GPU")
        except UsageError as error:
            log.warning(f"{error}", "caffe.cpp:218")
        else:
            log.info(f"Using GPUs {param.device_id}", "caffe.cpp:218")
    if device.type == "cpu":
        log.info("Use CPU.", "caffe.cpp:211")
    return device


def _tell_waiting(solver: Solver, seconds: float) -> None:
    """How long training waited for what its data layers read."""
    for layer in data_layers([solver.net]):
        part = 100 * layer.waited / seconds if seconds > 0 else 0.0
        log.info(
            f"Waited {layer.waited:.2f} s of {seconds:.1f} s ({part:.1f} %) for minibatches of layer '{layer.name}'",
            "train.py:0",
        )


def _track(items: Sequence[T], what: str) -> Iterable[T]:
    """A bar over preparations, on standard error where that is a terminal."""
    bar: Iterable[T] = tqdm(items, what, unit="image", disable=not sys.stderr.isatty(), leave=False)
    return bar


def _progress(solver: Solver) -> tqdm[None]:
    """A bar on standard error where that is a terminal."""
    bar: tqdm[None] = tqdm(
        total=solver.param.max_iter, initial=solver.iter, unit="it", disable=not sys.stderr.isatty(), leave=False
    )

    def update(iteration: int, loss: float) -> None:
        bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
        bar.update(1)

    solver.on_iteration = update
    return bar
