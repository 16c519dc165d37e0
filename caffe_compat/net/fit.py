"""Whether weights belong to a net: a file of which no layer fits is the file of another net."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from caffe_compat import log
from caffe_compat.errors import WeightsError
from caffe_compat.net.plan import Plan

__all__ = ["Held", "check_fit", "refuse_foreign", "tell_ignored"]

PathLike = str | os.PathLike[str]
Held = Mapping[str, Collection[int]]
"""By layer name, the numbers of the blobs that a file has."""
SOURCE = "net.cpp:744"


def check_fit(plan: Plan, net_name: str, held: Sequence[tuple[PathLike, Held]], strict: bool = True) -> None:
    """Hold weights files against a net, by the names of the layers that have parameters.

    Weights that fit in part, such as those of a net with another last layer, are told in one line, a warning.

    Args:
        held: each file, and what it has.
        strict: False for what stands in for Caffe's own programs.  They go on without the weights, so that a file of
            which nothing fits is a warning.

    Raises:
        WeightsError: no layer of a file fits, and ``strict``.
    """
    foreign = refuse_foreign(plan, net_name, held, strict)
    if parts := [item for item in held if item[0] not in foreign]:
        _tell_parts(plan, net_name, parts)


def refuse_foreign(
    plan: Plan, net_name: str, held: Sequence[tuple[PathLike, Held]], strict: bool = True
) -> list[PathLike]:
    """The first half of :func:`check_fit`; the files of which no layer fits, each told in a warning.

    Raises:
        WeightsError: there is one, and ``strict``.
    """
    own = {node.name for node in plan.nodes if node.layer.blobs}
    found = []
    for file, layers in held:
        given = _with_blobs(layers)
        if (own or given) and own.isdisjoint(given):
            message = (
                f"{os.fspath(file)}: no layer of this file fits net '{net_name}': the file has "
                f"{_listed(given) or 'no parameters'}, the net has {_listed(sorted(own)) or 'no parameters'}"
            )
            if strict:
                raise WeightsError(f"{message}; is it the file of another net?")
            log.warning(f"{message}; nothing was copied", SOURCE)
            found.append(file)
    return found


def tell_ignored(names: Iterable[str]) -> None:
    """Caffe's line for each layer of a weights file that the net does not have."""
    for name in names:
        log.info(f"Ignoring source layer {name}", SOURCE)


def _tell_parts(plan: Plan, net_name: str, held: Sequence[tuple[PathLike, Held]]) -> None:
    given = dict.fromkeys(name for _, layers in held for name in _with_blobs(layers))
    names = {node.name for node in plan.nodes}
    extra = [name for name in given if name not in names]
    own = dict.fromkeys(node.name for number, node in enumerate(plan.nodes) if _owns_blobs(plan, number))
    missing = [name for name in own if name not in given]
    told = [f"the net has no layer {_listed(extra)}"] * bool(extra)
    told += [f"there are no weights for {_listed(missing)}, which keep what they had"] * bool(missing)
    if told:
        files = ", ".join(os.fspath(file) for file, _ in held)
        count = f"{len(own) - len(missing)} of {len(own)} layers with weights"
        part = " in part" if missing else ""
        log.warning(f"{files}: fits net '{net_name}'{part}, {count}: {'; '.join(told)}", SOURCE)


def _with_blobs(layers: Held) -> list[str]:
    return [name for name, blobs in layers.items() if blobs]


def _owns_blobs(plan: Plan, number: int) -> bool:
    """Whether a layer has parameters that are not another layer's."""
    return any((number, index) not in plan.shared for index in range(len(plan.nodes[number].layer.blobs)))


def _listed(names: Iterable[str], most: int = 6) -> str:
    quoted = [f"'{name}'" for name in names]
    return ", ".join(quoted[:most]) + (f" and {len(quoted) - most} more" if len(quoted) > most else "")
