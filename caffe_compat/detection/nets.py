"""The nets of a detector as messages: for training, for testing, with one modality or two.

As in the distillation branch every modality has a branch of its own up to its scores and box targets; these are
averaged by two layers that are both named ``sum``, before the softmax.  A net of one modality feeds the same blob
twice to them, so that all nets have outputs of the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from caffe_compat.detection.backbones import Backbone, Conv, Filler, Fire, Pool, Stage, Unit
from caffe_compat.errors import UsageError, nearest
from caffe_compat.proto import caffe_pb2

__all__ = ["FREEZE", "Branch", "Detector", "input_layer", "layers_with_weights", "new_layer", "test_net", "train_net"]

FREEZE = ("none", "conv", "fc7", "coco")
"""What is not trained: nothing; all convolutions (the paper's "ft fc only"); all up to fc7; what upstream's COCO
recipes freeze."""

_HIDDEN = ("fc6", "fc7")


@dataclass(frozen=True)
class Detector:
    """What the nets of one detector are made from.

    Args:
        backbones: one for each modality, with different prefixes.
        labels: classes, the background counted.
        freeze: one of :data:`FREEZE`.
        fillers: whether every layer gets a filler, so that the net can be trained from scratch.
        dropout: whether fc6 and fc7 have dropout.
        loss_weight: of both losses.
        hidden: outputs of fc6 and fc7; 0: the backbone's.
        svd: rank by name, of fully connected layers that the compressed test net has in two factors.
        own_rois: whether the second modality has its own regions, ``rois_1`` (images of another scale).
    """

    backbones: tuple[Backbone, ...]
    labels: int
    freeze: str = "none"
    fillers: bool = False
    dropout: bool = True
    loss_weight: float = 0.5
    hidden: int = 0
    svd: tuple[tuple[str, int], ...] = ()
    own_rois: bool = False

    def __post_init__(self) -> None:
        prefixes = [backbone.prefix for backbone in self.backbones]
        if len(prefixes) != 1 and (len(prefixes) != 2 or prefixes[0] or not prefixes[1]):
            raise UsageError("of two nets the second is expected to be one with the prefix da_ (.._hha), not the first")
        if self.labels < 2:
            raise UsageError(f"{self.labels - 1} classes, expected 1 or more")
        if self.freeze not in FREEZE:
            raise UsageError(f"freeze is '{self.freeze}', expected one of {', '.join(FREEZE)}")
        for name, rank in self.svd:
            if name not in _HIDDEN:
                raise UsageError(f"svd of '{name}', expected one of {', '.join(_HIDDEN)}{nearest(name, _HIDDEN)}")
            for backbone in self.backbones:
                smaller = self.hidden or backbone.hidden
                if not 1 <= rank < smaller:
                    raise UsageError(
                        f"svd of {name} to rank {rank}, expected 1 to {smaller - 1}, less than its outputs"
                    )

    @property
    def bbox_layers(self) -> tuple[str, ...]:
        """``TRAIN.BBOX_PRED_PARAM_NAMES``."""
        return tuple(f"{backbone.prefix}bbox_pred" for backbone in self.backbones)


def train_net(detector: Detector) -> list[Any]:
    """Layers of the training net.  Its data layer is the branch's ``RoIDataLayerPi``."""
    count = len(detector.backbones)
    tops = [_numbered("data", index) for index in range(count)]
    data = new_layer("data", "Python", [], [*tops, "rois", "labels", "bbox_targets", "bbox_loss_weights"])
    data.python_param.module, data.python_param.layer = "roi_data_layer.layer_pi", "RoIDataLayerPi"
    data.python_param.param_str = f"--num_classes {detector.labels} --num_data {count}"
    layers = [data]
    for index, backbone in enumerate(detector.backbones):
        layers += Branch(detector, backbone, train=True).layers(tops[index], "rois")
    if count == 1:
        scores, deltas = (f"{name}_{detector.backbones[0].index}" for name in ("cls_score", "bbox_pred"))
    else:
        layers += _averages(detector)
        scores, deltas = "cls_score", "bbox_pred"
    layers.append(new_layer("loss_cls", "SoftmaxWithLoss", [scores, "labels"], ["loss_cls"]))
    layers.append(new_layer("loss_bbox", "SmoothL1Loss", [deltas, "bbox_targets", "bbox_loss_weights"], ["loss_bbox"]))
    for layer in layers[-2:]:
        layer.loss_weight.append(detector.loss_weight)
    return layers


def test_net(detector: Detector, svd: bool = False) -> list[Any]:
    """Layers of the test net: ``data``, ``rois`` (Tensor[R, 5]) -> ``cls_prob`` [R, L], ``bbox_pred`` [R, 4 L].

    Args:
        svd: whether to have the layers of ``detector.svd`` in two factors.
    """
    count = len(detector.backbones)
    layers = []
    for index in range(count):
        layers.append(input_layer(_numbered("data", index), (1, 3, 227, 227)))
    rois = [_numbered("rois", index if detector.own_rois else 0) for index in range(count)]
    layers += [input_layer(name, (1, 5)) for name in dict.fromkeys(rois)]
    for index, backbone in enumerate(detector.backbones):
        branch = Branch(detector, backbone, train=False, ranks=dict(detector.svd) if svd else {})
        layers += branch.layers(_numbered("data", index), rois[index])
    return [*layers, *_averages(detector), new_layer("cls_prob", "Softmax", ["cls_score"], ["cls_prob"])]


test_net.__test__ = False  # type: ignore[attr-defined]  # pytest is to take this for no test


def layers_with_weights(backbone: Backbone) -> list[str]:
    """Names without the prefix: convolutions, fc6, fc7, cls_score, bbox_pred; in the net's order."""
    return [*(conv.name for conv in _convolutions(backbone)), *_HIDDEN, "cls_score", "bbox_pred"]


class Branch:
    """One modality: from its images and regions to ``cls_score_N`` and ``bbox_pred_N``.

    Args:
        detector: whose branch it is.
        backbone: one of the detector's.
        train: whether layers get learning rates and fillers.
        ranks: of layers in two factors.
    """

    def __init__(
        self, detector: Detector, backbone: Backbone, train: bool, ranks: dict[str, int] | None = None
    ) -> None:
        self.detector, self.backbone, self.train, self.ranks = detector, backbone, train, ranks or {}
        self.frozen = {
            "none": (),
            "conv": tuple(conv.name for conv in _convolutions(backbone)),
            "fc7": (*(conv.name for conv in _convolutions(backbone)), *_HIDDEN),
            "coco": backbone.frozen,
        }[detector.freeze]

    def layers(self, data: str, rois: str) -> list[Any]:
        """All of it, given the names of its inputs."""
        found = self.up_to_fc7(data, rois, 1 / self.backbone.stride)
        return [*found, *self._outputs(found[-1].top[0])]

    def up_to_fc7(self, data: str, rois: str, spatial_scale: float | None) -> list[Any]:
        """What is below the outputs; its last top is fc7.

        Args:
            data, rois: names of its inputs.
            spatial_scale: cells of the last map for a pixel of a region; None: regions are in cells.
        """
        found: list[Any] = []
        top = data
        for stage in self.backbone.stages:
            new = self._stage(stage, top)
            found += new
            top = new[-1].top[0]
        pool = self.named(self.backbone.pool)
        found.append(new_layer(self.named(f"roi_{self.backbone.pool}"), "ROIPooling", [top, rois], [pool]))
        param = found[-1].roi_pooling_param
        param.pooled_h = param.pooled_w = self.backbone.grid
        if spatial_scale is not None:
            param.spatial_scale = spatial_scale
        if self.backbone.adaptation:
            found += self._adaptation(pool)
        if self.backbone.scale != 1:  # not in place: there Caffe's Power loses the gradient
            scaled = f"{pool}_scale"
            found.append(new_layer(scaled, "Power", [found[-1].top[0]], [scaled]))
            found[-1].power_param.scale = self.backbone.scale
        top = found[-1].top[0]
        for name in _HIDDEN:
            new = self._hidden(name, top)
            found += new
            top = new[-1].top[0]
        return found

    def named(self, name: str) -> str:
        """A name of the backbone with its prefix."""
        return self.backbone.prefix + name

    def _stage(self, stage: Stage, bottom: str) -> list[Any]:
        if isinstance(stage, Conv):
            return self._convolution(stage, bottom)
        name = self.named(stage.name)
        if isinstance(stage, Fire):
            squeeze, narrow, wide = _of_fire(stage)
            first, second, third = (
                self._convolution(squeeze, bottom),
                self._convolution(narrow, self.named(squeeze.name)),
                self._convolution(wide, self.named(squeeze.name)),
            )
            tops = [self.named(narrow.name), self.named(wide.name)]
            return [*first, *second, *third, new_layer(f"{name}/concat", "Concat", tops, [f"{name}/concat"])]
        if isinstance(stage, Pool):
            layer = new_layer(name, "Pooling", [bottom], [name])
            layer.pooling_param.pool = caffe_pb2.PoolingParameter.MAX
            layer.pooling_param.kernel_size, layer.pooling_param.stride = stage.kernel, stage.stride
            if stage.pad:
                layer.pooling_param.pad = stage.pad
            return [layer]
        if isinstance(stage, Unit):
            layer = new_layer(name, "Power", [bottom], [name])
            layer.power_param.scale = stage.factor
            return [layer]
        layer = new_layer(name, "LRN", [bottom], [name])
        layer.lrn_param.local_size, layer.lrn_param.alpha, layer.lrn_param.beta = 5, 1e-4, 0.75
        return [layer]

    def _convolution(self, conv: Conv, bottom: str) -> list[Any]:
        name = self.named(conv.name)
        layer = new_layer(name, "Convolution", [bottom], [name])
        param = layer.convolution_param
        param.num_output = conv.outputs
        param.kernel_size.append(conv.kernel)
        if conv.pad:
            param.pad.append(conv.pad)
        if conv.stride > 1:
            param.stride.append(conv.stride)
        if conv.group > 1:
            param.group = conv.group
        filler = self.backbone.conv_filler
        if self.detector.fillers or self.backbone.filled_convs:
            self._fill(param, Filler(filler.kind, filler.std, conv.bias))
        self._trains(layer, conv.name not in self.frozen)
        return [layer, new_layer(self.named(_relu(conv.name)), "ReLU", [name], [name])]

    def _adaptation(self, pool: str) -> list[Any]:
        name = f"adapt_{self.backbone.pool}"  # without prefix, as make_transfer.py names it
        layer = new_layer(name, "Convolution", [pool], [name])
        layer.convolution_param.num_output = self.backbone.adaptation
        layer.convolution_param.kernel_size.append(1)
        self._fill(layer.convolution_param, self.backbone.conv_filler)
        self._trains(layer, True)
        return [layer, new_layer(f"relu_{name}", "ReLU", [name], [name])]

    def _hidden(self, name: str, bottom: str) -> list[Any]:
        number = name.removeprefix("fc")
        width, top = self.detector.hidden or self.backbone.hidden, self.named(name)
        rank = self.ranks.get(name)
        if rank:
            layers = [
                self._product(f"{name}_L", bottom, self.named(f"{name}_L"), rank),
                self._product(f"{name}_U", self.named(f"{name}_L"), top, width),
            ]
            layers[0].inner_product_param.bias_term = False
        else:
            layers = [self._product(name, bottom, top, width)]
            if self.detector.fillers or self.backbone.filled_head:
                self._fill(layers[0].inner_product_param, self.backbone.fc_filler)
        layers.append(new_layer(self.named(f"relu{number}"), "ReLU", [top], [top]))
        if self.detector.dropout:
            layers.append(new_layer(self.named(f"drop{number}"), "Dropout", [top], [top]))
            layers[-1].dropout_param.dropout_ratio = 0.5
        return layers

    def _outputs(self, bottom: str) -> Iterator[Any]:
        for name, outputs, std in (("cls_score", 1, 0.01), ("bbox_pred", 4, 0.001)):
            top = f"{name}_{self.backbone.index}"
            layer = self._product(name, bottom, top, outputs * self.detector.labels)
            self._fill(layer.inner_product_param, Filler("gaussian", std))
            yield layer

    def _product(self, name: str, bottom: str, top: str, outputs: int) -> Any:
        layer = new_layer(self.named(name), "InnerProduct", [bottom], [top])
        layer.inner_product_param.num_output = outputs
        self._trains(layer, name not in self.frozen)
        return layer

    def _fill(self, param: Any, filler: Filler) -> None:
        if not self.train:
            return
        param.weight_filler.type = filler.kind
        if filler.kind == "gaussian":
            param.weight_filler.std = filler.std
        param.bias_filler.type, param.bias_filler.value = "constant", filler.bias

    def _trains(self, layer: Any, trained: bool) -> None:
        if self.train:
            layer.param.add(lr_mult=int(trained), decay_mult=int(trained))
            layer.param.add(lr_mult=2 * int(trained), decay_mult=0)


def _averages(detector: Detector) -> list[Any]:
    indices = [backbone.index for backbone in detector.backbones]
    indices = indices * 2 if len(indices) == 1 else indices
    layers = []
    for name in ("bbox_pred", "cls_score"):
        layers.append(new_layer("sum", "Eltwise", [f"{name}_{index}" for index in indices], [name]))
        layers[-1].eltwise_param.operation = caffe_pb2.EltwiseParameter.SUM
        layers[-1].eltwise_param.coeff.extend([0.5, 0.5])
    return layers


def _convolutions(backbone: Backbone) -> Iterator[Conv]:
    for stage in backbone.stages:
        if isinstance(stage, Conv):
            yield stage
        elif isinstance(stage, Fire):
            yield from _of_fire(stage)


def _of_fire(fire: Fire) -> tuple[Conv, Conv, Conv]:
    return (
        Conv(f"{fire.name}/conv1x1_1", fire.squeeze, 1),
        Conv(f"{fire.name}/conv1x1_2", fire.expand, 1),
        Conv(f"{fire.name}/conv3x3_2", fire.expand, 3, pad=1),
    )


def _relu(conv: str) -> str:
    """relu1, relu1_1, fire2/relu_conv1x1_1: the names of the nets' own prototxts."""
    module, slash, name = conv.rpartition("/")
    return f"{module}/relu_{name}" if slash else name.replace("conv", "relu")


def _numbered(name: str, index: int) -> str:
    return f"{name}_{index}" if index else name


def new_layer(name: str, kind: str, bottoms: Sequence[str], tops: Sequence[str]) -> Any:
    """A layer of a type, without parameters."""
    return caffe_pb2.LayerParameter(name=name, type=kind, bottom=list(bottoms), top=list(tops))


def input_layer(name: str, shape: Sequence[int]) -> Any:
    """An input blob."""
    layer = new_layer(name, "Input", [], [name])
    layer.input_param.shape.add(dim=list(shape))
    return layer
