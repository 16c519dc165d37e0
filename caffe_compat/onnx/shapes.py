"""Which sizes of a net may change at run time, found out by asking its layers.

Every layer computes the shapes of its tops for any bottoms.  The net is tried with other batch sizes, heights and
widths; a size that the layers accept in several values is dynamic, and so is every axis of a blob that differs then.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from caffe_compat.description.names import UniqueNames
from caffe_compat.errors import ExportError, LayerError
from caffe_compat.layers import Shape
from caffe_compat.net import Net, Node
from caffe_compat.net.plan import walk_nodes

__all__ = ["KINDS", "NetShapes", "Shapes", "Size", "consumers", "find_sizes", "infer_shapes", "net_shapes"]

KINDS = ("batch", "boxes", "height", "width")
_MAPS = {"height": 2, "width": 3}
Merged = tuple[int | str | tuple[int, ...], ...]  #: sizes, names of open ones, or all values that one was found to take
_ENOUGH = 2  # tries that must succeed: maps that may differ by one cell accept single values


@dataclass(frozen=True)
class Size:
    """A size of the inputs that is only known at run time.

    Attributes:
        name: one of ``KINDS``, or with the input's name before it.
        axes: (input, axis) pairs that have this size.
        value: the size in the prototxt.
        accepted: other sizes that all layers were found to accept.
    """

    name: str
    kind: str
    axes: tuple[tuple[str, int], ...]
    value: int
    accepted: tuple[int, ...]


@dataclass(frozen=True)
class Shapes:
    """Shapes of the bottoms and tops of each layer.

    Attributes:
        bottoms, tops: by position in the list of nodes.
    """

    bottoms: list[list[Shape]]
    tops: list[list[Shape]]

    def flat(self) -> list[Shape]:
        """All of them in a fixed order."""
        return [shape for shapes in (*self.bottoms, *self.tops) for shape in shapes]


def consumers(net: Net) -> dict[str, list[tuple[Node, int]]]:
    """For each input the layers that read it (behind Split layers), and as which bottom."""
    origin = {blob: net.plan.names[blob] for blob in net.plan.inputs}
    result: dict[str, list[tuple[Node, int]]] = {}
    for node in net.nodes:
        for index, blob in enumerate(node.bottom_ids):
            if blob not in origin:
                continue
            if node.description.is_split:
                origin.update((top, origin[blob]) for top in node.top_ids)
            else:
                result.setdefault(origin[blob], []).append((node, index))
    return result


def infer_shapes(net: Net, nodes: Sequence[Node], inputs: Mapping[str, Shape], selected: int | None = None) -> Shapes:
    """Run ``top_shapes`` of each node.

    Args:
        selected: rows that layers let pass whose values decide how many; by default all.

    Raises:
        LayerError: a layer refuses its bottoms.
    """
    known = {blob: tuple(inputs.get(net.plan.names[blob], ())) for blob in net.plan.inputs}
    steps = list(walk_nodes(nodes, known, selected))
    return Shapes([bottoms for _, bottoms, _ in steps], [tops for _, _, tops in steps])


def resized(inputs: Mapping[str, Shape], changes: Iterable[tuple[Size, int]]) -> dict[str, Shape]:
    """The inputs' shapes with other values for some sizes."""
    result = {name: list(shape) for name, shape in inputs.items()}
    for size, value in changes:
        for name, axis in size.axes:
            result[name][axis] = value
    return {name: tuple(shape) for name, shape in result.items()}


def find_sizes(
    net: Net, nodes: Sequence[Node], inputs: Mapping[str, Shape], kinds: Iterable[str]
) -> tuple[list[Size], dict[str, str]]:
    """Sizes of the inputs that may change.

    Inputs whose sizes can change one by one get a size each; those that must agree share one.

    Returns:
        The sizes, and for each kind that no input can change the reason.
    """
    sizes: list[Size] = []
    refusals: dict[str, str] = {}
    rows = _axes(net, inputs, "batch")
    asked = tuple(kinds)
    if {"batch", "boxes"} & set(asked):
        boxes = set(_box_axes(net, rows))
        found, refusal = _independent(net, nodes, inputs, "batch", rows)
        by_kind: dict[str, list[Size]] = {"batch": [], "boxes": []}
        for size in found:
            kind = "boxes" if boxes & set(size.axes) else "batch"
            by_kind[kind].append(replace(size, kind=kind))
        if "batch" not in asked:
            by_kind["batch"] = []
            if not by_kind["boxes"]:
                refusals["boxes"] = refusal if boxes else "no layer takes boxes"
        elif not found:
            refusals["batch"] = refusal if rows else "no input has a batch"
        for kind, members in by_kind.items():
            sizes += _named(kind, members, rows)
    for kind in _MAPS:
        if kind not in asked:
            continue
        axes = _axes(net, inputs, kind)
        found, refusal = _independent(net, nodes, inputs, kind, axes)
        if not found:
            refusals[kind] = refusal if axes else f"no input has a {kind}"
        sizes += _named(kind, found, axes)
    return sizes, refusals


def _named(kind: str, sizes: Iterable[Size], axes: Sequence[tuple[str, int]]) -> list[Size]:
    """Sizes of one kind in the order of the inputs, with names: the kind's, then with an input's before it."""
    order = sorted(sizes, key=lambda size: axes.index(size.axes[0]))
    return [
        replace(size, name=kind if number == 0 else f"{size.axes[0][0]}_{kind}") for number, size in enumerate(order)
    ]


def _independent(
    net: Net, nodes: Sequence[Node], inputs: Mapping[str, Shape], kind: str, axes: Sequence[tuple[str, int]]
) -> tuple[list[Size], str]:
    """The sizes of one kind that can change, each with all axes that change with it; and why others cannot.

    An axis that cannot change alone is tried with the other ones of the same value that cannot, then also with one that
    can, then with all of those: there may be more box classes than boxes, but not fewer, so only both can change.
    """
    found: list[Size] = []
    stuck: dict[int, list[tuple[str, int]]] = {}
    refusal = ""
    for member in axes:
        size, _ = _try_size(net, nodes, inputs, kind, [member])
        if size is None:
            stuck.setdefault(inputs[member[0]][member[1]], []).append(member)
        else:
            found.append(size)
    for value, group in stuck.items():
        partners = [size for size in found if size.value == value]
        for more in [[], *([partner] for partner in partners), partners]:
            members = sorted([*group, *(axis for size in more for axis in size.axes)], key=axes.index)
            size, reason = _try_size(net, nodes, inputs, kind, members)
            refusal = refusal or reason
            if size is not None:
                found = [*(size for size in found if size not in more), size]
                break
    if len(stuck) > 1:
        names = ", ".join(name for group in stuck.values() for name, _ in group)
        refusal = f"inputs with different sizes ({names}) depend on each other"
    return found, refusal


def _axes(net: Net, inputs: Mapping[str, Shape], kind: str) -> list[tuple[str, int]]:
    """Axes of the inputs that are a batch, height or width: what their first reader says of the batch, else 2 and 3."""
    readers = consumers(net)
    if kind in _MAPS:
        return [
            (name, _MAPS[kind])
            for name, shape in inputs.items()
            if len(shape) == 4 and not _one_per_item(net, shape, readers.get(name, []))
        ]
    result = []
    for name, shape in inputs.items():
        axis = next((node.layer.batch_axis(bottom) for node, bottom in readers.get(name, [])), 0)
        if len(shape) > axis:
            result.append((name, axis))
    return result


def _one_per_item(net: Net, shape: Shape, readers: Sequence[tuple[Node, int]]) -> bool:
    """Whether an input of N x 1 x 1 x 1 holds one number an item, such as a class, and no pictures of one pixel."""
    if shape[1:] != (1, 1, 1):
        return False
    random, known = np.random.default_rng(0), net.plan.shapes
    return any(
        node.layer.sample(bottom, [known[blob] for blob in node.bottom_ids], random) is not None
        for node, bottom in readers
    )


def _box_axes(net: Net, axes: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those of the batch axes along which boxes lie."""
    readers = consumers(net)
    return [
        (name, axis)
        for name, axis in axes
        if any(node.layer.per_box and bottom == 1 for node, bottom in readers.get(name, []))
    ]


def _try_size(
    net: Net, nodes: Sequence[Node], inputs: Mapping[str, Shape], kind: str, axes: Sequence[tuple[str, int]]
) -> tuple[Size | None, str]:
    """The size if the net accepts enough other values for these axes, which have the same value; else why not."""
    base = inputs[axes[0][0]][axes[0][1]]
    accepted: list[int] = []
    refusal = ""
    for value in (base + 64, base + 128, base + 192, 2 * base, 3 * base, 2 * base + 37):
        if value in accepted or value == base:
            continue
        size = Size(kind, kind, tuple(axes), base, ())
        try:
            infer_shapes(net, nodes, resized(inputs, [(size, value)]))
        except LayerError as error:
            refusal = refusal or str(error)
        else:
            accepted.append(value)
    if len(accepted) < _ENOUGH:
        return None, refusal
    return Size(kind, kind, tuple(axes), base, tuple(accepted)), ""


@dataclass(frozen=True)
class NetShapes:
    """Shapes for all sizes.

    Attributes:
        inputs: names of the inputs.
        sizes: names of the sizes that are open.
        dims: per node and top, sizes or names of sizes: of an open one, or, of one that is computed from others, that
            of the blob where it first appears and the axis (``pool1_axis2``).
        bottoms: the same per node and bottom, ``None`` for all that are not fixed.
    """

    inputs: list[str]
    sizes: list[str]
    dims: list[list[tuple[int | str, ...]]]
    bottoms: list[list[tuple[int | None, ...]]]


def net_shapes(net: Net, nodes: Sequence[Node], inputs: Mapping[str, Shape], sizes: Sequence[Size]) -> NetShapes:
    """Shapes of all blobs where ``sizes`` are dynamic.

    Raises:
        ExportError: sizes that can change one by one but not together.
    """
    base = infer_shapes(net, nodes, inputs)
    probes: list[tuple[dict[str, int], Shapes]] = [({size.name: size.value for size in sizes}, base)]
    values = {size.name: size.value for size in sizes}
    trials = [[(size, value)] for size in sizes for value in size.accepted]
    trials += [list(zip(sizes, choice, strict=True)) for choice in _joint(sizes)]
    joint = 0
    for trial in trials:
        try:
            shapes = infer_shapes(net, nodes, resized(inputs, trial))
        except LayerError:
            continue
        joint += len(trial) == len(sizes)
        probes.append((values | {size.name: value for size, value in trial}, shapes))
    for rows in (1, 2, 3) if any(node.layer.sized_by_values for node in nodes) else ():
        probes.append((values, infer_shapes(net, nodes, inputs, rows)))
    if sizes and not joint:
        raise ExportError(
            f"net '{net.description.name}': the sizes {', '.join(size.name for size in sizes)} can change one by one, "
            "but not together; make fewer of them dynamic"
        )
    flat = [shapes.flat() for _, shapes in probes]
    found = iter([_merge([v for v, _ in probes], [f[i] for f in flat]) for i in range(len(flat[0]))])
    bottoms = [[next(found) for _ in shapes] for shapes in base.bottoms]
    tops = [[next(found) for _ in shapes] for shapes in base.tops]
    fixed = [[tuple(d if isinstance(d, int) else None for d in dims) for dims in shapes] for shapes in bottoms]
    return NetShapes(list(inputs), list(values), _name_dims(net, nodes, bottoms, tops, list(values)), fixed)


def _name_dims(
    net: Net, nodes: Sequence[Node], bottoms: Sequence[list[Merged]], tops: Sequence[list[Merged]], taken: Sequence[str]
) -> list[list[tuple[int | str, ...]]]:
    """Names for computed sizes.

    A size that a layer hands on has one name before and after it, which lets runtimes reuse memory; two that are equal
    by chance further apart have not.
    """
    names = UniqueNames(taken)
    of_blob: dict[int, dict[tuple[int, ...], str]] = {}
    result = []
    for node, below, above in zip(nodes, bottoms, tops, strict=True):
        known = {
            dim: of_blob[blob][dim]
            for blob, dims in zip(node.bottom_ids, below, strict=True)
            for dim in dims
            if isinstance(dim, tuple) and dim in of_blob.get(blob, {})
        }
        named: list[tuple[int | str, ...]] = []
        for blob, dims in zip(node.top_ids, above, strict=True):
            here = {
                dim: known[dim] if dim in known else names.fresh(f"{net.plan.names[blob]}_axis{axis}")
                for axis, dim in enumerate(dims)
                if isinstance(dim, tuple)
            }
            of_blob[blob] = here
            named.append(tuple(here[dim] if isinstance(dim, tuple) else dim for dim in dims))
        result.append(named)
    return result


def _joint(sizes: Sequence[Size]) -> Iterable[tuple[int, ...]]:
    """Some choices of values for all sizes at once."""
    return itertools.islice(itertools.product(*(size.accepted for size in sizes)), 64) if len(sizes) > 1 else ()


def _merge(values: Sequence[Mapping[str, int]], shapes: Sequence[Shape]) -> Merged:
    if len({len(shape) for shape in shapes}) != 1:
        raise ExportError("a blob changes its number of axes with the sizes of the inputs")
    merged: list[int | str | tuple[int, ...]] = []
    for found in zip(*shapes, strict=True):
        if len(set(found)) == 1:
            merged.append(found[0])
        else:
            same = (name for name in values[0] if all(v[name] == f for v, f in zip(values, found, strict=True)))
            merged.append(next(same, found))
    return tuple(merged)
