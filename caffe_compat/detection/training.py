"""Training a Fast R-CNN detector: an image database and a solver's net brought together.

Source: ``tools/train_net.py`` and ``fast_rcnn/train.py`` of the ``distillation`` branch.  The solver is Caffe's; added
are the data, the snapshots, and what is refused before hours are spent.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffe_compat import log
from caffe_compat.config import Config, write_config
from caffe_compat.datasets.imdb import ImageDatabase, ProposalSource
from caffe_compat.datasets.pictures import check_pictures
from caffe_compat.detection.checks import check_net, fixed_statistics, object_layers, region_layers
from caffe_compat.detection.description import describe_detector
from caffe_compat.detection.roidb import Roidb, build_roidb
from caffe_compat.detection.sampling import Minibatches, has_foreground
from caffe_compat.detection.snapshots import RegressionSnapshots
from caffe_compat.detection.targets import target_statistics
from caffe_compat.detection.whole_images import WholeImages, ground_truth_roidb
from caffe_compat.errors import DataError, SolverError, UsageError
from caffe_compat.layers.data.prefetch import usual_depth
from caffe_compat.layers.rpn_targets import ProposalTargetLayer
from caffe_compat.media import Preparation, describe_weights
from caffe_compat.net import Net
from caffe_compat.net.weights import blobs_in
from caffe_compat.solver import Solver, solver_class
from caffe_compat.solver.config import weight_files

__all__ = ["DetectorRun", "detector_solver", "output_folder", "set_snapshots", "training_settings"]

_FREE = {"TRAIN.SNAPSHOT_ITERS", "TRAIN.SNAPSHOT_INFIX", "TRAIN.USE_PREFETCH", "EXP_DIR", "ROOT_DIR", "DEDUP_BOXES"}
"""Options on which no minibatch depends; nor does one on those of testing."""


def _plainly(items: Sequence[Any], what: str) -> Iterable[Any]:
    return items


@dataclasses.dataclass(frozen=True, eq=False)
class DetectorRun:
    """What is trained on, and how.

    Args:
        imdb: the images.
        config: the options; RNG_SEED seeds the minibatches.
        proposals: gives those to use instead of the database's own; called once net and pictures were checked, since
            it may compute for long.
        weights: files to start from; None: those that the solver names.
        resumed: whether a snapshot will be restored, so that no weights are needed.
        track: goes through images one by one and shows that it does, under a name.
    """

    imdb: ImageDatabase
    config: Config
    proposals: Callable[[], ProposalSource] | None = None
    weights: Sequence[str] | None = None
    resumed: bool = False
    track: Callable[[Sequence[Any], str], Iterable[Any]] = _plainly


def output_folder(config: Config, imdb: ImageDatabase) -> Path:
    """Where results of a database stand: ``output/EXP_DIR/IMDB`` below ROOT_DIR."""
    return Path(config.root_dir or ".") / "output" / config.exp_dir / imdb.name


def set_snapshots(param: Any, config: Config, folder: Path) -> None:
    """Have a solver write ``fast_rcnn[_INFIX]_iter_N`` into a folder, every TRAIN.SNAPSHOT_ITERS and at the end.

    Args:
        param: the ``SolverParameter``; changed.

    Raises:
        SolverError: it asks for snapshots of its own.
    """
    if param.snapshot:
        raise SolverError(
            f"snapshot is {param.snapshot}; a detector's snapshots are written every TRAIN.SNAPSHOT_ITERS "
            f"({config.train.snapshot_iters}), leave it out"
        )
    infix = f"_{config.train.snapshot_infix}" if config.train.snapshot_infix else ""
    param.snapshot_prefix = str(folder / (Path(param.snapshot_prefix).name or "fast_rcnn")) + infix
    param.snapshot, param.snapshot_after_train = config.train.snapshot_iters, True


def training_settings(run: DetectorRun, random_seed: int) -> dict[str, Any]:
    """All on which minibatches and dropout depend, as JSON holds it: what a snapshot must share to go on from it."""
    options = {key: value for key, value in run.config.items().items() if not key.startswith(("TEST.", "SDS."))}
    settings = {key: value for key, value in options.items() if key not in _FREE}
    if not run.config.modality_means:  # older snapshots do not know of it
        del settings["MODALITY_MEANS"]
    settings |= {"imdb": run.imdb.name, "random_seed": random_seed}
    held: dict[str, Any] = json.loads(json.dumps(settings))
    return held


def detector_solver(param: Any, run: DetectorRun, device: torch.device | str | None = None) -> Solver:
    """The solver of a detector, fed with minibatches of an image database.

    Args:
        param: an upgraded ``SolverParameter``, its snapshots as :func:`set_snapshots` leaves them.

    Raises:
        CaffeCompatError: the net does not fit the database, or nothing could be learned; names layer, image or option.
    """
    solver = solver_class(param)(param, run.weights, device)
    files = list(weight_files(param) if run.weights is None else run.weights)
    names = run.config.train.bbox_pred_param_names if run.config.train.bbox_reg else ()
    proposing = object_layers(solver.net)
    targets = [node.layer for node in solver.net.nodes if isinstance(node.layer, ProposalTargetLayer)]
    if proposing and not targets:  # it learns to propose regions, and nothing else
        names = ()
    check_net(solver.net, run.imdb, names)
    if not run.resumed:
        _check_start(solver.net, blobs_in(files))
    ahead = usual_depth() if run.config.train.use_prefetch else 0
    if proposing:
        images = _whole_images(run)
        statistics = fixed_statistics(targets, images.num_classes)
        for fed in proposing:
            fed.feed(images, ahead)
            fed.samples = int(images.sampler.valid.sum())
    else:
        minibatches = _minibatches(run)
        statistics = minibatches.statistics
        for layer in region_layers(solver.net):
            layer.feed(minibatches, ahead)
            layer.samples = int(minibatches.sampler.valid.sum())
    RegressionSnapshots(solver, names, statistics, training_settings(run, param.random_seed))
    _write_config_once(solver, run)
    wanted = describe_detector(run.imdb, run.config)
    solver.on_weights = lambda weights: _describe(weights, wanted)
    return solver


def _describe(weights: str, wanted: Preparation) -> None:
    describe_weights(weights, wanted)


def _minibatches(run: DetectorRun) -> Minibatches:
    imdb, config = run.imdb, run.config
    log.info(f"Preparing training data of {imdb.name}", "train.py:0")
    check_pictures(imdb.name, run.track(imdb.records, "pictures"), imdb.modalities)
    roidb = build_roidb(imdb, config, None if run.proposals is None else run.proposals(), run.track)
    _check_foreground(roidb, run)
    log.info(f"{len(roidb)} roidb entries, {sum(len(image.boxes) for image in roidb.images)} regions", "train.py:0")
    left_out = sum(len(image.record.classes or ()) - np.count_nonzero(image.gt_classes) for image in roidb.images)
    if left_out:
        log.info(f"{left_out} objects without width or height are left out", "train.py:0")
    log.info("Computing bounding-box regression targets", "train.py:0")
    statistics = target_statistics(run.track(roidb, "targets"), len(imdb.classes) + 1, config)
    minibatches = Minibatches(roidb, imdb.modalities, config, statistics)
    used = int(minibatches.sampler.valid.sum())
    if used < len(roidb):
        log.info(f"{len(roidb) - used} of {len(roidb)} roidb entries have no regions to train on", "train.py:0")
    return minibatches


def _whole_images(run: DetectorRun) -> WholeImages:
    """The images of a net that proposes regions itself."""
    imdb = run.imdb
    log.info(f"Preparing training data of {imdb.name}", "train.py:0")
    check_pictures(imdb.name, run.track(imdb.records, "pictures"), imdb.modalities)
    images = WholeImages(ground_truth_roidb(imdb, run.config, run.track), imdb, run.config)
    used = int(images.sampler.valid.sum())
    log.info(f"{used} of {len(images.roidb)} roidb entries have objects", "train.py:0")
    return images


def _check_foreground(roidb: Roidb, run: DetectorRun) -> None:
    train = run.config.train
    if not any(has_foreground(image.max_overlaps, train).any() for image in roidb.images):
        raise DataError(
            f"{run.imdb.name}: no region of its {len(roidb.images)} images overlaps an object by TRAIN.FG_THRESH, "
            f"{train.fg_thresh:g}, or more: there is nothing to learn"
        )


def _write_config_once(solver: Solver, run: DetectorRun) -> None:
    """Write options beside the snapshots when the first iteration begins: now no other run writes there."""
    config = run.config
    infix = f"_{config.train.snapshot_infix}" if config.train.snapshot_infix else ""
    path = Path(solver.param.snapshot_prefix).parent / f"config{infix}.yml"

    written: list[Path] = []

    def write() -> None:
        if not written and solver.group.ranks.is_first:
            write_config(path, config)
            written.append(path)

    solver.on_start.append(write)


# -- what is refused --------------------------------------------------------------------------------------------------


def _check_start(net: Net, filled: Mapping[str, set[int]]) -> None:
    """Refuse to train layers that start at 0: no weights given, and no filler (the released nets have none); or several
    whose given weights are 0, as net surgery leaves layers of a test net that nothing was copied into.
    """
    known = {node.name: node.layer for node in net.nodes}
    empty, zero = [], []
    for learnable in net.learnables:
        layer = known[learnable.layer]
        if learnable.index or not layer.filler_section:
            continue
        if learnable.index in filled.get(learnable.layer, ()):
            zero += [] if learnable.parameter.detach().any() else [learnable.layer]
            continue
        if not layer.params.section(layer.filler_section).has("weight_filler"):
            empty.append(learnable.layer)
    for layers, why in (
        (empty, "they have no weight_filler, and no weights are given; start from --weights"),
        (zero if len(zero) > 1 else [], "--weights holds nothing else for them; leave them out of that file"),
    ):
        if layers:
            names = ", ".join(layers[:8]) + (f" and {len(layers) - 8} more" if len(layers) > 8 else "")
            raise UsageError(
                f"net '{net.description.name}': {names} would start with weights of 0 and learn nothing: {why}"
            )
