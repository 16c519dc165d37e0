"""Layout of a graph in ranks: what comes after something stands below it, with few crossings and no overlaps.

The method is Sugiyama's: cycles are opened, every node gets a rank (the longest way to it), edges over several ranks
get a place in each that they pass, the order in every rank follows the means of the neighbours' places, and then places
are moved towards their neighbours as far as those beside them allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Box", "Layout", "Point", "arrange"]

Point = tuple[float, float]
SWEEPS = 8
BESIDE, BETWEEN = 18.0, 34.0
"""Room between two nodes of a rank, and between two ranks."""
WAY = 12.0
"""Breadth of the way of an edge past the nodes of a rank."""
BENDS, FREE_BENDS = 8, 4096
"""Places in ranks between their ends that all edges have together: so many for each node, and so many at least."""


@dataclass(frozen=True)
class Box:
    """A node: its middle across the ranks, where it begins along them, and its size."""

    across: float
    along: float
    breadth: float
    length: float


@dataclass(frozen=True)
class Layout:
    """Where everything is; the ranks follow each other along, starting with 0.

    Attributes:
        boxes: of the nodes by name.
        ways: of the edges, in their order: points (across, along) from the end of the first node to the start of the
            second, through the ranks between them.
        breadth, length: of all.
    """

    boxes: Mapping[str, Box]
    ways: tuple[tuple[Point, ...], ...]
    breadth: float
    length: float


def arrange(sizes: Mapping[str, Point], edges: Sequence[tuple[str, str]]) -> Layout:
    """Lay out a graph.

    Args:
        sizes: breadth (across) and length (along) of the nodes by name.
        edges: from node to node; cycles and several edges between two nodes may be.
    """
    forward = _without_cycles(list(sizes), edges)
    ranks = _ranks(list(sizes), forward)
    chains = _chains(forward, ranks, max(len(sizes) * BENDS, FREE_BENDS))
    breadths = {name: size[0] for name, size in sizes.items()}
    rows: list[list[str]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    for name, rank in ranks.items():
        rows[rank].append(name)
    for chain, (start, _) in zip(chains, forward, strict=True):
        for step, name in enumerate(chain[1:-1], 1):
            rows[ranks[start] + step].append(name)
            breadths[name] = WAY
    links = [pair for chain in chains for pair in zip(chain, chain[1:], strict=False)]
    above: dict[str, list[str]] = {name: [] for name in breadths}
    below: dict[str, list[str]] = {name: [] for name in breadths}
    for first, second in links:
        below[first].append(second)
        above[second].append(first)
    _order(rows, above, below)
    places = _places(rows, breadths, above, below)
    return _measured(sizes, rows, places, chains, [edge[0] == way[0] for edge, way in zip(edges, forward, strict=True)])


def _without_cycles(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges, those turned round that close a cycle."""
    after: dict[str, list[str]] = {name: [] for name in names}
    for start, end in edges:
        after[start].append(end)
    state: dict[str, int] = {}
    back = set()
    for root in names:
        if root in state:
            continue
        state[root] = 1
        stack = [(root, iter(after[root]))]
        while stack:
            name, rest = stack[-1]
            for other in rest:
                if state.get(other) == 1:
                    back.add((name, other))
                elif other not in state:
                    state[other] = 1
                    stack.append((other, iter(after[other])))
                    break
            else:
                state[name] = 2
                stack.pop()
    return [(end, start) if (start, end) in back and start != end else (start, end) for start, end in edges]


def _ranks(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The longest way to every node; one with nothing before it stands directly above what follows it."""
    after: dict[str, list[str]] = {name: [] for name in names}
    missing = dict.fromkeys(names, 0)
    for start, end in edges:
        if start != end:
            after[start].append(end)
            missing[end] += 1
    ranks, ready = dict.fromkeys(names, 0), [name for name in names if not missing[name]]
    first = list(ready)
    for name in ready:  # grows
        for other in after[name]:
            ranks[other] = max(ranks[other], ranks[name] + 1)
            missing[other] -= 1
            if not missing[other]:
                ready.append(other)
    for name in first:
        if after[name]:
            ranks[name] = min(ranks[other] for other in after[name]) - 1
    return ranks


def _chains(edges: Sequence[tuple[str, str]], ranks: Mapping[str, int], most: int) -> list[list[str]]:
    """The nodes that each edge passes; those of the ranks between its ends get names of their own.

    Where edges would need more than ``most`` of them in all, as of a blob that every layer of a deep net reads, the
    longest go straight to their ends: the cost of a drawing is that of its nodes and edges.
    """
    chains = [list(edge) for edge in edges]
    spans = [ranks[end] - ranks[start] for start, end in edges]
    for number in sorted(range(len(edges)), key=spans.__getitem__):
        start, end = edges[number]
        most -= max(spans[number] - 1, 0)
        if most < 0:
            break
        between = (f"\0{number}/{rank}" for rank in range(ranks[start] + 1, ranks[end]))
        chains[number] = [start, *between, end]
    return chains


def _order(rows: list[list[str]], above: Mapping[str, list[str]], below: Mapping[str, list[str]]) -> None:
    """Sort every rank by the mean place of the neighbours, down and up in turn."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        walk = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for rank in walk:
            fixed = {name: place for place, name in enumerate(rows[rank - 1 if down else rank + 1])}
            own = {name: place for place, name in enumerate(rows[rank])}

            def key(name: str, fixed: dict[str, int] = fixed, own: dict[str, int] = own) -> float:
                seen = [fixed[other] for other in near[name] if other in fixed]  # noqa: B023
                return sum(seen) / len(seen) if seen else own[name]

            rows[rank].sort(key=key)


def _places(
    rows: Sequence[Sequence[str]],
    breadths: Mapping[str, float],
    above: Mapping[str, list[str]],
    below: Mapping[str, list[str]],
) -> dict[str, float]:
    """The middles of all nodes across the ranks."""
    places: dict[str, float] = {}
    for row in rows:
        wanted = [0.0] * len(row)
        for name, place in zip(row, _apart(row, wanted, breadths), strict=True):
            places[name] = place
    for sweep in range(2 * SWEEPS):
        near = (above, below)[sweep % 2]
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean([places[one] for one in near[name]], places[name]) for name in row]
            for name, place in zip(row, _apart(row, wanted, breadths), strict=True):
                places[name] = place
    return places


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _apart(row: Sequence[str], wanted: Sequence[float], breadths: Mapping[str, float]) -> list[float]:
    """Places as near as can be to those that are wanted, in order and without overlaps (least squares, by pooling)."""
    offsets, so_far = [], 0.0
    for number, name in enumerate(row):
        if number:
            so_far += (breadths[row[number - 1]] + breadths[name]) / 2 + BESIDE
        offsets.append(so_far)
    pools: list[tuple[float, int]] = []  # sum and count of (wanted - offset), which must not fall along the row
    for place, offset in zip(wanted, offsets, strict=True):
        total, count = place - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before = pools.pop()
            total, count = total + before[0], count + before[1]
        pools.append((total, count))
    shifts = [total / count for total, count in pools for _ in range(count)]
    return [shift + offset for shift, offset in zip(shifts, offsets, strict=True)]


def _measured(
    sizes: Mapping[str, Point],
    rows: Sequence[Sequence[str]],
    places: Mapping[str, float],
    chains: Sequence[Sequence[str]],
    forward: Sequence[bool],
) -> Layout:
    """Boxes and ways in units, from 0."""
    left = min((places[name] - sizes.get(name, (WAY, 0))[0] / 2 for row in rows for name in row), default=0.0)
    right = max((places[name] + sizes.get(name, (WAY, 0))[0] / 2 for row in rows for name in row), default=0.0)
    boxes, spans, along = {}, {}, 0.0
    for row in rows:
        length = max(sizes[name][1] for name in row if name in sizes)
        for name in row:
            spans[name] = (along, along + length)
            if name in sizes:
                start = along + (length - sizes[name][1]) / 2
                boxes[name] = Box(places[name] - left, start, *sizes[name])
        along += length + BETWEEN
    ways = []
    for chain, in_order in zip(chains, forward, strict=True):
        first, last = boxes[chain[0]], boxes[chain[-1]]
        points = [(first.across, first.along + first.length)]
        for name in chain[1:-1]:
            points += [(places[name] - left, spans[name][0]), (places[name] - left, spans[name][1])]
        points.append((last.across, last.along))
        ways.append(tuple(points if in_order else reversed(points)))
    return Layout(boxes, tuple(ways), right - left, max(along - BETWEEN, 0.0))
