"""What a training is made of: the solver file with the options of the command line, the images, the solver."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from caffe_compat import log
from caffe_compat.config import Config, load_config, without_detection
from caffe_compat.datasets import ImageDatabase, find_imdb
from caffe_compat.datasets.imdb import ProposalSource
from caffe_compat.detection.proposals import proposal_source
from caffe_compat.detection.snapshots import check_regression, read_regression, regression_path
from caffe_compat.detection.training import DetectorRun, detector_solver, output_folder, set_snapshots
from caffe_compat.devices import choose, own_device
from caffe_compat.errors import SolverError, UsageError, in_file
from caffe_compat.proto import caffe_pb2, read_solver
from caffe_compat.proto.forks import check_dialect
from caffe_compat.ranks import Ranks, here
from caffe_compat.segmentation.training import (
    MaskRun,
    check_settings_file,
    mask_solver,
    named_database,
    read_settings,
    set_prefix,
)
from caffe_compat.solver.resume import newest_state
from caffe_compat.solver.rules import solver_class
from caffe_compat.solver.solver import Solver

__all__ = ["DETECTOR_ITERS", "Task", "TrainOptions", "built", "prepared", "weights_given"]

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
    gpu: str | int | None = None
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


@dataclass(frozen=True)
class Task:
    """A training that is about to be built.

    Args:
        options: with the state to go on from in ``snapshot``, if there is one.
        param: the ``SolverParameter``, with what the options change in it.
        config: the options of detection and segmentation.
        imdb: the images of a detector or of a mask net; None: the net reads its own data.
        masks: whether it is a mask net.
        drawn: a random seed, the same in all processes.
        ranks: which process this is.
    """

    options: TrainOptions
    param: caffe_pb2.SolverParameter
    config: Config
    imdb: ImageDatabase | None
    masks: bool
    drawn: int
    ranks: Ranks


def prepared(options: TrainOptions, ranks: Ranks) -> Task:
    """Read what the options name; nothing is built.

    Raises:
        CaffeCompatError: naming the file, the field or the option that is wrong.
    """
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
    return Task(options, param, config, imdb, masks is not None, secrets.randbits(31), ranks)


def built(task: Task) -> Solver:
    """The solver, at its start."""
    if task.imdb is None:
        return _build(task)
    return (_build_masks if task.masks else _build_detector)(task, task.imdb)


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


def _build(task: Task) -> Solver:
    options, param, config = task.options, task.param, task.config
    without_detection(config)
    if options.proposals is not None:
        raise UsageError("--proposals: only detection training (--imdb) reads this")
    if options.rand:
        param.random_seed = -1
    elif param.random_seed < 0 and options.default_seed:
        param.random_seed = config.rng_seed
    if param.random_seed < 0 and task.ranks.several:
        param.random_seed = task.drawn
        log.info(f"random_seed {task.drawn} was drawn for {task.ranks.world} processes", "train_net.py:0")
    if options.level is not None:
        param.train_state.level = options.level
    param.train_state.stage.extend(options.stages)
    with in_file(options.solver):
        if param.snapshot_prefix:
            _make_folder(param.snapshot_prefix)
        return solver_class(param)(param, weights_given(options), _device(task))


def _build_detector(task: Task, imdb: ImageDatabase) -> Solver:
    options, param, config = task.options, task.param, task.config
    if options.iters is None and not param.HasField("max_iter"):
        param.max_iter = DETECTOR_ITERS
    stored = read_regression(regression_path(options.snapshot)).settings if options.snapshot else None
    config = _seeded(task, stored)
    cache = Path(config.root_dir or ".") / "data" / "cache"

    def proposals() -> ProposalSource:
        return proposal_source(imdb, options.proposals, cache)

    run = DetectorRun(imdb, config, proposals, weights_given(options), options.snapshot is not None, _track)
    with in_file(options.solver):
        _make_folder(param.snapshot_prefix)
        return detector_solver(param, run, _device(task))


def _build_masks(task: Task, imdb: ImageDatabase) -> Solver:
    options, param, config = task.options, task.param, task.config
    config = _seeded(task, read_settings(options.snapshot) if options.snapshot else None)
    cache = Path(config.root_dir or ".") / "data" / "cache"

    def proposals() -> ProposalSource:
        return proposal_source(imdb, options.proposals, cache)

    own = proposals if options.proposals is not None or imdb.proposals is not None else None
    run = MaskRun(imdb, config, own, weights_given(options), options.snapshot is not None, _track)
    with in_file(options.solver):
        _make_folder(param.snapshot_prefix)
        return mask_solver(param, run, _device(task))


def _seeded(task: Task, settings: Mapping[str, Any] | None) -> Config:
    """The options with the seed of the minibatches, and the solver with its own: drawn now, or a snapshot's."""
    options, param, config = task.options, task.param, task.config
    if options.snapshot and settings is not None:
        seed, own = settings.get("RNG_SEED"), settings.get("random_seed")
        if not isinstance(seed, int) or not isinstance(own, int):
            raise SolverError(f"{options.snapshot}: what stands beside it does not hold the seeds of the run")
        if seed != config.rng_seed:
            log.info(f"RNG_SEED is {seed}, that of the snapshot", "train_net.py:0")
        param.random_seed = own
        return replace(config, rng_seed=seed)
    if options.rand:
        config = replace(config, rng_seed=task.drawn)
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


def weights_given(options: TrainOptions) -> list[str] | None:
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


def _device(task: Task) -> torch.device:
    """``--gpu``; without it what ``solver_mode`` asks for, where the machine has it: of several processes each has its
    own."""
    param, ranks = task.param, task.ranks
    device = torch.device("cpu")
    if task.options.gpu is not None:
        device = own_device(str(task.options.gpu), ranks)
    elif param.HasField("solver_mode") and param.solver_mode == caffe_pb2.SolverParameter.GPU:
        number = ranks.local if ranks.several else param.device_id
        try:
            device = choose(number, "solver_mode: GPU")
        except UsageError as error:
            if ranks.several and torch.cuda.is_available():
                raise
            log.warning(f"{error}", "caffe.cpp:218")
        else:
            log.info(f"Using GPUs {number}", "caffe.cpp:218")
    if device.type == "cpu":
        log.info("Use CPU.", "caffe.cpp:211")
    return device


def _track(items: Sequence[T], what: str) -> Iterable[T]:
    """A bar over preparations, on standard error where that is a terminal."""
    bar: Iterable[T] = tqdm(
        items, what, unit="image", disable=not (sys.stderr.isatty() and here().is_first), leave=False
    )
    return bar
