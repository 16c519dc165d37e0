"""Which features of two nets fit each other: equal strides, and maps that differ by one row or column at most."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from caffe_compat.description import LayerDescription, State, describe_net
from caffe_compat.errors import UsageError
from caffe_compat.foreign.load import all_features
from caffe_compat.layers import Params, layer_class
from caffe_compat.proto import read_net_text
from caffe_compat.transfer.boxes import read_boxes_branch
from caffe_compat.transfer.branch import FAR, ROIS, read_branch

__all__ = ["FeatureMap", "box_features", "boxes_table", "feature_maps", "fit", "foreign_maps", "nearest_fits", "table"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class FeatureMap:
    """A blob of a net, for one image of some size.

    Attributes:
        place: how far along the layers of its net it stands, 0 to 1.
        stride: pixels between neighbouring units; infinite where there is only one.
    """

    blob: str
    channels: int
    height: int
    width: int
    stride: float
    place: float

    def __str__(self) -> str:
        return f"{self.blob} ({self.channels})"


def feature_maps(path: PathLike, phase: str, size: tuple[int, int]) -> list[FeatureMap]:
    """All maps that a net makes of one image of (height, width), in the order of its layers.

    Left out is what comes after a layer that ties the net to one size of images.

    Raises:
        PrototxtError, MissingFileError: the file.
        UsageError: no map depends on images alone.
    """
    message, lines = read_net_text(path)
    described = describe_net(message, State(phase), source=str(path), lines=lines)
    names = {layer.name for layer in message.layer}
    blobs = _of_images([layer for layer in described.layers if layer.name in names])
    if not blobs:
        raise UsageError(f"{path}: no blob depends on images alone")
    branch = read_branch(path, blobs, phase)
    plan = branch.plan(size)
    near, far = branch.shapes(plan, size), branch.shapes(plan, (size[0] + FAR, size[1] + FAR))
    found = []
    for number, blob in enumerate(blobs):
        shape = near[blob]
        if len(shape) != 4 or min(shape) < 1:
            continue
        grown = far[blob][2] - shape[2]
        found.append(FeatureMap(blob, *shape[1:], FAR / grown if grown else math.inf, (number + 1) / len(blobs)))
    return found


def box_features(path: PathLike, phase: str) -> list[FeatureMap]:
    """The features of a net, a vector each, that it has over boxes: those after its first fully connected layer.

    None where boxes cannot be pooled for it.

    Raises:
        PrototxtError, MissingFileError: the file.
    """
    message, lines = read_net_text(path)
    described = describe_net(message, State(phase), source=str(path), lines=lines)
    names = {layer.name for layer in message.layer}
    blobs = _over_boxes([layer for layer in described.layers if layer.name in names])
    try:
        branch = read_boxes_branch(path, blobs, phase) if blobs else None
    except UsageError:  # what stands before its fully connected layer is no max pooling
        branch = None
    if branch is None:
        return []
    size = branch.size or (224, 224)
    shapes = branch.shapes(branch.plan(size), size)
    vectors = [blob for blob in blobs if len(shapes[blob]) == 2 and blob in branch.over_boxes]
    return [FeatureMap(blob, shapes[blob][1], 1, 1, math.inf, 1.0) for blob in vectors]


def foreign_maps(source: str, size: tuple[int, int]) -> list[FeatureMap]:
    """The same of a net of another framework; its features have the names that it gives them.

    Raises:
        UsageError: no such net, or one that does not take images of that size.
    """
    net = all_features(source)
    try:
        near = net.maps((1, 3, *size))
    except ValueError as error:
        raise UsageError(f"{source}: {error}; choose the size with --crop or --image-size") from error
    try:
        far = net.maps((1, 3, size[0] + FAR, size[1] + FAR))
    except ValueError:
        far = near  # images of one size only, which says nothing of strides
    found = []
    for number, (name, shape) in enumerate(near.items(), 1):
        grown = far[name][2] - shape[2]
        stride = FAR / grown if grown else math.inf
        found.append(FeatureMap(name, shape[1], shape[2], shape[3], stride, number / len(near)))
    return found


def _of_images(layers: Sequence[LayerDescription]) -> list[str]:
    """Blobs that depend on the first blob of images alone, and on no layer of a fixed size."""
    image = next((layer.message.top[0] for layer in layers if not layer.message.bottom and layer.message.top), None)
    known, found = {image}, []
    for layer in layers:
        bottoms, tops = list(layer.message.bottom), list(layer.message.top)
        if not bottoms:
            continue
        if set(bottoms) <= known and not layer_class(Params(layer)).fixes_size:
            known |= set(tops)
            found += [top for top in tops if top not in bottoms]
        else:
            known -= set(tops)
    return [blob for blob in dict.fromkeys(found) if blob in known]


def _over_boxes(layers: Sequence[LayerDescription]) -> list[str]:
    """Blobs that depend on images, and perhaps boxes, alone, and on regions or a fully connected layer."""
    image = next((layer.message.top[0] for layer in layers if not layer.message.bottom and layer.message.top), None)
    known, above = {image, ROIS}, dict[str, None]()
    for layer in layers:
        bottoms, tops = set(layer.message.bottom), list(layer.message.top)
        kind = layer_class(Params(layer))
        if bottoms and bottoms <= known:
            known |= set(tops)
            if kind.per_box or kind.fixes_size or bottoms & set(above):
                above |= dict.fromkeys(tops)
    return list(above)


def fit(first: FeatureMap, second: FeatureMap) -> bool:
    """Whether a loss can compare the two."""
    near = abs(first.height - second.height) <= 1 and abs(first.width - second.width) <= 1
    return first.stride == second.stride and near


def nearest_fits(wanted: FeatureMap, near: FeatureMap, maps: Iterable[FeatureMap], count: int = 3) -> list[FeatureMap]:
    """The maps that fit ``wanted``, those first that stand nearest to ``near`` in their net."""
    return sorted((one for one in maps if fit(wanted, one)), key=lambda one: abs(one.place - near.place))[:count]


def boxes_table(teachers: Sequence[FeatureMap], students: Sequence[FeatureMap]) -> list[str]:
    """Lines that say which features two nets have over boxes; any two of these fit.  Empty where one has none."""
    if not teachers or not students:
        return []
    sides = (("teacher", teachers), ("student", students))
    return ["over boxes (--proposals)", *(f"  {side}: {', '.join(map(str, some))}" for side, some in sides)]


def table(teachers: Sequence[FeatureMap], students: Sequence[FeatureMap]) -> list[str]:
    """Lines that say which features fit which: those of each stride and size, with their channels in brackets."""
    lines = []
    groups = dict.fromkeys((one.stride, one.height, one.width) for one in teachers)
    for stride, height, width in groups:
        mine = [one for one in teachers if (one.stride, one.height, one.width) == (stride, height, width)]
        theirs = [one for one in students if fit(mine[0], one)]
        lines.append(f"stride {stride:g}, {height} x {width}")
        lines.append(f"  teacher: {', '.join(map(str, mine))}")
        sizes = dict.fromkeys((one.height, one.width) for one in theirs)
        for size in sizes:
            there = ", ".join(str(one) for one in theirs if (one.height, one.width) == size)
            lines.append(f"  student: {there}" + (f"; {size[0]} x {size[1]}" if size != (height, width) else ""))
        if not theirs:
            lines.append("  student: none")
    return lines
