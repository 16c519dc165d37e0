"""A table of the layers of a net: shapes, parameters, multiply-adds, memory.

tools/describe.py deploy.prototxt
tools/describe.py train_val.prototxt --phase TRAIN --shape data=256,3,227,227 --shape label=256
tools/describe.py train_val.prototxt --plain --format markdown
tools/describe.py train_val.prototxt --deploy deploy.prototxt

With --deploy it writes the deploy form of a training net, and describes that: an input in place of data and labels,
"prob" in place of the loss.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_dialect, shape_flag, stages_flag
from caffe_compat.commands.inputs import NET, NEW_FILE
from caffe_compat.commands.net_table import FORMATS, describe
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import printable
from caffe_compat.proto.schema import PHASES


def make_parser() -> argparse.ArgumentParser:
    """Which net, in which state, and how to show it."""
    parser = Parser(__doc__)
    parser.add_argument("model", type=NET, help="net definition (prototxt)")
    parser.add_argument("--phase", default="TEST", choices=PHASES, help="(default TEST)")
    parser.add_argument("--level", type=int, default=0, help="level of the net's state")
    parser.add_argument("--stage", default="", help="stages of the net's state, separated by commas")
    parser.add_argument(
        "--shape", action="append", default=[], metavar="BLOB=N,C,H,W", help="of an input, or instead of a data layer"
    )
    parser.add_argument("--deploy", type=NEW_FILE, metavar="PROTOTXT", help="write the deploy form of a training "
                        "net, for pictures of --shape (default: as large as its data layer says)")  # fmt: skip
    parser.add_argument("--plain", action="store_true", help="only names, types and blobs; reads no data")
    add_dialect(parser)
    parser.add_argument("--format", default="text", choices=FORMATS, help="(default text)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    args = make_parser().parse_args(argv)
    shapes = dict(map(shape_flag, args.shape))
    if args.deploy:
        from caffe_compat.commands.deploying import write_deploy

        print(printable(f"wrote {args.deploy}: it {write_deploy(args.model, args.deploy, shapes)}"))
        args.model, args.phase, shapes = args.deploy, "TEST", {}
    table = describe(args.model, args.phase, args.level, stages_flag(args.stage), shapes, args.plain, args.dialect)
    print(printable(table.render(args.format)), end="" if args.format != "json" else "\n")
    return 0
