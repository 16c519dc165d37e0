"""Supervision transfer in one command: from pairs of images, a teacher and a student to a trained student.

    tools/transfer.py --folders output/rgbd/color output/rgbd/hha --teacher prototxt/squeezenet/deploy.prototxt \\
        --teacher-weights squeezenet_v1.0.caffemodel --student prototxt/students/alexnet_pad7/deploy.prototxt \\
        --layer pool8 --student-layer da_conv5 --crop 224 288 --short-side 240 --output output/my_transfer

Splits the pairs, writes the nets (make_transfer, whose options are all taken), trains (train_net), puts the franken net
together (net_surgery), and exports the student (export_onnx).  The same command goes on where a run was stopped.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from caffe_compat.commands import export_onnx, net_surgery
from caffe_compat.commands.transfer_actions import add_transfer_arguments, make_transfer
from caffe_compat.errors import DataError, UsageError

OWN = ("folders", "pairs", "hold_out")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = p.add_mutually_exclusive_group()
    where.add_argument("--folders", nargs=2, metavar=("FIRST", "SECOND"), help="images of the teacher's and of the "
                       "student's modality, paired by their names without the ending")  # fmt: skip
    where.add_argument("--pairs", metavar="LIST", help="list of pairs; neither: --source and --val-source")
    p.add_argument("--hold-out", type=int, default=5, help="every so manieth pair is for validation (%(default)s)")
    add_transfer_arguments(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """0 when everything is written; 128 and the signal's number when training was stopped."""
    from caffe_compat.commands.training import TrainOptions, train
    from caffe_compat.transfer.files import prefix

    arguments = make_parser().parse_args(argv)
    if arguments.list or not arguments.output:
        raise UsageError("--list is for make_transfer" if arguments.list else "--output is missing")
    folder = Path(arguments.output)
    solver, stem = folder / "solver.prototxt", Path(prefix(folder))
    if solver.exists() and any(stem.parent.glob(f"{stem.name}_iter_*.solverstate")):
        print(f"going on with the nets and the snapshots of {folder}; another --output begins anew")
    else:
        _split(arguments, folder)
        parser = argparse.ArgumentParser()
        add_transfer_arguments(parser)
        known = {name: value for name, value in vars(arguments).items() if name not in OWN}
        written = make_transfer(parser, argparse.Namespace(**known))
        print("\n".join([*(f"wrote {name}" for name in written.files), *written.remarks]))
    status = train(TrainOptions(solver=str(solver), gpu=arguments.gpu, resume=True))
    if status:
        return status
    franken = folder / "franken_deploy.prototxt"
    if franken.exists():
        net_surgery.main(
            ["--out_net_def", str(franken), "--net_surgery_json", str(folder / "surgery.json"), "--out_net_file",
             str(stem.parent / "franken.caffemodel")]
        )  # fmt: skip
    weights = f"{stem}_iter_{arguments.max_iter}.caffemodel"
    model = ["--model", str(folder / "student_deploy.prototxt"), "--weights", weights]
    return export_onnx.main([*model, "--output", str(stem.parent / "student.onnx")]) or 0


def _split(arguments: argparse.Namespace, folder: Path) -> None:
    """Lists for training and validation in the output folder, where pairs were given whole."""
    from caffe_compat.media import read_pair_list, write_pairs

    if arguments.folders:
        pairs = pairs_of_folders(*arguments.folders)
    elif arguments.pairs:
        found = read_pair_list(arguments.pairs, arguments.root_folder)
        pairs = [(pair.first, pair.second) for pair in found]
    else:
        return
    if not 2 <= arguments.hold_out <= len(pairs):
        raise UsageError(f"--hold-out is {arguments.hold_out}, expected 2 to {len(pairs)}, the number of pairs")
    folder.mkdir(parents=True, exist_ok=True)
    arguments.source, arguments.val_source = str(folder / "train_pairs.txt"), str(folder / "val_pairs.txt")
    arguments.root_folder = ""
    last = arguments.hold_out - 1
    write_pairs(arguments.source, [pair for i, pair in enumerate(pairs) if i % arguments.hold_out != last])
    write_pairs(arguments.val_source, [pair for i, pair in enumerate(pairs) if i % arguments.hold_out == last])


def pairs_of_folders(first: str, second: str) -> list[tuple[str, str]]:
    """Files of two folders that have one name but for its ending, sorted by it.

    Raises:
        DataError: a folder that is not there, or files without a partner: names up to ten of them.
    """
    stems: list[dict[str, str]] = []
    for folder in (first, second):
        if not os.path.isdir(folder):
            raise DataError(f"{folder}: is no folder")
        files = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
        stems.append({path.stem: str(path) for path in files})
        if len(stems[-1]) < len(files):
            raise DataError(f"{folder}: has files of one name with different endings, which cannot be paired")
    alone = [stems[i][stem] for i in (0, 1) for stem in stems[i] if stem not in stems[1 - i]]
    if alone or not stems[0]:
        more = f" and {len(alone) - 10} more" if len(alone) > 10 else ""
        what = f"without a partner: {', '.join(alone[:10])}{more}" if alone else "no files"
        raise DataError(f"{first} and {second}: {what}")
    return [(path, stems[1][stem]) for stem, path in stems[0].items()]
