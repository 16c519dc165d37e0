"""The plan of a net: its layers in order, its blobs as numbers, and what shares memory.  Made once, never changed.

In Caffe a blob is a buffer.  In-place layers overwrite it, some tops are the buffer of a bottom (``Split``,
``Flatten``, ``Reshape``, ...), and backward passes read buffers as they are by then.  Which of that happens in a net is
decided here, from what the layers declare (:mod:`caffe_compat.layers.sharing`).  :class:`~caffe_compat.net.net.Net` and
:class:`~caffe_compat.net.engine.BlobNet` are two interpreters of the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import nn

from caffe_compat.description import LayerDescription, NetDescription, ParamSpec, graph
from caffe_compat.errors import ShapeError
from caffe_compat.layers import Layer, Shape, count
from caffe_compat.layers.sharing import Share

__all__ = [
    "AUTOMATIC",
    "Learnable",
    "Node",
    "Plan",
    "ancestors",
    "layer_shapes",
    "make_plan",
    "walk_nodes",
    "walk_shapes",
    "with_all_parameters",
]

AUTOMATIC = "(automatic)"


@dataclass(frozen=True)
class Node:
    """One layer in its place.

    Attributes:
        bottom_ids, top_ids: numbers of the blobs.
        bottom_grads: for which bottoms a gradient is computed.
        param_grads: for which blobs of the layer a gradient is computed.
        loss_weights: one per top.
        needs_backward: whether the backward pass visits this layer.
        param_specs: one per blob of the layer.
        is_input: whether the caller fills the tops.
        blocked: whether ``propagate_down`` may stop a gradient.
        shares: tops that are the buffer of a bottom.
        outdated: bottoms whose buffer was overwritten through another blob since they were made.
        overwritten: per bottom, whether its buffer is overwritten between this forward pass and the backward pass.
        rereads: whether a backward pass reads a buffer that was overwritten by then.
        cut: tops whose gradient never arrives: a later Flatten takes their diff away.
        done: blobs that no later layer reads.
    """

    layer: Layer
    description: LayerDescription
    bottom_ids: tuple[int, ...]
    top_ids: tuple[int, ...]
    bottom_grads: tuple[bool, ...]
    param_grads: tuple[bool, ...]
    loss_weights: tuple[float, ...]
    needs_backward: bool
    param_specs: tuple[ParamSpec, ...] = ()
    is_input: bool = False
    blocked: bool = False
    shares: tuple[Share, ...] = ()
    outdated: tuple[int, ...] = ()
    overwritten: tuple[bool, ...] = ()
    rereads: bool = False
    cut: tuple[int, ...] = ()
    done: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.description.name

    @property
    def type(self) -> str:
        """The layer's type."""
        return self.description.type

    @cached_property
    def losses(self) -> tuple[tuple[int, float], ...]:
        """Tops that are losses of this layer, with their weights."""
        if not self.layer.keeps_loss_weight:
            return ()
        return tuple((blob, weight) for blob, weight in zip(self.top_ids, self.loss_weights, strict=True) if weight)


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Plan:
    """A built net, ready to be run.

    Attributes:
        description: what it was built from.
        names, shapes: of the blobs, by number; shapes for the sizes written in the prototxt.
        inputs, outputs: numbers of the blobs that Input layers make, and of those that nothing consumes (by name).
        learnables: the parameters that a solver updates, in Caffe's order.
        shared: (layer number, blob number) of parameters that another layer owns.
        buffers: by number of the blob, the buffer it stands for; blobs with one number share memory.
        outdated: blobs whose buffer was overwritten through another blob after they were made.
        losses: weight by number of the blob, where a loss is made.
        plain: whether every blob can be computed without thinking of buffers.
    """

    description: NetDescription
    nodes: tuple[Node, ...]
    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    learnables: tuple[Learnable, ...]
    shared: frozenset[tuple[int, int]]
    buffers: tuple[int, ...] = ()
    outdated: frozenset[int] = frozenset()
    losses: Mapping[int, float] = field(default_factory=dict)
    plain: bool = True


def make_plan(plan: Plan) -> Plan:
    """Add what follows from the layers' memory to a plan that has everything else."""
    memory = _Memory(plan)
    nodes = tuple(memory.visit(number, node) for number, node in enumerate(plan.nodes))
    nodes = tuple(memory.look_back(number, node) for number, node in enumerate(nodes))
    losses = {blob: weight for node in nodes for blob, weight in node.losses}
    outdated = frozenset(blob for blob in range(len(plan.names)) if memory.is_outdated(blob))
    plain = not outdated and not any(node.outdated or node.rereads or node.cut for node in nodes)
    return replace(plan, nodes=nodes, buffers=tuple(memory.buffer), outdated=outdated, losses=losses, plain=plain)


class _Memory:
    """Who writes and who reads which buffer, in the order of the forward pass.

    A buffer's version counts the layers that wrote it so far.
    """

    def __init__(self, plan: Plan) -> None:
        blobs = len(plan.names)
        self.buffer = list(range(blobs))
        self.version = [0] * blobs  # of the buffers, now
        self.resigned = [0] * blobs  # last version of the buffers that may have changed what is positive
        self.made = [0] * blobs  # version of its buffer when the blob was made
        self.seen: list[tuple[int, ...]] = []  # per layer, versions of its bottoms as they were read
        self.wrote: list[tuple[int, ...]] = []  # per layer, versions of its tops
        self.maker: dict[int, Node] = {}
        self.last: dict[int, int] = {}
        self.shown: dict[int, int] = {}  # number of blobs that are one buffer, if more than one
        self.taken = _diffs_taken_away(plan.nodes)

    def visit(self, number: int, node: Node) -> Node:
        """Read the bottoms, write the tops."""
        outdated = tuple(index for index, blob in enumerate(node.bottom_ids) if self.is_outdated(blob))
        self.seen.append(tuple(self.version[self.buffer[blob]] for blob in node.bottom_ids))
        shares = node.layer.shared_memory()
        sources = {share.top: share.bottom for share in shares if share.bottom is not None}
        versions = []
        for index, blob in enumerate(node.top_ids):
            if index in sources:
                self.buffer[blob] = self.buffer[node.bottom_ids[sources[index]]]
                self.shown[self.buffer[blob]] = self.shown.get(self.buffer[blob], 1) + 1
            else:
                self._write(node, blob)
            self.made[blob] = self.version[self.buffer[blob]]
            versions.append(self.made[blob])
        self.wrote.append(tuple(versions))
        for blob in (*node.bottom_ids, *node.top_ids):
            self.last[blob] = number
        return replace(node, outdated=outdated, shares=shares)

    def _write(self, node: Node, blob: int) -> None:
        buffer = self.buffer[blob]
        self.version[buffer] += 1
        if not (node.layer.keeps_sign and blob in node.bottom_ids and self.shown.get(buffer, 1) == 1):
            self.resigned[buffer] = self.version[buffer]

    def look_back(self, number: int, node: Node) -> Node:
        """What has become of the buffers once all layers ran."""
        bottoms = [self.version[self.buffer[blob]] for blob in node.bottom_ids]
        tops = [self.version[self.buffer[blob]] for blob in node.top_ids]
        overwritten = tuple(now != seen for now, seen in zip(bottoms, self.seen[number], strict=True))
        reads = node.layer.backward_reads()
        rereads = any(self._lost(number, node, index, reads.sign) for index in reads.bottoms)
        rereads = rereads or any(tops[index] != self.wrote[number][index] for index in reads.tops)
        self._allow_overwriting(node, rereads)
        for blob in node.top_ids:
            self.maker[blob] = node
        done = tuple(blob for blob in dict.fromkeys((*node.bottom_ids, *node.top_ids)) if self.last[blob] == number)
        cut = tuple(s.top for s in node.shares if s.diff == "setup" and node.top_ids[s.top] in self.taken)
        return replace(node, overwritten=overwritten, rereads=rereads, cut=cut, done=done)

    def _lost(self, number: int, node: Node, index: int, sign: bool) -> bool:
        """Whether what the backward pass reads of a bottom is no longer what the forward pass saw."""
        buffer = self.buffer[node.bottom_ids[index]]
        now = self.resigned[buffer] if sign else self.version[buffer]
        own = index < len(node.top_ids) and node.top_ids[index] == node.bottom_ids[index]
        seen = self.wrote if own and node.layer.survives_in_place else self.seen
        return now > seen[number][index]

    def _allow_overwriting(self, node: Node, rereads: bool) -> None:
        """Let an in-place layer overwrite torch's own tensor where nobody else looks at it."""
        if not (node.description.in_place and node.bottom_ids) or rereads:
            return
        blob = node.bottom_ids[0]
        maker = self.maker.get(blob)
        alone = self.shown.get(self.buffer[blob], 1) == 1
        node.layer.may_overwrite = alone and maker is not None and not maker.rereads and maker.layer.fresh_top

    def is_outdated(self, blob: int) -> bool:
        """Whether the blob's buffer was overwritten through another blob since the blob was made."""
        return self.made[blob] != self.version[self.buffer[blob]]


def _diffs_taken_away(nodes: Iterable[Node]) -> set[int]:
    """Blobs to which a layer's backward pass gives the diff of its top, away from what shared theirs."""
    return {
        node.bottom_ids[share.bottom]
        for node in nodes
        for share in node.layer.shared_memory()
        if share.diff == "backward" and share.bottom is not None
    }


# -- passes over a plan -----------------------------------------------------------------------------------------


def layer_shapes(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Shapes of a layer's tops.

    Raises:
        ShapeError: the layer cannot take these bottoms, or would make a top that cannot be.
    """
    try:
        shapes = [tuple(shape) for shape in layer.top_shapes(bottoms)]
    except (IndexError, ZeroDivisionError) as error:
        raise ShapeError(
            layer.name, layer.params.type, f"cannot take bottoms of shape {[list(bottom) for bottom in bottoms]}"
        ) from error
    for shape in shapes:
        if any(dim < 0 for dim in shape) or count(shape) > 2**31 - 1:
            raise layer.shape_error(f"would make a top of shape {list(shape)}")
    return shapes


def walk_shapes(nodes: Iterable[Node], inputs: Mapping[int, Shape]) -> dict[int, Shape]:
    """Shapes of all blobs of some layers, by number.

    Args:
        nodes: in order; every bottom is a top of an earlier one or in ``inputs``.
        inputs: shapes of the blobs that Input layers make; others have no axes.

    Raises:
        ShapeError: a layer cannot take its bottoms.
    """
    known = dict(inputs)
    for node, _, tops in walk_nodes(nodes, inputs):
        known.update(zip(node.top_ids, tops, strict=True))
    return known


def walk_nodes(
    nodes: Iterable[Node], inputs: Mapping[int, Shape], rows: int | None = None
) -> Iterator[tuple[Node, list[Shape], list[Shape]]]:
    """Some layers in order, each with the shapes of its bottoms and of its tops.

    Args:
        nodes, inputs: as of :func:`walk_shapes`.
        rows: how many rows layers let pass at most whose values decide how many; by default all.

    Raises:
        ShapeError: a layer cannot take its bottoms.
    """
    known = dict(inputs)
    for node in nodes:
        bottoms = [known[blob] for blob in node.bottom_ids]
        if node.is_input:
            tops = [known.get(blob, ()) for blob in node.top_ids]
        else:
            tops = layer_shapes(node.layer, bottoms)
        if rows is not None and node.layer.sized_by_values:
            axis = node.layer.rows_axis
            tops = [(*shape[:axis], min(rows, shape[axis]), *shape[axis + 1 :]) for shape in tops]
        known.update(zip(node.top_ids, tops, strict=True))
        yield node, bottoms, tops


def ancestors(plan: Plan, blobs: Iterable[int]) -> tuple[list[Node], set[int]]:
    """The layers that some blobs depend on, in order, and all blobs that these read, with those that were wanted.

    Where buffers are overwritten through other blobs, every layer that writes a needed buffer counts.
    """
    alike: dict[int, list[int]] = {}
    for blob, buffer in enumerate(plan.buffers):
        alike.setdefault(buffer, []).append(blob)

    def makes(node: Node) -> Iterable[int]:
        return node.top_ids if plan.plain else [b for blob in node.top_ids for b in alike[plan.buffers[blob]]]

    return graph.ancestors(plan.nodes, blobs, makes, lambda node: node.bottom_ids)


def with_all_parameters(plan: Plan) -> Plan:
    """The plan in which the backward pass visits every layer with parameters, also where no loss depends on them."""
    nodes = (replace(node, needs_backward=node.needs_backward or any(node.param_grads)) for node in plan.nodes)
    return make_plan(replace(plan, nodes=tuple(nodes)))
