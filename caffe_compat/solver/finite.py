"""Where numbers stopped being finite: the first layer that made an infinity or a NaN, forward or backward."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from caffe_compat.errors import SolverError
from caffe_compat.net import BlobNet
from caffe_compat.net.plan import Node

__all__ = ["Found", "by_gradients", "check_hope", "check_loss", "check_weights", "refuse"]


@dataclass(frozen=True)
class Found:
    """What was not finite after a forward pass.

    Attributes:
        blobs: their numbers.
        parameters: the ``id`` of each.
        who: which layer's backward pass first gave such a gradient, for the message; "" if that is not known.
    """

    blobs: Set[int]
    parameters: Set[int]
    who: str = ""


def check_loss(engine: BlobNet, loss: float, iteration: int) -> None:
    """Refuse a loss that is not finite.

    Args:
        engine: after the forward pass that gave the loss, before the next backward pass.
        loss: of that pass.
        iteration: counted from 0.

    Raises:
        SolverError: as :func:`refuse`.
    """
    if math.isfinite(loss):
        return
    nodes = engine.net.nodes
    blobs = {blob for node in nodes for blob in node.top_ids if not _finite(engine.blobs[blob].tensor)}
    parameters = {id(one) for node in nodes for one in node.layer.blobs if not _finite(one)}
    refuse(engine, iteration, loss, Found(blobs, parameters, _backward(engine)))


def refuse(engine: BlobNet, iteration: int, loss: float, found: Found) -> NoReturn:
    """Say why a loss was not finite.

    Raises:
        SolverError: naming the first layer whose output is not finite; where its weights are not, the layer that the
            backward pass before had last in hand when its gradients were.
    """
    start = f"iteration {iteration}: the loss is {loss}"
    for node in engine.net.nodes:
        names = [index for index, blob in enumerate(node.layer.blobs) if id(blob) in found.parameters]
        if names:
            raise SolverError(f"{start}: {_weights(node, names[0])} since the update before{found.who}; {_ADVICE}")
        for blob in node.top_ids:
            if blob in found.blobs:
                raise SolverError(
                    f"{start}: layer '{node.name}' ({node.type}) made the first number that is not finite, in its top "
                    f"'{engine.names[blob]}'; {_ADVICE}"
                )
    raise SolverError(f"{start}, though no blob holds such a number: the sum of the losses is out of range; {_ADVICE}")


def check_weights(engine: BlobNet, iteration: int) -> None:
    """Refuse weights that are not finite, after the update that made iteration ``iteration``.

    Raises:
        SolverError: naming the layer and its blob.
    """
    for node in engine.net.nodes:
        for index, blob in enumerate(node.layer.blobs):
            if not _finite(blob):
                raise SolverError(
                    f"iteration {iteration}: {_weights(node, index)}{_backward(engine)}; nothing is written; {_ADVICE}"
                )


def check_hope(engine: BlobNet, iteration: int) -> None:
    """Refuse to go on after a test one of whose metrics shows that nothing can be learned any more.

    Raises:
        SolverError: with what the layer says.
    """
    for node in engine.net.nodes:
        if node.layer.hopeless:
            raise SolverError(f"iteration {iteration}: {node.layer.hopeless}; {_ADVICE}")


_ADVICE = "a lower base_lr or clip_gradients may help"


def _weights(node: Node, index: int) -> str:
    return f"blob {index} of layer '{node.name}' ({node.type}) is not finite"


def _backward(engine: BlobNet) -> str:
    """Which layer's backward pass first gave a gradient that is not finite, if the blobs still tell."""
    for node in reversed(engine.net.nodes):
        for blob, wanted in zip(node.bottom_ids, node.bottom_grads, strict=True):
            if wanted and not _finite(engine.blobs[blob].gradient):
                return _gave(node)
    return ""


def by_gradients(engine: BlobNet, bad: Set[int]) -> str:
    """The same, given the ``id`` of the parameters whose gradients were not finite at the last update."""
    for node in reversed(engine.net.nodes):
        if any(id(parameter) in bad for parameter in node.layer.blobs):
            return _gave(node)
    return ""


def _gave(node: Node) -> str:
    return f" (backward, layer '{node.name}' ({node.type}) gave the first such gradient)"


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values.detach()).all())
