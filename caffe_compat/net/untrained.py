"""Says once that a net is run although it never got weights."""

from __future__ import annotations

import logging

import torch

from caffe_compat.net.plan import Plan

__all__ = ["Untrained"]

_logger = logging.getLogger(__name__)
_SAMPLES = 8  #: numbers of a blob by which it is seen whether somebody wrote into it


class Untrained:
    """The weights that a new net's fillers drew: a few numbers of each blob.

    Only nets of phase TEST are looked at, since a TRAIN net starts from random weights.  Whatever way weights come (a
    file, ``share_with``, ``load_state_dict``, numbers written into blobs by hand), the numbers differ then.  Fillers
    that mean something (``bilinear``, a constant that the prototxt gives) need no weights; zeros for want of one do.
    """

    def __init__(self, plan: Plan) -> None:
        drawn = [node.layer for node in plan.nodes if node.layer.drawn]
        self._blobs = [
            (layer, index) for layer in drawn for index, blob in enumerate(layer.blobs) if not blob.is_meta
        ]  # on torch's meta device there are no numbers, only shapes
        self._before = self._now()

    def _now(self) -> list[list[float]]:
        found = []
        for layer, index in self._blobs:
            flat = layer.blobs[index].detach().reshape(-1)
            found.append(flat[:: max(1, len(flat) // _SAMPLES)][:_SAMPLES].to(torch.float32).tolist())
        return found

    def tell(self, name: str, source: str) -> None:
        """Warn if nothing has been written into any of the blobs."""
        if self._blobs and self._now() == self._before:
            where = f"{source}: " if source else ""
            _logger.warning(
                f"{where}net '{name}' runs with random weights: none were loaded, its layers have what their fillers "
                "drew, zeros where the prototxt names no filler"
            )
