"""Which inputs of a net hold regions of images, and of which images: a session refuses others' before it runs."""

from __future__ import annotations

from collections.abc import Sequence

from caffe_compat.net import Net, Node
from caffe_compat.net.plan import ancestors
from caffe_compat.onnx.shapes import consumers

__all__ = ["region_inputs"]


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


def _images(net: Net, feature: int) -> str:
    """The input that a feature has as many items as, of those that it is computed from; empty if there is none."""
    _, needed = ancestors(net.plan, [feature])
    names, shapes = net.plan.names, net.plan.shapes
    items = shapes[feature][:1]
    return next((names[blob] for blob in net.plan.inputs if blob in needed and shapes[blob][:1] == items), "")
