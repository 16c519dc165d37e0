"""Arguments of ``export_onnx`` about pictures and boxes; declared without torch."""

from __future__ import annotations

import argparse

from caffe_compat.commands.inputs import OPTIONS, PREPROCESSING

__all__ = ["add_pictures"]


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    add = parser.add_argument_group("pictures and boxes").add_argument
    add(
        "--preprocessing", type=PREPROCESSING, metavar="FILE",
        help="preprocessing.json, or a model that carries one, to store (default: "
        "what stands beside the weights, else beside the prototxt)",
    )  # fmt: skip
    add(
        "--preprocess", nargs="?", const="bgr", choices=["bgr", "rgb"], metavar="bgr|rgb", help="put it into the "
        "graph: pictures come in as bytes [N, H, W, C], blue or red first (default bgr, as OpenCV reads them)",
    )  # fmt: skip
    add(
        "--resize", nargs="?", const="", metavar="H,W", help="with --preprocess: the graph resizes pictures of any "
        "size to this one (alone: to what the preprocessing says); ONNX's Resize is OpenCV's but for the rounding",
    )  # fmt: skip
    add(
        "--postprocess", action="store_true", help="of a detector: put moving, cutting and suppression of boxes into "
        "the graph, as test_net does them",
    )  # fmt: skip
    add(
        "--cfg",
        type=OPTIONS,
        metavar="FILE",
        help="with --postprocess: its options (default: config.yml beside the weights)",
    )
