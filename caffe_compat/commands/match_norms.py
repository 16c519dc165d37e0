"""Make a student's feature as large as its teacher's, before the student is tuned for a task.

    tools/match_norms.py --model output/my_transfer/train_val.prototxt --weights transfer_iter_1000.caffemodel \\
        --output student.caffemodel

Measures both on the validation pairs and moves the factor between them from the adaptation into the student's last
layers.  What the adaptation gives stays the same; a detector's head and learning rate suit the student as they suit its
teacher.
"""

from __future__ import annotations

import argparse

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import NET, NEW_FILE, WEIGHTS
from caffe_compat.commands.parser import Parser


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__)
    p.add_argument("--model", type=NET, required=True, help="train_val.prototxt that make_transfer wrote")
    p.add_argument("--weights", type=WEIGHTS, required=True, help="snapshot of the transfer")
    p.add_argument("--output", type=NEW_FILE, required=True, help="caffemodel to write")
    p.add_argument("--count", type=int, default=50, help="batches of the validation list to measure on (%(default)s)")
    add_gpu(p, "measure")
    return p


def main(argv: list[str] | None = None) -> int:
    """Measure, change, write."""
    arguments = make_parser().parse_args(argv)
    from caffe_compat.commands.describing import describe_copy
    from caffe_compat.devices import choose
    from caffe_compat.net import load_net
    from caffe_compat.transfer.match import match_norms

    device = choose(arguments.gpu)
    net = load_net(arguments.model, arguments.weights, "TEST").to(device)
    for match in match_norms(net, arguments.count):
        print(match)
    net.save(arguments.output)
    describe_copy(arguments.output, arguments.weights)
    print(f"wrote {arguments.output}")
    return 0
