"""The files of a hypercolumn net: prototxts with remarks, solver, configuration, and what to do next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from caffe_compat.datasets.imdb import find_imdb
from caffe_compat.detection.net_files import test_database
from caffe_compat.files import write_texts
from caffe_compat.proto import caffe_pb2, format_text
from caffe_compat.proto.pretty import comments, net_text
from caffe_compat.resources import program
from caffe_compat.segmentation.nets import MaskNets, test_net, train_net

__all__ = ["SNAPSHOT", "MaskPlan", "MaskSchedule", "write_masks"]

SNAPSHOT = "inst_segm"
"""What the branch calls snapshots: ``inst_segm_iter_10000.caffemodel``."""


@dataclass(frozen=True)
class MaskSchedule:
    """What the solver does; the rest is the branch's: momentum 0.9, weight decay 0.001, steps of a tenth.

    Args:
        iter_size: images of an update.
    """

    base_lr: float = 0.001
    stepsize: int = 20_000
    iters: int = 10_000
    snapshot: int = 2_500
    iter_size: int = 20


@dataclass(frozen=True)
class MaskPlan:
    """What is written besides the nets.

    Args:
        folder: where to.
        command: the command line that makes these files again; stands at the head of each.
        exp_dir: EXP_DIR.
        max_size: SDS.MAX_SIZE.
        weights: of the detector; only named in remarks.
    """

    folder: str
    schedule: MaskSchedule
    command: str
    exp_dir: str
    max_size: int = 1000
    weights: str = ""


def write_masks(nets: MaskNets, plan: MaskPlan) -> tuple[list[str], list[str]]:
    """Write ``train.prototxt``, ``solver.prototxt``, ``test.prototxt`` and ``config.yml``, each whole or not at all.

    Nets of two modalities are not trained: they get neither ``train.prototxt`` nor ``solver.prototxt``.

    Returns:
        The files, and the commands to run next.

    Raises:
        CaffeCompatError: a file that cannot be written, or a database that is not there.
    """
    folder, name = Path(plan.folder), Path(plan.folder).name
    remarks, head = _remarks(nets), [plan.command]
    commands = _commands(nets, plan)
    texts = {}
    if len(nets.backbones) == 1:
        texts["train.prototxt"] = net_text(name, train_net(nets), remarks, head)
        notes = ["Written by:", f"  {plan.command}", "Then:", f"  {commands[0]}"]
        texts["solver.prototxt"] = comments(notes) + _solver_text(folder, nets, plan)
    texts["test.prototxt"] = net_text(name, test_net(nets), remarks, head)
    texts["config.yml"] = comments(["Written by:", f"  {plan.command}"]) + _config_text(nets, plan)
    return write_texts(folder, texts), commands


def _remarks(nets: MaskNets) -> dict[str, str]:
    """By name of the layer they stand before."""
    found = {}
    for backbone, maps in zip(nets.backbones, nets.maps, strict=True):
        first = next(stage.name for stage in backbone.stages if hasattr(stage, "kernel"))
        found[f"{backbone.prefix}{first}"] = f"{backbone.title}: a detector's, not trained here."
        what = "fc7 alone" if not maps else f"{', '.join(one.blob for one in maps)} and fc7"
        title = f"scale_{maps[0].blob}" if maps else "fcfc7"
        found[f"{backbone.prefix}{title}"] = f"A grid of classifiers for each class, by {what}."
    found["fusion_loss"] = "Probabilities of the modalities are averaged."
    return found


def _solver_text(folder: Path, nets: MaskNets, plan: MaskPlan) -> str:
    schedule = plan.schedule
    title = database_name(nets.imdb)
    return format_text(
        caffe_pb2.SolverParameter(
            train_net=str(folder / "train.prototxt"),
            base_lr=schedule.base_lr,
            lr_policy="step",
            gamma=0.1,
            stepsize=schedule.stepsize,
            display=20,
            max_iter=schedule.iters,
            momentum=0.9,
            weight_decay=0.001,
            snapshot=schedule.snapshot,
            iter_size=schedule.iter_size,
            snapshot_prefix=f"output/{plan.exp_dir}/{title}/{SNAPSHOT}",
            solver_mode=caffe_pb2.SolverParameter.GPU,
        )
    )


def database_name(imdb: str) -> str:
    """What the folder of a database's results is called; a database of one's own must be there to say so."""
    return find_imdb(imdb).name if ":" in imdb else imdb or "IMDB"


def _config_text(nets: MaskNets, plan: MaskPlan) -> str:
    lines = {"TARGET_SIZE": nets.short_side, "MAX_SIZE": plan.max_size, "FEAT_SCALE": nets.backbones[0].stride}
    lines["MASK_SIZE"] = nets.side
    return f"EXP_DIR: {plan.exp_dir}\nSDS:\n" + "".join(f"  {key}: {value}\n" for key, value in lines.items())


def _commands(nets: MaskNets, plan: MaskPlan) -> list[str]:
    """What to run next."""
    folder, imdb = Path(plan.folder), nets.imdb or "IMDB"
    solver, test, config = (str(folder / f"{name}") for name in ("solver.prototxt", "test.prototxt", "config.yml"))
    proposals = ["--proposals", "builtin"] if ":" in imdb else []
    model = f"output/{plan.exp_dir}/{database_name(nets.imdb)}/{SNAPSHOT}_iter_{plan.schedule.iters}.caffemodel"
    commands = []
    models = [model]
    if len(nets.backbones) == 1:
        weights = plan.weights or "DETECTOR.caffemodel"
        words = ["--solver", solver, "--weights", weights, "--imdb", imdb, "--cfg", config, *proposals]
        commands.append(["train_net", *words])
    else:
        models = [f"{backbone.prefix}MASKS.caffemodel" for backbone in nets.backbones]
    other = test_database(imdb)
    words = ["--def", test, "--net", *models, "--imdb", other, "--cfg", config, "--sds", "1"]
    commands.append(["test_net", *words, "--sds_detection_file", "detections.npz", "--sds_sp_dir", "data/nyud2_sp"])
    return [f"{program(name)} {shlex.join(words)}" for name, *words in commands]
