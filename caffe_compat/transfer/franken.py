"""The franken net: the student below, the teacher above."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caffe_compat.description.names import adapted
from caffe_compat.errors import UsageError
from caffe_compat.transfer.branch import ROIS, Branch, input_layer
from caffe_compat.transfer.features import Feature, Transfer
from caffe_compat.transfer.nets import TransferNets, copied, kind_of, new_layer

__all__ = ["Franken", "franken"]


@dataclass
class Franken:
    """The student's lower part under the teacher's upper part.

    Attributes:
        layers: all of it.
        upper: names of the teacher's layers that have weights.
        size: height and width of the images.
    """

    layers: list[Any]
    upper: list[str] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)


def franken(nets: TransferNets) -> Franken:
    """Student below, adaptation, teacher above.

    Raises:
        UsageError: there are several features, the teacher is a net of another framework or ends with the feature, or
            its upper part also uses blobs from below the feature.
    """
    if len(nets.transfer.features) != 1:
        raise UsageError("a franken net needs one feature")
    feature = nets.transfer.features[0]
    if nets.recipe.foreign is not None:
        raise UsageError(
            f"it needs the teacher's upper part as a prototxt, and {nets.recipe.teacher} is a net of another framework"
        )
    extra, upper = _upper(nets.transfer, feature)
    if not upper:
        raise UsageError(f"'{feature.teacher}' is where {nets.recipe.teacher} ends; there is nothing to put above")
    size = _franken_size(nets.transfer, feature)
    layers = nets.student_deploy(size)
    top = adapted(feature.teacher)
    if feature.scale not in (None, 1.0):
        top = f"unscale_{feature.teacher}"
        layers.append(new_layer(top, "Power", [adapted(feature.teacher)], [top]))
        layers[-1].power_param.scale = float(f"{1 / (feature.scale or 1.0):.6g}")
    for layer in upper:
        for index, bottom in enumerate(layer.bottom):
            if bottom == feature.teacher:
                layer.bottom[index] = top
    nets.comments[upper[0].name] = f"From here on the teacher: {nets.recipe.teacher}."
    learnable = [layer.name for layer in upper if kind_of(layer).has_blobs]
    return Franken([*extra, *layers, *upper], learnable, size)


def _upper(transfer: Transfer, feature: Feature) -> tuple[list[Any], list[Any]]:
    """Input layers that the teacher's upper part needs besides the feature, and that part."""
    teacher = transfer.teacher
    lower = {layer.name for layer in teacher.layers}
    inputs, sources = _sources(teacher)
    above = {feature.teacher}
    extra: dict[str, Any] = {}
    upper = []
    for described in teacher.everything:
        layer = described.message
        if layer.name in lower or not above & set(layer.bottom):
            continue
        others = [bottom for bottom in layer.bottom if bottom not in above]
        if any(other in sources and other != teacher.input for other in others):
            continue  # a loss or an accuracy: it needs labels
        needed = [other for other in others if other not in inputs or other == teacher.input]
        if needed:
            raise UsageError(
                f"{transfer.recipe.teacher}: layer '{layer.name}' above '{feature.teacher}' also needs '{needed[0]}' "
                "from below it"
            )
        extra |= {other: inputs[other] for other in others}
        above |= set(layer.top)
        upper.append(copied(layer))
        for name in ("include", "exclude", "blobs"):
            upper[-1].ClearField(name)
    if transfer.over_boxes:
        extra.pop(ROIS, None)  # the student has them
    return [input_layer(name, shape) for name, shape in extra.items()], upper


def _franken_size(transfer: Transfer, feature: Feature) -> tuple[int, int]:
    """The size of images nearest to the teacher's own for which the student's map is as large as the teacher's."""
    size = transfer.teacher.size
    if size is None or len(feature.shape) != 4:
        return size or transfer.recipe.size
    plans = transfer.teacher.plan(size), transfer.student.plan(size)
    wanted = transfer.teacher.shapes(plans[0], size)[feature.teacher][2:]
    steps = sorted(range(-64, 65), key=lambda step: (abs(step), step))
    for step in steps:
        near = (size[0] + step, size[1] + step)
        if min(near) < 1 or transfer.student.fixed and step:
            continue
        if transfer.student.shapes(plans[1], near)[feature.student][2:] == wanted:
            return near
    return size


def _sources(branch: Branch) -> tuple[Mapping[str, tuple[int, ...]], set[str]]:
    """Shapes of the blobs that Input layers make, and the blobs that data layers make."""
    inputs: dict[str, tuple[int, ...]] = {}
    data: set[str] = set()
    for layer in branch.everything:
        message = layer.message
        if layer.is_input:
            shapes = [tuple(shape.dim) for shape in message.input_param.shape]
            for index, top in enumerate(message.top):
                inputs[top] = shapes[index if len(shapes) > 1 else 0]
        elif not message.bottom:
            data |= set(message.top)
    return inputs, data
