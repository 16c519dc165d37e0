"""From a description to connected layers: Caffe's Net::Init.

Blobs get numbers here, because ``(automatic)`` tops may share a name; everything else about order, in-place tops,
gradients and sharing follows BVLC Caffe 1.0, ``net.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from caffe_compat.description import LayerDescription, NetDescription, ParamSpec
from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers import Layer, Params, Shape, count, layer_class
from caffe_compat.proto import caffe_pb2

__all__ = ["AUTOMATIC", "Blueprint", "Learnable", "Node", "build"]

AUTOMATIC = "(automatic)"
_FRESH_TOPS = frozenset(
    {"Convolution", "Deconvolution", "InnerProduct", "BatchNorm", "Scale", "Bias", "Eltwise", "LRN", "ROIPooling"}
)


@dataclass
class Node:
    """One layer in its place.

    Attributes:
        bottom_ids, top_ids: numbers of the blobs.
        bottom_grads: for which bottoms a gradient is computed.
        param_grads: for which blobs of the layer a gradient is computed.
        loss_weights: one per top.
        needs_backward: whether the backward pass visits this layer.
    """

    layer: Layer
    description: LayerDescription
    bottom_ids: tuple[int, ...]
    top_ids: tuple[int, ...]
    bottom_grads: list[bool]
    param_grads: list[bool]
    loss_weights: list[float]
    needs_backward: bool
    param_specs: tuple[ParamSpec, ...] = ()

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.description.name

    @property
    def type(self) -> str:
        """The layer's type."""
        return self.description.type


@dataclass
class Learnable:
    """A parameter that the solver updates.

    Attributes:
        layer, index: the layer that owns it, and the number of its blob there.
    """

    parameter: nn.Parameter
    layer: str
    index: int
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    lr_given: bool = False
    decay_given: bool = False


@dataclass
class Blueprint:
    """A built net, ready to be run.

    Attributes:
        names, shapes: of the blobs, by number.
        inputs, outputs: numbers of the blobs that Input layers make, and of those that nothing consumes (by name).
        shared: (layer number, blob number) of parameters that another layer owns.
    """

    nodes: list[Node] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    learnables: list[Learnable] = field(default_factory=list)
    shared: set[tuple[int, int]] = field(default_factory=set)
    owners: dict[int, str] = field(default_factory=dict)


def build(description: NetDescription, filled: Mapping[str, Iterable[int]] | None = None) -> Blueprint:
    """Build all layers of a net.

    Args:
        filled: blobs (by layer name) that weights will replace, so that their fillers need not run.

    Raises:
        LayerError: the first layer that cannot be built.
    """
    builder = _Builder(filled or {})
    for layer in description.layers:
        builder.add(layer)
    builder.skip_backward()
    if description.force_backward:
        builder.force_backward()
    return builder.finish()


class _Builder:
    def __init__(self, filled: Mapping[str, Iterable[int]]) -> None:
        self.plan = Blueprint()
        self.filled = filled
        self.available: dict[str, int] = {}  # produced and not yet consumed
        self.known: set[str] = set()
        self.needs_gradient: list[bool] = []  # by blob number
        self.named_params: dict[str, Learnable] = {}
        self.named_shapes: dict[str, Shape] = {}
        self.producers: dict[int, str] = {}

    def add(self, description: LayerDescription) -> None:
        if description.propagate_down and len(description.propagate_down) != len(description.bottoms):
            raise description.error(
                f"propagate_down has {len(description.propagate_down)} entries, expected none or one per bottom "
                f"({len(description.bottoms)})"
            )
        bottoms = self._take_bottoms(description)
        need = any(self.needs_gradient[blob] for blob in bottoms)
        bottom_grads = [self.needs_gradient[blob] for blob in bottoms]
        if description.propagate_down:
            bottom_grads = list(description.propagate_down)
        bottom_shapes = [self.plan.shapes[blob] for blob in bottoms]
        self._check_top_names(description)
        layer, shapes = _make_layer(description, bottom_shapes)
        tops = self._make_tops(description, layer, bottoms, shapes)
        layer.may_overwrite = description.in_place and self.producers.get(bottoms[0]) in _FRESH_TOPS
        keeps_top = description.type == "Eltwise" and not description.message.eltwise_param.stable_prod_grad
        for blob in tops:
            self.producers[blob] = "" if keeps_top else description.type
        number = len(self.plan.nodes)
        weights = _loss_weights(description, layer, len(tops))
        if len(description.params) > len(layer.blobs):
            raise description.error(
                f"too many params: {len(description.params)} param entries for {len(layer.blobs)} blobs"
            )
        specs = description.params + (ParamSpec(),) * (len(layer.blobs) - len(description.params))
        param_grads = [spec.lr_mult is None or spec.lr_mult != 0 for spec in specs]
        need = need or any(param_grads)
        node = Node(layer, description, bottoms, tops, bottom_grads, param_grads, weights, need, specs)
        self.plan.nodes.append(node)
        self._add_blobs(number, node)
        if need:
            for blob in tops:
                self.needs_gradient[blob] = True

    def _take_bottoms(self, description: LayerDescription) -> tuple[int, ...]:
        bottoms = []
        for name in description.bottoms:
            if name not in self.available:
                raise description.error(f"unknown bottom blob '{name}': no layer before has it as top")
            bottoms.append(self.available.pop(name))
        return tuple(bottoms)

    def _check_top_names(self, description: LayerDescription) -> None:
        for index, name in enumerate(description.tops):
            in_place = index < len(description.bottoms) and description.bottoms[index] == name
            if not in_place and (name in self.known or name in description.tops[:index]):
                raise description.error(f"top blob '{name}' is produced by multiple sources")

    def _make_tops(
        self, description: LayerDescription, layer: Layer, bottoms: tuple[int, ...], shapes: list[Shape]
    ) -> tuple[int, ...]:
        tops = []
        for index, name in enumerate(description.tops):
            if index < len(bottoms) and description.bottoms[index] == name:
                blob = bottoms[index]
                self.plan.shapes[blob] = shapes[index]
            else:
                blob = self._new_blob(name, shapes[index])
                if description.type == "Input":
                    self.plan.inputs.append(blob)
            self.known.add(name)
            self.available[name] = blob
            tops.append(blob)
        if layer.auto_top:
            for index in range(len(tops), max(layer.top_count[0], 1)):
                tops.append(self._new_blob(AUTOMATIC, shapes[index]))
        return tuple(tops)

    def _new_blob(self, name: str, shape: Shape) -> int:
        self.plan.names.append(name)
        self.plan.shapes.append(shape)
        self.needs_gradient.append(False)
        return len(self.plan.names) - 1

    # -- parameters -------------------------------------------------------------------------------------------

    def _add_blobs(self, number: int, node: Node) -> None:
        given = _blobs_of_message(node)
        layer = node.layer
        layer.fill(frozenset(given) | frozenset(self.filled.get(node.name, ())))
        with torch.no_grad():
            for index, values in given.items():
                layer.blobs[index].copy_(values)
        for index, spec in enumerate(node.param_specs):
            parameter = layer.blobs[index]
            if spec.name and spec.name in self.named_params:
                self._share(number, node, index, spec)
                continue
            lr = spec.lr_mult if spec.lr_mult is not None else (1.0 if parameter.requires_grad else 0.0)
            decay = 1.0 if spec.decay_mult is None else spec.decay_mult
            learnable = Learnable(
                parameter, node.name, index, lr, decay, spec.lr_mult is not None, spec.decay_mult is not None
            )
            self.plan.learnables.append(learnable)
            if spec.name:
                self.named_params[spec.name] = learnable
                self.named_shapes[spec.name] = layer.blob_shapes[index]

    def _share(self, number: int, node: Node, index: int, spec: ParamSpec) -> None:
        owner = self.named_params[spec.name]
        mine, theirs = node.layer.blob_shapes[index], self.named_shapes[spec.name]
        whose = f"param '{spec.name}' owned by layer '{owner.layer}'"
        if spec.permissive and count(mine) != count(theirs):
            raise node.description.error(
                f"cannot share {whose}: count mismatch, {list(mine)} here and {list(theirs)} there"
            )
        if not spec.permissive and mine != theirs:
            raise node.description.error(
                f"cannot share {whose}: shape mismatch, {list(mine)} here and {list(theirs)} there "
                "(share_mode: PERMISSIVE allows shapes of equal count)"
            )
        for what, given in (("lr", spec.lr_mult), ("decay", spec.decay_mult)):
            if given is None:
                continue
            if getattr(owner, f"{what}_given") and getattr(owner, f"{what}_mult") != given:
                raise node.description.error(
                    f"mismatched {what}_mult for shared {whose}: {given:g} here and "
                    f"{getattr(owner, f'{what}_mult'):g} there"
                )
            setattr(owner, f"{what}_mult", given)
            setattr(owner, f"{what}_given", True)
        node.layer.replace_blob(index, owner.parameter)
        self.plan.shared.add((number, index))

    # -- which gradients are needed ---------------------------------------------------------------------------

    def skip_backward(self) -> None:
        """Leave out of the backward pass what no loss depends on, and what is behind blocked bottoms."""
        under_loss: set[str] = set()
        skip: set[str] = set()
        names = self.plan.names
        for node in reversed(self.plan.nodes):
            tops = [names[blob] for blob in node.top_ids]
            contributes = any(node.loss_weights) or any(name in under_loss for name in tops)
            if node.needs_backward and all(name in skip for name in tops):
                node.needs_backward = False
                node.bottom_grads = [False] * len(node.bottom_ids)
            if not contributes:
                node.needs_backward = False
            for index, blob in enumerate(node.bottom_ids):
                if contributes:
                    under_loss.add(names[blob])
                else:
                    node.bottom_grads[index] = False
                if not node.bottom_grads[index]:
                    skip.add(names[blob])

    def force_backward(self) -> None:
        """``force_backward: true``: gradients everywhere a layer allows them."""
        for node in self.plan.nodes:
            node.needs_backward = True
            for index in range(len(node.bottom_grads)):
                node.bottom_grads[index] = node.bottom_grads[index] or index not in node.layer.unforced
            node.param_grads = [True] * len(node.param_grads)

    def finish(self) -> Blueprint:
        self.plan.outputs = [self.available[name] for name in sorted(self.available, key=lambda n: n.encode())]
        wanted = {
            id(node.layer.blobs[i]) for node in self.plan.nodes for i, grad in enumerate(node.param_grads) if grad
        }
        for node in self.plan.nodes:
            for parameter in node.layer.blobs:
                parameter.requires_grad_(parameter.requires_grad and id(parameter) in wanted)
        return self.plan


def _make_layer(description: LayerDescription, bottoms: list[Shape]) -> tuple[Layer, list[Shape]]:
    params = Params(description)
    layer = layer_class(params)(params, bottoms)
    params.refuse_unread()
    try:
        shapes = [tuple(shape) for shape in layer.top_shapes(bottoms)]
    except (IndexError, ZeroDivisionError) as error:
        raise ShapeError(
            description.name, description.type, f"cannot take bottoms of shape {[list(b) for b in bottoms]}"
        ) from error
    for shape in shapes:
        if any(dim < 0 for dim in shape) or count(shape) > 2**31 - 1:
            raise layer.shape_error(f"would make a top of shape {list(shape)}")
    return layer, shapes


def _loss_weights(description: LayerDescription, layer: Layer, tops: int) -> list[float]:
    weights = list(description.loss_weights)
    if not weights:
        return ([layer.default_loss_weight] + [0.0] * tops)[:tops]
    if len(weights) != tops:
        raise description.error(f"loss_weight has {len(weights)} entries, expected none or one per top ({tops})")
    return weights


def _blobs_of_message(node: Node) -> dict[int, torch.Tensor]:
    """Blobs written into the prototxt itself."""
    result = {}
    for index, blob in enumerate(node.description.message.blobs):
        values = torch.tensor(list(blob.double_data or blob.data), dtype=torch.float32)
        if index >= len(node.layer.blobs) or values.numel() != count(node.layer.blob_shapes[index]):
            raise LayerError(node.name, node.type, f"blobs[{index}] of the prototxt does not fit the layer")
        result[index] = values.view(node.layer.blob_shapes[index])
    return result


def blob_proto_shape(blob: object) -> Shape:
    """The shape of a ``BlobProto``: legacy dims if any is present, else ``shape``."""
    assert isinstance(blob, caffe_pb2.BlobProto)
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        return (blob.num, blob.channels, blob.height, blob.width)
    return tuple(blob.shape.dim)
