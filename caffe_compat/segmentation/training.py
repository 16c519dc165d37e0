"""Training the classifiers of a hypercolumn net: an image database with masks and a solver's net brought together.

Source: ``sds_train_models.sh`` of the ``sds-distillation`` branch, which runs ``caffe train`` with a layer in Python.
The solver is Caffe's; added are the data, what a snapshot needs to go on, and what is refused before hours are spent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from caffe_compat import log
from caffe_compat.config import Config, write_config
from caffe_compat.datasets.imdb import ImageDatabase, ProposalSource
from caffe_compat.datasets.pictures import check_pictures
from caffe_compat.detection.description import describe_detector
from caffe_compat.detection.snapshots import check_settings
from caffe_compat.errors import SolverError, UsageError, in_file
from caffe_compat.layers.data import HypercolumnData
from caffe_compat.layers.data.prefetch import usual_depth
from caffe_compat.media import Preparation, describe_weights
from caffe_compat.net import Net
from caffe_compat.net.pads import other_pads
from caffe_compat.net.weights import blobs_in
from caffe_compat.proto import read_net
from caffe_compat.segmentation.inference import check_cells
from caffe_compat.segmentation.sampling import box_batches
from caffe_compat.solver import Solver, solver_class
from caffe_compat.solver.config import weight_files
from caffe_compat.stamps import read_stamp, write_stamp

__all__ = [
    "MaskRun",
    "check_settings_file",
    "mask_solver",
    "named_database",
    "read_settings",
    "set_prefix",
    "settings_path",
    "write_settings",
]

_LAYER = "HypercolumnDataLayer"
_NO_MATTER = ("SDS.DET_SALT", "SDS.EVAL_SALT", "SDS.TARGET_SIZE")
"""Options on which no batch depends."""


@dataclasses.dataclass(frozen=True, eq=False)
class MaskRun:
    """What is trained on, and how.

    Args:
        imdb: the images.
        config: RNG_SEED, SDS, PIXEL_MEANS, TRAIN.USE_PREFETCH and PARITY are read.
        proposals: gives those to use instead of the database's own; called once net and pictures were checked.
        weights: files to start from; None: those that the solver names.
        resumed: whether a snapshot will be restored.
        track: goes through images one by one and shows that it does, under a name.
    """

    imdb: ImageDatabase
    config: Config
    proposals: Callable[[], ProposalSource] | None
    weights: Sequence[str] | None
    resumed: bool
    track: Callable[[Sequence[Any], str], Iterable[Any]]


def named_database(param: Any) -> str | None:
    """The images that a solver's train net names in a layer ``HypercolumnDataLayer``; None: it has no such layer.

    Args:
        param: a ``SolverParameter``.

    Raises:
        CaffeCompatError: the net cannot be read.
    """
    files = [file for file in (param.train_net, param.net) if file]
    if len(files) != 1:  # which the solver refuses, or has a net in it
        return None
    for layer in read_net(files[0]).layer:
        if layer.python_param.layer == _LAYER:
            with in_file(files[0]):
                return HypercolumnData.database(layer.python_param.param_str)
    return None


def set_prefix(param: Any, folder: Path) -> None:
    """Have a solver write its snapshots, under the name that it gives them, into a folder, and one at the end.

    Args:
        param: the ``SolverParameter``; changed.
    """
    param.snapshot_prefix = str(folder / (Path(param.snapshot_prefix).name or "inst_segm"))
    param.snapshot_after_train = True


def mask_solver(param: Any, run: MaskRun, device: torch.device | str | None = None) -> Solver:
    """The solver of a hypercolumn net, fed with boxes of an image database.

    Raises:
        CaffeCompatError: the net does not fit the database, its detector has no weights, or nothing could be learned;
            names layer, image or option.
    """
    solver = solver_class(param)(param, run.weights, device)
    files = list(weight_files(param) if run.weights is None else run.weights)
    layers = [node.layer for node in solver.net.nodes if isinstance(node.layer, HypercolumnData)]
    imdb, config = run.imdb, run.config
    if not run.resumed:
        _check_start(solver.net, blobs_in(files))
    log.info(f"Preparing training data of {imdb.name}", "train.py:0")
    for layer in layers:
        layer.require_same("num_classes", layer.settings.num_classes, len(imdb.classes))
        layer.require_same("num_images", layer.settings.num_images, len(imdb.modalities))
    check_cells(solver.net, config)
    _check_pads(solver.net, files, config.parity)
    check_pictures(imdb.name, run.track(imdb.records, "pictures"), imdb.modalities)
    source = None if run.proposals is None else run.proposals()
    for layer in layers:
        batches = box_batches(imdb, layer.settings, config, source, run.track)
        pools = batches.sampler.pools
        log.info(f"{sum(map(len, pools))} boxes of {len(batches.sampler.classes)} classes show objects", "train.py:0")
        absent = [name for name, pool in zip(imdb.classes, pools, strict=True) if not len(pool)]
        if absent:
            log.info(f"no box shows an object of {', '.join(absent)}, which learn nothing", "train.py:0")
        layer.feed(batches, usual_depth() if config.train.use_prefetch else 0)
        layer.samples = sum(map(len, pools))
    _Settings(solver, _settings(run, [layer.settings for layer in layers], param.random_seed))
    _write_config_once(solver, config)
    wanted = _described(layers, run)
    solver.on_weights = lambda weights: _describe(weights, wanted)
    return solver


def _described(layers: Sequence[HypercolumnData], run: MaskRun) -> Preparation:
    """What the nets see: pictures as the detector's, under the names and in the size of the data layer."""
    seen = describe_detector(run.imdb, run.config).inputs.values()
    names = layers[0].params.tops
    short, longest = layers[0].settings.max_size, run.config.sds.max_size
    return Preparation(
        {
            name: dataclasses.replace(one, short_side=short, longest_side=longest, flip=False)
            for name, one in zip(names, seen, strict=False)
        }
    )


def _describe(weights: str, wanted: Preparation) -> None:
    describe_weights(weights, wanted)


def _settings(run: MaskRun, layers: Sequence[Any], random_seed: int) -> dict[str, Any]:
    """All on which batches and dropout depend, as JSON holds it."""
    options = run.config.items()
    kept = {
        key: value
        for key, value in options.items()
        if key in ("RNG_SEED", "PARITY", "PIXEL_MEANS", "MODALITY_MEANS")
        or (key.startswith("SDS.") and key not in _NO_MATTER)
    }
    kept |= {"imdb": run.imdb.name, "random_seed": random_seed}
    for settings in layers:
        kept |= {name: value for name, value in dataclasses.asdict(settings).items() if name != "imdb_name"}
    held: dict[str, Any] = json.loads(json.dumps(kept))
    return held


def _write_config_once(solver: Solver, config: Config) -> None:
    """Write options beside the snapshots when the first iteration begins: now no other run writes there."""
    path = Path(solver.param.snapshot_prefix).parent / "config.yml"
    written: list[Path] = []

    def write() -> None:
        if not written and solver.group.ranks.is_first:
            write_config(path, config)
            written.append(path)

    solver.on_start.append(write)


def _check_pads(net: Net, files: Sequence[str], parity: bool) -> None:
    """Refuse a net whose maps lie elsewhere than those of the detector it starts from; the branch's HHA net is one."""
    wrong = other_pads(net.nodes, files)
    if wrong and not parity:
        raise UsageError(f"{'; '.join(wrong[:3])}: its maps lie elsewhere (--parity allows it)")
    for line in wrong:
        log.warning(f"{line}: its maps lie elsewhere", "train.py:0")


def _check_start(net: Net, filled: Mapping[str, set[int]]) -> None:
    """Refuse layers that no update changes and that have no weights: they would say the same of all pictures."""
    known = {node.name: node.layer for node in net.nodes}
    empty = []
    for learnable in net.learnables:
        layer = known[learnable.layer]
        has_filler = layer.filler_section and layer.params.section(layer.filler_section).has("weight_filler")
        given = learnable.index in filled.get(learnable.layer, ())
        if not learnable.index and not (has_filler or given):
            empty.append(learnable.layer)
    if empty:
        names = ", ".join(empty[:8]) + (f" and {len(empty) - 8} more" if len(empty) > 8 else "")
        raise UsageError(
            f"net '{net.description.name}': no weights for {names}: its detector is not trained here, start from its "
            "snapshot (--weights)"
        )


# -- snapshots --------------------------------------------------------------------------------------------------------


def settings_path(path: str) -> str:
    """The file that belongs to a snapshot, given the path of its state or weights, or what both begin with."""
    base = path.removesuffix(".h5")
    return base.removesuffix(".solverstate").removesuffix(".caffemodel") + ".settings.json"


def read_settings(path: str) -> dict[str, Any]:
    """What a snapshot's batches depend on.

    Raises:
        SolverError: the file is not there.
        DataError: it is damaged.
    """
    file = settings_path(path)
    found = read_stamp(file)
    if found is None:
        raise SolverError(f"{file}: is missing; the state alone does not say which boxes come next")
    return found


def write_settings(path: str, settings: Mapping[str, Any]) -> None:
    """Write beside a snapshot what its batches depend on.

    Raises:
        WriteError: it cannot be written.
    """
    write_stamp(settings_path(path), settings)


def check_settings_file(path: str) -> None:
    """Read what stands beside a state, given its path.

    Raises:
        SolverError, DataError: as :func:`read_settings`.
    """
    read_settings(path)


class _Settings:
    """Has a solver write beside its snapshots what their batches depend on, and go on from such with the same only."""

    def __init__(self, solver: Solver, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        solver.around_snapshot, solver.on_restore = self.around, self.restore

    @contextlib.contextmanager
    def around(self, stem: str) -> Iterator[None]:
        """Write the file, then let the snapshot be written."""
        write_settings(stem, self.settings)
        yield

    def restore(self, path: str) -> None:
        """Refuse a snapshot of other batches."""
        check_settings(read_settings(path), self.settings, settings_path(path))
