"""What ``print(net)`` shows: the layers with their sizes."""

from __future__ import annotations

import math

from caffe_compat.description.table import aligned, sizes
from caffe_compat.layers import Shape
from caffe_compat.net.plan import Node, Plan

__all__ = ["owned_shapes", "show"]

HEAD = ("layer", "type", "bottoms", "tops", "top shape", "weights", "parameters")


def show(plan: Plan) -> str:
    """A net as a table without the Splits; shapes are those of the sizes written in the prototxt.

    Weights that belong to another layer are shown, and not counted among the parameters.
    """
    description = plan.description
    nodes = [(number, node) for number, node in enumerate(plan.nodes) if not node.description.is_split]
    counts = [_count(plan, number, node) for number, node in nodes]
    rows = [
        [
            node.name,
            node.type,
            ", ".join(node.description.message.bottom),  # as written, not the tops of splits
            ", ".join(plan.names[blob] for blob in node.top_ids),
            sizes((plan.shapes[blob] for blob in node.top_ids), once=True),
            sizes(node.layer.blob_shapes),
            f"{parameters:,}" if parameters else "",
        ]
        for (_, node), parameters in zip(nodes, counts, strict=True)
    ]
    where = f", {description.source}" if description.source else ""
    return (
        f"net '{description.name}' ({description.state.phase}{where}): {len(rows)} layers, {sum(counts):,} parameters\n"
        f"{aligned(HEAD, rows, {len(HEAD) - 1})}"
    ).rstrip("\n")


def owned_shapes(plan: Plan, number: int, node: Node) -> list[Shape]:
    """Shapes of the blobs of a layer that are not another layer's."""
    return [shape for index, shape in enumerate(node.layer.blob_shapes) if (number, index) not in plan.shared]


def _count(plan: Plan, number: int, node: Node) -> int:
    return sum(math.prod(shape) for shape in owned_shapes(plan, number, node))
