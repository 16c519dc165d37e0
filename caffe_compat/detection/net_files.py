"""The files of a detector: prototxts with remarks, solver, configuration, net surgery, and what to do next."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe_compat.config import Config
from caffe_compat.datasets.coco_file import read_coco
from caffe_compat.datasets.imdb import find_imdb
from caffe_compat.description.names import adaptation_of, adapted, scaled
from caffe_compat.detection.nets import Detector, layers_with_weights, test_net, train_net
from caffe_compat.errors import UsageError
from caffe_compat.files import write_texts
from caffe_compat.proto import caffe_pb2, format_text
from caffe_compat.proto.pretty import comments, net_text
from caffe_compat.proto.read import read_net
from caffe_compat.resources import program

__all__ = ["Part", "Plan", "Schedule", "test_database", "write_detector"]

_BRANCH_KEYS = (
    "EXP_DIR",
    "TRAIN.SCALES",
    "TRAIN.MAX_SIZE",
    "TRAIN.BG_THRESH_LO",
    "TRAIN.BBOX_PRED_PARAM_NAMES",
    "TEST.SCALES",
    "TEST.MAX_SIZE",
)


@dataclass(frozen=True)
class Schedule:
    """What the solver does; the rest is the branch's: momentum 0.9, weight decay 5e-4, steps of a tenth.

    Args:
        iters: for ``train_net.py --iters``.
        stepsize: iterations after which the learning rate is divided by 10, again and again.
    """

    base_lr: float = 0.001
    stepsize: int = 30_000
    iters: int = 40_000


@dataclass(frozen=True)
class Part:
    """A model that net surgery takes layers from."""

    prototxt: str
    model: str


@dataclass(frozen=True)
class Plan:
    """What is written besides the nets.

    Args:
        folder: where to.
        config: what stands in ``config.yml``: what is not the default, and what the branch's files hold.
        command: the command line that makes these files again; stands at the head of each.
        weights, imdb: for the remarks on what to run next.
        parts: models for net surgery, in the order of :func:`write_detector`.
    """

    folder: str
    schedule: Schedule
    config: Config
    command: str
    weights: str = ""
    imdb: str = ""
    parts: tuple[Part, ...] = ()


def write_detector(detector: Detector, plan: Plan) -> tuple[list[str], list[str]]:
    """Write ``train.prototxt``, ``test.prototxt``, ``solver.prototxt`` and ``config.yml``, each whole or not at all.

    With ranks also ``test_svd.prototxt``, for ``compress_net.py``; with parts also ``init_weights.json``, for
    ``net_surgery.py``: one part for each modality, in order, but two for a franken net, the student's and the
    teacher's.  A franken net is not trained: it gets neither ``train.prototxt`` nor ``solver.prototxt``.

    Returns:
        The files, and the commands to run next.

    Raises:
        UsageError: parts of another number.
        CaffeCompatError: a file that cannot be written.
    """
    folder, head = Path(plan.folder), [plan.command]
    name = folder.name
    remarks = _remarks(detector)
    commands = _commands(detector, plan)
    texts = {}
    if _trained(detector):
        texts["train.prototxt"] = net_text(name, train_net(detector), remarks, head)
        notes = ["Written by:", f"  {plan.command}"] + ([] if plan.parts else ["Then:", f"  {commands[0]}"])
        texts["solver.prototxt"] = comments(notes) + _solver_text(folder, plan.schedule)
    texts["test.prototxt"] = net_text(name, test_net(detector), remarks, head)
    if detector.svd:
        texts["test_svd.prototxt"] = net_text(f"{name}_svd", test_net(detector, svd=True), remarks, head)
    texts["config.yml"] = comments(["Written by:", f"  {plan.command}"]) + _config_text(plan.config)
    if plan.parts:
        texts["init_weights.json"] = json.dumps(_surgery(detector, plan.parts), indent=2) + "\n"
    return write_texts(folder, texts), commands


def _remarks(detector: Detector) -> dict[str, str]:
    """By name of the layer they stand before."""
    found = {}
    for backbone in detector.backbones:
        first = layers_with_weights(backbone)[0]
        frozen = {
            "none": "",
            "conv": " Its convolutions are not trained.",
            "fc7": " Nothing up to fc7 is trained.",
            "coco": f" {_listed(backbone.frozen)}",
        }
        found[backbone.prefix + first] = f"{backbone.title}.{frozen[detector.freeze]}"
        if backbone.adaptation:
            found[adapted(backbone.pool)] = "From the student's feature to the teacher's, on pooled regions."
    alone = " One modality: the same blob twice." if len(detector.backbones) == 1 else ""
    found["sum"] = f"Modalities are averaged before the softmax, by two layers of the same name.{alone}"
    return found


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} not trained."


def _solver_text(folder: Path, schedule: Schedule) -> str:
    return format_text(
        caffe_pb2.SolverParameter(
            train_net=str(folder / "train.prototxt"),
            base_lr=schedule.base_lr,
            lr_policy="step",
            gamma=0.1,
            stepsize=schedule.stepsize,
            display=20,
            average_loss=100,
            momentum=0.9,
            weight_decay=0.0005,
            snapshot=0,
            snapshot_prefix="fast_rcnn",
        )
    )


def _config_text(config: Config) -> str:
    values = {key: config.items()[key] for key in _BRANCH_KEYS} | config.changed()
    sections: dict[str, list[str]] = {"": [], "TRAIN": [], "TEST": []}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        sections[section].append(f"{'  ' if section else ''}{name}: {_yaml(value)}\n")
    return "".join((f"{section}:\n" if section else "") + "".join(lines) for section, lines in sections.items())


def _yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_yaml(part) for part in value)}]"
    return str(value)


def _trained(detector: Detector) -> bool:
    return not any(backbone.adaptation for backbone in detector.backbones)


def _surgery(detector: Detector, parts: Sequence[Part]) -> list[dict[str, Any]]:
    copies: list[tuple[list[str], list[str]]] = []
    joints: list[str] = []
    for backbone in detector.backbones:
        names = layers_with_weights(backbone)
        ours = [backbone.prefix + name for name in names]
        if backbone.adaptation:
            above = names.index("fc6")
            joints.append(adapted(backbone.pool))
            lower = [*ours[:above], joints[-1]]
            copies += [(lower, lower), (names[above:], ours[above:])]
        else:
            copies.append((ours, ours))
    if len(parts) != len(copies):
        raise UsageError(
            f"{len(parts)} parts, expected {len(copies)}: one for each modality, but the student and the teacher of a "
            "franken net"
        )
    return [_entry(part, source, dest, joints) for part, (source, dest) in zip(parts, copies, strict=True)]


def _entry(part: Part, source: list[str], dest: list[str], joints: Sequence[str]) -> dict[str, Any]:
    """What is copied from a part; an adaptation is made to give the teacher's feature as large as it was."""
    operations: dict[str, Any] = {"source": source, "dest": dest, "reshape": [0] * len(source)}
    scales = [1 / _teacher_scale(part, name) if name in joints else 1.0 for name in source]
    if any(scale != 1 for scale in scales):
        operations["scale"] = scales
    return {"prototxt": part.prototxt, "model": part.model, "copy_ops": operations}


def _teacher_scale(part: Part, adaptation: str) -> float:
    """The factor on the teacher's feature in the transfer whose nets stand beside a part's prototxt, else 1."""
    beside = Path(part.prototxt).parent / "train_val.prototxt"
    if not beside.exists():
        return 1.0
    wanted = scaled(adaptation_of(adaptation))
    found = [layer.power_param.scale for layer in read_net(beside).layer if layer.name == wanted]
    return float(found[0]) if found else 1.0


def _commands(detector: Detector, plan: Plan) -> list[str]:
    """What to run next."""
    folder, imdb = Path(plan.folder), plan.imdb or "IMDB"
    own = imdb.startswith("coco:")
    title = find_imdb(imdb).name if _json(imdb) else imdb
    proposals = ["--proposals", "builtin"] if own else []
    solver, test, config = (str(folder / f"{name}") for name in ("solver.prototxt", "test.prototxt", "config.yml"))
    model = f"output/{plan.config.exp_dir}/{title}/fast_rcnn_iter_{plan.schedule.iters}.caffemodel"
    commands = []
    if plan.parts:
        model = str(folder / "fused.caffemodel") if own else model
        surgery = str(folder / "init_weights.json")
        words = ["--out_net_def", test, "--net_surgery_json", surgery, "--out_net_file", model]
        commands.append(["net_surgery", *words])
    elif _trained(detector):
        scratch = detector.fillers or all(backbone.filled_convs for backbone in detector.backbones)
        weights = plan.weights or ("" if scratch else "MODEL.caffemodel")
        words = ["--solver", solver, *(["--weights", weights] if weights else []), "--imdb", imdb, "--cfg", config]
        commands.append(["train_net", *words, "--iters", str(plan.schedule.iters), *proposals])
    if detector.svd:
        svd = str(folder / "test_svd.prototxt")
        commands.append(["compress_net", "--def", test, "--def-svd", svd, "--net", model])
    words = ["--def", test, "--net", model, "--imdb", test_database(imdb), "--cfg", config, *proposals]
    return [f"{program(name)} {shlex.join(words)}" for name, *words in [*commands, ["test_net", *words]]]


def test_database(imdb: str) -> str:
    """The database to test on after training on another, where its name, or its json of one's own, tells; else IMDB."""
    if imdb.startswith("coco:"):
        return _other_split(imdb)
    if "_" not in imdb:
        return "IMDB"
    stem, _, split = imdb.rpartition("_")
    tests = {"train": "test" if re.search(r"_split\d$", stem) else "val", "trainval": "test"}
    return f"{stem}_{tests[split]}" if split in tests else "IMDB"


def _other_split(imdb: str) -> str:
    """The database of the same json with its split for tests; the same where it has none."""
    split, path = re.search(r",split=([^,]+)", imdb), _json(imdb)
    if split is None or re.match("test|val", split[1]):
        return imdb
    if path is None:
        return "IMDB"
    splits = {entry.get("split") for entry in read_coco(str(path)).images} - {split[1], None}
    best = sorted(splits, key=lambda name: (not re.match("test|val", str(name)), str(name)))
    return imdb.replace(split[0], f",split={best[0]}") if best else imdb


def _json(imdb: str) -> Path | None:
    """The json of a database of one's own, where it is there: a name that only remarks hold need not be."""
    match = re.match(r"coco:(.+?\.json)", imdb)
    path = Path(match[1]).expanduser() if match else None
    return path if path is not None and path.is_file() else None
