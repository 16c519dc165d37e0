"""A Caffe net as a torch module."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from caffe_compat.description import NetDescription, State, describe_net, naming
from caffe_compat.description.names import UniqueNames
from caffe_compat.errors import NetError, nearest
from caffe_compat.layers import Layer, Shape
from caffe_compat.net import weights as weight_files
from caffe_compat.net.build import AUTOMATIC, Blueprint, Learnable, Node, build
from caffe_compat.net.fit import check_fit
from caffe_compat.proto import read_net_text

__all__ = ["Net", "load_description", "load_net", "run_layer"]

PathLike = str | os.PathLike[str]


class Net(nn.Module):
    """A net built from a description.

    Calling it runs all layers under torch's autograd and returns a dict of blobs by name::

        net = load_net("deploy.prototxt", "net.caffemodel")
        prob = net(data=images)["prob"]

    Attributes:
        description: what it was built from.
        nodes: the layers in order, Split layers included.
        learnables: the parameters that a solver updates, in Caffe's order.
    """

    def __init__(self, description: NetDescription, filled: Mapping[str, Iterable[int]] | None = None) -> None:
        super().__init__()
        self.description = description
        with naming(description.source):
            self.plan: Blueprint = build(description, filled)
        for name, layer in zip(_module_names(self.plan.nodes), (node.layer for node in self.plan.nodes), strict=True):
            self.add_module(name, layer)
            layer.train(layer.layer_phase == "TRAIN")
        self.training = description.state.phase == "TRAIN"
        self._keys = _result_keys(self.plan)
        self._last_use = _last_uses(self.plan)
        self._checked: list[tuple[Shape, ...] | None] = [None] * len(self.plan.nodes)

    @property
    def nodes(self) -> list[Node]:
        """The layers in order, Split layers included."""
        return self.plan.nodes

    @property
    def learnables(self) -> list[Learnable]:
        """The parameters that a solver updates, in Caffe's order."""
        return self.plan.learnables

    @property
    def input_names(self) -> list[str]:
        """Blobs that the caller must give."""
        return [self.plan.names[blob] for blob in self.plan.inputs]

    @property
    def output_names(self) -> list[str]:
        """Blobs that no layer consumes, sorted by name."""
        return [self.plan.names[blob] for blob in self.plan.outputs]

    @property
    def blob_shapes(self) -> dict[str, Shape]:
        """Shape of every blob for the sizes written in the prototxt."""
        return dict(zip(self.plan.names, self.plan.shapes, strict=True))

    def layer(self, name: str) -> Layer:
        """The (last) layer of that name.

        Raises:
            NetError: there is none.
        """
        for node in reversed(self.plan.nodes):
            if node.name == name:
                return node.layer
        known = [node.name for node in self.plan.nodes]
        raise NetError(f"net '{self.description.name}' has no layer '{name}'{nearest(name, known)}")

    def forward(self, *, blobs: Sequence[str] = (), **inputs: Tensor) -> dict[str, Tensor]:
        """Run the net.

        Args:
            blobs: names of blobs to return besides the outputs; of an in-place blob the last value is returned.
            **inputs: one tensor per input, of any size that the layers can take.

        Returns:
            The outputs (blobs that no layer consumes) and the blobs asked for.  ``net.loss(result)`` sums the losses.

        Raises:
            NetError: an input is missing or unknown, or a blob asked for does not exist.
            ShapeError: a layer cannot take the shape of its bottom.
        """
        names = self.plan.names
        self._check_names(inputs, blobs)
        kept = set(self.plan.outputs) | {i for i, name in enumerate(names) if name in blobs}
        kept |= {blob for node in self.plan.nodes for blob, w in zip(node.top_ids, node.loss_weights, strict=True) if w}
        values: list[Tensor | None] = [None] * len(names)
        for number, node in enumerate(self.plan.nodes):
            if node.type == "Input":
                for blob in node.top_ids:
                    values[blob] = inputs[names[blob]]
                continue
            bottoms = [values[blob] for blob in node.bottom_ids]
            tops = run_layer(self._checked, number, node, bottoms)  # type: ignore[arg-type]
            for blob, top in zip(node.top_ids, tops, strict=True):
                values[blob] = top
            for blob in self._last_use[number]:
                if blob not in kept:
                    values[blob] = None
        return {self._keys[blob]: value for blob in sorted(kept) if (value := values[blob]) is not None}

    def loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the losses among ``blobs`` (what :meth:`forward` returned), a scalar."""
        total: Tensor | None = None
        for node in self.plan.nodes:
            for blob, weight in zip(node.top_ids, node.loss_weights, strict=True):
                if weight:
                    term = blobs[self._keys[blob]].sum() * weight
                    total = term if total is None else total + term
        return torch.zeros(()) if total is None else total

    def copy_from(self, path: PathLike) -> list[str]:
        """Copy weights by layer name from a ``.caffemodel`` (V0 to V2) or ``.caffemodel.h5``; layers without a source
        keep theirs.

        Returns:
            Names of the layers of the file that the net does not have.

        Raises:
            WeightsError: a layer of that name has other blobs.
            ModelFileError, MissingFileError: the file cannot be read.
        """
        return weight_files.copy_from(self, path)

    def save(self, path: PathLike, diffs: bool = False) -> None:
        """Write a ``.caffemodel`` that BVLC Caffe reads; with ``diffs`` gradients go along."""
        weight_files.save(self, path, diffs)

    def _check_names(self, inputs: Mapping[str, Tensor], blobs: Sequence[str]) -> None:
        expected = self.input_names
        if set(inputs) != set(expected):
            missing = [name for name in expected if name not in inputs]
            unknown = [name for name in inputs if name not in expected]
            raise NetError(
                f"net '{self.description.name}' takes the inputs {expected}; "
                + "; ".join(f"{what} {which}" for what, which in (("missing", missing), ("unknown", unknown)) if which)
            )
        for name, value in inputs.items():
            if not isinstance(value, Tensor):
                raise NetError(
                    f"input '{name}' is a {type(value).__name__}, expected a torch.Tensor (torch.from_numpy)"
                )
        for name in blobs:
            if name not in self.plan.names:
                raise NetError(f"net '{self.description.name}' has no blob '{name}'{nearest(name, self.plan.names)}")


def run_layer(
    checked: list[tuple[Shape, ...] | None], number: int, node: Node, bottoms: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Run one layer, checking the shapes of its bottoms if they are not those of the last time.

    Args:
        checked: per layer, the bottom shapes that were last accepted; updated.
        number: index of the layer in that list.
    """
    shapes = tuple(tuple(bottom.shape) for bottom in bottoms)
    if checked[number] != shapes:
        tops = node.layer.top_shapes(shapes)
        if not (node.description.in_place or node.layer.aliases) and all(b.device.type == "cpu" for b in bottoms):
            node.layer.require_memory("tops", tops)
        checked[number] = shapes
    if node.description.propagate_down:
        bottoms = [b if flag else b.detach() for b, flag in zip(bottoms, node.bottom_grads, strict=True)]
    try:
        result = node.layer(*bottoms)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        listed = ", ".join(str(list(shape)) for shape in shapes)
        raise node.description.error(f"ran out of memory on bottoms of shape {listed or 'none'}") from error
    return result if isinstance(result, tuple) else (result,)


def _out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch's CPU allocator has no exception class of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def load_description(prototxt: PathLike, state: State | None = None) -> NetDescription:
    """Read a net prototxt (V0, V1 or V2) and describe it in a state; no torch is needed for this."""
    message, lines = read_net_text(prototxt)
    return describe_net(message, state, source=str(prototxt), lines=lines)


def load_net(
    prototxt: PathLike,
    weights: PathLike | Sequence[PathLike] | None = None,
    phase: str = "TEST",
    level: int = 0,
    stages: Sequence[str] = (),
    strict: bool = True,
) -> Net:
    """Build a net from a prototxt, with weights if given.

    Args:
        prototxt: net definition, any format that Caffe ever had.
        weights: one or several ``.caffemodel`` or ``.caffemodel.h5`` files, copied by layer name in order.
        phase: ``"TEST"`` (deploy) or ``"TRAIN"``.
        level, stages: for nets with such rules.
        strict: whether weights of which no layer fits are an error; Caffe's own programs go on without them.

    Raises:
        WeightsError: a weights file of which no layer fits, or one with a layer of another shape.
        CaffeCompatError: naming the file, line, layer, blob or field that is wrong.
    """
    description = load_description(prototxt, State(phase, level, tuple(stages)))
    files = [] if weights is None else [weights] if isinstance(weights, str | os.PathLike) else list(weights)
    held = [(file, weight_files.blobs_in([file])) for file in files]
    filled: dict[str, set[int]] = {}
    for name, blobs in (item for _, one in held for item in one.items()):
        filled.setdefault(name, set()).update(blobs)
    net = Net(description, filled)
    check_fit(net.plan, description.name, held, strict)
    for file in files:
        net.copy_from(file)
    return net


def _module_names(nodes: Sequence[Node]) -> list[str]:
    names = UniqueNames({*dir(Net), "plan", "description"})
    return [names.fresh(node.name.replace(".", "_") or node.type) for node in nodes]


def _result_keys(plan: Blueprint) -> list[str]:
    """Names of the blobs; those that Caffe calls "(automatic)" are told apart by their layer."""
    keys = list(plan.names)
    for node in plan.nodes:
        for blob in node.top_ids:
            if keys[blob] == AUTOMATIC:
                keys[blob] = f"{node.name} {AUTOMATIC}"
    return keys


def _last_uses(plan: Blueprint) -> list[list[int]]:
    """Per layer, the blobs that no later layer reads."""
    last: dict[int, int] = {}
    for number, node in enumerate(plan.nodes):
        for blob in (*node.bottom_ids, *node.top_ids):
            last[blob] = number
    result: list[list[int]] = [[] for _ in plan.nodes]
    for blob, number in last.items():
        result[number].append(blob)
    return result
