"""The deploy form of a training net: an input in place of data and labels, answers in place of losses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from caffe_compat.description import INPUT, LayerDescription, State, describe_net
from caffe_compat.description.names import UniqueNames
from caffe_compat.errors import CaffeCompatError, UsageError
from caffe_compat.layers import Layer, Params, layer_class
from caffe_compat.layers.data.source import DataLayer
from caffe_compat.proto import caffe_pb2
from caffe_compat.resources import program

__all__ = ["DeployForm", "deploy_form", "reads_own_data"]

ANSWER = "prob"
"""What the answer of a net is called in all deploy nets of Caffe's model zoo."""


@dataclass(frozen=True)
class DeployForm:
    """A training net without what it is trained with.

    Attributes:
        message: the ``NetParameter``.
        data: the data layer that the input replaces, as ``'data' (Data)``.
        input: the blob that takes pictures.
        shape: of that, N x C x H x W.
        left_out: names of layers that need labels, or what is made of them.
        answers: blobs that stand for losses: a Softmax for a SoftmaxWithLoss.
    """

    message: Any
    data: str
    input: str
    shape: tuple[int, ...]
    left_out: tuple[str, ...]
    answers: tuple[str, ...]

    def told(self) -> str:
        """What was done, in a line."""
        size = " x ".join(map(str, self.shape))
        answers = f", {', '.join(self.answers)} for its loss" if self.answers else ""
        return f"takes input '{self.input}' {size} in place of layer {self.data}{answers}"


def reads_own_data(message: Any) -> bool:
    """Whether a net has data layers and no input that a caller fills."""
    kept = [layer for layer in describe_net(message, State("TEST")).layers if not layer.bottoms]
    return bool(kept) and not any(layer.is_input for layer in kept)


def deploy_form(message: Any, source: str, shape: Sequence[int] = (), lines: Sequence[int | None] = ()) -> DeployForm:
    """Make the deploy form of a training net, as it is in a test.

    The first data layer of labelled pictures becomes an Input of its first top.  Layers that need labels are left out;
    a loss leaves the answer that it compares with them: ``prob`` of a SoftmaxWithLoss or SigmoidCrossEntropyLoss.

    Args:
        message: ``NetParameter``, upgraded; not changed.
        source: its file, for messages.
        shape: N x C x H x W of the input; empty: one picture, as large as the data layer reads them, or, where its
            files are not here, as its ``crop_size``, or ``new_height`` and ``new_width``, say.
        lines: of its layers in the file.

    Raises:
        UsageError: no data layer of labelled pictures, or one that does not say how large they are.
    """
    described = describe_net(message, State("TEST"), source=source, lines=lines)
    names = {layer.name for layer in message.layer}
    layers = [layer for layer in described.layers if layer.name in names]  # without the splits that were added
    data = _data_layer(described.name, source, layers)
    (blob, *labels), size = data.message.top, tuple(shape) or _shape(data, source)
    net = caffe_pb2.NetParameter(name=message.name)
    given = net.layer.add(name=data.name, type=INPUT, top=[blob])
    given.input_param.shape.add().dim.extend(size)
    unknown, left_out, answers = set(labels), [], []
    for layer in layers:
        if layer is data:
            continue
        if not (unknown & set(layer.message.bottom) or _is_data(layer)):
            net.layer.add().CopyFrom(_cleaned(layer.message))
            continue
        unknown |= set(layer.message.top)
        left_out.append(layer.name)
        kind = "" if not layer.message.bottom or layer.message.bottom[0] in unknown else _kind(layer).answer
        if kind:
            answers.append(net.layer.add(name=layer.name, type=kind, bottom=[layer.message.bottom[0]]))
            if layer.message.HasField("softmax_param"):
                answers[-1].softmax_param.CopyFrom(layer.message.softmax_param)
    _name(answers, [*names, *(top for layer in layers for top in layer.message.top)])
    told = tuple(layer.name for layer in answers)
    return DeployForm(net, f"'{data.name}' ({data.type})", blob, size, tuple(left_out), told)


def _name(answers: Sequence[Any], taken: Iterable[str]) -> None:
    """Names of the layers that stand for losses, and of their tops: of the last, the net's own answer, ``prob``."""
    names = UniqueNames(taken)
    for number, layer in enumerate(reversed(answers)):
        layer.name = names.fresh(f"{layer.name}/{ANSWER}" if number else ANSWER)
        layer.top.append(layer.name)


def _data_layer(name: str, source: str, layers: Sequence[LayerDescription]) -> LayerDescription:
    found = next((layer for layer in layers if _feeds_pictures(layer)), None)
    if found is not None:
        return found
    first = next((layer for layer in layers if not layer.message.bottom), None)
    reads = f"layer '{first.name}' of type {first.type} reads its data" if first else "it has no data layer"
    raise UsageError(
        f"{source}: net '{name}' has no input to be given a picture ({reads}), and its deploy form cannot be guessed: "
        "give the deploy prototxt"
    )


def _is_data(layer: LayerDescription) -> bool:
    return not layer.message.bottom and issubclass(_kind(layer), DataLayer)


def _feeds_pictures(layer: LayerDescription) -> bool:
    kind = _kind(layer)
    return not layer.message.bottom and issubclass(kind, DataLayer) and kind.labelled


def _kind(layer: LayerDescription) -> type[Layer]:
    return layer_class(Params(layer))


def _shape(layer: LayerDescription, source: str) -> tuple[int, ...]:
    """One picture as the data layer reads it; where what it reads is not here, as it says."""
    try:
        made = _kind(layer)(Params(layer), [])
    except CaffeCompatError as error:
        said = _said(layer)
        if said:
            return said
        (top, *_) = layer.message.top
        raise UsageError(
            f"{source}: layer '{layer.name}' ({layer.type}) reads its own data ({error}) and does not say how large "
            f"pictures are (no crop_size): give the deploy net; {program('describe')} {source} --shape "
            f"{top}=1,3,HEIGHT,WIDTH --deploy deploy.prototxt writes it"
        ) from error
    return 1, *made.top_shapes([])[0][1:]


def _said(layer: LayerDescription) -> tuple[int, int, int, int] | None:
    """One picture as the fields of a data layer say; three channels where they do not."""
    transform, files = layer.message.transform_param, layer.message.image_data_param
    memory = layer.message.memory_data_param
    gray = transform.force_gray or (layer.message.HasField("image_data_param") and not files.is_color)
    channels = memory.channels or (1 if gray else 3)
    if transform.crop_size:
        return 1, channels, transform.crop_size, transform.crop_size
    if files.new_height and files.new_width:
        return 1, channels, files.new_height, files.new_width
    return None


def _cleaned(layer: Any) -> Any:
    copy = caffe_pb2.LayerParameter()
    copy.CopyFrom(layer)
    for field in ("include", "exclude", "propagate_down"):
        copy.ClearField(field)
    return copy
