"""Sections of a page about nets: their drawings, and the filters of their first convolution."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from caffe_compat.errors import UsageError
from caffe_compat.figures.filters import Filters, mosaic, read_filters
from caffe_compat.media.pictures import encode
from caffe_compat.proto import caffe_pb2, format_text, read_net
from caffe_compat.pycaffe.draw import svg_of
from caffe_compat.reports.html import group, paragraph, picture
from caffe_compat.transfer.curves import Group
from caffe_compat.transfer.runs import Run

__all__ = ["drawings", "filters", "net_path", "snapshots"]

MOST = 6
"""Groups whose filters are shown."""
SIDE = 420
"""Pixels that a picture of filters is wide, about."""


def net_path(run: Run) -> str:
    """The prototxt that a run trains, empty where it or the solver is gone."""
    if run.solver is None:
        return ""
    path = str(run.solver.net or run.solver.train_net)
    return path if path and os.path.exists(path) else ""


def snapshots(run: Run) -> list[str]:
    """The weights that a run wrote and that are there, the first first."""
    found = {}
    for path in Path(f"{run.prefix}_").parent.glob(f"{Path(run.prefix).name}_iter_*.caffemodel*"):
        if (match := re.search(r"_iter_(\d+)\.caffemodel(\.h5)?$", path.name)) is not None:
            found[int(match[1])] = str(path)
    return [found[iteration] for iteration in sorted(found)]


def drawings(groups: Sequence[Group]) -> list[str]:
    """The net of every group that has another one than those before it."""
    parts, seen = [], set()
    for one in groups:
        path = net_path(one.runs[0])
        if not path:
            continue
        net = read_net(path)
        shape = caffe_pb2.NetParameter()
        shape.CopyFrom(net)
        for layer in shape.layer:
            for name in ("loss_weight", "param", "power_param", "threshold_param"):
                layer.ClearField(name)
        text = format_text(shape)
        if text in seen:
            continue
        seen.add(text)
        alt = f"The layers and blobs of the net '{net.name}', {len(net.layer)} layers in the order in which they run"
        drawn = picture(svg_of(net).encode(), "svg", alt, f"{path}; scroll to the right", look="scroll")
        parts.append(group(one.name if len(groups) > 1 else "", drawn))
    return parts


def filters(groups: Sequence[Group]) -> list[str]:
    """The first filters of every group's first run: of its first snapshot that is there, and of the last."""
    parts = []
    for one in groups[:MOST]:
        shown = [_filter_picture(one.runs[0], found) for found in _filters(one.runs[0])]
        if shown:
            parts.append(group(one.name if len(groups) > 1 else "", *shown, beside=True))
    if parts and len(groups) > MOST:
        parts.append(paragraph(f"Of {len(groups)} groups the first {MOST} are shown."))
    return parts


def _filters(run: Run) -> Iterator[Filters]:
    model, weights = net_path(run), snapshots(run)
    if not model or not weights:
        return
    known = dict.fromkeys([weights[0], weights[-1]])
    for path in known:
        iteration = path.rpartition("_iter_")[2].partition(".")[0]
        try:
            yield read_filters(f"iteration {iteration}", model, path, _trained_layer(model))
        except UsageError:  # a net without convolutions
            return


def _trained_layer(model: str) -> str:
    """The first convolution that learns; empty if none is known to: then the first of all is taken."""
    for layer in read_net(model).layer:
        frozen = bool(layer.param) and all(one.lr_mult == 0 for one in layer.param)
        if layer.HasField("convolution_param") and not frozen:
            return str(layer.name)
    return ""


def _filter_picture(run: Run, found: Filters) -> str:
    weight = found.weight
    if weight.shape[1] != 3:  # the first channel stands for all
        weight = weight[:, :1]
    across = mosaic(weight).shape[1]
    drawn = mosaic(weight, times=max(1, SIDE // across))
    pixels = (255 * drawn[..., ::-1] + 0.5).astype("uint8")
    count, channels, height, width = found.weight.shape
    what = f"{count} filters of layer '{found.layer}', {channels} x {height} x {width}"
    note = "" if channels == 3 else ", of which the first channel is shown"
    alt = f"{what}{note}, of {run.name} at {found.title}"
    return picture(encode(pixels, "png", alt), "png", alt, f"{found.title}: {what}{note}")
