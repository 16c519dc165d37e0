"""Which batches of a test a process runs, where several test one net together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from caffe_compat.net.plan import Node
from caffe_compat.ranks import Ranks, Turns

__all__ = ["TestShare"]


@dataclass(frozen=True)
class TestShare:
    """A process's part of a test.

    Args:
        rounds: how often all processes come together, before each at most one batch.
        own: batches of this process, those of the first rounds.
        turns: which batches these are.
        divided: whether other processes have some too; else rank 0 has all.
    """

    __test__ = False  # pytest: no test

    rounds: int
    own: int
    turns: Turns
    divided: bool

    @classmethod
    def of(cls, nodes: Iterable[Node], batches: int, ranks: Ranks) -> TestShare:
        """The part of ``ranks`` in a test of so many batches.

        Undivided stays the test of a net in which a batch depends on those before it, or that has a score over all
        batches that cannot be put together from parts.
        """
        layers = [node.layer for node in nodes]
        if any(layer.carries or (layer.running_metric and not layer.unites) for layer in layers):
            return cls(batches, batches if ranks.is_first else 0, Turns(session=batches), divided=not ranks.several)
        turns = ranks.turns(batches)
        return cls(len(range(0, batches, ranks.world)), turns.own(), turns, divided=True)
