"""Nets under torch.compile: one graph for all layers between those that look at numbers."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from caffe_compat.layers import Layer
from caffe_compat.layers.roles import looks_at_numbers
from caffe_compat.net.fast.graph import Graph, Op, View, trace
from caffe_compat.net.net import Net
from caffe_compat.net.plan import Plan
from caffe_compat.net.running import run_layer

__all__ = ["Compiled", "compile_net", "parts"]

_LOGGER = logging.getLogger(__name__)


def compile_net(net: Net, **options: Any) -> Net:
    """Let torch.compile make graphs of a net, in either phase, with gradients; the net itself is returned.

    Layers between those whose ``forward`` depends on the numbers themselves (data, proposals, suppression, layers in
    Python) are one graph, compiled with ``fullgraph=True`` at the first call; names and shapes are checked before as
    ever.  Numbers are torch's, a few roundings off.  Random numbers of TRAIN come from torch's default generator.  A
    gradient that depends on which blobs share memory in Caffe is computed layer by layer, and a line says so once.

    Args:
        **options: of ``torch.compile``: ``backend``, ``mode``, ``dynamic``, ``options``.
    """
    net.run_by(Compiled(net, options))
    return net


@dataclass(frozen=True)
class _Part:
    """Layers that run together.

    Attributes:
        run: takes the values ``reads`` and returns a tuple of ``writes``.
        done: values that are not needed after that.
    """

    run: Callable[..., tuple[Tensor, ...]]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    done: tuple[int, ...]


@dataclass(frozen=True)
class _Made:
    """A net for some blobs that are asked for."""

    parts: tuple[_Part, ...]
    graph: Graph


class Compiled:
    """Runs a net by compiled parts."""

    def __init__(self, net: Net, options: Mapping[str, Any]) -> None:
        self.net, self.options = net, dict(options)
        self._made: dict[Any, _Made] = {}
        self._checked: set[Any] = set()
        self._told = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        """For the copy of the net, which is compiled anew."""
        return Compiled(memo.get(id(self.net), self.net), self.options)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what was compiled."""
        return Compiled, (self.net, self.options)

    def forget(self) -> None:
        """Nothing: graphs read the parameters where they are."""

    def __call__(self, inputs: Mapping[str, Tensor], blobs: Sequence[str]) -> dict[str, Tensor] | None:
        """What the net returns; None if it has to compute it itself.

        Raises:
            LayerError: a layer cannot take the shape of its bottom.
        """
        net, plan = self.net, self.net.plan
        if not plan.plain and torch.is_grad_enabled():
            self._tell("its gradients depend on memory that blobs share")
            return None
        key = (tuple(blobs), *(layer.training for layer in net.children()))
        shapes = (key, *((name, value.shape) for name, value in inputs.items()))
        if shapes not in self._checked:
            graph = _traced(plan, inputs, blobs)
            if key not in self._made:
                self._made[key] = _Made(tuple(self._parts(graph)), graph)
            self._checked.add(shapes)
        return _run(self._made[key], plan, net.result_keys, inputs)

    def _tell(self, why: str) -> None:
        if not self._told:
            _LOGGER.warning("net '%s' is not compiled: %s", self.net.description.name, why)
            self._told = True

    def _parts(self, graph: Graph) -> list[_Part]:
        kept = set(graph.results.values())
        groups = parts(graph)
        last = {value: place for place, group in enumerate(groups) for op in group for value in (*op.reads, *op.writes)}
        result = []
        for place, group in enumerate(groups):
            made = {value for op in group for value in op.writes}
            reads = tuple(dict.fromkeys(value for op in group for value in op.reads if value not in made))
            writes = tuple(sorted(value for value in made if value in kept or last[value] > place))
            done = tuple(value for value in (*reads, *writes) if last[value] == place and value not in kept)
            if _is_alone(group[0]):
                run: Callable[..., Any] = _alone(group[0], reads, writes)
            else:
                run = torch.compile(flat(group, reads, writes), fullgraph=True, **self.options)
            result.append(_Part(run, reads, writes, done))
        return result


def parts(graph: Graph) -> list[list[Op]]:
    """The ops in order; each that looks at numbers is alone, all between two such are together."""
    groups: list[list[Op]] = []
    open_group = False
    for op in graph.ops:
        alone = _is_alone(op)
        if alone or not open_group:
            groups.append([])
        groups[-1].append(op)
        open_group = not alone
    return groups


def _is_alone(op: Op) -> bool:
    return not isinstance(op.role, View) and looks_at_numbers(op.node.layer)


def _traced(plan: Plan, inputs: Mapping[str, Tensor], blobs: Sequence[str]) -> Graph:
    names = plan.names
    kept = {*plan.outputs, *plan.losses, *(i for i, name in enumerate(names) if name in blobs)}
    shapes = {blob: tuple(inputs[names[blob]].shape) for blob in plan.inputs}

    def check(node: Any, tops: Any) -> None:
        if not (node.description.in_place or node.shares) and all(v.device.type == "cpu" for v in inputs.values()):
            node.layer.require_memory("tops", tops)

    return trace(plan, shapes, kept, check)


def _run(made: _Made, plan: Plan, keys: Sequence[str], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    values: dict[int, Tensor] = {value: inputs[plan.names[blob]] for blob, value in made.graph.inputs.items()}
    for part in made.parts:
        found = part.run(*(values[value] for value in part.reads))
        values.update(zip(part.writes, found, strict=True))
        for value in part.done:
            values.pop(value, None)
    return {keys[blob]: values[value] for blob, value in sorted(made.graph.results.items())}


def _alone(op: Op, reads: Sequence[int], writes: Sequence[int]) -> Callable[..., tuple[Tensor, ...]]:
    """A layer as the net runs it, with its checks."""
    checked: list[Any] = [None]

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(reads, values, strict=True))
        tops = run_layer(checked, 0, op.node, [given[value] for value in op.reads])
        made = dict(zip(op.writes, tops, strict=True))
        return tuple(made[value] for value in writes)

    return run


class _Tops(nn.Module):
    """A layer that always returns a tuple."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """The tops."""
        found = self.layer(*bottoms)
        return found if isinstance(found, tuple) else (found,)


def flat(ops: Sequence[Op], reads: Sequence[int], writes: Sequence[int]) -> fx.GraphModule:
    """A module that calls layers one after the other, without a look at the description.

    Args:
        reads, writes: values that it takes and returns.
    """
    graph = fx.Graph()
    root: dict[str, nn.Module] = {}
    made = {value: graph.placeholder(f"value{value}") for value in reads}
    for op in ops:
        bottoms = [made[value] for value in op.reads]
        if op.node.blocked and not isinstance(op.role, View):
            flags = op.node.bottom_grads
            bottoms = [
                b if flag else graph.call_method("detach", (b,)) for b, flag in zip(bottoms, flags, strict=False)
            ]
        if isinstance(op.role, View):
            made[op.writes[0]] = graph.call_method("reshape_as", tuple(bottoms))
            continue
        name = f"layer{op.number}"
        root[name] = _Tops(op.node.layer)
        found = graph.call_module(name, tuple(bottoms))
        tops = [graph.call_function(operator.getitem, (found, index)) for index in range(len(op.writes))]
        made.update(zip(op.writes, tops, strict=True))
    graph.output(tuple(made[value] for value in writes))
    return fx.GraphModule(root, graph)
