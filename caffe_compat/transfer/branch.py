"""The part of a net that one feature depends on, and what its maps look like."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from caffe_compat.description import INPUT, LayerDescription, State, describe_layer, describe_net
from caffe_compat.description.graph import ancestors
from caffe_compat.errors import UsageError, in_file, nearest
from caffe_compat.layers import Params, Shape, layer_class
from caffe_compat.net import Plan
from caffe_compat.net.build import build
from caffe_compat.net.plan import walk_shapes
from caffe_compat.proto import caffe_pb2, read_net_text

__all__ = ["ROIS", "Branch", "cut", "input_layer", "is_fixing", "read_branch"]

PathLike = str | os.PathLike[str]
ROIS = "rois"
"""The blob that takes boxes, R x 5: number of the image, x1 y1 x2 y2 in its pixels; as in all nets of Fast R-CNN."""
FAR = 2880  # pixels; a multiple of every usual stride


@dataclass(frozen=True)
class Branch:
    """The ancestors of some blobs of a net; data and label layers are left out.

    Attributes:
        path: the prototxt it comes from.
        name: of the net.
        layers: ``LayerParameter`` messages, without layers that have no bottom, without include and exclude rules.
        everything: all layers of the net in that phase, in file order, data layers included.
        input: the blob that takes the images.
        size: height and width of the images that the prototxt itself asks for, if it says so.
        channels: of the images.
        blobs: the blobs that were asked for.
    """

    path: str
    name: str
    layers: tuple[Any, ...]
    everything: tuple[LayerDescription, ...]
    input: str
    size: tuple[int, int] | None
    blobs: tuple[str, ...]
    channels: int

    @property
    def over_boxes(self) -> frozenset[str]:
        """Blobs that have an item for each box; where there are any, the branch takes boxes, in :data:`ROIS`."""
        found: set[str] = set()
        for layer in self.layers:
            if _is_per_box(layer) or found & set(layer.bottom):
                found |= set(layer.top)
        return frozenset(found)

    @property
    def fixed(self) -> bool:
        """Whether a layer ties the net to one size of images."""
        boxes = self.over_boxes
        return any(is_fixing(layer) and not boxes & set(layer.bottom) for layer in self.layers)

    def message(self, size: tuple[int, int], batch: int = 1) -> Any:
        """The branch as a net of its own: an Input for (batch, channels, height, width), one for boxes, the layers."""
        net = caffe_pb2.NetParameter(name=self.name)
        net.layer.add().CopyFrom(input_layer(self.input, (batch, self.channels, *size)))
        if self.over_boxes:
            net.layer.add().CopyFrom(input_layer(ROIS, (1, 5)))
        net.layer.extend(self.layers)
        return net

    def plan(self, size: tuple[int, int]) -> Plan:
        """The branch, built for images of (height, width), its blobs not filled.

        Raises:
            NetError: a layer that cannot be built; names the file.
        """
        message = self.message(size)
        with in_file(self.path):
            return build(describe_net(message, source=self.path), fill=False)

    def shapes(self, plan: Plan, size: tuple[int, int]) -> dict[str, Shape]:
        """Shapes of all blobs for one image of (height, width), and one box."""
        images: Shape = (1, self.channels, *size)
        found = walk_shapes(plan.nodes, {blob: (1, 5) if plan.names[blob] == ROIS else images for blob in plan.inputs})
        return {name: found[blob] for blob, name in enumerate(plan.names)}

    def stride(self, plan: Plan, size: tuple[int, int], blob: str) -> float:
        """Pixels between the centres of neighbouring units of a blob; infinite for a blob of one unit."""
        near = self.shapes(plan, size)[blob]
        far = self.shapes(plan, (size[0] + FAR, size[1] + FAR))[blob]
        grown = far[2] - near[2] if len(near) == 4 else 0
        return FAR / grown if grown else math.inf


def input_layer(blob: str, shape: Sequence[int]) -> Any:
    """An Input layer for one blob."""
    layer = caffe_pb2.LayerParameter(name=blob, type=INPUT, top=[blob])
    layer.input_param.shape.add().dim.extend(shape)
    return layer


def read_branch(path: PathLike, blobs: Sequence[str], phase: str, channels: int | None = 3) -> Branch:
    """Cut out of a prototxt (deploy or train_val form) what some blobs depend on.

    Args:
        path: the prototxt.
        blobs: names of the features.  Of an in-place blob the last value is meant: after the ReLU.
        phase: ``"TRAIN"`` or ``"TEST"``, for layers with include and exclude rules.
        channels: that images must have; None for what the prototxt says, 3 where it says nothing.

    Raises:
        PrototxtError, MissingFileError: the file.
        UsageError: a blob that the net does not have, that depends on more than one blob of images, or on boxes that
            are no input.
    """
    message, lines = read_net_text(path)
    return cut(path, message, blobs, phase, lines, channels)


def cut(
    path: PathLike,
    message: Any,
    blobs: Sequence[str],
    phase: str,
    lines: Sequence[int | None] = (),
    channels: int | None = 3,
) -> Branch:
    """The same of a net that was read.

    Args:
        lines: of its layers in the file, for messages.
    """
    described = describe_net(message, State(phase), source=str(path), lines=lines)
    names = {layer.name for layer in message.layer}
    layers = [layer for layer in described.layers if layer.name in names]  # without the splits that were added
    kept, sources = _ancestors(path, layers, blobs)
    boxes = {layer.message.bottom[1] for layer in kept if _is_per_box(layer.message)}
    if boxes - {ROIS} or not boxes <= set(sources):
        raise UsageError(f"{path}: boxes come from {sorted(boxes)}, expected them in an input that is called '{ROIS}'")
    sources = {blob: layer for blob, layer in sources.items() if blob not in boxes}
    if len(sources) != 1:
        raise UsageError(
            f"{path}: {' and '.join(blobs)} must depend on one blob of images, found "
            + (f"{sorted(sources)}" if sources else "none")
        )
    ((image, source),) = sources.items()
    return Branch(
        path=str(path),
        name=message.name,
        layers=tuple(_cleaned(layer.message) for layer in kept),
        everything=tuple(layers),
        input=image,
        blobs=tuple(blobs),
        **_source_sizes(path, source, image, channels),
    )


def is_fixing(layer: Any) -> bool:
    """Whether the number of a layer's weights depends on the height and width of its bottom."""
    return layer_class(Params(describe_layer(layer))).fixes_size


def _is_per_box(layer: Any) -> bool:
    return layer_class(Params(describe_layer(layer))).per_box and len(layer.bottom) > 1


def _ancestors(
    path: PathLike, layers: Sequence[LayerDescription], blobs: Iterable[str]
) -> tuple[list[LayerDescription], dict[str, LayerDescription]]:
    """Layers with bottoms that the blobs depend on, in order, and the source blobs they start from."""
    known = {top for layer in layers for top in layer.message.top}
    for blob in set(blobs) - known:
        raise UsageError(f"{path}: the net has no blob '{blob}'{nearest(blob, known)}")
    kept, needed = ancestors(layers, blobs, lambda layer: layer.message.top, lambda layer: layer.message.bottom)
    starts = [layer for layer in kept if not layer.message.bottom]
    sources = {top: layer for layer in reversed(starts) for top in layer.message.top if top in needed}
    return [layer for layer in kept if layer.message.bottom], sources


def _cleaned(layer: Any) -> Any:
    copy = caffe_pb2.LayerParameter()
    copy.CopyFrom(layer)
    for field in ("include", "exclude", "blobs"):
        copy.ClearField(field)
    return copy


def _source_sizes(path: PathLike, source: LayerDescription, blob: str, channels: int | None) -> dict[str, Any]:
    """Size and channels of a branch, as its source says."""
    if not source.is_input:
        crop = source.message.transform_param.crop_size
        return {"size": (crop, crop) if crop else None, "channels": channels or 3}
    shapes = source.message.input_param.shape
    index = list(source.message.top).index(blob)
    dims = list(shapes[index if len(shapes) > 1 else 0].dim) if shapes else []
    if len(dims) != 4 or dims[1] != (channels or dims[1]):
        wanted = f"images of {channels} channels: N x {channels} x H x W" if channels else "images: N x C x H x W"
        raise UsageError(f"{path}: input '{blob}' has the shape {dims}, expected {wanted}")
    return {"size": (dims[2], dims[3]), "channels": dims[1]}
