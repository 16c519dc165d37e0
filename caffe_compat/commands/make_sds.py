"""Write the nets, the solver and the configuration that segment a detector's boxes by hypercolumns.

    tools/make_sds.py --net alexnet_hha --classes 19 --imdb nyud2_hha_2015_trainval --folder output/my_masks
    tools/make_sds.py --net squeezenet --imdb coco:set.json,split=train,images --short-side 320 --folder output/my_masks
    tools/make_sds.py --net squeezenet --imdb coco:set.json,images --maps none --folder output/my_fc7
    tools/make_sds.py --net caffenet --second alexnet_hha --imdb nyud2_images+hha_2015_trainval --folder output/my_fused

Written are train.prototxt, solver.prototxt, test.prototxt and config.yml.  Only the classifiers are trained, on a
detector of the same net, whose snapshot gives the weights of all layers below.  Nets of two modalities are not trained:
test.prototxt takes the snapshots of both.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffe_compat.commands.inputs import NEW_FOLDER
from caffe_compat.commands.make_detection import class_count, command_line
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError

if TYPE_CHECKING:
    from caffe_compat.detection.backbones import Backbone, Map


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__)
    p.add_argument("--net", required=True, help="backbone: caffenet, alexnet_hha, vgg16, squeezenet, ...")
    p.add_argument("--second", metavar="NET", help="backbone of a second modality, one whose name ends with _hha")
    p.add_argument("--classes", metavar="N", help="classes without background: a number, or an imdb (default: --imdb)")
    p.add_argument("--imdb", default="", help="what to train on")
    p.add_argument("--folder", type=NEW_FOLDER, required=True, help="where the files go")
    net = p.add_argument_group("net")
    net.add_argument(
        "--maps", nargs="+", default=[], metavar="MAPS", help="of each net 'none', for fc7 alone, or maps with what "
        "they are multiplied by, as in pool2=0.0074,conv4=0.0909; the first is seen in 3 x 3 (default: the backbone's)",
    )  # fmt: skip
    net.add_argument("--no-dropout", action="store_true", help="none after fc6 and fc7")
    net.add_argument("--hidden", type=int, default=0, help="outputs of fc6 and fc7 (default: the backbone's)")
    net.add_argument("--mask-size", type=int, default=50, help="pixels of a mask, each way (%(default)s)")
    schedule = p.add_argument_group("schedule")
    schedule.add_argument("--base-lr", type=float, default=0.001, help="learning rate (%(default)s)")
    schedule.add_argument("--stepsize", type=int, default=20_000, help="iterations of each rate (%(default)s)")
    schedule.add_argument("--iters", type=int, default=10_000, help="iterations (%(default)s)")
    schedule.add_argument("--snapshot-iters", type=int, default=2_500, help="between snapshots (%(default)s)")
    schedule.add_argument("--iter-size", type=int, default=20, help="images of an iteration (%(default)s)")
    schedule.add_argument("--samples", type=int, default=5, help="boxes of an image, all of one class (%(default)s)")
    config = p.add_argument_group("configuration")
    config.add_argument("--short-side", type=int, default=688, help="of pictures, in pixels (%(default)s)")
    config.add_argument("--max-size", type=int, default=1000, help="long sides at most (%(default)s)")
    config.add_argument("--exp-dir", default="", help="results go to output/EXP_DIR (default: sds/FOLDER's name)")
    config.add_argument("--weights", default="", help="the detector's caffemodel; only named in remarks")
    return p


def main(argv: list[str] | None = None) -> int:
    """Write the files and say what to run next."""
    p = make_parser()
    args = p.parse_args(argv)
    from pathlib import PurePath

    from caffe_compat.detection.backbones import find_backbone
    from caffe_compat.segmentation.net_files import MaskPlan, MaskSchedule, write_masks
    from caffe_compat.segmentation.nets import MaskNets

    if not args.classes and not args.imdb:
        raise UsageError("how many classes? expected --classes or --imdb")
    for name in ("iters", "stepsize", "snapshot_iters", "iter_size", "samples", "short_side", "max_size", "mask_size"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(args, name)}, expected 1 or more")
    backbones = tuple(find_backbone(name) for name in (args.net, *([args.second] if args.second else [])))
    nets = MaskNets(
        backbones,
        class_count(args.classes or args.imdb),
        _maps(args.maps, backbones),
        dropout=not args.no_dropout,
        hidden=args.hidden,
        side=args.mask_size,
        imdb=args.imdb,
        short_side=args.short_side,
        samples=args.samples,
    )
    schedule = MaskSchedule(args.base_lr, args.stepsize, args.iters, args.snapshot_iters, args.iter_size)
    exp_dir = args.exp_dir or f"sds/{PurePath(args.folder).name}"
    plan = MaskPlan(args.folder, schedule, command_line("make_sds", p, args), exp_dir, args.max_size, args.weights)
    files, commands = write_masks(nets, plan)
    print("\n".join(f"wrote {name}" for name in files))
    print("\n".join(["next:", *(f"  {command}" for command in commands)]))
    return 0


def _maps(words: list[str], backbones: tuple[Backbone, ...]) -> tuple[tuple[Map, ...], ...]:
    """The maps of each net: its backbone's, or what a word says."""
    if not words:
        return tuple(backbone.maps for backbone in backbones)
    if len(words) not in (1, len(backbones)):
        raise UsageError(f"--maps of {len(words)} nets, expected {len(backbones)}, or one for all")
    return tuple(_read_maps(word) for word in (words * len(backbones) if len(words) == 1 else words))


def _read_maps(word: str) -> tuple[Map, ...]:
    from caffe_compat.detection.backbones import Map

    if word == "none":
        return ()
    maps: list[Map] = []
    for part in word.split(","):
        blob, _, number = part.partition("=")
        try:
            scale = float(number)
        except ValueError as error:
            raise UsageError(f"--maps {word}: '{part}', expected a map and a number as in pool2=0.0074") from error
        if not 0 < scale < float("inf"):
            raise UsageError(f"--maps {word}: {blob} is multiplied by {number}, expected a number above 0")
        maps.append(Map(blob, scale, 1 if maps else 3))
    return tuple(maps)
