"""A net against reference values, layer by layer.

Every layer's tops are looked at right after it ran, so a value that a later in-place layer overwrites counts too.  For
that a reference that runs nets itself gets the net *unrolled*: every in-place top has a name of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from caffe_compat.compare.arrays import TOLERANCE, difference, nan_in
from caffe_compat.compare.report import Comparison, Row
from caffe_compat.description.names import UniqueNames
from caffe_compat.errors import DataError, UsageError, nearest
from caffe_compat.layers import Shape
from caffe_compat.layers.looking import only_looking
from caffe_compat.net import BlobNet, Net, Node, Observer
from caffe_compat.net.plan import walk_shapes
from caffe_compat.proto.caffe_pb2 import NetParameter
from caffe_compat.proto.schema import PHASES

__all__ = ["Place", "check_inputs", "compare", "computed", "unroll"]

Place = tuple[int, int]
"""Number of a layer (Split layers counted) and of one of its tops."""


def compare(
    net: Net, inputs: Mapping[str, np.ndarray], reference: Mapping[Place, np.ndarray], tolerance: float = TOLERANCE
) -> Comparison:
    """Run a net and hold the top of every layer against the reference; recurrent layers start from zero states.

    An output of the net that holds NaN diverges even where the reference does not have it.

    Args:
        inputs: values for all inputs of the net, of any shapes that it can take.
        reference: values by place; places that it does not have are not compared.
        tolerance: largest difference allowed, relative to the largest magnitude of the blob in the reference.

    Raises:
        DataError: nothing of the reference can be compared.
        CaffeCompatError: the net cannot run on the inputs.
    """
    check_inputs(net, inputs)
    for node in net.nodes:
        node.layer.forget()
    engine = BlobNet(net, keep_graph=False)
    for name, values in inputs.items():
        blob = engine.blob(name)
        blob.reshape(*values.shape)
        blob.tensor.copy_(torch.from_numpy(np.asarray(values, np.float32)))
    engine.reshape()
    comparing = _Comparing(engine, reference)
    engine.observers.append(comparing)
    with only_looking():
        engine.forward()
    if not comparing.known:
        raise DataError(f"the reference has no blob that a layer of net '{net.description.name}' computes")
    return Comparison(tuple(comparing.rows), tolerance)


class _Comparing(Observer):
    """Looks at the tops of every layer right after it ran, before an in-place layer overwrites them."""

    def __init__(self, engine: BlobNet, reference: Mapping[Place, np.ndarray]) -> None:
        self.engine, self.reference = engine, reference
        self.rows: list[Row] = []
        self.known = 0

    def after_forward(self, number: int) -> None:
        """Compare what there is a reference for; of the net's outputs the others are only looked through for NaN."""
        plan = self.engine.net.plan
        node = plan.nodes[number]
        for index, blob in enumerate(node.top_ids if not node.is_input else ()):
            wanted = self.reference.get((number, index))
            if wanted is None and blob not in plan.outputs:
                continue
            values = self.engine.blobs[blob].tensor.detach().cpu().numpy()
            found = nan_in(values) if wanted is None else difference(values, wanted)
            self.known += wanted is not None
            if found is not None:
                self.rows.append(Row(node.name, node.type, plan.names[blob], found))


def check_inputs(net: Net, inputs: Mapping[str, np.ndarray]) -> None:
    """Raise UsageError unless there are values for all inputs of the net and for nothing else."""
    for name in net.input_names:
        if name not in inputs:
            raise UsageError(f"there are no values for input '{name}' of net '{net.description.name}'")
    for name in inputs:
        if name not in net.input_names:
            raise UsageError(
                f"net '{net.description.name}' has no input '{name}'{nearest(name, net.input_names)}; it has "
                f"{', '.join(net.input_names) or 'none'}"
            )


def computed(net: Net) -> list[Place]:
    """The places that a layer computes: without inputs, and without the copies that Split layers make."""
    return [
        (number, top)
        for number, node in enumerate(net.nodes)
        if not (node.is_input or node.description.is_split)
        for top in range(len(node.top_ids))
    ]


def unroll(net: Net, inputs: Mapping[str, Shape]) -> tuple[Any, dict[Place, str]]:
    """The same net for one that runs nets by itself: no layer works in place, and Split layers are written out.

    A layer that reads a blob whose buffer was overwritten through another blob gets what the buffer holds by then.

    Args:
        inputs: shapes of all inputs.

    Returns:
        A ``NetParameter``, and the name of the blob at every place.
    """
    plan = net.plan
    message = NetParameter(name=net.description.name)
    shapes = walk_shapes(net.nodes, {blob: tuple(inputs[plan.names[blob]]) for blob in plan.inputs})
    taken = UniqueNames(plan.names)
    layer_names = UniqueNames(node.name for node in net.nodes)
    made: dict[int, str] = {}
    held: dict[int, tuple[str, Shape]] = {}
    places: dict[Place, str] = {}
    for number, node in enumerate(net.nodes):
        bottoms = [made[blob] for blob in node.bottom_ids]
        for index in node.outdated:
            source, shape = held[plan.buffers[node.bottom_ids[index]]]
            wanted = shapes[node.bottom_ids[index]]
            if shape != wanted:
                name = layer_names.fresh(f"{bottoms[index]}@{node.name}")
                reshape = message.layer.add(name=name, type="Reshape", bottom=[source], top=[taken.fresh(name)])
                reshape.reshape_param.shape.dim.extend(wanted)
                source = reshape.top[0]
            bottoms[index] = source
        copy = _copied(message, node, bottoms)
        shared = {share.top for share in node.shares if share.bottom is not None}
        for index, blob in enumerate(node.top_ids):
            name = plan.names[blob] if blob not in made else taken.fresh(f"{plan.names[blob]}@{node.name}")
            made[blob] = places[number, index] = name
            if index not in shared:
                held[plan.buffers[blob]] = name, shapes[blob]
            copy.top.append(name)
    return message, places


def _copied(message: Any, node: Node, bottoms: Sequence[str]) -> Any:
    """A copy of a layer at the end of a net, with other bottoms and no tops yet."""
    layer = node.description
    copy = message.layer.add()
    copy.CopyFrom(layer.message)
    for field in ("bottom", "top", "loss_weight", "include", "exclude"):
        copy.ClearField(field)
    copy.loss_weight.extend(layer.loss_weights)
    copy.phase = PHASES.index(layer.phase)
    copy.bottom.extend(bottoms)
    return copy
