"""Features over boxes: nets whose fully connected layers take regions of the last map, as in Fast R-CNN.

A classification net is made one by pooling regions of interest in place of its last max pooling, over as many bins as
that has units for the images that the net was made for: 6 x 6 in AlexNet and CaffeNet, 7 x 7 in VGG16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe_compat.errors import UsageError
from caffe_compat.proto import caffe_pb2, read_net_text
from caffe_compat.transfer.branch import ROIS, Branch, PathLike, cut, input_layer, is_fixing, read_branch

__all__ = ["read_boxes_branch", "read_features"]


def read_features(path: PathLike, blobs: Sequence[str], phase: str, boxes: bool) -> Branch:
    """What some features depend on, over boxes if there are any.

    Args:
        boxes: whether there are boxes to give to the net.

    Raises:
        CaffeCompatError: as :func:`read_boxes_branch`.
        UsageError: features over boxes, and no boxes; or the other way round.
    """
    branch = (read_boxes_branch if boxes else read_branch)(path, blobs, phase)
    over = [blob for blob in blobs if blob in branch.over_boxes]
    if over and not boxes:
        raise UsageError(
            f"{path}: '{over[0]}' is a feature over boxes; give --proposals FILE (.npz, or MCG's or COCO's .mat files) "
            "with boxes of the pictures, or --proposals builtin, which computes some"
        )
    if boxes and not over:
        raise UsageError(f"{path}: --proposals, but {' and '.join(blobs)} come before any fully connected layer")
    return branch


def read_boxes_branch(path: PathLike, blobs: Sequence[str], phase: str) -> Branch:
    """What some features depend on, those after a fully connected layer over boxes.

    Args:
        path: prototxt, either of a net that pools regions of interest already (its boxes must come in the blob
            ``rois``), or of a classification net that says the size of its images.

    Raises:
        PrototxtError, MissingFileError: the file.
        UsageError: no such feature, or fully connected layers that do not come after a max pooling.
    """
    message, lines = read_net_text(path)
    branch = cut(path, message, blobs, phase, lines)
    if not branch.fixed:
        return branch
    return cut(path, _pooled(path, message, branch, phase), blobs, phase)


def _pooled(path: PathLike, message: Any, branch: Branch, phase: str) -> Any:
    """The net with regions pooled for the first fully connected layers of a branch of it."""
    result = caffe_pb2.NetParameter()
    result.CopyFrom(message)
    if not any(ROIS in layer.top for layer in message.layer):
        _set_layers(result, [input_layer(ROIS, (1, 5)), *message.layer])
    above = set(branch.over_boxes)
    for layer in branch.layers:
        bottoms = set(layer.bottom)
        if is_fixing(layer) and not above & bottoms:
            _pool_for(path, result, branch, layer, phase)
        if is_fixing(layer) or above & bottoms:
            above |= set(layer.top)
    return result


def _pool_for(path: PathLike, net: Any, branch: Branch, fixing: Any, phase: str) -> None:
    """Put a layer that pools regions before a fully connected layer of a net."""
    bottom = fixing.bottom[0]
    pool = next(layer for layer in reversed(branch.layers) if bottom in layer.top)
    param = pool.pooling_param
    if not pool.HasField("pooling_param") or param.pool != param.MAX or param.global_pooling:
        raise UsageError(
            f"{path}: '{fixing.name}' comes after '{pool.name}' ({pool.type}), expected a max pooling, in whose place "
            "boxes are pooled"
        )
    grid, stride = _grid(path, net, pool, phase)
    made = caffe_pb2.LayerParameter(name=f"roi_{pool.name}", type="ROIPooling", top=[f"roi_{bottom}"])
    made.bottom.extend([pool.bottom[0], ROIS])
    made.roi_pooling_param.pooled_h, made.roi_pooling_param.pooled_w = grid
    made.roi_pooling_param.spatial_scale = 1 / stride
    for layer in net.layer:
        if bottom in layer.bottom and is_fixing(layer):
            layer.bottom[list(layer.bottom).index(bottom)] = made.top[0]
    place = next(number for number, layer in enumerate(net.layer) if layer.name == pool.name)
    layers = list(net.layer)
    _set_layers(net, [*layers[: place + 1], made, *layers[place + 1 :]])


def _grid(path: PathLike, net: Any, pool: Any, phase: str) -> tuple[tuple[int, int], float]:
    """Bins of a pooled region, and pixels between units of the map that regions are pooled from."""
    below = cut(path, net, [pool.top[0], pool.bottom[0]], phase)
    if below.size is None:
        raise UsageError(
            f"{path}: does not say how large its images are, and so not over how many bins to pool: give a deploy net"
        )
    plan = below.plan(below.size)
    height, width = below.shapes(plan, below.size)[pool.top[0]][2:]
    return (height, width), below.stride(plan, below.size, pool.bottom[0])


def _set_layers(net: Any, layers: Sequence[Any]) -> None:
    copies = [caffe_pb2.LayerParameter.FromString(layer.SerializeToString()) for layer in layers]
    del net.layer[:]
    net.layer.extend(copies)
