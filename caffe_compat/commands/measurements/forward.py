"""Forward passes: a net as it is, optimized and compiled, against torch's eager nets written by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torchvision
from torch import nn

from caffe_compat.commands.measurements import peers
from caffe_compat.commands.measurements.timing import alternate
from caffe_compat.compare import difference
from caffe_compat.net import Net, load_net
from caffe_compat.net.fast import compile_net, optimize
from caffe_compat.resources import prototxt

__all__ = ["compile", "forward"]

Row = tuple[str, float, float, float, str]


@dataclass(frozen=True)
class _Case:
    """A net and its peer.

    Attributes:
        plain, fast: what the ratios are to be.
        same: whether the peer takes the net's weights in their order, so that numbers are compared too.
    """

    label: str
    prototxt: str
    peer: Callable[[], nn.Module]
    shape: tuple[int, ...]
    plain: str
    fast: str
    same: bool = True


_CASES = (
    _Case("CaffeNet", "caffenet/deploy", peers.caffenet, (10, 3, 227, 227), "<= 1.05", "<= 0.75"),
    _Case("VGG16", "vgg16/deploy", peers.vgg16, (1, 3, 224, 224), "<= 1.05", "<= 0.95"),
    _Case("SqueezeNet", "squeezenet/deploy_torchvision", lambda: torchvision.models.squeezenet1_0().eval(),
          (8, 3, 224, 224), "<= 1.05", "<= 0.75", False),
    _Case("ResNet-50", "resnet50/deploy", lambda: torchvision.models.resnet50().eval(), (4, 3, 224, 224), "",
          "<= 0.75", False),
)  # fmt: skip


def forward(rounds: int) -> Iterator[Row]:
    """Nets against the same nets written by hand, in the processor's time."""
    for case in _CASES:
        net, fast, peer = _net(case), _net(case), case.peer()
        fast.share_with(net)
        optimize(fast)
        if case.same:
            peers.copy_weights(net, peer)
        data = torch.randn(case.shape) * 50
        told = f"{case.label}, {' x '.join(map(str, case.shape))}"
        with torch.inference_mode():
            (found,), (quick,) = net(data=data).values(), fast(data=data).values()
            near = difference(quick.numpy(), found.numpy()).absolute / max(float(found.abs().max()), 1e-30)
            if case.same:
                told += f" (max difference {difference(found.numpy(), peer(data).numpy()).absolute:.1g})"
            theirs = partial(peer, data)
            yield told, *alternate(partial(net, data=data), theirs, rounds, time.process_time), case.plain
            told = f"{case.label} optimized (off by {near:.1g} of the largest)"
            yield told, *alternate(partial(fast, data=data), theirs, rounds, time.process_time), case.fast


def compile(rounds: int) -> Iterator[Row]:  # noqa: A001 - the name of the benchmark
    """Compiled nets against themselves as they are, in the processor's time."""
    for case in _CASES:
        net = _net(case)
        compiled = _net(case)
        compiled.share_with(net)
        compile_net(compiled)
        data = torch.randn(case.shape) * 50
        with torch.no_grad():
            times = alternate(partial(compiled, data=data), partial(net, data=data), rounds, time.process_time)
        yield f"{case.label} compiled, against the net as it is", *times, "<= 1.00"


def _net(case: _Case) -> Net:
    """The net with statistics as new nets of torch have them."""
    net = load_net(prototxt(f"{case.prototxt}.prototxt"))
    with torch.no_grad():
        for node in net.nodes:
            for blob in node.layer.blobs[1:] if node.layer.gathers else ():
                blob.fill_(1)
    return net
