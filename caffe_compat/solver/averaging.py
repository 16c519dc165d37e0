"""Gradients averaged over processes, each of which has run batches of its own, as Caffe's P2PSync and NCCL do.

Source: BVLC Caffe 1.0, ``parallel.cpp``: the gradients of all solvers are added up and multiplied by 1 over their
number, before they are clipped and weight decay is added; then every solver makes the same update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from caffe_compat.distributed.group import Group
from caffe_compat.net import BlobNet
from caffe_compat.net.observers import Observer
from caffe_compat.net.plan import Plan

__all__ = ["Averaging"]

BUCKET = 25 << 20
"""Bytes of gradients that are sent at a time; a larger gradient goes alone."""


@dataclass
class _Bucket:
    """Gradients that lie side by side in one buffer.

    Attributes:
        ready: number of the layer after whose backward pass all of them are there.
        views: each parameter's part of the buffer.
        wait: waits for the sum, once it was started.
    """

    flat: Tensor
    ready: int
    parameters: list[nn.Parameter]
    views: list[Tensor] = field(default_factory=list)
    wait: Callable[[], None] | None = None


class Averaging(Observer):
    """Averages the gradients of a net over a group, a bucket at a time while the backward pass goes on.

    The gradients of a bucket lie side by side in memory, so that nothing is copied; a gradient that somebody put
    elsewhere is copied in.

    Args:
        engine: that runs the net; its backward pass is looked on at.
        group: the processes, whose nets are alike.
    """

    def __init__(self, engine: BlobNet, group: Group) -> None:
        self._group, self._armed = group, False
        self._buckets = list(_buckets(engine.net.plan))
        self._by_layer: dict[int, list[_Bucket]] = {}
        for bucket in self._buckets:
            self._by_layer.setdefault(bucket.ready, []).append(bucket)
        engine.observers.append(self)

    def arm(self) -> None:
        """Say that the backward pass that comes next is the last of the iteration."""
        self._armed = True

    def after_backward(self, number: int) -> None:
        """Send the buckets that are complete now."""
        if self._armed:
            for bucket in self._by_layer.get(number, ()):
                self._start(bucket)

    def finish(self) -> None:
        """Wait until every gradient is the mean over all processes."""
        for bucket in self._buckets:
            if bucket.wait is None:
                self._start(bucket)
        for bucket in self._buckets:
            if bucket.wait is not None:
                bucket.wait()
            bucket.wait = None
        with torch.no_grad():
            torch._foreach_mul_([bucket.flat for bucket in self._buckets], 1.0 / self._group.ranks.world)
        self._armed = False

    def _start(self, bucket: _Bucket) -> None:
        """Begin to add up a bucket over the processes."""
        with torch.no_grad():
            for parameter, view in zip(bucket.parameters, bucket.views, strict=True):
                gradient = parameter.grad
                if gradient is view:
                    continue
                if gradient is None:
                    view.zero_()
                else:
                    view.copy_(gradient)
                parameter.grad = view
        bucket.wait = self._group.start_sum(bucket.flat)


def _buckets(plan: Plan) -> Iterator[_Bucket]:
    """Parameters that some backward pass makes a gradient for, those of the last layers first."""
    first: dict[int, int] = {}
    parameters: dict[int, nn.Parameter] = {}
    for number in reversed(range(len(plan.nodes))):
        node = plan.nodes[number]
        for parameter, wanted in zip(node.layer.blobs, node.param_grads, strict=True):
            if node.needs_backward and wanted and parameter.requires_grad:
                parameters[id(parameter)] = parameter
                first[id(parameter)] = number  # of layers that share it the backward pass comes to the first last
    order = sorted(parameters.values(), key=lambda parameter: -first[id(parameter)])
    held: list[nn.Parameter] = []
    for parameter in order:
        if held and (_bytes([*held, parameter]) > BUCKET or not _alike(held[0], parameter)):
            yield _bucket(held, first)
            held = []
        held.append(parameter)
    if held:
        yield _bucket(held, first)


def _bucket(parameters: Sequence[nn.Parameter], first: dict[int, int]) -> _Bucket:
    flat = torch.zeros(sum(one.numel() for one in parameters), dtype=parameters[0].dtype, device=parameters[0].device)
    found = _Bucket(flat, min(first[id(one)] for one in parameters), list(parameters))
    start = 0
    for parameter in parameters:
        found.views.append(flat[start : start + parameter.numel()].view(parameter.shape))
        start += parameter.numel()
    return found


def _bytes(parameters: Sequence[nn.Parameter]) -> int:
    return sum(one.numel() * one.element_size() for one in parameters)


def _alike(one: nn.Parameter, other: nn.Parameter) -> bool:
    return one.dtype == other.dtype and one.device == other.device
