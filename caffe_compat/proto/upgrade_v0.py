"""V0 nets (2013, ``layers { layer { type: "conv" } bottom: .. }``) to V1."""

from __future__ import annotations

import logging
from typing import Any

from caffe_compat.errors import NetError
from caffe_compat.proto import caffe_pb2

__all__ = ["V0_TYPES", "upgrade_v0"]

_log = logging.getLogger(__name__)

V0_TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}
"""V1 layer type name of every V0 type string."""

_CONV = {"conv": "convolution_param"}
_CONV_IP = {**_CONV, "innerproduct": "inner_product_param"}
_CONV_POOL = {**_CONV, "pool": "pooling_param"}
_LRN = {"lrn": "lrn_param"}
_IMAGES = {"images": "image_data_param"}
_WINDOW = {"window_data": "window_data_param"}
_DATA = {"data": "data_param", **_IMAGES}
_BATCHES = {**_DATA, "hdf5_data": "hdf5_data_param", **_WINDOW}
_ANY = "transform_param"

# V0 field -> (name in V1, {V0 type: sub-message}); a plain string is the sub-message for every type.
_FIELDS: dict[str, tuple[str, dict[str, str] | str]] = {
    "num_output": ("num_output", _CONV_IP),
    "biasterm": ("bias_term", _CONV_IP),
    "weight_filler": ("weight_filler", _CONV_IP),
    "bias_filler": ("bias_filler", _CONV_IP),
    "pad": ("pad", _CONV_POOL),
    "kernelsize": ("kernel_size", _CONV_POOL),
    "stride": ("stride", _CONV_POOL),
    "group": ("group", _CONV),
    "pool": ("pool", {"pool": "pooling_param"}),
    "dropout_ratio": ("dropout_ratio", {"dropout": "dropout_param"}),
    "local_size": ("local_size", _LRN),
    "alpha": ("alpha", _LRN),
    "beta": ("beta", _LRN),
    "k": ("k", _LRN),
    "source": ("source", {**_BATCHES, "infogain_loss": "infogain_loss_param"}),
    "scale": ("scale", _ANY),
    "meanfile": ("mean_file", _ANY),
    "batchsize": ("batch_size", _BATCHES),
    "cropsize": ("crop_size", _ANY),
    "mirror": ("mirror", _ANY),
    "rand_skip": ("rand_skip", _DATA),
    "det_fg_threshold": ("fg_threshold", _WINDOW),
    "det_bg_threshold": ("bg_threshold", _WINDOW),
    "det_fg_fraction": ("fg_fraction", _WINDOW),
    "det_context_pad": ("context_pad", _WINDOW),
    "det_crop_mode": ("crop_mode", _WINDOW),
    "new_height": ("new_height", _IMAGES),
    "new_width": ("new_width", _IMAGES),
    "shuffle_images": ("shuffle", _IMAGES),
    "concat_dim": ("concat_dim", {"concat": "concat_param"}),
}
_DROPPED = ("new_num", "new_channels")  # Caffe never read them


def upgrade_v0(net: Any, problems: list[str], where: str = "") -> tuple[Any, list[int | None]]:
    """Turn a V0 net into a V1 net.

    Only name, layers, input, input_dim and force_backward survive, as in Caffe.

    Args:
        net: the ``NetParameter``.
        problems: gets a line for every field that has no place in V1.
        where: prefix of errors.

    Returns:
        The new net and, for each of its layers, the index of the old one.

    Raises:
        NetError: unknown V0 type, or a padding layer that cannot be folded into its consumer.
    """
    result = caffe_pb2.NetParameter()
    for name in ("name", "force_backward"):
        if net.HasField(name):
            setattr(result, name, getattr(net, name))
    for name in ("input_shape", "state", "debug_info"):
        if any(descriptor.name == name for descriptor, _ in net.ListFields()):
            _log.warning("%sCaffe drops '%s' from a net with V0 layers", where, name)
    result.input.extend(net.input)
    result.input_dim.extend(net.input_dim)
    layers, origins = _fold_padding(net, where)
    for layer in layers:
        _upgrade_layer(layer, result.layers.add(), problems, where)
    return result, origins


def _fold_padding(net: Any, where: str) -> tuple[list[Any], list[int | None]]:
    """The layers without padding layers, whose amounts and bottoms go to the consumers."""
    producers: dict[str, Any] = dict.fromkeys(net.input)
    kept: list[Any] = []
    origins: list[int | None] = []
    for position, old in enumerate(net.layers):
        name, kind = old.layer.name, old.layer.type
        folded = caffe_pb2.V1LayerParameter()
        folded.CopyFrom(old)
        if kind != "padding":
            kept.append(folded)
            origins.append(position)
        for index, bottom in enumerate(old.bottom):
            if bottom not in producers:
                raise NetError(f"{where}layer '{name}' ({kind}): unknown bottom '{bottom}'")
            source = producers[bottom]
            if source is None or source.layer.type != "padding":
                continue
            _check_padding(source, old, where)
            folded.layer.pad = source.layer.pad
            folded.bottom[index] = source.bottom[0]
        producers.update(dict.fromkeys(old.top, old))
    return kept, origins


def _check_padding(padding: Any, consumer: Any, where: str) -> None:
    name, kind = consumer.layer.name, consumer.layer.type
    if kind not in ("conv", "pool"):
        raise NetError(
            f"{where}layer '{name}' ({kind}): padding layer '{padding.layer.name}' can only stand before conv or pool"
        )
    if len(consumer.bottom) != 1:
        raise NetError(f"{where}layer '{name}' ({kind}): takes a padding layer and must have exactly one bottom")
    if len(padding.bottom) != 1 or len(padding.top) != 1:
        raise NetError(f"{where}padding layer '{padding.layer.name}': must have exactly one bottom and one top")


def _upgrade_layer(old: Any, new: Any, problems: list[str], where: str) -> None:
    new.bottom.extend(old.bottom)
    new.top.extend(old.top)
    if not old.HasField("layer"):
        return
    layer = old.layer
    if layer.HasField("name"):
        new.name = layer.name
    if layer.HasField("type"):
        if layer.type not in V0_TYPES:
            raise NetError(f"{where}layer '{layer.name}': unknown V0 layer type '{layer.type}'")
        new.type = caffe_pb2.V1LayerParameter.LayerType.Value(V0_TYPES[layer.type])
    for descriptor, value in layer.ListFields():
        name = descriptor.name
        if name in ("blobs", "blobs_lr", "weight_decay"):
            getattr(new, name).MergeFrom(value)
        elif name in _FIELDS:
            _move(name, value, layer, new, problems)
        elif name == "hdf5_output_param":
            if layer.type == "hdf5_output":
                new.hdf5_output_param.CopyFrom(value)
            else:
                problems.append(_unknown(name, layer))
        elif name in _DROPPED:
            _log.warning("layer '%s' (%s): Caffe ignores V0 field '%s'", layer.name, layer.type, name)


def _move(name: str, value: Any, layer: Any, new: Any, problems: list[str]) -> None:
    """Copy one V0 field to its V1 place."""
    target_name, owners = _FIELDS[name]
    owner = owners if isinstance(owners, str) else owners.get(layer.type)
    if owner is None:
        problems.append(_unknown(name, layer))
        return
    target = getattr(new, owner)
    descriptor = target.DESCRIPTOR.fields_by_name[target_name]
    if not descriptor.has_presence:
        getattr(target, target_name).append(value)
    elif descriptor.message_type is not None:
        getattr(target, target_name).CopyFrom(value)
    else:
        setattr(target, target_name, value)


def _unknown(name: str, layer: Any) -> str:
    return f"layer '{layer.name}' ({layer.type}): V0 field '{name}' has no meaning for this type"
