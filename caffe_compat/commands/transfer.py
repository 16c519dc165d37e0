"""Supervision transfer in one command: from pairs of images, a teacher and a student to a trained student.

    tools/transfer.py --folders output/rgbd/color output/rgbd/hha --teacher prototxt/squeezenet/deploy.prototxt \\
        --teacher-weights squeezenet_v1.0.caffemodel --student prototxt/students/alexnet_pad7/deploy.prototxt \\
        --layer pool8 --student-layer da_conv5 --crop 224 288 --short-side 240 --output output/my_transfer

The pairs come from --folders or --pairs (make_pairs), or split already from --source and --val-source.  Writes the
nets (make_transfer, whose options are all taken), trains (train_net), puts the franken net together (net_surgery),
exports student and franken net (export_onnx), and reports: report.html, report.md, report.json and curve.png.  The same
command goes on where a run was stopped.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from caffe_compat.commands import export_onnx, net_surgery
from caffe_compat.commands.flags import add_amp, add_tensorboard
from caffe_compat.commands.pairing import PAIR_OPTIONS, add_pairs, split_pairs
from caffe_compat.commands.parser import Parser
from caffe_compat.commands.transfer_arguments import add_transfer_arguments
from caffe_compat.errors import UsageError
from caffe_compat.foreign.spec import RANDOM, is_foreign, split_feature
from caffe_compat.ranks import require_alone
from caffe_compat.resources import program

SAME = (
    "teacher", "layer", "student", "student_layer", "student_weights", "modality", "loss", "batch_size", "max_iter",
    "random_seed",
)  # fmt: skip
"""Options that are what they were where a transfer goes on."""
TRAINING = ("amp", "tensorboard")
"""Options of the training alone, of which its files do not tell."""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__)
    add_pairs(p)
    add_transfer_arguments(p)
    add_amp(p)
    add_tensorboard(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """0 when everything is written; 128 and the signal's number when training was stopped."""
    require_alone("transfer")
    arguments = make_parser().parse_args(argv)
    from caffe_compat.commands.training import TrainOptions, train
    from caffe_compat.commands.transfer_actions import make_transfer
    from caffe_compat.proto import read_solver
    from caffe_compat.transfer.files import prefix

    if arguments.list or not arguments.output:
        raise UsageError("--list is for make_transfer" if arguments.list else "--output is missing")
    folder = Path(arguments.output)
    solver, stem = folder / "solver.prototxt", Path(prefix(folder))
    if solver.exists() and any(stem.parent.glob(f"{stem.name}_iter_*.solverstate")):
        _check_same(arguments, solver)
        print(f"going on with the nets and the snapshots of {folder}; another --output begins anew")
    else:
        _require_weights(arguments)
        lists = split_pairs(arguments, folder)
        if lists is not None:
            arguments.source, arguments.val_source, arguments.root_folder = lists[0][0], lists[1][0], ""
        parser = argparse.ArgumentParser()
        add_transfer_arguments(parser)
        known = {name: value for name, value in vars(arguments).items() if name not in (*PAIR_OPTIONS, *TRAINING)}
        written = make_transfer(parser, argparse.Namespace(**known))
        print("\n".join([*(f"wrote {name}" for name in written.files), *written.remarks]))
    options = TrainOptions(
        solver=str(solver),
        gpu=arguments.gpu,
        resume=True,
        tell_next=False,
        **{name: getattr(arguments, name) for name in TRAINING},
    )
    status = train(options)
    if status:
        print(f"the same command goes on from the snapshot in {stem.parent}")
        return status
    franken = folder / "franken_deploy.prototxt"
    if franken.exists():
        net_surgery.main(
            ["--out_net_def", str(franken), "--net_surgery_json", str(folder / "surgery.json"), "--out_net_file",
             str(stem.parent / "franken.caffemodel")]
        )  # fmt: skip
    weights = f"{stem}_iter_{read_solver(str(solver)).max_iter}.caffemodel"
    model = ["--model", str(folder / "student_deploy.prototxt"), "--weights", weights]
    status = export_onnx.main([*model, "--output", str(stem.parent / "student.onnx")]) or 0
    status = status or _report(folder, weights, sys.argv[1:] if argv is None else argv)
    if status or not franken.exists():
        return status
    model = ["--model", str(franken), "--weights", str(stem.parent / "franken.caffemodel")]
    return export_onnx.main([*model, "--output", str(stem.parent / "franken.onnx")]) or 0


def _require_weights(arguments: argparse.Namespace) -> None:
    if not arguments.teacher_weights and not is_foreign(arguments.teacher):
        raise UsageError(
            f"{arguments.teacher}: a teacher without weights teaches nothing; give --teacher-weights FILE (or, where "
            f"random ones are wanted, --teacher-weights {RANDOM})"
        )


def _check_same(arguments: argparse.Namespace, solver: Path) -> None:
    """Refuse to go on with what another command began.

    Raises:
        UsageError: the first option that is another one.
    """
    parser = argparse.ArgumentParser()
    add_transfer_arguments(parser)
    words = shlex.split(solver.read_text().splitlines()[1].lstrip("# "))
    try:
        begun = parser.parse_args(words[words.index("--teacher") :])
    except (SystemExit, ValueError):
        raise UsageError(f"{solver}: its second line is no make_transfer command; give another --output") from None
    source, features = split_feature(arguments.teacher)
    asked = {**vars(arguments), "teacher": source, "layer": list(features or arguments.layer or ())}
    for name in SAME:
        if asked[name] != getattr(begun, name):
            raise UsageError(
                f"{solver.parent} holds a transfer with --{name.replace('_', '-')} {_said(getattr(begun, name))}, not "
                f"{_said(asked[name])}: go on with the same command, or give another --output"
            )


def _said(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _report(folder: Path, weights: str, words: Sequence[str]) -> int:
    """Report what was done, and say what may be done next."""
    from caffe_compat.reports.page import More, write_page
    from caffe_compat.solver.metrics import metrics_path
    from caffe_compat.transfer.files import prefix
    from caffe_compat.transfer.report import write_report
    from caffe_compat.transfer.runs import read_run

    stem = Path(prefix(folder))
    run = read_run(metrics_path(str(stem)))
    command = f"{program('transfer')} {shlex.join(words)}"
    match = ["--model", f"{folder}/train_val.prototxt", "--weights", weights]
    match += ["--output", f"{stem.parent}/student_matched.caffemodel"]
    following = [
        f"{program('match_norms')} {shlex.join(match)}",
        f"{program('transfer')} {shlex.join(_another(words, folder, run.seed))}",
        f"{program('report')} {stem.parent} {folder}_seed{(run.seed or 0) + 1} --output {folder}_seeds",
    ]
    written = [write_page([run], folder, More(command, tuple(following)))]
    written += write_report([run], folder, command, following)
    print("\n".join([*(f"wrote {name}" for name in written), "next:", *(f"  {line}" for line in following)]))
    return 0


def _another(words: Sequence[str], folder: Path, seed: int | None) -> list[str]:
    """The same command with the next seed and a folder of its own."""
    changed = {"--output": f"{folder}_seed{(seed or 0) + 1}", "--random-seed": str((seed or 0) + 1)}
    kept, skip = [], False
    for word in words:
        if not skip and word.split("=")[0] not in changed:
            kept.append(word)
        skip = word in changed and not skip
    return [*kept, *(part for pair in changed.items() for part in pair)]
