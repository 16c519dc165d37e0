"""Nets of C3D 1.0, in the format of its time, as its version 1.1 would have them.

There every layer over length, height and width reads the messages of the layers over height and width, with more
fields.  Source: facebook/C3D, ``C3D-v1.0/src/caffe/proto/caffe.proto`` and that of ``C3D-v1.1``.
"""

from __future__ import annotations

from typing import Any

from caffe_compat.errors import NetError

__all__ = ["upgrade_c3d"]

_MOVED = {
    "Convolution3D": ("convolution_param", "convolution3d_param"),
    "Deconvolution3D": ("convolution_param", "convolution3d_param"),
    "Pooling3D": ("pooling_param", "pooling3d_param"),
    "VideoData": ("image_data_param", "video_data_param"),
    "VideoSegmentationData": ("image_data_param", "video_data_param"),
    "VideoWithVoxelTruthData": ("image_data_param", "video_data_param"),
}
_TRANSFORM = ("scale", "mean_file", "mean_value", "crop_size", "mirror")


def upgrade_c3d(layer: Any, where: str = "") -> None:
    """Move what a layer that was V1 has in the messages of version 1.0 to those of 1.1; other layers stay.

    Args:
        layer: a ``LayerParameter``, changed in place.

    Raises:
        NetError: a field that the layer's message of 1.1 does not have.
    """
    old, new = _MOVED.get(layer.type, ("", ""))
    if not old or not layer.HasField(old):
        return
    source, target = getattr(layer, old), getattr(layer, new)
    target.SetInParent()
    for field, value in source.ListFields():
        if old == "image_data_param" and field.name in _TRANSFORM:
            _set(layer.transform_param, field.name, value)
        elif field.name in target.DESCRIPTOR.fields_by_name:
            numbers = [value] if field.has_presence else list(value)
            if len(numbers) > 1:
                raise _refused(where, layer, f"{old}.{field.name} has {len(numbers)} entries, expected one")
            _set(target, field.name, numbers[0])
        elif field.name not in ("engine", "use_label"):  # which version 1.0 reads nowhere
            raise _refused(where, layer, f"parameter {old}.{field.name} means nothing to a layer of this type")
    if layer.type == "VideoData" and not target.HasField("use_image"):
        target.use_image = False  # tells that it is C3D's
    layer.ClearField(old)


def _set(message: Any, name: str, value: Any) -> None:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        getattr(message, name).CopyFrom(value)
    elif not field.has_presence:
        getattr(message, name).append(value)
    elif field.enum_type is not None and isinstance(value, int):
        setattr(message, name, value)
    else:
        setattr(message, name, bool(value) if field.type == field.TYPE_BOOL else value)


def _refused(where: str, layer: Any, reason: str) -> NetError:
    return NetError(f"{where}layer '{layer.name}' ({layer.type}): {reason}")
