"""The convolutional parts that detectors stand on, as plain data: every kernel and every pad is written here, once.

Sources: BVLC CaffeNet, VGG16 and the student ``ST_vgg_to_alexnet_hha`` as the distillation branch uses them,
SqueezeNet v1.0 with the layer names of the Deep Compression release, and the net of ActionTubes.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, replace

from caffe_compat.errors import UsageError, nearest

__all__ = [
    "BACKBONES",
    "Backbone",
    "Conv",
    "Filler",
    "Fire",
    "Map",
    "Norm",
    "Pool",
    "Stage",
    "Unit",
    "find_backbone",
]


@dataclass(frozen=True)
class Filler:
    """How weights start: ``gaussian`` (with ``std``), ``xavier`` or ``msra``; and what biases start with."""

    kind: str = "gaussian"
    std: float = 0.01
    bias: float = 0.0


@dataclass(frozen=True)
class Conv:
    """A convolution with its ReLU in place.  ``bias``: what biases start with where the backbone has fillers."""

    name: str
    outputs: int
    kernel: int
    stride: int = 1
    pad: int = 0
    group: int = 1
    bias: float = 0.0


@dataclass(frozen=True)
class Pool:
    """Maxima.  Caffe rounds the size of the map up."""

    name: str
    kernel: int
    stride: int
    pad: int = 0


@dataclass(frozen=True)
class Norm:
    """LRN across 5 channels, alpha 1e-4, beta 0.75."""

    name: str


@dataclass(frozen=True)
class Unit:
    """Pixels times a factor, so that activations are about 1 large."""

    name: str
    factor: float


@dataclass(frozen=True)
class Fire:
    """SqueezeNet's module: 1 x 1 to ``squeeze`` channels, then 1 x 1 and 3 x 3 to ``expand`` channels each."""

    name: str
    squeeze: int
    expand: int


Stage = Conv | Pool | Norm | Fire | Unit


@dataclass(frozen=True)
class Map:
    """A map that hypercolumn nets classify pixels by.

    Args:
        blob: its name, without the prefix.
        scale: what it is multiplied by.  The branch's are the inverses of its maps' magnitudes; ours make classifiers
            on maps learn about as fast as those on fc7, whose rate is a tenth.
        kernel: of the classifiers on it.
    """

    blob: str
    scale: float
    kernel: int


@dataclass(frozen=True)
class Backbone:
    """A convolutional part, and the head that belongs to it.

    Args:
        title: for remarks in the files.
        stages: from the image on.  The last one gives the map that regions are pooled from.
        pool: the blob of pooled regions.
        grid: bins of a pooled region, each way.
        hidden: outputs of fc6 and fc7.
        prefix: of all layers and blobs; where it is ``da_`` (the branch's mark of the second modality) outputs are
            ``cls_score_1`` and ``bbox_pred_1``, otherwise ``.._0``.
        conv_filler, fc_filler: where the training net has fillers.
        filled_convs, filled_head: whether it has them without being asked.
        frozen: layers that upstream's COCO recipes do not train.
        scale: factor on what fc6 sees.  1: no such layer.
        adaptation: channels of a 1 x 1 convolution with ReLU between pooled regions and that (a franken net); 0: none.
        stride: pixels from one unit of the map that regions are pooled from to the next.
        maps: what hypercolumn nets use besides fc7.
    """

    title: str
    stages: tuple[Stage, ...]
    pool: str = "pool5"
    grid: int = 6
    hidden: int = 4096
    prefix: str = ""
    conv_filler: Filler = Filler("gaussian", 0.01)
    fc_filler: Filler = Filler("gaussian", 0.005, 1.0)
    filled_convs: bool = False
    filled_head: bool = False
    frozen: tuple[str, ...] = ()
    scale: float = 1.0
    adaptation: int = 0
    stride: int = 16
    maps: tuple[Map, ...] = (Map("pool2", 0.0074, 3), Map("conv4", 0.0909, 1))

    @property
    def index(self) -> int:
        """Number of the modality in the names of the outputs."""
        return int(bool(self.prefix))


def _alexnet(conv1_pad: int, pool_pad: int) -> tuple[Stage, ...]:
    """CaffeNet (pooling before normalisation) up to conv5, where regions are pooled instead of pool5."""
    return (
        Conv("conv1", 96, 11, stride=4, pad=conv1_pad),
        Pool("pool1", 3, 2, pad=pool_pad),
        Norm("norm1"),
        Conv("conv2", 256, 5, pad=2, group=2, bias=1.0),
        Pool("pool2", 3, 2, pad=pool_pad),
        Norm("norm2"),
        Conv("conv3", 384, 3, pad=1),
        Conv("conv4", 384, 3, pad=1, group=2, bias=1.0),
        Conv("conv5", 256, 3, pad=1, group=2, bias=1.0),
    )


def _actiontubes() -> tuple[Stage, ...]:
    """The net of ActionTubes, for colour and for flow, with pads that it does not have: as SqueezeNet's below.

    Without them unit i of conv5 is centred on pixel 16 i + 21.
    """
    return (
        Conv("conv1", 96, 7, stride=2, pad=3),
        Pool("pool1", 3, 2, pad=1),
        Norm("norm1"),
        Conv("conv2", 384, 5, stride=2, pad=2, group=2, bias=1.0),
        Pool("pool2", 3, 2, pad=1),
        Norm("norm2"),
        Conv("conv3", 512, 3, pad=1),
        Conv("conv4", 512, 3, pad=1, group=2, bias=1.0),
        Conv("conv5", 384, 3, pad=1, group=2, bias=1.0),
    )


def _vgg16() -> tuple[Stage, ...]:
    stages: list[Stage] = []
    for block, (count, outputs) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        stages += [Conv(f"conv{block}_{number}", outputs, 3, pad=1) for number in range(1, count + 1)]
        if block < 5:
            stages.append(Pool(f"pool{block}", 2, 2))
    return tuple(stages)


def _squeezenet() -> tuple[Stage, ...]:
    """SqueezeNet v1.0 with pads that its classifier does not have: unit i is centred on pixel 16 i, as in CaffeNet.

    Without them it would be centred on 16 i + 17, more than a cell away from where region pooling looks.  Pads do not
    change what the trained weights are.

    The root mean square of the trained fire9 is about 60.  With that fc6 (18,432 inputs) starts at a class loss of 8.5
    and learns slowly; pooled regions are divided by 64, and the loss starts near the logarithm of the labels.
    """
    return (
        Conv("conv1", 96, 7, stride=2, pad=3),
        Pool("pool1", 3, 2, pad=1),
        Fire("fire2", 16, 64),
        Fire("fire3", 16, 64),
        Fire("fire4", 32, 128),
        Pool("pool4", 3, 2, pad=1),
        Fire("fire5", 32, 128),
        Fire("fire6", 48, 192),
        Fire("fire7", 48, 192),
        Fire("fire8", 64, 256),
        Pool("pool8", 3, 2, pad=1),
        Fire("fire9", 64, 256),
    )


def _small() -> tuple[Stage, ...]:
    """For drawn scenes: CaffeNet's shape at half its stride, and channels by the dozen; ``prototxt/small``."""
    return (
        Unit("unit", 1 / 64),
        Conv("conv1", 16, 5, stride=2, pad=2),
        Pool("pool1", 3, 2, pad=1),
        Conv("conv2", 32, 3, pad=1),
        Pool("pool2", 3, 2, pad=1),
        Conv("conv3", 64, 3, pad=1),
        Conv("conv4", 64, 3, pad=1),
        Conv("conv5", 64, 3, pad=1),
    )


_CAFFENET = Backbone("CaffeNet, conv1 pad 5, pools pad 1", _alexnet(5, 1), frozen=("conv1",))
_ALEXNET_HHA = Backbone(
    "The student of VGG16: AlexNet, conv1 pad 7, pools pad 0",
    _alexnet(7, 0),
    prefix="da_",
    filled_convs=True,
    filled_head=True,
)
_CAFFENET_HHA = replace(
    _CAFFENET, title="The student of CaffeNet, with its pads", prefix="da_", filled_convs=True, filled_head=True
)
_VGG16 = Backbone(
    "VGG16",
    _vgg16(),
    grid=7,
    conv_filler=Filler("msra"),
    frozen=("conv1_1", "conv1_2", "conv2_1", "conv2_2"),
    maps=(Map("pool3", 0.0027, 3), Map("pool4", 0.063, 1)),
)
_ACTIONTUBES = Backbone(
    "The net of ActionTubes, padded so that unit i of its last map is centred on pixel 16 i",
    _actiontubes(),
    filled_convs=True,
    filled_head=True,
    frozen=("conv1",),
)
_SQUEEZENET = Backbone(
    "SqueezeNet v1.0, padded so that unit i of its last map is centred on pixel 16 i",
    _squeezenet(),
    pool="pool9",
    hidden=512,
    conv_filler=Filler("xavier"),
    fc_filler=Filler("xavier"),
    filled_head=True,
    frozen=("conv1",),
    scale=1 / 64,
    maps=(Map("pool4", 0.0006, 3), Map("pool8", 0.003, 1)),
)
_SMALL = Backbone(
    "A small net of CaffeNet's shape, for pictures of about 100 pixels",
    _small(),
    hidden=128,
    conv_filler=Filler("msra"),
    fc_filler=Filler("msra"),
    filled_head=True,
    frozen=("conv1",),
    stride=8,
    maps=(Map("pool2", 0.25, 3), Map("conv4", 0.3, 1)),
)
_SMALL_HHA = replace(_SMALL, title=f"{_SMALL.title}, on the second modality", prefix="da_", filled_convs=True)

BACKBONES = types.MappingProxyType(
    {
        "caffenet": _CAFFENET,
        "alexnet_hha": _ALEXNET_HHA,
        "caffenet_hha": _CAFFENET_HHA,
        "actiontubes": _ACTIONTUBES,
        "actiontubes_flow": replace(_ACTIONTUBES, title=f"{_ACTIONTUBES.title}, on the second modality", prefix="da_"),
        "vgg16": _VGG16,
        "vgg16_hha": replace(
            _VGG16, title="The student of VGG16, a VGG16", prefix="da_", filled_convs=True, filled_head=True
        ),
        "squeezenet": _SQUEEZENET,
        "squeezenet_hha": replace(
            _SQUEEZENET, title=f"{_SQUEEZENET.title}, on the second modality", prefix="da_", filled_convs=True
        ),
        "caffenet_franken": replace(
            _CAFFENET_HHA, title="The student of CaffeNet, and fc6 and above of its teacher", adaptation=256
        ),
        "squeezenet_franken": replace(
            _SQUEEZENET,
            title="A student under SqueezeNet's head",
            prefix="da_",
            filled_convs=True,
            adaptation=512,
        ),
        "small": _SMALL,
        "small_hha": _SMALL_HHA,
        "small_franken": replace(
            _SMALL_HHA, title="The student of the small net, and fc6 and above of its teacher", adaptation=64
        ),
    }
)


def find_backbone(name: str) -> Backbone:
    """A backbone by its name.

    Raises:
        UsageError: there is none of this name; names the nearest.
    """
    if name not in BACKBONES:
        raise UsageError(f"no net '{name}', expected one of {', '.join(BACKBONES)}{nearest(name, BACKBONES)}")
    return BACKBONES[name]
