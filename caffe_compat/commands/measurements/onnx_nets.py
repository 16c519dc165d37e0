"""The nets whose ONNX graphs are measured, each with the same net written by hand in torch and the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import squeezenet1_0

from caffe_compat.commands.measurements import peers
from caffe_compat.description import State, describe_net
from caffe_compat.detection.backbones import find_backbone
from caffe_compat.detection.nets import Detector, test_net
from caffe_compat.errors import UsageError, nearest
from caffe_compat.net import Net, load_net
from caffe_compat.proto import caffe_pb2
from caffe_compat.resources import prototxt

__all__ = ["NETS", "Entry", "detector_net", "entry", "regions"]

LABELS, HEIGHT, WIDTH = 20, 480, 640
RANKS = (("fc6", 1024), ("fc7", 256))
"""What the branch's compressed detectors keep."""


@dataclass(frozen=True)
class Entry:
    """One net.

    Attributes:
        net: ours, TEST phase.
        peer: the same in torch; takes the inputs in order, gives the outputs in order.
        inputs: values for a batch of so many images, by the names of the net's inputs.
        outputs: blobs of the net.
        batches: what is measured unless the user says otherwise.
    """

    name: str
    net: Net
    peer: nn.Module
    inputs: Callable[[int], dict[str, Tensor]]
    outputs: tuple[str, ...]
    batches: tuple[int, ...]


def entry(name: str, rois: int) -> Entry:
    """A net by its name.

    Args:
        rois: regions of an image, for a detector.

    Raises:
        UsageError: none of ``NETS``.
    """
    if name not in NETS:
        raise UsageError(f"no net '{name}' to measure, expected {', '.join(NETS)}{nearest(name, NETS)}")
    return NETS[name](rois)


def _draw(net: Net) -> Net:
    """Weights that keep activations about 1 large, as the drawn pictures are, and biases that no exporter may drop."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 100
            parameter.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    return net


def _pictures(name: str, side: int, batch: int) -> dict[str, Tensor]:
    return {name: torch.randn(batch, 3, side, side)}


def _classifier(name: str, peer: nn.Module, side: int, batches: tuple[int, ...]) -> Entry:
    net = _draw(load_net(prototxt() / name / "deploy.prototxt"))
    peers.copy_weights(net, peer)
    blobs = tuple(net.plan.names[blob] for blob in net.plan.outputs)
    return Entry(name, net, peer.eval(), partial(_pictures, net.input_names[0], side), blobs, batches)


def _squeezenet() -> nn.Module:
    peer = squeezenet1_0()
    last = nn.Conv2d(512, 1000, 1, padding=1)  # the Deep Compression release's padding
    peer.classifier = nn.Sequential(nn.Dropout(), last, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
    found: nn.Module = peer
    return found


class _Probabilities(nn.Module):
    """A detector at test time: class probabilities and box deltas."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, data: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """[R, labels], [R, 4 labels]."""
        scores, deltas = self.net(data, rois)
        return scores.softmax(1), deltas


def detector_net(backbone: str, svd: bool = False) -> Net:
    """A test net with drawn weights; ``svd``: fc6 and fc7 in two factors each."""
    layers = test_net(Detector((find_backbone(backbone),), LABELS, svd=RANKS), svd=svd)
    message: Any = caffe_pb2.NetParameter(name=backbone)
    message.layer.extend(layers)
    return _draw(Net(describe_net(message, State("TEST")), fill=False))


def _detector(rois: int) -> Entry:
    net, peer = detector_net("alexnet_hha"), peers.AlexNetDetector(LABELS)
    peers.copy_weights(net, peer)
    inputs = partial(regions, rois)
    return Entry("detector", net, _Probabilities(peer).eval(), inputs, ("cls_prob", "bbox_pred"), (1,))


def regions(rois: int, batch: int) -> dict[str, Tensor]:
    """Pictures, and regions of 20 to 300 pixels in each."""
    corners = torch.rand(batch * rois, 2) * torch.tensor([WIDTH - 302.0, HEIGHT - 302.0])
    index = torch.arange(batch).repeat_interleave(rois)[:, None].float()
    boxes = torch.cat([index, corners, corners + 20 + torch.rand(batch * rois, 2) * 280], 1)
    return {"data": torch.randn(batch, 3, HEIGHT, WIDTH), "rois": boxes}


NETS: Mapping[str, Callable[[int], Entry]] = {
    "caffenet": lambda rois: _classifier("caffenet", peers.caffenet(), 227, (1, 8, 32)),
    "squeezenet": lambda rois: _classifier("squeezenet", _squeezenet(), 227, (1, 8, 32)),
    "vgg16": lambda rois: _classifier("vgg16", peers.vgg16(), 224, (1, 8)),
    "detector": _detector,
}
