"""Who owns a layer type, field or enum value that BVLC Caffe does not have; see ``forks_data.py`` for the table.

A *dialect* is a family of forks in which a name means one thing (``ssd``, ``segnet``, ...).  Few names have several
meanings; for those a layer's own fields decide, else the dialect that is given, else the one that the rest of the net
speaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from caffe_compat.errors import UsageError
from caffe_compat.proto import forks_data
from caffe_compat.proto.forks_accepted import ACCEPTED

__all__ = ["DIALECTS", "accepted_in", "check_dialect", "guess_dialect", "origin", "owned_by", "owners"]


@dataclass(frozen=True)
class Fork:
    """One fork: its repository, its dialect or ``""``, and its names as ``(message or "type", name)``."""

    repository: str
    dialect: str
    names: set[tuple[str, str]] = field(default_factory=set)


def origin(layer_type: str, dialect: str = "") -> str:
    """Where a layer type comes from: of a dialect's forks the first that has it, else the first of all.

    A meaning that a fork gave to an older name is the fork's: ``dialect`` may be one of whose forks none lists the type
    (``"synopsys"``), or what stands for a repository in :data:`forks_data.PYTHON`, up to a colon.
    """
    branch = dialect.partition(":")[0]
    if branch in _PYTHON:
        return _PYTHON[branch]
    forks = [fork for fork in _FORKS if ("type", layer_type) in fork.names]
    named = [fork.repository for fork in forks if dialect and fork.dialect == dialect]
    others = [fork.repository for fork in (*_ORIGINS, *forks) if ("type", layer_type) in fork.names]
    named += [fork.repository for fork in _ORIGINS if fork.repository == dialect]
    given = [fork.repository for fork in _FORKS if dialect and fork.dialect == dialect]
    found = named or given or others
    return found[0] if found else ""


def _read(table: str) -> list[Fork]:
    forks: list[Fork] = []
    for line in table.replace("\n    ", " ").splitlines():  # four spaces continue a line
        if line.startswith("  "):
            owner, *names = line.split()
            forks[-1].names.update((owner, name) for name in names)
        elif line:
            repository, _, dialect = line.partition(" ")
            forks.append(Fork(repository, dialect))
    return forks


_FORKS = _read(forks_data.FORKS)
_ACCEPTED = {name: fork.repository for fork in _read(ACCEPTED) for name in fork.names}
_ORIGINS = [Fork(f"{fork.repository} {fork.dialect}".strip(), "", fork.names) for fork in _read(forks_data.ORIGINS)]
_PYTHON = dict(line.split() for line in forks_data.PYTHON.strip().splitlines())
_MOST = 3  # owners that a message names

DIALECTS = tuple(dict.fromkeys(fork.dialect for fork in _FORKS if fork.dialect))
"""The dialects, by name."""


def owners(message: str, name: str) -> list[str]:
    """Repositories of the forks with a field or enum value, those first that had it first.

    Args:
        message: ``"type"`` for a layer type, else the message (``"PoolingParameter"``) or ``"Message.Enum"``.
        name: of the type, field or value.
    """
    return [fork.repository for fork in _FORKS if (message, name) in fork.names]


def owned_by(message: str, name: str) -> str:
    """A hint ``" (of weiliu89/caffe and intel/caffe; not supported)"``, or ``""`` if no fork is known to have it."""
    found = owners(message, name)
    if not found:
        return ""
    more = len(found) - _MOST
    listed = [*found[:_MOST], f"{more} more"] if more > 0 else found
    text = " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
    return f" (BVLC Caffe has none; it is of the fork{'s' if len(found) > 1 else ''} {text} and not supported here)"


def check_dialect(dialect: str) -> str:
    """The same dialect; ``""`` lets the net itself decide.

    Raises:
        UsageError: no dialect of that name.
    """
    if dialect and dialect not in DIALECTS:
        raise UsageError(f"dialect is '{dialect}', expected one of {', '.join(DIALECTS)}")
    return dialect


def guess_dialect(net: Any) -> str:
    """The dialect that most names of a ``NetParameter`` come from, ``""`` if there are none or it is a tie.

    A name counts for the dialect that had it first; names of which several dialects mean different things do not.
    """
    votes = Counter(_SPOKEN[key] for key in _names(net) if key in _SPOKEN)
    ranked = votes.most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return ""
    return ranked[0][0]


_AMBIGUOUS = _read(forks_data.AMBIGUOUS)[0].names
_SPOKEN = {
    name: fork.dialect for fork in reversed(_FORKS) for name in fork.names if fork.dialect and name not in _AMBIGUOUS
}


def _names(net: Any) -> Iterator[tuple[str, str]]:
    for layer in net.layer:
        yield "type", layer.type
        for found, value in layer.ListFields():
            yield "LayerParameter", found.name
            if found.message_type is not None and found.has_presence:
                owner = found.message_type.name
                for inner, _ in value.ListFields():
                    yield owner, inner.name


def accepted_in(message: Any) -> Iterator[tuple[Any, str, str]]:
    """Set fields of a net or solver that change no result: the message that has them, their name, their fork."""
    waiting: list[Any] = [message]
    while waiting:
        owner = waiting.pop()
        for found, value in owner.ListFields():
            fork = _ACCEPTED.get((owner.DESCRIPTOR.name, found.name))
            if fork is not None:
                yield owner, found.name, fork
            elif found.message_type is not None and found.name not in _HEAVY:
                waiting.extend(value if not found.has_presence else [value])


_HEAVY: Sequence[str] = ("blobs",)
