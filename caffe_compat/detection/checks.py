"""What a detector's net is fed and learns, and what of it is refused before hours are spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.detection.targets import TargetStatistics
from caffe_compat.errors import UsageError, nearest
from caffe_compat.layers import Layer
from caffe_compat.layers.data import ObjectData, RegionData
from caffe_compat.layers.rpn_targets import ProposalTargetLayer
from caffe_compat.net import Net
from caffe_compat.net.plan import Node

__all__ = ["check_net", "fixed_statistics", "object_layers", "region_layers"]


def region_layers(net: Net) -> list[RegionData]:
    """The layers of a net that are fed with regions."""
    return [node.layer for node in net.nodes if isinstance(node.layer, RegionData)]


def object_layers(net: Net) -> list[ObjectData]:
    """The layers of a net that are fed with images and their objects, for it proposes regions itself."""
    return [node.layer for node in net.nodes if isinstance(node.layer, ObjectData)]


def _target_layers(net: Net) -> list[ProposalTargetLayer]:
    return [node.layer for node in net.nodes if isinstance(node.layer, ProposalTargetLayer)]


def check_net(net: Net, imdb: ImageDatabase, names: Sequence[str]) -> None:
    """Refuse a net without regions, or with heads for other classes.

    Args:
        names: layers that give deltas.

    Raises:
        UsageError, LayerError: what does not fit; names the layer.
    """
    regions, proposing, targets = region_layers(net), object_layers(net), _target_layers(net)
    labels = len(imdb.classes) + 1
    if bool(regions) == bool(proposing):
        what = "has both regions and objects fed" if regions else "has no layer RoIDataLayerPi or RoIDataLayer"
        raise UsageError(f"--imdb: net '{net.description.name}' {what} that {imdb.name} could feed")
    for layer in regions:
        _check_data(layer, layer.num_data, imdb)
    counted: list[RegionData | ObjectData | ProposalTargetLayer] = [*regions, *proposing, *targets]
    for one in counted:
        _check_count(one, one.num_classes, imdb)
    columns = 2 if targets and targets[0].agnostic else labels
    known = {node.name: node for node in net.nodes}
    for name in names:
        if name not in known:
            raise UsageError(
                f"TRAIN.BBOX_PRED_PARAM_NAMES has '{name}', net '{net.description.name}' has no such layer"
                f"{nearest(name, known)}"
            )
        shapes = known[name].layer.blob_shapes
        if len(shapes) != 2 or shapes[0][0] != 4 * columns:
            raise known[name].layer.error(
                f"is in TRAIN.BBOX_PRED_PARAM_NAMES and has blobs of shapes {[list(shape) for shape in shapes]}, "
                f"expected weights and biases of {4 * columns} outputs, 4 for each of {columns} labels ({imdb.name})"
            )
    for node, have, expected in _heads(net, labels, columns):
        if have != expected:
            raise node.layer.error(
                f"gives {have} numbers for a region, expected {expected}: {imdb.name} has {len(imdb.classes)} classes "
                "and the background"
            )


def _check_count(layer: Layer, classes: int, imdb: ImageDatabase) -> None:
    if classes != len(imdb.classes) + 1:
        raise layer.error(
            f"param_str has num_classes {classes}, expected {len(imdb.classes) + 1}: {imdb.name} has "
            f"{len(imdb.classes)} classes and the background"
        )


def _check_data(layer: Layer, count: int, imdb: ImageDatabase) -> None:
    if count != len(imdb.modalities):
        raise layer.error(
            f"param_str has num_data {count}, expected {len(imdb.modalities)}: the images of {imdb.name} are "
            f"{'+'.join(imdb.modalities)}"
        )


def _heads(net: Net, labels: int, columns: int) -> Iterator[tuple[Node, int, int]]:
    """Layers whose top is compared with labels or targets: how many numbers it gives for a region, and is to give."""
    source = {blob: blob for blob in range(len(net.plan.names))}
    maker: dict[int, Node] = {}
    wanted: dict[int, int] = {}
    for node in net.nodes:
        bottoms = [source[blob] for blob in node.bottom_ids]
        first = None
        if isinstance(node.layer, RegionData):
            first = node.layer.num_data + 1
        elif isinstance(node.layer, ProposalTargetLayer):
            first = 1
        if first is not None:
            wanted.update(zip(node.top_ids[first:], (labels, 4 * columns), strict=False))
        for compared in bottoms[1:]:
            shape = net.plan.shapes[bottoms[0]]
            if compared in wanted and bottoms[0] in maker and len(shape) > 1:
                yield maker[bottoms[0]], shape[1], wanted[compared]
        for blob in node.top_ids:
            if node.description.is_split:
                source[blob] = bottoms[0]
            elif node.layer.has_blobs or blob not in maker:
                maker[blob] = node


def fixed_statistics(layers: Sequence[ProposalTargetLayer], labels: int) -> TargetStatistics:
    """Those that layers of a net normalise targets by themselves, for each label; means 0 and deviations 1 without any.

    Raises:
        LayerError: two of them have others.
    """
    means: tuple[float, ...] = (0.0,) * 4
    stds: tuple[float, ...] = (1.0,) * 4
    for place, layer in enumerate(layers):
        own = (layer.settings.bbox_means, layer.settings.bbox_stds)
        if place and own != (means, stds):
            raise layer.error("has other bbox_means or bbox_stds than a layer before it, expected the same")
        means, stds = own
    rows = 2 if layers and layers[0].agnostic else labels
    return TargetStatistics(np.tile(means, (rows, 1)), np.tile(stds, (rows, 1)), np.zeros(rows, np.int64))
