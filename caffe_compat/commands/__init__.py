"""The commands of the project: one module a command, with ``make_parser()`` and ``main(argv)``.

The files in ``tools/`` and ``data/``, ``caffe-compat NAME`` and ``python -m caffe_compat NAME`` call the same
functions.  Modules of other names here do what commands share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import chain
from pathlib import Path

from caffe_compat.errors import UsageError, nearest
from caffe_compat.resources import SHORT, short_name

__all__ = ["COMMANDS", "GROUPS", "about", "main_of", "overview"]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "first": ("demo", "predict", "zoo", "fetch", "make_scenes"),
    "nets": (
        "describe",
        "draw_net",
        "verify",
        "export_onnx",
        "infer_onnx",
        "placement",
        "net_surgery",
        "import_weights",
        "compress_net",
    ),
    "training": ("train_net", "caffe", "report", "experiment"),
    "supervision transfer": (
        "transfer",
        "make_transfer",
        "make_pairs",
        "match_norms",
        "measure_scale",
        "show_filters",
        "show_patches",
    ),
    "flow": ("make_flow", "prepare_ucf101"),
    "depth": ("index", "make_hha", "make_disparity", "show_depth", "prepare_nyud2"),
    "detection": (
        "make_detection",
        "test_net",
        "detect",
        "imdb",
        "make_proposals",
        "reval",
        "average_splits",
        "train_svms",
    ),
    "segmentation": ("make_sds", "save_sds"),
    "Caffe's tools": (
        "classify",
        "detect_windows",
        "parse_log",
        "plot_training_log",
        "convert_mnist",
        "convert_cifar10",
        "convert_imageset",
        "compute_image_mean",
        "extract_features",
        "upgrade_net_proto_binary",
        "upgrade_net_proto_text",
        "upgrade_solver_proto_text",
    ),
    "speed": ("bench",),
}
"""Every command, as ``caffe-compat`` lists them."""

COMMANDS = tuple(sorted(chain.from_iterable(GROUPS.values())))


def main_of(name: str) -> Callable[[list[str] | None], int | None]:
    """The ``main`` of a command, by its name in ``tools/`` or the short one, with hyphens or underscores.

    Raises:
        UsageError: there is no such command; names the nearest.
    """
    long = SHORT.get(name, name.replace("-", "_"))
    if long not in COMMANDS:
        hint = nearest(name, [*COMMANDS, *SHORT])
        raise UsageError(f"there is no command '{name}'{hint}; caffe-compat without arguments lists them")
    main: Callable[[list[str] | None], int | None] = import_module(f"{__name__}.{long}").main
    return main


def about(name: str) -> str:
    """What a command does, in a line: the first of its module, which is not imported for that."""
    with Path(__file__).with_name(f"{name}.py").open(encoding="utf-8") as stream:
        return stream.readline().strip().strip('"')


def overview() -> str:
    """The commands in their groups, a line each, under the names that ``caffe-compat`` prefers."""
    lines = ["usage: caffe-compat NAME ARGUMENTS   (caffe-compat NAME --help tells more of each)"]
    for title, names in GROUPS.items():
        lines += ["", title]
        for name in names:
            text, room = about(name), 90
            text = text if len(text) <= room else text[:room].rpartition(" ")[0].rstrip(",;:") + " .."
            short = short_name(name)
            lines.append(f"  {short if short == name else f'{short}, {name}':28s}{text}")
    return "\n".join(lines)
