"""Training a Fast R-CNN detector: an image database and a solver's net brought together.

Source: ``tools/train_net.py`` and ``fast_rcnn/train.py`` of the ``distillation`` branch.  The solver is Caffe's; added
are the data, the snapshots, and what is refused before hours are spent.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffe_compat import log
from caffe_compat.config import Config, write_config
from caffe_compat.datasets.imdb import ImageDatabase, ProposalSource
from caffe_compat.datasets.pictures import check_pictures
from caffe_compat.detection.description import describe_detector
from caffe_compat.detection.roidb import Roidb, build_roidb
from caffe_compat.detection.sampling import Minibatches, has_foreground
from caffe_compat.detection.snapshots import RegressionSnapshots
from caffe_compat.detection.targets import target_statistics
from caffe_compat.errors import DataError, SolverError, UsageError, nearest
from caffe_compat.layers.data import RegionData
from caffe_compat.layers.data.prefetch import usual_depth
from caffe_compat.media import Preparation, describe_weights
from caffe_compat.net import Net
from caffe_compat.net.plan import Node
from caffe_compat.net.weights import blobs_in
from caffe_compat.solver import Solver, solver_class
from caffe_compat.solver.config import weight_files

__all__ = ["DetectorRun", "detector_solver", "output_folder", "region_layers", "set_snapshots", "training_settings"]

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
    _check_net(solver.net, run.imdb, names)
    if not run.resumed:
        _check_start(solver.net, blobs_in(files))
    minibatches = _minibatches(run)
    for layer in region_layers(solver.net):
        layer.feed(minibatches, usual_depth() if run.config.train.use_prefetch else 0)
        layer.samples = int(minibatches.sampler.valid.sum())
    RegressionSnapshots(solver, names, minibatches.statistics, training_settings(run, param.random_seed))
    _write_config_once(solver, run)
    wanted = describe_detector(run.imdb, run.config)
    solver.on_weights = lambda weights: _describe(weights, wanted)
    return solver


def _describe(weights: str, wanted: Preparation) -> None:
    describe_weights(weights, wanted)


def region_layers(net: Net) -> list[RegionData]:
    """The layers of a net that are fed with regions."""
    return [node.layer for node in net.nodes if isinstance(node.layer, RegionData)]


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


def _check_net(net: Net, imdb: ImageDatabase, names: Sequence[str]) -> None:
    """Refuse a net without regions, or with heads for other classes."""
    layers = region_layers(net)
    labels = len(imdb.classes) + 1
    if not layers:
        raise UsageError(
            f"--imdb: net '{net.description.name}' has no layer RoIDataLayerPi or RoIDataLayer that {imdb.name} could "
            "feed"
        )
    for layer in layers:
        _check_count(layer, imdb)
    known = {node.name: node for node in net.nodes}
    for name in names:
        if name not in known:
            raise UsageError(
                f"TRAIN.BBOX_PRED_PARAM_NAMES has '{name}', net '{net.description.name}' has no such layer"
                f"{nearest(name, known)}"
            )
        shapes = known[name].layer.blob_shapes
        if len(shapes) != 2 or shapes[0][0] != 4 * labels:
            raise known[name].layer.error(
                f"is in TRAIN.BBOX_PRED_PARAM_NAMES and has blobs of shapes {[list(shape) for shape in shapes]}, "
                f"expected weights and biases of {4 * labels} outputs, 4 for each of {labels} labels ({imdb.name})"
            )
    for node, have, expected in _heads(net, labels):
        if have != expected:
            raise node.layer.error(
                f"gives {have} numbers for a region, expected {expected}: {imdb.name} has {len(imdb.classes)} classes "
                "and the background"
            )


def _check_count(layer: RegionData, imdb: ImageDatabase) -> None:
    if layer.num_classes != len(imdb.classes) + 1:
        raise layer.error(
            f"param_str has num_classes {layer.num_classes}, expected {len(imdb.classes) + 1}: {imdb.name} has "
            f"{len(imdb.classes)} classes and the background"
        )
    if layer.num_data != len(imdb.modalities):
        raise layer.error(
            f"param_str has num_data {layer.num_data}, expected {len(imdb.modalities)}: the images of {imdb.name} are "
            f"{'+'.join(imdb.modalities)}"
        )


def _heads(net: Net, labels: int) -> Iterator[tuple[Node, int, int]]:
    """Layers whose top is compared with labels or targets: how many numbers it gives for a region, and is to give."""
    source = {blob: blob for blob in range(len(net.plan.names))}
    maker: dict[int, Node] = {}
    wanted: dict[int, int] = {}
    for node in net.nodes:
        bottoms = [source[blob] for blob in node.bottom_ids]
        if isinstance(node.layer, RegionData):
            for blob, count in zip(node.top_ids[node.layer.num_data + 1 :], (labels, 4 * labels), strict=False):
                wanted[blob] = count
        for compared in bottoms[1:]:
            shape = net.plan.shapes[bottoms[0]]
            if compared in wanted and bottoms[0] in maker and len(shape) > 1:
                yield maker[bottoms[0]], shape[1], wanted[compared]
        for blob in node.top_ids:
            if node.description.is_split:
                source[blob] = bottoms[0]
            elif node.layer.has_blobs or blob not in maker:
                maker[blob] = node


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
