"""Where numbers stopped being finite: the first layer that made an infinity or a NaN, forward or backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from caffe_compat.errors import SolverError
from caffe_compat.net import BlobNet, Learnable
from caffe_compat.net.plan import Node

__all__ = ["by_norms", "check_hope", "check_loss", "check_weights"]


def check_loss(engine: BlobNet, loss: float, iteration: int, backward: Callable[[], str] | None = None) -> None:
    """Refuse a loss that is not finite.

    Args:
        engine: after the forward pass that gave the loss.
        loss: of that pass.
        iteration: counted from 0.
        backward: says which layer's backward pass first gave a gradient that is not finite, as :func:`by_norms` does;
            by default the blobs are asked, which know until the next backward pass.

    Raises:
        SolverError: naming the first layer whose output is not finite; where its weights are not, the layer that the
            backward pass before had last in hand when its gradients were.
    """
    if math.isfinite(loss):
        return
    start = f"iteration {iteration}: the loss is {loss}"
    for node in engine.net.nodes:
        names = [index for index, blob in enumerate(node.layer.blobs) if not _finite(blob)]
        if names:
            who = _backward(engine) if backward is None else backward()
            raise SolverError(f"{start}: {_weights(node, names[0])} since the update before{who}; {_ADVICE}")
        for blob in node.top_ids:
            if not _finite(engine.blobs[blob].tensor):
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


def by_norms(engine: BlobNet, learnables: Sequence[Learnable], norms: Tensor | None) -> str:
    """The same, of the norms [N] that the gradients of the parameters had at the last update."""
    finite = [] if norms is None else torch.isfinite(norms).tolist()
    bad = {id(one.parameter) for one, good in zip(learnables, finite, strict=False) if not good}
    for node in reversed(engine.net.nodes):
        if any(id(parameter) in bad for parameter in node.layer.blobs):
            return _gave(node)
    return ""


def _gave(node: Node) -> str:
    return f" (backward, layer '{node.name}' ({node.type}) gave the first such gradient)"


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values.detach()).all())
