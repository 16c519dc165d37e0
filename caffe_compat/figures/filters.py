"""The filters of a convolution as a picture; of several nets side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.utils import make_grid

from caffe_compat.description import LayerDescription, State, describe_net
from caffe_compat.errors import UsageError, WeightsError, nearest
from caffe_compat.foreign.spec import RANDOM, is_foreign, kind_of
from caffe_compat.foreign.state import copy_state, read_state
from caffe_compat.foreign.torch_nets import make_module
from caffe_compat.layers import Params, layer_class
from caffe_compat.net import Net
from caffe_compat.net.weights import blobs_in
from caffe_compat.proto import caffe_pb2, hdf5, read_net_text
from caffe_compat.proto import weights as weight_files
from caffe_compat.transfer.branch import input_layer, read_branch
from caffe_compat.transfer.random_teacher import random_net

__all__ = ["Filters", "columns_for", "mosaic", "read_filters"]

MIDDLE = 0.5
"""What a filter looks like whose numbers are all equal."""
SIDE = 1024
"""Of images of which there are none: larger than any filter."""


@dataclass(frozen=True)
class Filters:
    """The filters of one layer.

    Attributes:
        title: what stands over them.
        weight: float32 [N, C, height, width]; of three channels blue first, as Caffe's nets take pictures.
        layer: the layer's name.
        note: where they come from.
    """

    title: str
    weight: np.ndarray
    layer: str
    note: str

    def __str__(self) -> str:
        count, channels, height, width = self.weight.shape
        return f"{self.title}: {count} filters, {channels} x {height} x {width}, layer '{self.layer}', {self.note}"


def read_filters(title: str, model: str, weights: str, layer: str = "", seed: int = 0) -> Filters:
    """The filters of a layer of a net.

    Args:
        title: what stands over them.
        model: a prototxt of any form (its data need not be there), or ``torchvision:NAME``, ``timm:NAME``,
            ``package.module:function``.
        weights: weights files, separated by commas, or ``random``: as its fillers make them, MSRA's where it has none.
        layer: its name; by default the first with filters of height and width.
        seed: of random weights.

    Raises:
        UsageError: no such layer, or one without filters.
        WeightsError: files that do not hold it.
        CaffeCompatError: a file that cannot be used.
    """
    if is_foreign(model):
        return _foreign(title, model, weights, layer, seed)
    found = _find_layer(model, layer)
    if weights == RANDOM:
        branch = read_branch(model, [found.tops[0]], "TEST", channels=None)
        weight = random_net(branch, seed).layer(found.name).blob(0).detach().numpy()
        note = f"random, seed {seed}"
    else:
        files = [part for part in weights.split(",") if part]
        weight = _stored(model, found, files)
        note = ", ".join(files)
    if weight.ndim != 4:
        raise UsageError(
            f"{model}: the weights of layer '{found.name}' have the shape {list(weight.shape)}, expected filters: "
            "N x channels x height x width"
        )
    return Filters(title, weight, found.name, note)


def _find_layer(model: str, wanted: str) -> LayerDescription:
    """The layer of that name, or the first with filters."""
    message, lines = read_net_text(model)
    described = describe_net(message, State("TEST"), source=model, lines=lines).layers
    kinds = {layer.name: (layer, layer_class(Params(layer))) for layer in described}
    known = {name: layer for name, (layer, kind) in kinds.items() if kind.filler_section == "convolution_param"}
    if not known:
        raise UsageError(f"{model}: no layer has filters")
    if not wanted:
        return next(iter(known.values()))
    if wanted in known:
        return known[wanted]
    has = "" if wanted not in kinds else "no filters" if kinds[wanted][1].has_blobs else "no weights"
    what = f"layer '{wanted}' ({kinds[wanted][0].type}) has {has}" if has else f"the net has no layer '{wanted}'"
    raise UsageError(f"{model}: {what}{nearest(wanted, known)}; those with filters are {', '.join(known)}")


def _stored(model: str, layer: LayerDescription, files: Sequence[str]) -> np.ndarray:
    """Blob 0 of a layer from weights files; of several that have it the last counts.

    Raises:
        WeightsError: none has it, or it is not what the prototxt says.
    """
    known = blobs_in(files)
    if not known.get(layer.name):
        held = [name for name, blobs in known.items() if blobs]
        raise WeightsError(
            f"{', '.join(files)}: no weights for layer '{layer.name}' of {model}"
            f"{nearest(layer.name, held) or '; there are some for ' + (', '.join(held[:12]) or 'none')}"
        )
    file = [one for one in files if blobs_in([one]).get(layer.name)][-1]
    shape = _stored_shape(file, layer.name)
    section = layer.message.convolution_param
    candidates = [shape[1] * section.group, shape[0]] if len(shape) == 4 else [3]
    nets = [_alone(layer, channels, model) for channels in candidates]
    fit = [net for net in nets if net.layer(layer.name).blob_shapes[0] == shape] or nets
    fit[0].copy_from(file, strict=None)
    return fit[0].layer(layer.name).blob(0).detach().numpy()


def _stored_shape(file: str, layer: str) -> tuple[int, ...]:
    if weight_files.is_hdf5(file):
        with hdf5.open_weights(file) as layers:
            return next(tuple(one.dataset(0).shape) for one in layers if one.name == layer)
    return next(tuple(one.blobs[0].shape) for one in weight_files.scan(file).layers if one.name == layer)


def _alone(layer: LayerDescription, channels: int, model: str) -> Net:
    """A net of one layer, for images of so many channels; its weights are not filled."""
    message = caffe_pb2.NetParameter(name=model)
    message.layer.add().CopyFrom(input_layer("images", (1, max(channels, 1), SIDE, SIDE)))
    copy = message.layer.add()
    copy.CopyFrom(layer.message)
    for field in ("include", "exclude", "blobs", "bottom", "top"):
        copy.ClearField(field)
    copy.bottom.append("images")
    copy.top.append("filtered")
    return Net(describe_net(message, source=model), fill=False)


# -- nets of other frameworks ---------------------------------------------------------------------------------


def _foreign(title: str, model: str, weights: str, layer: str, seed: int) -> Filters:
    """Of a torch module; its net takes red first, so the channels are turned round."""
    if kind_of(model) == "onnx":
        raise UsageError(f"{model}: filters of ONNX files are not read, expected a prototxt or a torch module")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make_module(model)
    if weights != RANDOM:
        copy_state(module, read_state(weights), weights, model)
    known = {name.removesuffix(".weight"): value for name, value in module.named_parameters() if value.dim() == 4}
    name = layer or next(iter(known), "")
    if name not in known:
        near = nearest(name, known) or f"; those with filters are {', '.join(list(known)[:12])}"
        raise UsageError(f"{model}: no layer '{name}' with filters{near}")
    weight = known[name].detach().numpy()
    note = f"random, seed {seed}" if weights == RANDOM else weights
    return Filters(title, weight[:, ::-1] if weight.shape[1] == 3 else weight, name, note)


# -- pictures -------------------------------------------------------------------------------------------------


def mosaic(
    weight: np.ndarray, largest: float | None = None, *, columns: int = 0, times: int = 1, gap: int = 1
) -> np.ndarray:
    """Filters as one picture, tile by tile with white lines between them.

    Args:
        weight: [N, C, height, width].  Three channels (blue, green, red) become one coloured tile, one channel a grey
            one; of other numbers the channels stand side by side in grey.
        largest: the number that is white; its negative is black, and 0 grey.  None: every filter by itself from its
            smallest to its largest number, and grey where these are equal.
        columns: filters in a row; 0: :func:`columns_for` them.
        times: pixels of a number, across and down.
        gap: pixels between tiles.

    Returns:
        float32 [H, W, 3], red first, 0 to 1.
    """
    values = np.asarray(weight, np.float32)
    if largest is None:
        low, high = values.min((1, 2, 3), keepdims=True), values.max((1, 2, 3), keepdims=True)
        spread = np.where(high > low, high - low, 1)
        values = np.where(high > low, (values - low) / spread, MIDDLE)
    else:
        values = np.clip(values / (2 * largest or 1) + MIDDLE, 0, 1)
    values = values.repeat(times, 2).repeat(times, 3)
    channels, between = values.shape[1], gap
    if channels == 3:
        values = values[:, ::-1]
    elif channels > 1:
        values, between = _strips(values, gap), 3 * gap
    tiles = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    if channels != 3:
        tiles = tiles.expand(-1, 3, -1, -1)
    grid = make_grid(
        tiles, nrow=columns or columns_for(weight.shape, times, gap), padding=between, pad_value=1.0
    )  # a frame around all, but not around a single one
    found: np.ndarray = grid.numpy().transpose(1, 2, 0)
    return found if len(tiles) == 1 or not between else found[between:-between, between:-between]


def _strips(values: np.ndarray, gap: int) -> np.ndarray:
    """The channels of every filter side by side, a white line between them: [N, 1, height, C (width + gap) - gap]."""
    lined = np.pad(values, ((0, 0), (0, 0), (0, 0), (0, gap)), constant_values=1.0)
    count, channels, height, width = lined.shape
    return lined.transpose(0, 2, 1, 3).reshape(count, 1, height, channels * width)[..., : channels * width - gap]


def columns_for(shape: tuple[int, ...], times: int = 1, gap: int = 1) -> int:
    """Filters in a row, for a picture about as wide as high; no row is left in part if that can be had so.

    Args:
        shape: [N, C, height, width] of the filters.
    """
    count, channels, height, width = shape
    across = 1 if channels == 3 else channels
    square = math.sqrt(count * (height * times + gap) / (across * (width * times + gap)))
    whole = [n for n in range(1, count + 1) if count % n == 0 and square <= n <= 1.5 * square]
    return whole[0] if whole else max(1, math.ceil(square))
