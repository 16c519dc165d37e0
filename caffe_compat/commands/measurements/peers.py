"""The nets of the benchmarks, written by hand in torch."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import RoIPool

from caffe_compat.net import Net

__all__ = ["AlexNetDetector", "alexnet_features", "caffenet", "copy_weights", "vgg16"]


def _lrn() -> nn.Module:
    return nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)


def alexnet_features(pad: int = 0, pool_pad: int = 0) -> nn.Sequential:
    """CaffeNet's convolutions to pool5: pooling before normalisation, groups in conv2, conv4 and conv5."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4, pad), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, pool_pad, ceil_mode=True), _lrn(),
        nn.Conv2d(96, 256, 5, 1, 2, groups=2), nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, pool_pad, ceil_mode=True), _lrn(),
        nn.Conv2d(256, 384, 3, 1, 1), nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, 1, 1, groups=2), nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, 1, 1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True),
    )  # fmt: skip


def caffenet() -> nn.Sequential:
    """CaffeNet with softmax, for 3 x 227 x 227 images."""
    return nn.Sequential(
        *alexnet_features(), nn.Flatten(),
        nn.Linear(9216, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, 1000), nn.Softmax(1),
    ).eval()  # fmt: skip


def vgg16() -> nn.Sequential:
    """VGG16 with softmax, for 3 x 224 x 224 images."""
    layers: list[nn.Module] = []
    channels = 3
    for width, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
    return nn.Sequential(
        *layers, nn.Flatten(),
        nn.Linear(25088, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, 1000), nn.Softmax(1),
    ).eval()  # fmt: skip


class AlexNetDetector(nn.Module):
    """AlexNet with region pooling, conv1 padded by 7."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.features = alexnet_features(7)[:-1]
        self.pool = RoIPool((6, 6), 1 / 16)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(9216, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        )  # fmt: skip
        self.scores, self.boxes = nn.Linear(4096, labels), nn.Linear(4096, 4 * labels)

    def forward(self, data: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and deltas of regions."""
        found = self.head(self.pool(self.features(data), rois))
        return self.scores(found), self.boxes(found)


def copy_weights(net: Net, peer: nn.Module, prefix: str = "") -> None:
    """Give ``peer`` the weights of the net's learnable layers (those whose name starts with ``prefix``), in order."""
    sources: list[Tensor] = [blob for node in net.nodes if node.name.startswith(prefix) for blob in node.layer.blobs]
    for target, source in zip(peer.parameters(), sources, strict=False):
        target.data.copy_(source.detach().view(target.shape))
