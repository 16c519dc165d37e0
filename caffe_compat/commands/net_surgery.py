"""Put a net together from the weights of others.

    tools/net_surgery.py --out_net_def franken_deploy.prototxt --net_surgery_json surgery.json \\
        --out_net_file franken.caffemodel

The JSON file is a list of {"prototxt": .., "model": .., "copy_ops": {"source": [..], "dest": [..], "reshape": [..]}}.
"""

from __future__ import annotations

import argparse
import os

from caffe_compat.commands.flags import add_gpu
from caffe_compat.commands.inputs import JSON, NET, NEW_FILE
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import printable
from caffe_compat.resources import program


def make_parser() -> argparse.ArgumentParser:
    """The flags of the authors' do_net_surgery.py."""
    p = Parser(__doc__)
    p.add_argument("--out_net_def", type=NET, required=True, help="prototxt of the new net")
    p.add_argument("--net_surgery_json", type=JSON, required=True, help="what is copied from where")
    p.add_argument("--out_net_file", type=NEW_FILE, required=True, help="caffemodel to write")
    add_gpu(p, "put the net together")
    return p


def main(argv: list[str] | None = None) -> int:
    """Copy, write, and name the layers that were not copied exactly once."""
    args = make_parser().parse_args(argv)
    from caffe_compat.commands.describing import describe_surgery
    from caffe_compat.devices import choose
    from caffe_compat.net.deploy import reads_own_data
    from caffe_compat.net.surgery import operate, read_operations
    from caffe_compat.proto import read_net

    operations = read_operations(args.net_surgery_json)
    report = operate(args.out_net_def, operations, args.out_net_file, choose(args.gpu))
    beside = describe_surgery(args.out_net_file, args.out_net_def, operations)
    onnx = f"{os.path.splitext(args.out_net_file)[0]}.onnx"
    wrote = [f"wrote what it wants of pictures into {beside}"] if beside else []
    command = f"{program('export_onnx')} --model {args.out_net_def} --weights {args.out_net_file} --output {onnx}"
    to_be_trained = reads_own_data(read_net(args.out_net_def))
    following = [] if to_be_trained else [f"next: {command}"]
    print(printable("\n".join([*report.lines(), f"wrote {args.out_net_file}", *wrote, *following])))
    return 0
