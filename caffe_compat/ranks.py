"""Which of several processes this is, by the variables that ``torchrun`` sets: RANK, WORLD_SIZE and LOCAL_RANK.

Nothing here needs torch, and the variables may be set by hand: ``RANK=2 WORLD_SIZE=8 tools/make_hha.py ...`` does the
third of eight parts.  Without them there is one process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

from caffe_compat.errors import CaffeCompatError, UsageError

__all__ = [
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "Ranks",
    "ToldElsewhere",
    "Turns",
    "here",
    "require_alone",
    "told_by_first",
]

RANK, WORLD_SIZE, LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"

T = TypeVar("T")


class ToldElsewhere(SystemExit):
    """Ends this process with status 2 and no message: another process of the group tells what was wrong."""

    def __init__(self) -> None:
        super().__init__(2)


@contextlib.contextmanager
def told_by_first() -> Iterator[None]:
    """Let rank 0 alone tell of errors of the block, which are those of all, such as a wrong word of a command line.

    Raises:
        ToldElsewhere: in the other ranks.
    """
    try:
        yield
    except CaffeCompatError as error:
        if here().is_first:
            raise
        raise ToldElsewhere from error


def require_alone(what: str) -> None:
    """Refuse to do in several processes what writes one set of files.

    Args:
        what: the command.

    Raises:
        UsageError: torchrun has started several; in rank 0.
        ToldElsewhere: in the others.
    """
    with told_by_first():
        if here().several:
            raise UsageError(f"{what} is the work of one process, start it without torchrun; train_net is that of many")


@dataclass(frozen=True)
class Turns:
    """Which batches of a list are a process's, where several take turns: every ``world``-th, from ``rank`` on.

    Args:
        rank, world: as of :class:`Ranks`.
        session: batches after which rank 0 begins again, as in a test of so many; 0: it never does.
    """

    rank: int = 0
    world: int = 1
    session: int = 0

    def own(self) -> int:
        """How many batches of a session are this process's."""
        return len(range(self.rank, self.session, self.world))

    def batch(self, place: int) -> int:
        """The number, among all batches, of the one that is this process's number ``place``, both counted from 0."""
        if not self.session:
            return place * self.world + self.rank
        session, within = divmod(place, max(self.own(), 1))
        return session * self.session + within * self.world + self.rank


@dataclass(frozen=True)
class Ranks:
    """One of ``world`` processes that do a thing together.

    Args:
        rank: which, counted from 0 over all machines.
        world: how many there are.
        local: which of this machine's, counted from 0: the number of its GPU.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes what there is once, and that tells the user."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.world > 1

    @overload
    def share(self, items: int) -> range: ...
    @overload
    def share(self, items: Sequence[T]) -> list[T]: ...

    def share(self, items: int | Sequence[T]) -> range | list[T]:
        """The items that are this process's: number i where i modulo ``world`` is ``rank``.

        Every item is in one share alone, shares differ by one item at most, and a share keeps the order.

        Args:
            items: a sequence, or a number n for 0 to n - 1.
        """
        if isinstance(items, int):
            return range(self.rank, items, self.world)
        return list(items[self.rank :: self.world])

    def of(self, items: Sequence[T]) -> Iterator[tuple[int, T]]:
        """The same items with their numbers in the whole sequence."""
        return ((number, items[number]) for number in self.share(len(items)))

    def turns(self, session: int = 0) -> Turns:
        """This process's part of batches that all take turns at."""
        return Turns(self.rank, self.world, session)

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.world}"


def here(environment: Mapping[str, str] | None = None) -> Ranks:
    """Which process this is.

    Args:
        environment: the variables; by default those of this process.  Without LOCAL_RANK all are on one machine.

    Raises:
        UsageError: RANK without WORLD_SIZE or the other way round, no whole numbers, or a rank that is not below
            WORLD_SIZE.
    """
    given = os.environ if environment is None else environment
    rank, world = given.get(RANK, ""), given.get(WORLD_SIZE, "")
    if not rank and not world:
        return Ranks()
    if not rank or not world:
        there, lacks = (RANK, WORLD_SIZE) if rank else (WORLD_SIZE, RANK)
        raise UsageError(
            f"the environment has {there}={rank or world} and no {lacks}; torchrun sets both, for one process neither "
            "is needed"
        )
    count = _number(WORLD_SIZE, world, None)
    own = _number(RANK, rank, count)
    return Ranks(own, count, _number(LOCAL_RANK, given.get(LOCAL_RANK, "") or rank, count))


def _number(name: str, text: str, below: int | None) -> int:
    """The value of a variable: of WORLD_SIZE from 1, of the others from 0 and below it."""
    least = 1 if below is None else 0
    expected = "a whole number from 1" if below is None else f"0 to {below - 1}, as {WORLD_SIZE} is {below}"
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise UsageError(f"the environment has {name}={text}, expected {expected}")
    value = int(text)
    if value < least or (below is not None and value >= below):
        raise UsageError(f"the environment has {name}={text}, expected {expected}")
    return value
