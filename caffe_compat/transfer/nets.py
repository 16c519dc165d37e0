"""The nets of a supervision transfer as messages: for training, for trying out, and the student."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from caffe_compat.description import describe_layer
from caffe_compat.description.names import adapted, scaled
from caffe_compat.errors import UsageError
from caffe_compat.layers import Layer, Params, Shape, layer_class
from caffe_compat.proto import caffe_pb2
from caffe_compat.resources import program
from caffe_compat.transfer.branch import ROIS, input_layer
from caffe_compat.transfer.features import Feature, Transfer

__all__ = ["TransferNets", "copied", "kind_of", "new_layer"]

KEPT_STATISTICS = 0.99
"""``moving_average_fraction`` of a student's BatchNorm where its prototxt names none."""


class TransferNets:
    """Builds the layers.

    Attributes:
        comments: remarks, by name of the layer they stand before.
        first_filled: the student's first layer with weights if their size follows a rule (msra, xavier) that knows
            nothing of pixels, or "".
        gathers: whether the student has layers that gather statistics (BatchNorm).
    """

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self.recipe = transfer.recipe
        self.comments: dict[str, str] = {}
        self.first_filled = ""
        self.gathers = False
        self._filled = self._told_fillers = False  # whether a layer has been, and the remark stands
        self.names = _Prefixed(self.recipe.prefix)
        self._teacher_layers = [self._frozen(layer) for layer in transfer.teacher.layers]
        self._student_layers = [self._trained(layer) for layer in transfer.student.layers]
        self._check_names()

    # -- the nets ---------------------------------------------------------------------------------------------

    def train_val(self) -> list[Any]:
        """Data, frozen teacher, student, adaptation, losses and explained variance."""
        layers = [self._data("TRAIN"), self._data("TEST"), *self._teacher_layers, *self._student_layers]
        for feature in self.transfer.features:
            layers += self._adaptation(feature) + self._comparison(feature)
        first = {"pairs": f"Pairs of images: the teacher's modality and the student's.{self._of_boxes()}"}
        if self._teacher_layers:
            first[self._teacher_layers[0].name] = f"The teacher, frozen: {self.transfer.teacher.path}."
        if self._student_layers:
            name = self._student_layers[0].name
            first[name] = f"The student: {self.transfer.student.path}. {self.comments.get(name, '')}".strip()
        for name, text in first.items():
            self.comments[name] = text
        return layers

    def _of_boxes(self) -> str:
        """What a remark says of the boxes."""
        recipe = self.recipe
        if not self.transfer.over_boxes:
            return ""
        told = f" Boxes are drawn from {recipe.proposals}"
        if not recipe.proposals.endswith(".npz"):
            return f"{told}."
        lists = f"{recipe.source} {recipe.val_source}"
        return f"{told}; {program('make_proposals')} --pairs {lists} --output {recipe.proposals} makes such a file."

    def teacher_side(self) -> list[Any]:
        """The training pairs and the teacher."""
        return [self._data("TRAIN"), *self._teacher_layers]

    def student_side(self, inputs: Mapping[str, Shape]) -> list[Any]:
        """Inputs (the second images, the teacher's features, boxes), student, adaptation and losses."""
        layers = [*itertools.starmap(input_layer, inputs.items()), *self._student_layers]
        for feature in self.transfer.features:
            layers += self._adaptation(feature) + self._comparison(feature)
        return layers

    def student_deploy(self, size: tuple[int, int] | None = None) -> list[Any]:
        """The student's lower part with the adaptation, for images of the second modality."""
        layers = [input_layer(self.student_input, (1, 3, *(size or self.recipe.size)))]
        if self.transfer.over_boxes:
            layers.append(input_layer(ROIS, (1, 5)))
        layers += self._student_layers
        for feature in self.transfer.features:
            layers += self._adaptation(feature)
        return layers

    @property
    def student_input(self) -> str:
        """The blob that takes images of the second modality."""
        return self.names(self.transfer.student.input)

    # -- both branches ----------------------------------------------------------------------------------------

    def _frozen(self, layer: Any) -> Any:
        copy = copied(layer)
        blobs = self.transfer.learnable_counts(self.transfer.teacher)[layer.name]
        while len(copy.param) < blobs:
            copy.param.add()
        for spec in copy.param:
            spec.lr_mult = spec.decay_mult = 0
        if kind_of(layer).phase_dependent:
            copy.phase = caffe_pb2.TEST
        if statistics := kind_of(layer).statistics_section:
            getattr(copy, statistics).use_global_stats = True
        section = kind_of(layer).filler_section
        for name in ("weight_filler", "bias_filler"):
            if section and copy.HasField(section):
                getattr(copy, section).ClearField(name)
        return copy

    def _trained(self, layer: Any) -> Any:
        copy = copied(layer)
        self.names.rename(copy)
        if not copy.param:
            blobs = self.transfer.learnable_counts(self.transfer.student)[layer.name]
            for index in range(blobs):
                if kind_of(layer).gathers:
                    copy.param.add(lr_mult=0, decay_mult=0)
                else:
                    copy.param.add(lr_mult=1 + index % 2, decay_mult=1 - index % 2)
        section = kind_of(layer).filler_section
        if section:
            self._fill(copy, getattr(copy, section))
        if statistics := kind_of(layer).statistics_section:
            self._gather(copy, getattr(copy, statistics))
        return copy

    def _gather(self, layer: Any, param: Any) -> None:
        """A fresh student has no statistics: it takes each batch's, and tests use the mean of the last hundred or so.

        Many published prototxts say ``use_global_stats: true``, which without statistics divides by nearly nothing, in
        every layer anew.  Caffe's default keeps the last thousand: those of nets that the student is no longer.
        """
        param.ClearField("use_global_stats")
        if not param.HasField("moving_average_fraction"):
            param.moving_average_fraction = KEPT_STATISTICS
        if not self.gathers:
            self.gathers = True
            self.comments[layer.name] = (
                "The student's BatchNorm: batch statistics as it learns, their mean over about 100 iterations in tests."
            )

    def _fill(self, layer: Any, param: Any) -> None:
        """The weight filler of a layer of the student: its own, ours, or of the first layer one that was measured."""
        own = param.HasField("weight_filler") and not self.recipe.filler
        first, self._filled = not self._filled, True
        if self.recipe.filler:
            _refill(param, self.recipe.filler)
        elif not own:
            param.weight_filler.type = "msra"
            if not self._told_fillers:
                self._told_fillers = True
                self.comments[layer.name] = (
                    "Where its prototxt names no weight filler it gets msra: Caffe's default, zero, cannot be trained."
                )
        if first and param.weight_filler.type in ("msra", "xavier"):
            self.first_filled = layer.name
            if self.recipe.first_std is not None:
                param.ClearField("weight_filler")
                param.weight_filler.type, param.weight_filler.std = "gaussian", self.recipe.first_std

    def _check_names(self) -> None:
        teacher, student = (
            {layer.name for layer in layers} | {blob for layer in layers for blob in (*layer.bottom, *layer.top)}
            for layers in (self._teacher_layers, self._student_layers)
        )
        if both := sorted(teacher & student - {ROIS}):
            raise UsageError(
                f"teacher {self.recipe.teacher} and student {self.recipe.student} would share the names "
                f"{', '.join(both[:4])}; give the student another --prefix than '{self.recipe.prefix}'"
            )

    # -- what joins them --------------------------------------------------------------------------------------

    def _data(self, phase: str) -> Any:
        recipe, train = self.recipe, phase == "TRAIN"
        layer = new_layer("pairs", "PairedImageData", [], [self.transfer.teacher.input, self.student_input])
        layer.include.add(phase=caffe_pb2.Phase.Value(phase))
        param = layer.paired_image_data_param
        if self.transfer.over_boxes:
            layer.top.append(ROIS)
            param.proposals, param.rois_per_image = recipe.proposals, recipe.boxes_per_image
        param.source = recipe.source if train else recipe.val_source
        if recipe.root_folder:
            param.root_folder = recipe.root_folder
        param.batch_size = recipe.batch_size if train else 1
        if train:
            param.shuffle = param.mirror = True
        if recipe.short_side:
            param.short_side = recipe.short_side
        if recipe.crop:
            param.crop_height, param.crop_width = recipe.crop
        if recipe.multiple_of > 1:
            param.multiple_of = recipe.multiple_of
        param.mean_value.extend(recipe.mean if recipe.foreign is None else (0.0,))  # it subtracts its own
        param.mean_value_1.extend(recipe.mean_second or (recipe.mean if recipe.foreign else ()))
        if recipe.negate_x >= 0:
            param.negate_x_channel = recipe.negate_x
            if recipe.negate_about != 128:
                param.negate_about = recipe.negate_about
        return layer

    def _adaptation(self, feature: Feature) -> list[Any]:
        name, source = adapted(feature.teacher), self.names(feature.student)
        spatial = len(feature.shape) == 4
        conv = new_layer(name, "Convolution" if spatial else "InnerProduct", [source], [name])
        conv.param.add(lr_mult=1, decay_mult=1)
        conv.param.add(lr_mult=2, decay_mult=0)
        param = conv.convolution_param if spatial else conv.inner_product_param
        param.num_output = feature.shape[1]
        if spatial:
            param.kernel_size.append(1)
        param.weight_filler.type, param.weight_filler.std = "gaussian", feature.adapt_std
        param.bias_filler.type, param.bias_filler.value = "constant", feature.adapt_bias
        if self.recipe.filler:
            _refill(param, self.recipe.filler)
        logits = self._logits(feature)
        if logits != name:
            conv.top[0] = logits
        self.comments[name] = f"From the student's {source} to the teacher's {feature.teacher}."
        return [conv, new_layer(f"relu_{name}", "ReLU", [logits], [name])]

    def _logits(self, feature: Feature) -> str:
        """The adaptation before its ReLU; the sigmoid loss needs it, for after a ReLU no probability is below 0.5."""
        return adapted(feature.teacher) + ("_logit" if self.recipe.loss == "sigmoid" else "")

    def _comparison(self, feature: Feature) -> list[Any]:
        layers = []
        blob, target = feature.teacher, feature.teacher
        if feature.scale is not None:
            target = scaled(blob)
            layers.append(new_layer(target, "Power", [blob], [target]))
            layers[-1].power_param.scale = feature.scale
            self.comments[target] = (
                "Makes the teacher's feature as large as one of the student's architecture: "
                f"{program('measure_scale')}."
            )
        loss = self._logits(feature)
        found = adapted(blob)
        if feature.align:
            pairs = [(found, target, f"aligned_{found}", f"aligned_{blob}", f"align_{blob}")]
            if loss != found:
                pairs.append((loss, target, f"aligned_{loss}", f"aligned_{blob}_logit", f"align_{blob}_logit"))
            for first, second, first_top, second_top, name in pairs:
                layers.append(new_layer(name, "AlignMaps", [first, second], [first_top, second_top]))
            self.comments[f"align_{blob}"] = "The maps may differ by one row or column."
            loss, loss_target = pairs[-1][2], pairs[-1][3]
            found, target = pairs[0][2], pairs[0][3]
        else:
            loss_target = target
        layers += self._loss(feature, loss, loss_target)
        variance = f"explained_variance_{blob}"
        metrics = [new_layer(variance, "ExplainedVariance", [found, target], [variance])]
        if self.recipe.loss != "sigmoid":  # which has a gradient below the ReLU's zero too
            dead = f"dead_units_{blob}"
            metrics.append(new_layer(dead, "DeadUnits", [found], [dead]))
        for metric in metrics:
            metric.include.add(phase=caffe_pb2.TEST)
        return layers + metrics

    def _loss(self, feature: Feature, found: str, target: str) -> list[Any]:
        name, weight = f"loss_{feature.teacher}", self.transfer.loss_weight(feature)
        if self.recipe.loss_weight is None:
            places = " x ".join(str(min(p)) for p in zip(feature.shape[2:], feature.student_shape[2:], strict=True))
            sigmoid = self.recipe.loss == "sigmoid"
            what = "alpha x the root of the channel count" if sigmoid else "mean norm of the teacher's feature"
            known = feature.norm is not None or sigmoid
            over = f"({places or 1} locations x n)" if places or not feature.over_boxes else "n, the mean over boxes"
            self.comments[name] = f"loss_weight = 1 / {over}, n = {what}" + (
                "." if known else ", here 1 as it was not measured (--measure)."
            )
        layers = []
        if self.recipe.loss == "sigmoid":
            positive, scaled = f"positive_{feature.teacher}", f"logit_{feature.teacher}"
            layers.append(new_layer(positive, "Threshold", [target], [positive]))
            layers[-1].threshold_param.threshold = self._known(feature.tau, "--tau median")
            layers.append(new_layer(scaled, "Power", [found], [scaled]))
            layers[-1].power_param.scale = self._known(feature.alpha, "--alpha 4/sigma")
            found, target = scaled, positive
        kind = "SigmoidCrossEntropyLoss" if self.recipe.loss == "sigmoid" else "EuclideanLoss"
        layers.append(new_layer(name, kind, [found, target], [name]))
        layers[-1].loss_weight.append(weight)
        if self.recipe.loss == "sigmoid":  # AlignMaps, where it stands, would ask for the target's gradient
            layers[-1].propagate_down.extend([True, False])
        return layers

    def _known(self, value: float | None, option: str) -> float:
        if value is None:
            raise UsageError(f"{option} is measured: give --teacher-weights, without --mean-norm or --no-measure")
        return value


class _Prefixed:
    """Names of the student's layers, blobs and shared parameters."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __call__(self, name: str) -> str:
        return name if name.startswith(self.prefix) else self.prefix + name

    def rename(self, layer: Any) -> None:
        """Give a layer its names, in place; boxes are those of the teacher."""
        layer.name = self(layer.name)
        for blobs in (layer.bottom, layer.top):
            for index, blob in enumerate(blobs):
                blobs[index] = blob if blob == ROIS else self(blob)
        for spec in layer.param:
            if spec.name:
                spec.name = self(spec.name)


def new_layer(name: str, kind: str, bottoms: Iterable[str], tops: Iterable[str]) -> Any:
    """A layer without parameters."""
    return caffe_pb2.LayerParameter(name=name, type=kind, bottom=list(bottoms), top=list(tops))


def kind_of(layer: Any) -> type[Layer]:
    """What a layer of a message means."""
    return layer_class(Params(describe_layer(layer)))


def copied(layer: Any) -> Any:
    """A message of its own with the same content."""
    copy = caffe_pb2.LayerParameter()
    copy.CopyFrom(layer)
    return copy


def _refill(param: Any, kind: str) -> None:
    """Another weight filler, and biases that start at zero."""
    param.ClearField("weight_filler")
    param.ClearField("bias_filler")
    param.weight_filler.type = kind
