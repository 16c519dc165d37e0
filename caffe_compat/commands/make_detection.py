"""Write the nets, the solver and the configuration of a Fast R-CNN detector, for any number of classes.

    tools/make_detection.py --net alexnet_hha --classes 19 --folder output/my_hha
    tools/make_detection.py --net caffenet_hha --modality flow --classes 21 --folder output/my_flow
    tools/make_detection.py --net caffenet --second alexnet_hha --classes 19 --folder output/my_fused \\
        --part output/my_rgb/test.prototxt RGB.caffemodel --part output/my_hha/test.prototxt HHA.caffemodel

Written are train.prototxt, test.prototxt, solver.prototxt and config.yml; with --svd also test_svd.prototxt, for
compress_net; with --part also init_weights.json, for net_surgery.  Paths in these files are relative to the folder
that the tools are run from.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from caffe_compat.commands.inputs import NEW_FOLDER
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError
from caffe_compat.resources import program

if TYPE_CHECKING:
    from caffe_compat.config import Config
    from caffe_compat.detection.nets import Detector


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__)
    p.add_argument("--net", required=True, help="backbone: caffenet, alexnet_hha, vgg16, squeezenet, ...")
    p.add_argument("--second", metavar="NET", help="backbone of a second modality, one whose name ends with _hha")
    p.add_argument("--classes", required=True, metavar="N", help="classes without background: a number, or an imdb")
    p.add_argument("--folder", type=NEW_FOLDER, required=True, help="where the files go")
    net = p.add_argument_group("net")
    net.add_argument(
        "--modality", nargs="+", default=[], metavar="NAME",
        help="what the nets see, in their order: flow, color, ...; says what is subtracted, where that is not colour's",
    )  # fmt: skip
    net.add_argument("--freeze", default="none", metavar="none|conv|fc7|coco", help="what is not trained (%(default)s)")
    net.add_argument("--fillers", action="store_true", help="fillers for all layers, to train from scratch")
    net.add_argument("--no-dropout", action="store_true", help="none after fc6 and fc7")
    net.add_argument("--hidden", type=int, default=0, help="outputs of fc6 and fc7 (default: the backbone's)")
    net.add_argument("--loss-weight", type=float, default=0.5, help="of both losses (%(default)s)")
    net.add_argument("--svd", default="", metavar="fc6=R,fc7=R", help="ranks of a compressed test net")
    net.add_argument(
        "--part", nargs=2, action="append", default=[], metavar=("PROTOTXT", "MODEL"), help="for net surgery, in order"
    )
    schedule = p.add_argument_group("schedule")
    schedule.add_argument("--base-lr", type=float, default=0.001, help="learning rate (%(default)s)")
    schedule.add_argument("--stepsize", type=int, default=30_000, help="iterations of each rate (%(default)s)")
    schedule.add_argument("--iters", type=int, default=40_000, help="iterations (%(default)s)")
    schedule.add_argument("--snapshot-iters", type=int, default=10_000, help="between snapshots (%(default)s)")
    config = p.add_argument_group("configuration")
    config.add_argument("--scales", nargs="+", type=int, default=[688], help="short sides in pixels (%(default)s)")
    config.add_argument("--test-scales", nargs="+", type=int, default=[], help="where others than in training")
    config.add_argument(
        "--modality-scales", nargs=2, type=int, default=[], metavar="S",
        help="short sides of two modalities that differ; the second gets an input of its own regions, rois_1",
    )  # fmt: skip
    config.add_argument("--max-size", type=int, default=2000, help="long sides at most (%(default)s)")
    config.add_argument("--bg-thresh-lo", type=float, default=0.0, help="least background overlap (%(default)s)")
    config.add_argument("--top-k", type=int, default=0, help="proposals used of an image (default: all)")
    config.add_argument("--score-thresh", type=float, help="drop boxes with this score or less")
    config.add_argument("--exp-dir", default="", help="results go to output/EXP_DIR (default: the folder's name)")
    config.add_argument("--weights", default="", help="caffemodel to start from; only named in remarks")
    config.add_argument("--imdb", default="", help="what to train on; only named in remarks")
    return p


def main(argv: list[str] | None = None) -> int:
    """Write the files and say what to run next."""
    p = make_parser()
    args = p.parse_args(argv)
    from caffe_compat.detection.backbones import find_backbone
    from caffe_compat.detection.net_files import Part, Plan, Schedule, write_detector
    from caffe_compat.detection.nets import Detector

    names = [args.net, *([args.second] if args.second else [])]
    if args.modality_scales and len(names) == 1:
        raise UsageError("--modality-scales is for two nets, expected --second")
    detector = Detector(
        tuple(find_backbone(name) for name in names),
        class_count(args.classes) + 1,
        freeze=args.freeze,
        fillers=args.fillers,
        dropout=not args.no_dropout,
        loss_weight=args.loss_weight,
        hidden=_at_least("--hidden", args.hidden, 0),
        svd=_ranks(args.svd),
        own_rois=bool(args.modality_scales),
    )
    schedule = Schedule(args.base_lr, args.stepsize, args.iters)
    parts = tuple(Part(*part) for part in args.part)
    imdb = args.imdb or ("" if args.classes.isdecimal() else args.classes)
    config = _config(args, detector)
    plan = Plan(args.folder, schedule, config, command_line("make_detection", p, args), args.weights, imdb, parts)
    files, commands = write_detector(detector, plan)
    print("\n".join(f"wrote {name}" for name in files))
    print("\n".join(["next:", *(f"  {command}" for command in commands)]))
    return 0


def _config(args: argparse.Namespace, detector: Detector) -> Config:
    """The options of training and testing; UsageError names the one that is wrong."""
    from caffe_compat.config import Config, TestConfig, TrainConfig

    train = TrainConfig(
        scales=tuple(args.scales),
        max_size=args.max_size,
        bg_thresh_lo=args.bg_thresh_lo,
        snapshot_iters=args.snapshot_iters,
        bbox_pred_param_names=detector.bbox_layers,
        proposal_top_k=args.top_k,
    )
    test = TestConfig(
        scales=tuple(args.test_scales or args.scales),
        max_size=args.max_size,
        modality_scales=tuple((scale,) for scale in args.modality_scales),
        proposal_top_k=args.top_k,
        **({} if args.score_thresh is None else {"score_thresh": args.score_thresh}),
    )
    means = _means(args.modality, len(detector.backbones))
    once = 1 / min(backbone.stride for backbone in detector.backbones)
    return Config(train, test, dedup_boxes=once, exp_dir=args.exp_dir or PurePath(args.folder).name, **means)


def _means(names: Sequence[str], nets: int) -> dict[str, Any]:
    """The options of what is subtracted from modalities; none: the default."""
    from caffe_compat.media import find_modality

    means = tuple(find_modality(name).mean for name in names)
    if len(names) not in (0, nets):
        raise UsageError(f"--modality {' '.join(names)}: expected {nets}, one for each net")
    for name, mean in zip(names, means, strict=True):
        if len(mean) != 3:
            raise UsageError(f"--modality {name}: has {len(mean)} channel, detectors see three")
    if len(set(means)) > 1:
        return {"modality_means": means}
    return {"pixel_means": means[0]} if means else {}


def class_count(word: str) -> int:
    """Classes without the background: a number, or how many an image database has."""
    if word.isdecimal():
        return _at_least("--classes", int(word), 1)
    from caffe_compat.datasets.imdb import find_imdb

    return len(find_imdb(word).classes)


def _ranks(text: str) -> tuple[tuple[str, int], ...]:
    ranks = []
    for part in filter(None, text.split(",")):
        name, _, rank = part.partition("=")
        if not rank.isdecimal():
            raise UsageError(f"--svd {text}: '{part}', expected a layer and a rank as in fc6=1024,fc7=256")
        ranks.append((name, int(rank)))
    return tuple(ranks)


def _at_least(what: str, value: int, least: int) -> int:
    if value < least:
        raise UsageError(f"{what} {value}, expected {least} or more")
    return value


def command_line(command: str, parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """The command line with what is not the default."""
    words = shlex.split(program(command))
    for name, value in vars(args).items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value == parser.get_default(name):
            continue
        if isinstance(value, bool):
            words.append(option)
        elif name == "part":
            words += [word for part in value for word in (option, *part)]
        else:
            values = value if isinstance(value, list) else [value]
            words += [option, *(f"{v:g}" if isinstance(v, float) else str(v) for v in values)]
    return shlex.join(words)
