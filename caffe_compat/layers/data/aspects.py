"""Orders of pictures by which way they lie."""

from __future__ import annotations

import numpy as np

from caffe_compat.layers.data.source import Order

__all__ = ["ORDERS", "AspectOrder"]

ORDERS = ("random", "random_aspect", "random_mix_aspect")


class AspectOrder(Order):
    """Cascade R-CNN's orders, in which pictures that are higher than wide come apart from wider ones.

    Args:
        high: which of the records are at least as high as wide.
        group: how many of a kind come in turn until one kind ends; 0: all of one, then all of the other.
    """

    def __init__(self, high: np.ndarray, seed: int, group: int) -> None:
        super().__init__(len(high), True, seed)
        self.kinds, self.group, self.own_seed = (high.nonzero()[0], (~high).nonzero()[0]), group, seed

    def epoch(self, epoch: int) -> np.ndarray:
        """All record numbers in the order of that epoch."""
        random = np.random.default_rng((self.own_seed, 0, 0, epoch))
        kinds = [random.permutation(kind) for kind in self.kinds]
        if not random.integers(2):
            kinds.reverse()
        if not self.group:
            return np.concatenate(kinds)
        taken, order = [0, 0], list[int]()
        while all(place < len(kind) for place, kind in zip(taken, kinds, strict=True)):
            kind = len(order) // self.group % 2
            order.append(kinds[kind][taken[kind]])
            taken[kind] += 1
        rest = [kind[place:] for place, kind in zip(taken, kinds, strict=True)]
        return np.concatenate([np.array(order, np.int64), *rest])
