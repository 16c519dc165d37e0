"""A student's feature as large as its teacher's, before the student is tuned for a task.

During the transfer the adaptation takes up any factor between the two, and the student's own feature ends ten times
larger or smaller than its teacher's.  A detector's head and learning rate were chosen for the teacher's; on a feature
ten times larger its fc6 dies in the first steps, on one ten times smaller it learns nothing.  ReLU nets are
homogeneous: the layers that make the feature take the factor, and the layers that read it lose it again, so that all
that the transfer taught stays what it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from caffe_compat.description.names import adaptation_of, adapted
from caffe_compat.errors import DataError, UsageError
from caffe_compat.net import BlobNet, Net
from caffe_compat.net.plan import Node

__all__ = ["Match", "match_norms"]


@dataclass(frozen=True)
class Match:
    """One feature.

    Attributes:
        teacher, student: names of the blobs.
        wanted, found: their mean norms over channels at a location (or of a box), before anything was changed.
        remark: why the student's stayed as large as it was; empty where it is matched.
    """

    teacher: str
    student: str
    wanted: float
    found: float
    remark: str = ""

    def __str__(self) -> str:
        sizes = f"{self.student}: mean norm {self.found:.6g}, {self.teacher}: {self.wanted:.6g}"
        return f"{sizes}; " + (f"left as it is: {self.remark}" if self.remark else f"x {self.wanted / self.found:.4g}")


def match_norms(net: Net, batches: int) -> list[Match]:
    """Make the features of the student in a ``train_val`` net of ``make_transfer`` as large as the teacher's.

    The weights are changed in place; blobs other than those between the student's feature and its readers stay as
    they are.

    Args:
        net: with the data layer of its phase, and with the weights of a transfer; on any device.
        batches: of the data layer, which the norms are measured on.

    Raises:
        UsageError: there is no adaptation in the net, or no batches are asked for.
        DataError: a norm that is zero, NaN or infinite; names the blob.
    """
    nodes = net.nodes
    adaptations = [node for node in nodes if adaptation_of(node.name) and node.layer.affine]
    if not adaptations:
        raise UsageError(
            f"{net.description.source}: no layer's name begins with {adapted('')}: this is no net of a transfer"
        )
    if batches < 1:
        raise UsageError(f"{batches} batches to measure norms on, expected 1 or more")
    engine = BlobNet(net)
    pairs = [(engine.ids[adaptation_of(node.name)], node.bottom_ids[0]) for node in adaptations]
    norms = _measure(engine, [blob for pair in pairs for blob in pair], batches)
    found = []
    for node, (teacher, student) in zip(adaptations, pairs, strict=True):
        names = [engine.names[_unsplit(nodes, blob)] for blob in (teacher, student)]
        remark = _rescale(nodes, nodes.index(node), student, norms[teacher] / norms[student])
        found.append(Match(names[0], names[1], norms[teacher], norms[student], remark))
    return found


def _measure(engine: BlobNet, blobs: list[int], batches: int) -> dict[int, float]:
    sums = dict.fromkeys(blobs, 0.0)
    for _ in range(batches):
        with torch.no_grad():
            engine.forward()
        for blob in sums:
            sums[blob] += float(engine.blobs[blob].tensor.detach().double().norm(dim=1).mean())
    for blob, total in sums.items():
        if not (total > 0 and math.isfinite(total)):
            name, norm = engine.names[_unsplit(engine.net.nodes, blob)], total / batches
            raise DataError(f"blob '{name}' has the mean norm {norm:g}, which cannot be matched")
    return {blob: total / batches for blob, total in sums.items()}


def _unsplit(nodes: tuple[Node, ...], blob: int) -> int:
    """The blob that a Split layer's top is a copy of; any other blob itself."""
    return next((node.bottom_ids[0] for node in nodes if node.description.is_split and blob in node.top_ids), blob)


def _rescale(nodes: tuple[Node, ...], reader: int, blob: int, factor: float) -> str:
    """Multiply a blob that node ``reader`` reads, by its makers' weights; why not, where that changes the net."""
    makers = list(_makers(nodes, reader, blob))
    strange = next((node for node in makers if not node.layer.affine), None)
    if strange is not None:
        return f"layer '{strange.name}' ({strange.type}) makes it"
    scaled, readers = set[int](), []
    for node in nodes:
        inside = [bottom in scaled for bottom in _scaled_bottoms(node)]
        if node in makers or node.layer.homogeneous and all(inside) and inside:
            scaled.update(node.top_ids)
        elif node.layer.affine and any(inside):
            readers.append(node)
        elif any(inside):
            return f"layer '{node.name}' ({node.type}) reads it, which gives something else for another size"
    with torch.no_grad():
        for node in makers:
            for values in node.layer.blobs:
                values.mul_(factor)
        for node in readers:
            node.layer.blobs[0].div_(factor)
    return ""


def _scaled_bottoms(node: Node) -> tuple[int, ...]:
    """Its bottoms but for boxes."""
    return node.bottom_ids[:1] if node.layer.per_box else node.bottom_ids


def _makers(nodes: tuple[Node, ...], before: int, blob: int) -> Iterator[Node]:
    """The layers with weights that a blob comes from by homogeneous layers only, or the first other one."""
    for index in range(before - 1, -1, -1):
        node = nodes[index]
        if blob not in node.top_ids:
            continue
        if not node.layer.homogeneous:
            yield node
        else:
            for bottom in _scaled_bottoms(node):
                yield from _makers(nodes, index, bottom)
        return
