"""The nets that segment detections, as messages: a grid of classifiers over each box, by maps and by fc7.

Source: ``output/sds`` of the ``sds-distillation`` branch.  Scores of a class are sums over maps of the detector, which
is not trained any more; two of its maps and fc7, or fc7 alone (Table 2 of the paper).  Each modality has a branch of
its own up to its probabilities; of two these are averaged.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import Any

from caffe_compat.detection.backbones import Backbone, Conv, Filler, Fire, Map, Pool
from caffe_compat.detection.nets import Branch, Detector, input_layer, new_layer
from caffe_compat.errors import UsageError, nearest
from caffe_compat.proto import caffe_pb2

__all__ = ["CELLS", "MaskNets", "head_layers", "test_net", "train_net"]

GRID = 5
CELLS = GRID * GRID
"""Classifiers of a class: one at each place of a grid over the box."""
_FILLER = Filler("gaussian", 0.01)


@dataclass(frozen=True)
class MaskNets:
    """What the nets are made from.

    Args:
        backbones: one for each modality, with different prefixes.
        classes: without the background.
        maps: of each backbone; empty: fc7 alone.
        dropout: whether fc6 and fc7 have dropout, in training too.
        hidden: outputs of fc6 and fc7; 0: the backbone's.
        side: pixels of a mask, each way.
        imdb: what is trained on.
        short_side: of pictures in training.
        samples: boxes of a forward pass, all of one image.
    """

    backbones: tuple[Backbone, ...]
    classes: int
    maps: tuple[tuple[Map, ...], ...]
    dropout: bool = True
    hidden: int = 0
    side: int = 50
    imdb: str = ""
    short_side: int = 688
    samples: int = 5

    def __post_init__(self) -> None:
        if len(self.maps) != len(self.backbones):
            raise UsageError(f"maps of {len(self.maps)} nets, expected {len(self.backbones)}")
        strides = sorted({backbone.stride for backbone in self.backbones})
        if len(strides) > 1:
            raise UsageError(f"nets with cells of {strides} pixels: they share their boxes, expected cells of one size")
        for backbone, maps in zip(self.backbones, self.maps, strict=True):
            if backbone.adaptation:
                raise UsageError(f"{backbone.title}: a franken net has no masks; take the student's detector")
            known = list(_blobs(backbone))
            for one in maps:
                if one.blob not in known:
                    raise UsageError(f"no map '{one.blob}'{nearest(one.blob, known)}, expected of {', '.join(known)}")

    @property
    def detector(self) -> Detector:
        """The detector that the nets stand on, without fillers."""
        bare = (replace(one, filled_convs=False, filled_head=False) for one in self.backbones)
        return Detector(tuple(bare), self.classes + 1, freeze="fc7", dropout=self.dropout, hidden=self.hidden)

    @property
    def picture_blobs(self) -> tuple[str, ...]:
        """The inputs of pictures in the test net, in the order of the modalities: ``image``, ``da_image``."""
        return ("image", *(f"{backbone.prefix}image" for backbone in self.backbones[1:]))


def _blobs(backbone: Backbone) -> list[str]:
    """Maps of a backbone, without its prefix."""
    names = []
    for stage in backbone.stages:
        if isinstance(stage, Conv | Pool):
            names.append(stage.name)
        elif isinstance(stage, Fire):
            names.append(f"{stage.name}/concat")
    return names


def head_layers(nets: MaskNets) -> list[str]:
    """Names of the layers that are trained."""
    return [
        f"{backbone.prefix}{name}"
        for backbone, maps in zip(nets.backbones, nets.maps, strict=True)
        for name in (*(f"conv_{one.blob}" for one in maps), "fcfc7")
    ]


def train_net(nets: MaskNets) -> list[Any]:
    """Layers of the training net of one modality.  Its data layer is the branch's ``HypercolumnDataLayer``.

    Raises:
        UsageError: several modalities, which are trained one by one.
    """
    if len(nets.backbones) != 1:
        raise UsageError("nets of two modalities are trained one by one; both snapshots are given to test_net")
    tops = ["image", "normalizedboxes", "sppboxes", "categids", "labels", "instance_wts"]
    data = new_layer("data", "Python", [], tops)
    data.python_param.module, data.python_param.layer = "lib.sds.hypercolumn_data_layer", "HypercolumnDataLayer"
    data.python_param.param_str = _flags(nets)
    layers, scores = _masks(nets, 0, "image", train=True)
    prefix = nets.backbones[0].prefix
    loss = new_layer(f"{prefix}grid", "LocallyConnectedWithLoss", [scores, *tops[4:]], [f"{prefix}loss"])
    loss.local_layer_param.grid_size = GRID
    loss.local_layer_param.pos_loss_wt = loss.local_layer_param.neg_loss_wt = 1
    loss.loss_weight.append(1)
    return [data, *_silence(nets), *layers, loss]


def test_net(nets: MaskNets) -> list[Any]:
    """Layers of the test net.

    Inputs are ``image`` (and ``da_image``) [1, 3, H, W], ``normalizedboxes`` [N, 6, 1, 1], ``sppboxes`` [N, 5, 1, 1]
    and ``categids`` [N, 1, 1, 1]; the output, probabilities [N, 1, side, side], is ``loss``, of two modalities
    ``fusion_loss``.
    """
    shapes = {"normalizedboxes": 6, "sppboxes": 5, "categids": 1}
    layers = [input_layer(name, (1, 3, 227, 227)) for name in nets.picture_blobs]
    layers += [input_layer(name, (1, count, 1, 1)) for name, count in shapes.items()]
    layers += _silence(nets)
    grids, tops = [], []
    for index, (backbone, picture) in enumerate(zip(nets.backbones, nets.picture_blobs, strict=True)):
        found, scores = _masks(nets, index, picture, train=False)
        layers += found
        tops.append("loss" if len(nets.backbones) == 1 else f"{backbone.prefix}loss")
        grids.append(new_layer(f"{backbone.prefix}grid", "LocallyConnected", [scores], tops[-1:]))
        grids[-1].local_layer_param.grid_size = GRID
    if len(tops) > 1:
        grids.append(new_layer("fusion_loss", "Eltwise", tops, ["fusion_loss"]))
        grids[-1].eltwise_param.operation = caffe_pb2.EltwiseParameter.SUM
        grids[-1].eltwise_param.coeff.extend([1 / len(tops)] * len(tops))
    return [*layers, *grids]


test_net.__test__ = False  # type: ignore[attr-defined]  # pytest is to take this for no test


def _silence(nets: MaskNets) -> list[Any]:
    """Without maps nobody reads the boxes in sides of the image, which are inputs all the same."""
    return [] if any(nets.maps) else [new_layer("silence", "Silence", ["normalizedboxes"], [])]


def _flags(nets: MaskNets) -> str:
    """The command line of the data layer: what is not the branch's default."""
    words = ["--imdb_name", shlex.quote(nets.imdb)] if nets.imdb else []
    if nets.samples != 5:
        words += ["--train_samples_per_img", str(nets.samples)]
    if nets.classes != 19:
        words += ["--num_classes", str(nets.classes)]
    return " ".join([*words, "--max_size", str(nets.short_side)])


def _masks(nets: MaskNets, index: int, picture: str, train: bool) -> tuple[list[Any], str]:
    """One modality up to its scores: its layers, and the blob of [N, 25, side, side]."""
    branch = Branch(nets.detector, nets.detector.backbones[index], train)
    layers = branch.up_to_fc7(picture, "sppboxes", None)
    fc7, maps = layers[-1].top[0], nets.maps[index]
    heads = _Heads(nets, branch, train)
    layers += [layer for one in maps for layer in heads.scale(one)]
    layers += [layer for one in maps for layer in heads.convolution(one)]
    layers.append(heads.product(fc7))
    sums = []
    for one in maps:
        layers.append(heads.crop(one))
        sums += layers[-1].top
    layers += heads.repeat()
    sums += layers[-1].top
    if len(sums) == 1:
        return layers, sums[0]
    layers.append(new_layer(branch.named("sum"), "Sum", sums, [branch.named("sum")]))
    return layers, layers[-1].top[0]


class _Heads:
    """The layers above the detector, of one modality."""

    def __init__(self, nets: MaskNets, branch: Branch, train: bool) -> None:
        self.nets, self.named, self.train = nets, branch.named, train
        self.outputs = CELLS * nets.classes

    def scale(self, one: Map) -> list[Any]:
        layer = new_layer(
            self.named(f"scale_{one.blob}"), "Scale", [self.named(one.blob)], [self.named(f"s{one.blob}")]
        )
        layer.scale_param.scale = one.scale
        return [layer]

    def convolution(self, one: Map) -> list[Any]:
        name = self.named(f"conv_{one.blob}")
        layer = new_layer(name, "Convolution", [self.named(f"s{one.blob}")], [name])
        param = layer.convolution_param
        param.num_output = self.outputs
        param.kernel_size.append(one.kernel)
        if one.kernel > 1:
            param.pad.append(one.kernel // 2)
        self._trains(layer, param, 1.0)
        return [layer]

    def product(self, fc7: str) -> Any:
        """Its rate is a tenth."""
        layer = new_layer(self.named("fcfc7"), "InnerProduct", [fc7], [self.named("fcfc7")])
        layer.inner_product_param.num_output = self.outputs
        self._trains(layer, layer.inner_product_param, 0.1)
        return layer

    def crop(self, one: Map) -> Any:
        name, side = self.named(f"ups_{one.blob}"), self.nets.side
        layer = new_layer(name, "BoxUpsample", [self.named(f"conv_{one.blob}"), "normalizedboxes"], [name])
        layer.box_upsample_param.width = layer.box_upsample_param.height = side
        layer.box_upsample_param.channels = CELLS
        return layer

    def repeat(self) -> list[Any]:
        """The scores of fc7 that belong to a box's class, at each of its pixels."""
        picked = self.named("fcfc7out")
        pick = new_layer(self.named("slice_fc7"), "PickSlice", [self.named("fcfc7"), "categids"], [picked])
        pick.pick_slice_param.channels = CELLS
        tile = new_layer(self.named("repmat"), "RepMat", [picked], [self.named("ups_fc7")])
        tile.repmat_param.rep_n = tile.repmat_param.rep_c = 1
        tile.repmat_param.rep_w = tile.repmat_param.rep_h = self.nets.side
        return [pick, tile]

    def _trains(self, layer: Any, param: Any, rate: float) -> None:
        if not self.train:
            return
        layer.param.add(lr_mult=rate, decay_mult=rate)
        layer.param.add(lr_mult=2 * rate, decay_mult=0)
        param.weight_filler.type, param.weight_filler.std = _FILLER.kind, _FILLER.std
        param.bias_filler.type, param.bias_filler.value = "constant", _FILLER.bias
