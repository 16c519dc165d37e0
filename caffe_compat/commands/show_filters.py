"""Draw the filters of nets side by side: teacher, copy, fine-tuned, transferred, random.

    tools/show_filters.py --output filters.png \\
        --net "teacher, on colour" vgg.prototxt vgg.caffemodel \\
        --net "transferred, on HHA" output/my/train_val.prototxt output/my/transfer_iter_1000.caffemodel da_conv1 \\
        --net "random" output/my/student_deploy.prototxt random

Filters of three channels are drawn in colour (of HHA images red is disparity, green height, blue angle), of one channel
in grey, of other numbers with their channels side by side.  The data that a prototxt names need not be there.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.inputs import NEW_FILE
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError, printable


def make_parser() -> argparse.ArgumentParser:
    """The nets, and how they are drawn."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add(
        "--net",
        action="append",
        nargs="+",
        required=True,
        metavar="WORD",
        help="TITLE MODEL WEIGHTS [LAYER]: a prototxt and weights files (separated by commas), or torchvision:NAME and "
        ".pth; WEIGHTS may be 'random': as its fillers make them",
    )
    add("--output", type=NEW_FILE, required=True, help="picture to write, .png or .pdf")
    add("--layer", default="", help="whose filters (default: of each net the first layer that has any)")
    add(
        "--sort",
        nargs="?",
        const="own",
        choices=("own", "first"),
        help="largest norms first; 'first': in the order of the first net, so that filters that were copied stay in "
        "their places",
    )
    add(
        "--same-scale",
        nargs="?",
        const="net",
        choices=("net", "all"),
        default="",
        help="grey is 0, and black and white are the same numbers for all filters of a net (or of all nets); without "
        "it every filter goes from its smallest number to its largest",
    )
    add("--seed", type=int, default=0, help="of random weights (%(default)s)")
    add("--columns", type=int, default=0, help="panels in a row (default: all)")
    add("--width", type=float, default=2.2, help="of a panel, inches (%(default)s)")
    add("--dpi", type=int, default=300, help="dots per inch (%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw what the arguments say, and print where each panel comes from."""
    args = make_parser().parse_args(argv)
    for words in args.net:
        if len(words) not in (3, 4):
            raise UsageError(f"--net {' '.join(words)}: has {len(words)} words, expected TITLE MODEL WEIGHTS [LAYER]")
    from caffe_compat.figures.filters import read_filters
    from caffe_compat.figures.panels import Look, draw_filters, sorted_like
    from caffe_compat.figures.save import check_name, write_figure

    check_name(args.output)
    look = Look(args.width, args.columns, args.dpi)
    found = [
        read_filters(title, model, weights, layer[0] if layer else args.layer, args.seed)
        for title, model, weights, *layer in args.net
    ]
    if args.sort:
        found = sorted_like(found, args.sort == "first")
    write_figure(args.output, draw_filters(found, look, args.same_scale))
    print(printable("\n".join([*map(str, found), f"wrote {args.output}"])))
    return 0
