"""Outputs of nets, printed as Caffe prints them and averaged over test iterations."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffe_compat import log
from caffe_compat.net import BlobNet

__all__ = ["Scores", "loss_weights", "print_outputs"]


def loss_weights(engine: BlobNet) -> dict[int, float]:
    """Loss weights other than 0, by number of the blob."""
    return {
        blob: weight
        for node in engine.net.nodes
        for blob, weight in zip(node.top_ids, node.loss_weights, strict=True)
        if weight
    }


def _print(engine: BlobNet, values: dict[int, np.ndarray], kind: str, source: str) -> None:
    weights = loss_weights(engine)
    number = 0
    for blob, array in values.items():
        name, weight = engine.names[blob], weights.get(blob, 0.0)
        for value in np.ravel(array):
            loss = f" (* {log.number(weight)} = {log.number(weight * value)} loss)" if weight else ""
            log.info(f"    {kind} net output #{number}: {name} = {log.number(value)}{loss}", source)
            number += 1


def _outputs(engine: BlobNet) -> dict[int, np.ndarray]:
    return {blob: engine.blobs[blob].tensor.detach().cpu().numpy() for blob in engine.net.plan.outputs}


def print_outputs(engine: BlobNet, kind: str, source: str) -> None:
    """Log every element of every output of the last forward pass."""
    _print(engine, _outputs(engine), kind, source)


class Scores:
    """Mean of every output element over test iterations.

    Outputs of layers with ``running_metric`` cover the whole test already: of those the last value counts.
    """

    def __init__(self, engine: BlobNet) -> None:
        self.engine = engine
        self.sums: dict[int, np.ndarray] = {}
        self.losses: list[float] = []
        self.running: set[int] = set()
        for node in engine.net.nodes:
            if getattr(node.layer, "running_metric", False):
                node.layer.start_over()  # type: ignore[operator]
                self.running |= set(node.top_ids)

    def add(self, loss: float) -> None:
        """Take the outputs of the last forward pass."""
        self.losses.append(loss)
        for blob, value in _outputs(self.engine).items():
            if blob in self.running or blob not in self.sums:
                self.sums[blob] = value.astype(np.float64)
            else:
                self.sums[blob] = self.sums[blob] + value

    def loss(self) -> float:
        """Mean loss."""
        return sum(self.losses) / max(len(self.losses), 1)

    def means(self) -> dict[int, np.ndarray]:
        """Mean of every output, by number of the blob."""
        count = max(len(self.losses), 1)
        return {blob: total if blob in self.running else total / count for blob, total in self.sums.items()}

    def report(self, kind: str, source: str) -> dict[str, Any]:
        """Log the means; they are returned by output name, scalars as floats."""
        means = self.means()
        _print(self.engine, means, kind, source)
        return {self.engine.names[blob]: float(mean) if np.ndim(mean) == 0 else mean for blob, mean in means.items()}
