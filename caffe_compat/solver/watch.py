"""Looks at every iteration whether numbers are finite; on a GPU without waiting for it.

There the loss of each pass is judged on the GPU itself.  At the first that is not finite the GPU notes the iteration,
and of every blob and parameter whether its numbers are finite, as well as of the gradients of the update before; that
costs one reading of the blobs a pass.  The note is sent here while training goes on, and looked at as soon as it has
arrived, some iterations later; a display, a test, a snapshot and the end wait for it.  So the message names the
iteration and the layer that it would have named at once, and no snapshot of later weights is written.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_compat.net import BlobNet, Learnable
from caffe_compat.solver.finite import Found, by_gradients, check_loss, refuse
from caffe_compat.solver.later import Later, runs_ahead

__all__ = ["Watch"]


class Watch:
    """Watches one solver's training net.

    Args:
        engine: that runs it.
    """

    def __init__(self, engine: BlobNet) -> None:
        self._engine = engine
        self._keys = sorted({blob for node in engine.net.nodes for blob in node.top_ids})
        self.forget()

    def forget(self) -> None:
        """Begin anew, with other weights or on another device."""
        self._first: Tensor | None = None  # number of the first such iteration and its loss, or -1
        self._good: list[Tensor] = []  # what was finite then: blobs, parameters, norms of gradients
        self._moved: Sequence[Learnable] = ()
        self._coming: Later | None = None

    def look(self, loss: Tensor | float, iteration: int, moved: Sequence[Learnable], norms: Tensor | None) -> None:
        """Judge a forward pass, before anything else is done to its blobs.

        Args:
            iteration: counted from 0.
            moved, norms: parameters that the update before has moved, and the norms [N] of their gradients, if known.

        Raises:
            SolverError: the loss is not finite, where that is known at once.
        """
        if not isinstance(loss, Tensor) or not runs_ahead(loss.device):
            check_loss(self._engine, float(loss), iteration)
            return
        self._note(loss.detach(), iteration, moved, norms)
        self.tell(wait=False)

    @torch.no_grad()
    def _note(self, loss: Tensor, iteration: int, moved: Sequence[Learnable], norms: Tensor | None) -> None:
        blobs = [self._engine.blobs[blob].tensor for blob in self._keys]
        good = [_finite(blobs, loss.device), _finite(self._parameters(), loss.device)]
        good.append(torch.isfinite(norms) if norms is not None else good[0].new_zeros(0))
        now = torch.stack([torch.full_like(loss, iteration, dtype=torch.float64), loss.double()])
        if self._first is None:
            self._first, self._good = torch.full_like(now, -1), [torch.ones_like(one) for one in good]
        if self._good[2].shape != good[2].shape:  # others move now, as after the first update
            self._good[2] = torch.ones_like(good[2])
        begins = (self._first[0] < 0) & ~torch.isfinite(loss)
        self._first = torch.where(begins, now, self._first)
        self._good = [torch.where(begins, new, old) for new, old in zip(good, self._good, strict=True)]
        self._moved = moved

    def tell(self, wait: bool) -> None:
        """Look at the note, if it has arrived or with ``wait``.

        Raises:
            SolverError: some iteration's loss was not finite.
        """
        if self._first is None:
            return
        if wait:
            self._coming = Later(*self._first)
        elif self._coming is None:
            self._coming = Later(*self._first)
            return
        if not (wait or self._coming.arrived):
            return
        iteration, loss = self._coming.get()
        self._coming = None
        if iteration >= 0:
            refuse(self._engine, int(iteration), loss, self._found())

    def _found(self) -> Found:
        blobs, parameters, norms = ([bool(one) for one in flags.tolist()] for flags in self._good)
        gradients = {id(one.parameter) for one, good in zip(self._moved, norms, strict=False) if not good}
        return Found(
            blobs={blob for blob, good in zip(self._keys, blobs, strict=True) if not good},
            parameters={id(one) for one, good in zip(self._parameters(), parameters, strict=True) if not good},
            who=by_gradients(self._engine, gradients),
        )

    def _parameters(self) -> list[Tensor]:
        return [parameter for node in self._engine.net.nodes for parameter in node.layer.blobs]


def _finite(values: Sequence[Tensor], device: torch.device) -> Tensor:
    """Of each tensor whether all its numbers are finite, bool [N]; one kernel for all of a type."""
    good: list[Tensor] = [torch.ones((), dtype=torch.bool, device=device)] * len(values)
    if not values:
        return torch.zeros(0, dtype=torch.bool, device=device)
    kinds: dict[torch.dtype, list[int]] = {}
    for index, value in enumerate(values):
        if value.numel():
            kinds.setdefault(value.dtype, []).append(index)
    for indices in kinds.values():
        norms = torch._foreach_norm([values[index] for index in indices], float("inf"))
        for index, norm in zip(indices, torch.isfinite(torch.stack(norms)).unbind(), strict=True):
            good[index] = norm
    return torch.stack(good)
