"""The commands of the project: one module a command, with ``make_parser()`` and ``main(argv)``.

The files in ``tools/`` and ``data/`` and ``python -m caffe_compat NAME`` call the same functions.  Modules of other
names here do what commands share.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from caffe_compat.errors import UsageError, nearest

__all__ = ["COMMANDS", "main_of"]

COMMANDS = (
    "bench",
    "caffe",
    "compress_net",
    "compute_image_mean",
    "convert_imageset",
    "demo",
    "describe",
    "detect",
    "draw_net",
    "experiment",
    "export_onnx",
    "extract_features",
    "fetch",
    "imdb",
    "import_weights",
    "make_detection",
    "make_disparity",
    "make_hha",
    "make_pairs",
    "make_proposals",
    "make_scenes",
    "make_transfer",
    "match_norms",
    "measure_scale",
    "net_surgery",
    "prepare_nyud2",
    "report",
    "reval",
    "show_depth",
    "show_filters",
    "show_patches",
    "test_net",
    "train_net",
    "train_svms",
    "transfer",
    "upgrade_net_proto_binary",
    "upgrade_net_proto_text",
    "upgrade_solver_proto_text",
    "verify",
)


def main_of(name: str) -> Callable[[list[str] | None], int | None]:
    """The ``main`` of a command.

    Raises:
        UsageError: there is no such command; names the nearest.
    """
    if name not in COMMANDS:
        raise UsageError(f"no command '{name}', expected one of {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    main: Callable[[list[str] | None], int | None] = import_module(f"{__name__}.{name}").main
    return main
