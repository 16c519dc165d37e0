"""Which layer of ours is which part of a net of torchvision or timm; plain data."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from caffe_compat.errors import UsageError, nearest
from caffe_compat.foreign.spec import Normalization

__all__ = ["ARCHITECTURES", "Architecture", "Part", "find_architecture"]

WEIGHTS, STATISTICS, AFFINE, NOTHING = "weights", "statistics", "affine", ""

HALVES = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""What the first layer of torchvision's GoogLeNet sees: its published weights are from TensorFlow."""


@dataclass(frozen=True)
class Part:
    """One layer of ours and what it is over there.

    Attributes:
        layer: its name in the prototxt.
        node: the graph node that computes the same; its module holds the weights.
        blobs: what the layer's blobs are of that module: ``weights`` (and biases), ``statistics`` (running mean and
            variance, and a factor of 1), ``affine`` (weights and biases of a normalization), or nothing.
        same: whether the layer computes what the node does.  Our BatchNorm and Scale are one module over there, of
            which the Scale gives the result.
        module: what holds the weights, where the node has another name.
    """

    layer: str
    node: str
    blobs: str = NOTHING
    same: bool = True
    module: str = ""

    @property
    def holder(self) -> str:
        """The module whose tensors the layer's blobs are."""
        return self.module or self.node


@dataclass(frozen=True)
class Architecture:
    """A net that both have.

    Attributes:
        prototxt: its deploy file below ``prototxt/``.
        parts: layers of ours, in order.
        first: the layer that takes the pictures.
        takes: what that layer sees, where the net over there changes what it is given before (``transform_input``).
    """

    prototxt: str
    parts: tuple[Part, ...]
    first: str
    takes: Normalization | None = None

    @property
    def nodes(self) -> tuple[str, ...]:
        """The graph nodes that some layer computes too."""
        return tuple(dict.fromkeys(part.node for part in self.parts if part.same))

    def check_layers(self, layers: Collection[str], path: str) -> None:
        """Refuse a prototxt that lacks a layer.

        Raises:
            UsageError: the first that it lacks.
        """
        for part in self.parts:
            if part.layer not in layers:
                raise UsageError(
                    f"{path} has no layer '{part.layer}'{nearest(part.layer, layers)}, as {self.prototxt} has"
                )


def _vgg16(head: tuple[tuple[str, str], ...]) -> Iterator[Part]:
    """torchvision's and timm's differ in how they name the part after pool5."""
    at = 0
    for block, depth in enumerate((2, 2, 3, 3, 3), 1):
        for number in range(1, depth + 1):
            yield Part(f"conv{block}_{number}", f"features.{at}", WEIGHTS)
            yield Part(f"relu{block}_{number}", f"features.{at + 1}")
            at += 2
        yield Part(f"pool{block}", f"features.{at}")
        at += 1
    for layer, node in head:
        yield Part(layer, node, WEIGHTS if layer.startswith("fc") else NOTHING)


def _squeezenet() -> Iterator[Part]:
    yield Part("conv1", "features.0", WEIGHTS)
    yield Part("relu_conv1", "features.1")
    yield Part("pool1", "features.2")
    fires = {3: 2, 4: 3, 5: 4, 7: 5, 8: 6, 9: 7, 10: 8, 12: 9}
    pools = {6: "pool4", 11: "pool8"}
    pieces = (("squeeze", "conv1x1_1"), ("expand1x1", "conv1x1_2"), ("expand3x3", "conv3x3_2"))
    for at in range(3, 13):
        if at in pools:
            yield Part(pools[at], f"features.{at}")
            continue
        for theirs, ours in pieces:
            yield Part(f"fire{fires[at]}/{ours}", f"features.{at}.{theirs}", WEIGHTS)
            yield Part(f"fire{fires[at]}/relu_{ours}", f"features.{at}.{theirs}_activation")
        yield Part(f"fire{fires[at]}/concat", f"features.{at}.cat")
    yield Part("conv_final", "classifier.1", WEIGHTS)
    yield Part("relu_conv_final", "classifier.2")
    yield Part("pool_final", "classifier.3")


def _normalized(conv: str, norms: tuple[str, str], theirs: tuple[str, str]) -> Iterator[Part]:
    """A convolution without biases, our BatchNorm and Scale, and their normalization."""
    yield Part(conv, theirs[0], WEIGHTS)
    yield Part(norms[0], theirs[1], STATISTICS, same=False)
    yield Part(norms[1], theirs[1], AFFINE)


def _resnet50(rectifiers: tuple[str, str, str], first: str, pooled: str) -> Iterator[Part]:
    """torchvision has one ReLU a block, used three times; timm has three."""
    yield from _normalized("conv1", ("bn_conv1", "scale_conv1"), ("conv1", "bn1"))
    yield Part("conv1_relu", first)
    yield Part("pool1", "maxpool")
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            ours, theirs = f"{stage + 1}{chr(ord('a') + block)}", f"layer{stage}.{block}"
            if block == 0:
                names = (f"bn{ours}_branch1", f"scale{ours}_branch1")
                downsample = (f"{theirs}.downsample.0", f"{theirs}.downsample.1")
                yield from _normalized(f"res{ours}_branch1", names, downsample)
            for number, letter in enumerate("abc", 1):
                names = (f"bn{ours}_branch2{letter}", f"scale{ours}_branch2{letter}")
                yield from _normalized(
                    f"res{ours}_branch2{letter}", names, (f"{theirs}.conv{number}", f"{theirs}.bn{number}")
                )
                if letter != "c":
                    yield Part(f"res{ours}_branch2{letter}_relu", f"{theirs}.{rectifiers[number - 1]}")
            yield Part(f"res{ours}", f"{theirs}.add")
            yield Part(f"res{ours}_relu", f"{theirs}.{rectifiers[2]}")
    if pooled:
        yield Part("pool5", pooled)
    yield Part("fc1000", "fc", WEIGHTS)


def _basic(ours: str, theirs: str) -> Iterator[Part]:
    yield from _normalized(ours, (f"{ours}/bn", f"{ours}/scale"), (f"{theirs}.conv", f"{theirs}.bn"))
    yield Part(f"{ours}/relu", f"{theirs}.relu")


def _googlenet() -> Iterator[Part]:
    yield from _basic("conv1/7x7_s2", "conv1")
    yield Part("pool1/3x3_s2", "maxpool1")
    yield from _basic("conv2/3x3_reduce", "conv2")
    yield from _basic("conv2/3x3", "conv3")
    yield Part("pool2/3x3_s2", "maxpool2")
    pieces = (
        ("1x1", "branch1"), ("3x3_reduce", "branch2.0"), ("3x3", "branch2.1"),
        ("3x3_second_reduce", "branch3.0"), ("3x3_second", "branch3.1"), ("pool_proj", "branch4.1"),
    )  # fmt: skip
    pools = {"4a": ("pool3/3x3_s2", "maxpool3"), "5a": ("pool4/2x2_s2", "maxpool4")}
    for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        if name in pools:
            yield Part(*pools[name])
        for ours, theirs in pieces:
            if ours == "pool_proj":
                yield Part(f"inception_{name}/pool", f"inception{name}.branch4.0")
            yield from _basic(f"inception_{name}/{ours}", f"inception{name}.{theirs}")
        yield Part(f"inception_{name}/output", f"inception{name}.cat")
    yield Part("pool5", "avgpool")
    yield Part("loss3/classifier", "fc", WEIGHTS)


def _mobilenet() -> Iterator[Part]:
    """timm's normalizations hold their activation."""

    def step(ours: str, rectifier: str, conv: str, norm: str) -> Iterator[Part]:
        yield Part(ours, conv, WEIGHTS)
        yield Part(f"{ours}/bn", norm, STATISTICS, same=False)
        yield Part(f"{ours}/scale", f"{norm}.batch_norm", AFFINE, module=norm)
        yield Part(rectifier, f"{norm}.act")

    yield from step("conv1", "relu1", "conv_stem", "bn1")
    depths = {2: 2, 3: 2, 4: 2, 5: 6, 6: 1}
    names = [f"{at}_{n}" if depth > 1 else f"{at}" for at, depth in depths.items() for n in range(1, depth + 1)]
    theirs = [f"blocks.{stage}.{n}" for stage, depth in enumerate((1, 2, 2, 6, 2)) for n in range(depth)]
    for name, block in zip(names, theirs, strict=True):
        yield from step(f"conv{name}/dw", f"relu{name}/dw", f"{block}.conv_dw", f"{block}.bn1")
        yield from step(f"conv{name}/sep", f"relu{name}/sep", f"{block}.conv_pw", f"{block}.bn2")
    yield Part("pool6", "global_pool.pool")
    yield Part("fc7", "classifier", WEIGHTS)


_VGG_TORCHVISION = (
    ("fc6", "classifier.0"), ("relu6", "classifier.1"), ("fc7", "classifier.3"), ("relu7", "classifier.4"),
    ("fc8", "classifier.6"),
)  # fmt: skip
_VGG_TIMM = (
    ("fc6", "pre_logits.fc1"), ("relu6", "pre_logits.act1"), ("fc7", "pre_logits.fc2"), ("relu7", "pre_logits.act2"),
    ("fc8", "head.fc"),
)  # fmt: skip

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "torchvision:vgg16": Architecture("vgg16/deploy.prototxt", tuple(_vgg16(_VGG_TORCHVISION)), "conv1_1"),
        "timm:vgg16": Architecture("vgg16/deploy.prototxt", tuple(_vgg16(_VGG_TIMM)), "conv1_1"),
        "torchvision:squeezenet1_0": Architecture(
            "squeezenet/deploy_torchvision.prototxt", tuple(_squeezenet()), "conv1"
        ),
        "torchvision:resnet50": Architecture(
            "resnet50/deploy.prototxt", tuple(_resnet50(("relu", "relu_1", "relu_2"), "relu", "avgpool")), "conv1"
        ),
        "timm:resnet50": Architecture(
            "resnet50/deploy.prototxt", tuple(_resnet50(("act1", "act2", "act3"), "act1", "")), "conv1"
        ),
        "timm:mobilenetv1_100": Architecture("mobilenet/deploy_timm.prototxt", tuple(_mobilenet()), "conv1"),
        "torchvision:googlenet": Architecture(
            "googlenet_bn/deploy.prototxt", tuple(_googlenet()), "conv1/7x7_s2", HALVES
        ),
    }
)
"""By the name of the net over there."""


def find_architecture(source: str) -> Architecture:
    """The architecture of ``torchvision:NAME`` or ``timm:NAME``; of timm's names the part after the dot is the weights.

    Raises:
        UsageError: none of our nets is that one.
    """
    name = source.partition(".")[0]
    if name not in ARCHITECTURES:
        raise UsageError(
            f"no prototxt here is '{source}'{nearest(name, ARCHITECTURES)}: expected {', '.join(ARCHITECTURES)} (any "
            "other net can be a teacher as it is: make_transfer --teacher)"
        )
    return ARCHITECTURES[name]
