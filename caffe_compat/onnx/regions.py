"""Which inputs of a net hold regions of images, and of which images: a session refuses others' before it runs.

Of nets that segment boxes also in which cells these are given.
"""

from __future__ import annotations

from collections.abc import Sequence

from caffe_compat.net import Net, Node
from caffe_compat.net.plan import ancestors
from caffe_compat.onnx.shapes import consumers, infer_shapes

__all__ = ["cell_stride", "region_inputs"]

_CELLS = "sppboxes"
"""What the branch calls the input with boxes in whole cells of the last map."""
_FURTHER = 960
"""Pixels by which a picture is enlarged to see how many cells a map gains: a multiple of all strides up to 64."""


def region_inputs(net: Net, nodes: Sequence[Node]) -> dict[str, str]:
    """Inputs whose rows begin with the place of an image in a batch, and the input that is this batch.

    Args:
        nodes: the layers that are exported.
    """
    exported = {id(node) for node in nodes}
    found: dict[str, str] = {}
    for name, readers in consumers(net).items():
        for node, bottom in readers:
            if bottom == 1 and node.layer.per_box and id(node) in exported:
                images = _images(net, node.bottom_ids[0])
                if images and images != name:
                    found.setdefault(name, images)
    return found


def cell_stride(net: Net, nodes: Sequence[Node]) -> int | None:
    """Pixels of the pictures for a cell of the boxes ``sppboxes``; None: the net is none that segments boxes.

    Args:
        nodes: the layers that are exported.
    """
    exported = {id(node) for node in nodes}
    for node, bottom in consumers(net).get(_CELLS, []):
        if bottom != 1 or not node.layer.per_box or id(node) not in exported:
            continue
        feature = node.bottom_ids[0]
        images = _images(net, feature)
        shapes = {net.plan.names[blob]: net.plan.shapes[blob] for blob in net.plan.inputs}
        sizes = []
        for more in (0, _FURTHER):
            number, channels, height, width = shapes[images]
            given = {**shapes, images: (number, channels, height + more, width + more)}
            before, _ = ancestors(net.plan, [feature])
            sizes.append(infer_shapes(net, before, given).tops[-1][0][2])
        gained = sizes[1] - sizes[0]
        return _FURTHER // gained if gained > 0 else None
    return None


def _images(net: Net, feature: int) -> str:
    """The input that a feature has as many items as, of those that it is computed from; empty if there is none."""
    _, needed = ancestors(net.plan, [feature])
    names, shapes = net.plan.names, net.plan.shapes
    items = shapes[feature][:1]
    return next((names[blob] for blob in net.plan.inputs if blob in needed and shapes[blob][:1] == items), "")
