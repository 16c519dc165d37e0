"""The files of a supervision transfer: prototxt with remarks, solver, surgery, and what to do next."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe_compat.description.names import adapted
from caffe_compat.errors import UsageError
from caffe_compat.files import write_texts
from caffe_compat.media import Preprocessing, write_preprocessing
from caffe_compat.net.weights import blobs_in
from caffe_compat.proto import caffe_pb2, format_text
from caffe_compat.proto.pretty import comments, net_text
from caffe_compat.resources import program
from caffe_compat.transfer.features import Transfer
from caffe_compat.transfer.franken import Franken, franken
from caffe_compat.transfer.nets import TransferNets
from caffe_compat.transfer.recipe import Recipe, Schedule

__all__ = ["Written", "after_training", "write_transfer"]

NOT_MEASURED = (
    "Nothing was measured: scale, first weights and rate are the usual ones, and gradients are clipped so that no",
    "teacher's feature, however large, makes training diverge. Where its weights are at hand, the same command with",
    "--teacher-weights and without --no-measure and --scale chooses them on the pairs.",
)


@dataclass(frozen=True)
class Written:
    """What was written, remarks for the user, and the commands to run next."""

    files: list[str]
    remarks: list[str]
    commands: list[str]


def write_transfer(transfer: Transfer, schedule: Schedule, command: str) -> Written:
    """Write all files of a transfer into ``recipe.output``.

    Args:
        command: the command line that makes these files again; stands at the head of each.

    Raises:
        UsageError: names that clash.
        CaffeCompatError: a file that cannot be written.
    """
    recipe = transfer.recipe
    nets = TransferNets(transfer)
    folder = Path(recipe.output)
    title = recipe.name or folder.name
    remarks = []
    train_val = nets.train_val()  # fills the comments
    texts = {
        "train_val.prototxt": net_text(f"{title}_transfer", train_val, nets.comments, [command]),
        "student_deploy.prototxt": net_text(f"{title}_student", nets.student_deploy(), nets.comments, [command]),
    }
    surgery = None
    try:
        joined = franken(nets)
        _refuse_missing(recipe, joined)
        texts["franken_deploy.prototxt"] = _franken_text(title, nets, joined, command)
        surgery = _surgery(nets, joined, folder, schedule)
        texts["surgery.json"] = json.dumps(surgery, indent=2) + "\n"
    except UsageError as error:
        if len(recipe.layers) == 1:
            remarks.append(f"no franken net: {error}")
    commands = _commands(recipe, schedule, folder, surgery is not None)
    texts["solver.prototxt"] = _solver_text(nets, schedule, folder, [command], commands)
    names = write_texts(folder, texts)
    if recipe.modality:
        names.append(str(folder / "preprocessing.json"))
        mean = recipe.mean_second or recipe.mean
        write_preprocessing(
            names[-1], Preprocessing(recipe.modality, mean=mean, short_side=recipe.short_side or 0), nets.student_input
        )
    return Written(names, remarks, commands)


def prefix(folder: Path) -> str:
    """``snapshot_prefix``: in the folder itself, but below output/ for the folders under prototxt/."""
    parts = folder.parts
    return str(Path("output", *parts[1:]) / "transfer" if parts[:1] == ("prototxt",) else folder / "transfer")


def _franken_text(title: str, nets: TransferNets, joined: Franken, command: str) -> str:
    return net_text(f"{title}_franken", joined.layers, nets.comments, [command])


def _refuse_missing(recipe: Recipe, joined: Franken) -> None:
    """Refuse a franken net whose upper part has no weights in the file that is there."""
    file = recipe.teacher_weights
    if file is None or not os.path.exists(file):
        return
    known = blobs_in([file])
    missing = [name for name in joined.upper if name not in known]
    if missing:
        raise UsageError(f"{file} has no weights for {', '.join(missing[:4])}{' and others' if missing[4:] else ''}")


def _surgery(nets: TransferNets, joined: Franken, folder: Path, schedule: Schedule) -> list[dict[str, Any]]:
    transfer, recipe = nets.transfer, nets.recipe
    counts = transfer.learnable_counts(transfer.student)
    lower = [nets.names(layer.name) for layer in transfer.student.layers if counts[layer.name]]
    lower.append(adapted(recipe.layers[0]))
    described = next(layer for layer in transfer.teacher.everything if transfer.teacher.input in layer.message.top)
    teacher = recipe.teacher if described.is_input else str(folder / "franken_deploy.prototxt")
    entries = [
        (str(folder / "student_deploy.prototxt"), f"{prefix(folder)}_iter_{schedule.max_iter}.caffemodel", lower),
        (teacher, recipe.teacher_weights or "TEACHER.caffemodel", joined.upper),
    ]
    return [
        {
            "prototxt": prototxt,
            "model": model,
            "copy_ops": {"source": names, "dest": names, "reshape": [0] * len(names)},
        }
        for prototxt, model, names in entries
        if names
    ]


def _solver_text(nets: TransferNets, schedule: Schedule, folder: Path, head: list[str], commands: Iterable[str]) -> str:
    weights = nets.recipe.teacher_weights
    solver = caffe_pb2.SolverParameter(
        net=str(folder / "train_val.prototxt"),
        test_iter=[schedule.test_iter],
        test_interval=schedule.test_interval,
        base_lr=schedule.base_lr,
        display=schedule.display,
        max_iter=schedule.max_iter,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=[round(fraction * schedule.max_iter) for fraction in schedule.drops],
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        snapshot=schedule.snapshot,
        snapshot_prefix=prefix(folder),
        random_seed=schedule.random_seed,
    )
    if schedule.clip_gradients:
        solver.clip_gradients = schedule.clip_gradients
    if nets.gathers:
        solver.test_initialization = False  # without statistics BatchNorm's outputs are out of all bounds
    if weights or nets.recipe.foreign:  # else the teacher's are given to train_net, and these with them
        solver.weights.extend(file for file in (weights, nets.recipe.student_weights) if file)
    unknown = [] if nets.recipe.mean_norms or nets.recipe.loss == "sigmoid" else NOT_MEASURED
    notes = ["Written by:", *(f"  {line}" for line in head), *unknown, "Then:", *(f"  {line}" for line in commands)]
    return comments(notes) + format_text(solver)


def _commands(recipe: Recipe, schedule: Schedule, folder: Path, surgery: bool) -> list[str]:
    own = f",{recipe.student_weights}" if recipe.student_weights else ""
    weights = "" if recipe.teacher_weights or recipe.foreign else f" --weights TEACHER.caffemodel{own}"
    train = f"{program('train_net')} --solver {folder / 'solver.prototxt'}{weights}"
    snapshot = f"{prefix(folder)}_iter_{schedule.max_iter}.caffemodel"
    return [train, *after_training(folder, snapshot, surgery)]


def after_training(folder: Path, snapshot: str, surgery: bool) -> list[str]:
    """What to run when a transfer is trained.

    Args:
        folder: of the transfer's files.
        snapshot: the trained weights.
        surgery: whether there is a franken net.
    """
    stem = prefix(folder).removesuffix("transfer")
    commands = []
    if surgery:
        commands.append(
            f"{program('net_surgery')} --out_net_def {folder / 'franken_deploy.prototxt'} --net_surgery_json "
            f"{folder / 'surgery.json'} --out_net_file {stem}franken.caffemodel"
        )
    model = f"--model {folder / 'student_deploy.prototxt'} --weights {snapshot}"
    return [*commands, f"{program('export_onnx')} {model} --output {stem}student.onnx"]
