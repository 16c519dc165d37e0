"""Evaluate stored detections again.

    tools/reval.py output/default/nyud2_hha_2015_test/fast_rcnn_iter_40000 --imdb nyud2_hha_2015_test
    tools/reval.py OUTPUT_DIR --imdb NAME --set TEST.NMS 0.5 TEST.EVAL_SALT _nms50
    tools/reval.py OUTPUT_DIR --imdb NAME --pictures          (the best and the worst of each class)

OUTPUT_DIR is where test_net.py left detections.npz.  What overlaps is suppressed anew, the rule of the database is
applied, and eval.txt, .mat, .json, .npz and precision against recall (.csv, .png) are written beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_compat.commands.inputs import FOLDER, OPTIONS
from caffe_compat.commands.parser import Parser
from caffe_compat.config import Config, load_config
from caffe_compat.errors import MissingFileError, UsageError, printable


def make_parser() -> argparse.ArgumentParser:
    """The flags of fast-rcnn's reval.py, and what to make besides."""
    p = Parser(__doc__)
    p.add_argument("output_dir", type=FOLDER, help="folder with the detections")
    p.add_argument("--imdb", default="voc_2007_test", help="database they are of (default: %(default)s)")
    p.add_argument(
        "--rerun",
        action="store_true",
        help="changes nothing: the branch suppresses anew only with it, here that is always done",
    )
    p.add_argument("--comp", action="store_true", help="write files for the servers of VOC or COCO too")
    p.add_argument(
        "--cfg",
        type=OPTIONS,
        help="YAML file with options; default: the one that the test wrote into OUTPUT_DIR, if it is there",
    )
    p.add_argument("--set", dest="pairs", nargs="*", default=[], metavar="KEY VALUE", help="options given here")
    p.add_argument("--parity", action="store_true", help="evaluate as the released code did, quirks too")
    p.add_argument("--threshold", type=float, help="overlap from which on an object is found, instead of the rule's")
    p.add_argument(
        "--pictures", type=int, nargs="?", const=6, default=0, metavar="N",
        help="write sheets with N (6) of each class's best, worst and missed",
    )  # fmt: skip
    return p


def main(argv: list[str] | None = None) -> int:
    """Read, suppress, evaluate, write, and print the table."""
    args = make_parser().parse_args(argv)
    from caffe_compat.datasets import find_imdb
    from caffe_compat.detection import results
    from caffe_compat.evaluation.tables import table

    folder = Path(args.output_dir)
    if not folder.is_dir():
        raise MissingFileError(folder, "no folder; expected the one with the detections")
    if args.pictures < 0:
        raise UsageError(f"--pictures is {args.pictures}, expected 1 or more")
    config = _config(args, folder)
    imdb = find_imdb(args.imdb, config.root_dir or ".")
    file, detections = results.read_run(folder, imdb, config)
    print(printable(f"{file}: {len(detections)} boxes, overlap from {config.test.nms:g} is suppressed"), flush=True)
    evaluation, kept = results.evaluate_run(imdb, detections, config, args.threshold)
    print(printable(table(evaluation)), flush=True)
    written = results.write_run(folder, evaluation, config)
    salt = config.test.det_salt + config.test.eval_salt
    if args.comp:
        written += results.write_for_server(folder / f"competition{salt}", imdb, kept)
    if args.pictures:
        target = folder / f"eval{salt}_pictures"
        written += results.write_examples(target, imdb, kept, evaluation, args.pictures, config.parity)
    print(printable("wrote " + _brief(written)))
    return 0


def _config(args: argparse.Namespace, folder: Path) -> Config:
    stored = folder / "config.yml"
    file = args.cfg or (stored if stored.exists() else None)
    return load_config(file, args.pairs, True if args.parity else None)


def _brief(files: list[Path]) -> str:
    """The first of each folder's files, and how many more."""
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    return ", ".join(
        str(inside[0]) + (f" and {len(inside) - 1} more files there" if len(inside) > 1 else "")
        for inside in folders.values()
    )
