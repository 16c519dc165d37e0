"""Parameters that updates leave as they are: most of a net of which only a head is trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe_compat.net import Learnable

__all__ = ["Resting"]


class Resting:
    """Tells parameters apart that an update with a rate of 0 may pass over.

    Caffe goes through all of them.  Where the rate is folded into the velocity, the velocity is 0 and no backward pass
    makes a gradient, the step is 0 and the velocity stays 0, so passing over them changes nothing.

    Args:
        folded: whether the rule has the rate in its velocity.

    Attributes:
        moved: the parameters that the last update looked at.
    """

    def __init__(self, folded: bool) -> None:
        self._folded, self._still = folded, dict[int, bool]()
        self.moved: list[Learnable] = []

    def moving(self, learnables: Sequence[Learnable], history: Sequence[Tensor]) -> tuple[list[int], list[Learnable]]:
        """Numbers of the parameters that an update has to look at, and these."""
        found = []
        for index, one in enumerate(learnables):
            if self._folded and not one.lr_mult and one.parameter.grad is None:
                if index not in self._still:
                    self._still[index] = not bool(history[index].any())
                if self._still[index]:
                    continue
            found.append(index)
        self.moved = [learnables[index] for index in found]
        return found, self.moved

    def know(self, history: Sequence[Tensor]) -> None:
        """Look at velocities that were made or restored, while they are on the CPU: a GPU would be waited for."""
        self._still = {index: not bool(velocity.any()) for index, velocity in enumerate(history)}
