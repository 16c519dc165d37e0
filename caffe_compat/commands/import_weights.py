"""Write a caffemodel from a state dict of torchvision or timm, where one of our nets is the same net.

    tools/import_weights.py --source torchvision:resnet50 --weights resnet50.pth --output resnet50.caffemodel

Both nets then run on the same pictures, and every layer is compared before anything is written.  Exit status 0: all
agree, 1: a layer diverges, and nothing is written.  The caffemodel takes pictures as Caffe feeds them, blue first and
minus a mean; OUTPUT.preprocessing.json says which.  (The order of the channels and the standard deviation are folded
into the first layer.  The mean is not: that would be wrong at the border, where layers pad with zeros.)
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from caffe_compat.commands.inputs import NET, NEW_FILE, STATE_DICT
from caffe_compat.commands.parser import Parser
from caffe_compat.importing.architectures import ARCHITECTURES

STUDENT = "students/alexnet_pad7/deploy.prototxt"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__)
    p.add_argument("--source", required=True, metavar="NET", help=", ".join(ARCHITECTURES))
    p.add_argument("--weights", type=STATE_DICT, required=True, help="its state dict: .pth or .safetensors")
    p.add_argument("--output", type=NEW_FILE, required=True, help="the caffemodel")
    p.add_argument("--model", type=NET, help="prototxt with the same layers (default: ours)")
    p.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="of the pictures to compare on (the net's)")
    p.add_argument("--seed", type=int, default=0, help="of those pictures, which are random (%(default)s)")
    p.add_argument("--tolerance", type=float, default=1e-4, help="relative to a blob's maximum (%(default)s)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Import, compare, and write if all is the same."""
    args = make_parser().parse_args(argv)
    import numpy as np

    from caffe_compat.foreign import ForeignSpec, own_normalization, read_state
    from caffe_compat.foreign.spec import IMAGENET_RGB
    from caffe_compat.importing import check_net, fill_net, find_architecture, mean_bgr
    from caffe_compat.media import Preparation, Preprocessing, weights_digest, write_preparation
    from caffe_compat.net import load_net
    from caffe_compat.resources import program, prototxt

    architecture = find_architecture(args.source)
    model = args.model or str(prototxt(architecture.prototxt))
    net, state = load_net(model), read_state(args.weights)
    architecture.check_layers({node.name for node in net.nodes}, model)
    takes = own_normalization(args.source) or IMAGENET_RGB
    first = architecture.takes or takes
    fill_net(net, architecture, state, first, args.weights)
    height, width = args.size or net.blob_shapes[net.input_names[0]][2:]
    pixels = np.random.default_rng(args.seed).integers(0, 256, (1, 3, height, width), dtype=np.uint8)
    spec = ForeignSpec(args.source, (), args.weights, takes=takes)
    comparison = check_net(net, architecture, spec, pixels, args.tolerance)
    print("\n".join(comparison.lines()))
    if comparison.first is not None:
        return 1
    net.save(args.output)
    side = str(Path(args.output).with_suffix(".preprocessing.json"))
    crop = net.blob_shapes[net.input_names[0]][2:]
    mean = tuple(float(f"{value:.6g}") for value in mean_bgr(first))
    wanted = Preprocessing(mean=mean, short_side=256, crop=(crop[0], crop[1]))
    digest = {Path(args.output).name: weights_digest(args.output)}
    write_preparation(side, Preparation({net.input_names[0]: wanted}, digest))
    print(f"wrote {args.output} for {model}\nwrote {side}")
    print(f"pictures: blue, green, red minus {' '.join(f'{value:g}' for value in mean)} (mean_value in a prototxt)")
    words = ["--teacher", model, "--teacher-weights", args.output, "--student", str(prototxt(STUDENT)), "--list"]
    print(f"next:\n  {program('make_transfer')} {shlex.join(words)}")
    return 0
