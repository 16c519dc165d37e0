"""From a description to connected layers: Caffe's Net::Init.

Blobs get numbers here, because ``(automatic)`` tops may share a name; everything else about order, in-place tops,
gradients and sharing follows BVLC Caffe 1.0, ``net.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from caffe_compat.description import LayerDescription, NetDescription, ParamSpec
from caffe_compat.errors import in_file
from caffe_compat.layers import Layer, Params, Shape, count, layer_class, refuse_unknown
from caffe_compat.net.exhausted import in_building, is_out_of_memory
from caffe_compat.net.plan import AUTOMATIC, Learnable, Node, Plan, layer_shapes, make_plan

__all__ = ["build"]


@dataclass
class _Draft:
    """A :class:`Node` in the making."""

    layer: Layer
    description: LayerDescription
    bottom_ids: tuple[int, ...]
    top_ids: tuple[int, ...]
    bottom_grads: list[bool]
    param_grads: list[bool]
    loss_weights: list[float]
    needs_backward: bool
    param_specs: tuple[ParamSpec, ...]

    def finished(self) -> Node:
        """The node."""
        return Node(
            layer=self.layer,
            description=self.description,
            bottom_ids=self.bottom_ids,
            top_ids=self.top_ids,
            bottom_grads=tuple(self.bottom_grads),
            param_grads=tuple(self.param_grads),
            loss_weights=tuple(self.loss_weights),
            needs_backward=self.needs_backward,
            param_specs=self.param_specs,
            is_input=self.description.is_input,
            blocked=bool(self.description.propagate_down),
        )


def build(description: NetDescription, filled: Mapping[str, Iterable[int]] | None = None, fill: bool = True) -> Plan:
    """Build all layers of a net.

    Args:
        filled: blobs (by layer name) that weights will replace, so that their fillers need not run.
        fill: False if no filler is to run: the values of the blobs do not matter, or weights will replace all.

    Raises:
        LayerError: the first layer that cannot be built; before, all whose types are unknown.
    """
    refuse_unknown(description.layers)
    builder = _Builder(description, filled or {}, fill)
    for layer in description.layers:
        builder.add(layer)
    builder.skip_backward()
    if description.force_backward:
        builder.force_backward()
    return builder.finish()


class _Builder:
    def __init__(self, description: NetDescription, filled: Mapping[str, Iterable[int]], fill: bool) -> None:
        self.description, self.filled, self.fill = description, filled, fill
        self.nodes: list[_Draft] = []
        self.names: list[str] = []
        self.shapes: list[Shape] = []
        self.inputs: list[int] = []
        self.learnables: list[Learnable] = []
        self.shared: set[tuple[int, int]] = set()
        self.available: dict[str, int] = {}  # produced and not yet consumed
        self.known: set[str] = set()
        self.needs_gradient: list[bool] = []  # by blob number
        self.named_params: dict[str, int] = {}  # number of the learnable
        self.named_shapes: dict[str, Shape] = {}

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
        bottom_shapes = [self.shapes[blob] for blob in bottoms]
        self._check_top_names(description)
        layer, shapes = _make_layer(description, bottom_shapes)
        tops = self._make_tops(description, layer, bottoms, shapes)
        number = len(self.nodes)
        weights = _loss_weights(description, layer, len(tops))
        if len(description.params) > len(layer.blobs):
            raise description.error(
                f"too many params: {len(description.params)} param entries for {len(layer.blobs)} blobs"
            )
        specs = description.params + (ParamSpec(),) * (len(layer.blobs) - len(description.params))
        param_grads = [spec.lr_mult is None or spec.lr_mult != 0 for spec in specs]
        need = need or any(param_grads)
        node = _Draft(layer, description, bottoms, tops, bottom_grads, param_grads, weights, need, specs)
        self.nodes.append(node)
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
                self.shapes[blob] = shapes[index]
            else:
                blob = self._new_blob(name, shapes[index])
                if description.is_input:
                    self.inputs.append(blob)
            self.known.add(name)
            self.available[name] = blob
            tops.append(blob)
        if layer.auto_top:
            for index in range(len(tops), max(layer.top_count[0], 1)):
                tops.append(self._new_blob(AUTOMATIC, shapes[index]))
        return tuple(tops)

    def _new_blob(self, name: str, shape: Shape) -> int:
        self.names.append(name)
        self.shapes.append(shape)
        self.needs_gradient.append(False)
        return len(self.names) - 1

    # -- parameters -------------------------------------------------------------------------------------------

    def _add_blobs(self, number: int, node: _Draft) -> None:
        given = _blobs_of_message(node)
        layer, name = node.layer, node.description.name
        if self.fill:
            layer.fill(frozenset(given) | frozenset(self.filled.get(name, ())))
        with torch.no_grad():
            for index, values in given.items():
                layer.blobs[index].copy_(values)
        for index, spec in enumerate(node.param_specs):
            parameter = layer.blobs[index]
            if spec.name and spec.name in self.named_params:
                self._share(number, node, index, spec)
                continue
            given_lr = 1.0 if spec.lr_mult is None else spec.lr_mult
            lr = given_lr if parameter.requires_grad else 0.0  # statistics: forks' layers set it, whatever is written
            decay = 1.0 if spec.decay_mult is None else spec.decay_mult
            if spec.name:
                self.named_params[spec.name] = len(self.learnables)
                self.named_shapes[spec.name] = layer.blob_shapes[index]
            self.learnables.append(
                Learnable(parameter, name, index, lr, decay, spec.lr_mult is not None, spec.decay_mult is not None)
            )

    def _share(self, number: int, node: _Draft, index: int, spec: ParamSpec) -> None:
        position = self.named_params[spec.name]
        owner = self.learnables[position]
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
            if what == "lr":
                owner = replace(owner, lr_mult=given, lr_given=True)
            else:
                owner = replace(owner, decay_mult=given, decay_given=True)
        self.learnables[position] = owner
        node.layer.replace_blob(index, owner.parameter)
        self.shared.add((number, index))

    # -- which gradients are needed ---------------------------------------------------------------------------

    def skip_backward(self) -> None:
        """Leave out of the backward pass what no loss depends on, and what is behind blocked bottoms."""
        under_loss: set[str] = set()
        skip: set[str] = set()
        names = self.names
        for node in reversed(self.nodes):
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
        for node in self.nodes:
            node.needs_backward = True
            for index in range(len(node.bottom_grads)):
                node.bottom_grads[index] = node.bottom_grads[index] or index not in node.layer.unforced
            node.param_grads = [True] * len(node.param_grads)

    def finish(self) -> Plan:
        outputs = tuple(self.available[name] for name in sorted(self.available, key=lambda n: n.encode()))
        wanted = {id(node.layer.blobs[i]) for node in self.nodes for i, grad in enumerate(node.param_grads) if grad}
        for node in self.nodes:
            for parameter in node.layer.blobs:
                parameter.requires_grad_(parameter.requires_grad and id(parameter) in wanted)
        return make_plan(
            Plan(
                description=self.description,
                nodes=tuple(node.finished() for node in self.nodes),
                names=tuple(self.names),
                shapes=tuple(self.shapes),
                inputs=tuple(self.inputs),
                outputs=outputs,
                learnables=tuple(self.learnables),
                shared=frozenset(self.shared),
            )
        )


def _make_layer(description: LayerDescription, bottoms: list[Shape]) -> tuple[Layer, list[Shape]]:
    params = Params(description)
    try:
        with in_file(f"layer '{params.name}' ({params.type})"):
            layer = layer_class(params)(params, bottoms)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise in_building(description, bottoms, error) from error
    params.refuse_unread()
    return layer, layer_shapes(layer, bottoms)


def _loss_weights(description: LayerDescription, layer: Layer, tops: int) -> list[float]:
    weights = list(description.loss_weights)
    if not weights:
        return ([layer.default_loss_weight] + [0.0] * tops)[:tops]
    if len(weights) != tops:
        raise description.error(f"loss_weight has {len(weights)} entries, expected none or one per top ({tops})")
    return weights


def _blobs_of_message(node: _Draft) -> dict[int, torch.Tensor]:
    """Blobs written into the prototxt itself."""
    result = {}
    for index, blob in enumerate(node.description.message.blobs):
        values = torch.tensor(list(blob.double_data or blob.data), dtype=torch.float32)
        if index >= len(node.layer.blobs) or values.numel() != count(node.layer.blob_shapes[index]):
            raise node.description.error(f"blobs[{index}] of the prototxt does not fit the layer")
        result[index] = values.view(node.layer.blob_shapes[index])
    return result
