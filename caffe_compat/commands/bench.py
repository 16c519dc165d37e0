"""How fast the package is: ratios against a peer measured in the same run.

    tools/bench.py                      all measurements
    tools/bench.py forward weights      some of them
    tools/bench.py onnx --threads 1 --net caffenet detector --batch 1 4
    tools/bench.py scale --curves layers "list length" --plot scale.png

A ratio is our time by the peer's; each is the median of alternating runs.  onnx measures exported graphs: percentiles
and throughput in ONNX Runtime, against torch.onnx.export's graphs of the same nets, torch itself, and OpenVINO where
that is installed, --rounds seconds for each net and batch; onnxscript lets torch's default exporter take part (both
come with the extra "bench").  Behind each ratio: the quartiles over all rounds, the ratio of the shortest times, and
that of the processor's time, which others on the machine disturb least.  --gpu measures in CUDA's memory instead, says
which nodes run where, and how many copies cross over.

scale measures what more regions, images, pixels, bytes, layers and lines cost: seconds of the processor and memory at
rising sizes, and the exponent between them (1: linear).  The last lines name the machine.
"""

from __future__ import annotations

import argparse

from caffe_compat import log
from caffe_compat.commands.inputs import NEW_FILE
from caffe_compat.commands.measurements import BENCHMARKS, OnnxSettings, ScaleSettings, report
from caffe_compat.commands.parser import Parser
from caffe_compat.errors import UsageError


def make_parser() -> argparse.ArgumentParser:
    """What to measure, and how often."""
    p = Parser(__doc__)
    p.add_argument("which", nargs="*", metavar="WHICH", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    p.add_argument("--rounds", type=int, default=7, help="alternating runs (default: %(default)s)")
    p.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's own choice)")
    group = p.add_argument_group("onnx")
    group.add_argument("--net", nargs="+", default=[], metavar="NET", help="caffenet, squeezenet, vgg16, detector")
    group.add_argument(
        "--batch", nargs="+", type=int, default=[], metavar="N", help="images at a time (default: by net)"
    )
    group.add_argument("--rois", type=int, default=300, help="regions of an image (default: %(default)s)")
    group.add_argument("--gpu", type=int, nargs="?", const=0, help="measure on this CUDA device, 0 if not said which")
    group = p.add_argument_group("scale")
    groups = 'RoIs, batch, "image size", "file size", layers, "list length" (default: all)'
    group.add_argument("--curves", nargs="+", default=[], metavar="GROUP", help=groups)
    seconds = "leave out sizes that would take longer (default: 20; 2 beside other benchmarks)"
    group.add_argument("--seconds", type=float, metavar="S", help=seconds)
    group.add_argument("--plot", type=NEW_FILE, default="", metavar="PICTURE", help="draw the curves, .png or .pdf")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the measurements and print a table."""
    args = make_parser().parse_args(argv)
    smallest = min([args.rois, *args.batch])
    if smallest < 1:
        raise UsageError(f"--batch and --rois: got {smallest}, expected 1 or more")
    settings = OnnxSettings(tuple(args.net), tuple(args.batch), args.rois, args.gpu)
    if args.seconds is not None and not args.seconds > 0:
        raise UsageError(f"--seconds is {args.seconds:g}, expected more than 0")
    curves = ScaleSettings(tuple(args.curves), args.seconds, args.plot)
    with log.only_errors():
        return report(args.which, args.rounds, args.threads, settings, curves)
