"""Images, blobs and datums as arrays: the functions that scripts know as ``caffe.io``.

Images are float32 arrays (height, width, channels) in RGB with values from 0 to 1, as scikit-image reads them.
Source: BVLC Caffe 1.0, ``python/caffe/io.py`` (behaviour only).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import skimage  # loads its parts on first use

from caffe_compat.errors import UsageError
from caffe_compat.files import open_existing
from caffe_compat.media import check_size, resize_skimage, stated_size
from caffe_compat.proto import caffe_pb2

__all__ = [
    "Transformer",
    "array_to_blobproto",
    "array_to_datum",
    "arraylist_to_blobprotovector_str",
    "blobproto_to_array",
    "blobprotovector_str_to_arraylist",
    "caffe_pb2",
    "datum_to_array",
    "load_image",
    "oversample",
    "resize",
    "resize_image",
]

# -- messages and arrays -----------------------------------------------------------------------------------------


def blobproto_to_array(blob: Any, return_diff: bool = False) -> np.ndarray:
    """The data (or the diff) of a ``BlobProto``, in its legacy 4 axes if any of them is set, else in its shape.

    Raises:
        ValueError: the values do not fill that shape.
    """
    values = np.array((blob.double_diff or blob.diff) if return_diff else (blob.double_data or blob.data))
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        return values.reshape(blob.num, blob.channels, blob.height, blob.width)
    return values.reshape(tuple(blob.shape.dim))


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> Any:
    """A ``BlobProto`` with the values, shape and (if given) gradient of arrays."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(np.shape(arr))
    blob.data.extend(np.ravel(arr).astype(float))
    if diff is not None:
        blob.diff.extend(np.ravel(diff).astype(float))
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Arrays as the bytes of a ``BlobProtoVector``."""
    message = caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(array) for array in arraylist])
    data: bytes = message.SerializeToString()
    return data


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:  # noqa: A002 - pycaffe's name
    """Arrays from the bytes of a ``BlobProtoVector``."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Any:
    """A ``Datum`` from an array (channels, height, width): uint8 as bytes, anything else as floats.

    Raises:
        ValueError: the array does not have three axes.
    """
    arr = np.asarray(arr)
    if arr.ndim != 3:
        raise ValueError(f"array_to_datum: the array has shape {list(arr.shape)}, expected (channels, height, width)")
    channels, height, width = arr.shape
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width)
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.ravel().astype(float))
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: Any) -> np.ndarray:
    """The array (channels, height, width) of a ``Datum``: uint8, or float64 where it holds floats.

    Raises:
        ValueError: the datum holds a compressed image, or its values do not fill its shape.
    """
    if datum.encoded:
        raise ValueError("datum_to_array: the datum holds a compressed image, expected pixels")
    values = np.frombuffer(datum.data, np.uint8).copy() if datum.data else np.array(datum.float_data, float)
    return values.reshape(datum.channels, datum.height, datum.width)


# -- images ------------------------------------------------------------------------------------------------------


def load_image(filename: str | os.PathLike[str], color: bool = True) -> np.ndarray:
    """Read an image file: float32 (height, width, 3) in RGB from 0 to 1; (height, width, 1) if not ``color``.

    A gray image is repeated in all channels; an alpha channel is dropped.

    Raises:
        MissingFileError: no such file.
        DataError: it has more pixels than the limit (see ``caffe_compat.media.pixel_limit``), or claims more than fit
            into its bytes.
    """
    with open_existing(filename, "image") as stream:
        data = stream.read()
    size = stated_size(data, os.fspath(filename))
    if size is not None:
        check_size(*size, os.fspath(filename))
    image = skimage.util.img_as_float(skimage.io.imread(os.fspath(filename), as_gray=not color)).astype(np.float32)
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
        return np.tile(image, (1, 1, 3)) if color else image
    rgb: np.ndarray = image[:, :, :3]
    return rgb


def resize_image(im: np.ndarray, new_dims: Sequence[int] | np.ndarray, interp_order: int = 1) -> np.ndarray:
    """Resize an image (height, width, channels) to (height, width) ``new_dims``; float32.

    Images of 1 or 3 channels go through scikit-image, scaled to 0..1 by their own range first, without smoothing and
    with zeros outside; others go through SciPy's zoom, whose grid differs.
    """
    height, width = (int(dim) for dim in new_dims)
    return resize_skimage(im, height, width, interp_order)


def resize(image: np.ndarray, output_shape: Sequence[int], *args: Any, **options: Any) -> np.ndarray:
    """scikit-image's ``resize``, which BVLC's ``caffe.io`` imports and scripts take from there."""
    return np.asarray(skimage.transform.resize(image, output_shape, *args, **options))


def oversample(images: Sequence[np.ndarray], crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Ten crops of each image: corners (top left, top right, bottom left, bottom right), centre, and these mirrored.

    Args:
        images: arrays (height, width, channels), all of one size.
        crop_dims: (height, width) of the crops.

    Returns:
        float32 (10 N, height, width, channels).
    """
    high, wide = (int(dim) for dim in crop_dims)
    height, width, channels = images[0].shape
    offsets = [(y, x) for y in (0, height - high) for x in (0, width - wide)]
    offsets.append((int((height - high) / 2), int((width - wide) / 2)))
    crops = np.empty((10 * len(images), high, wide, channels), np.float32)
    for number, image in enumerate(images):
        for place, (y, x) in enumerate(offsets):
            crop = image[y : y + high, x : x + wide]
            crops[10 * number + place] = crop
            crops[10 * number + 5 + place] = crop[:, ::-1]
    return crops


class Transformer:
    """From images to what a net takes, and back.

    ``preprocess``: resize to the input's height and width, move axes, reorder channels, scale (``raw_scale``),
    subtract the mean, scale (``input_scale``); what was not set is left out.

    Args:
        inputs: shape of each input blob, by name.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = {name: tuple(int(dim) for dim in shape) for name, shape in inputs.items()}
        self.transpose: dict[str, tuple[int, ...]] = {}
        self.channel_swap: dict[str, tuple[int, ...]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """An image (height, width, channels) as the net's input; ``data`` is left as it is."""
        self._check_input(in_)
        value = np.asarray(data).astype(np.float32)
        size = self.inputs[in_][2:]
        if value.shape[:2] != size:
            value = resize_image(value, size)
        if in_ in self.transpose:
            value = value.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            value = value[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            value = value * np.float32(self.raw_scale[in_])
        if in_ in self.mean:
            value = (value - self.mean[in_]).astype(np.float32)
        if in_ in self.input_scale:
            value = value * np.float32(self.input_scale[in_])
        return value

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The image that ``preprocess`` would turn into ``data`` (without the resizing), in the type of ``data``."""
        self._check_input(in_)
        value = np.array(data).squeeze()
        kind = value.dtype if value.dtype.kind == "f" else np.result_type(value, np.float32)
        if in_ in self.input_scale:
            value = (value / self.input_scale[in_]).astype(kind)
        if in_ in self.mean:
            value = (value + self.mean[in_]).astype(kind)
        if in_ in self.raw_scale:
            value = (value / self.raw_scale[in_]).astype(kind)
        if in_ in self.channel_swap:
            value = value[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            value = value.transpose(np.argsort(self.transpose[in_]))
        return value

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Move the axes of an image, e.g. ``(2, 0, 1)`` for channels first."""
        self._check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise UsageError(f"the transpose of '{in_}' has {len(order)} axes, expected {len(self.inputs[in_]) - 1}")
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Reorder the channels, e.g. ``(2, 1, 0)`` from RGB to BGR."""
        self._check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise UsageError(
                f"the channel swap of '{in_}' has {len(order)} entries, "
                f"expected one per channel ({self.inputs[in_][1]})"
            )
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Multiply by this before the mean is subtracted, e.g. 255."""
        self._check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Subtract this: one value per channel, or an image (channels, height, width) or (height, width), resized to
        the input if it has another size.
        """
        self._check_input(in_)
        mean, shape = np.asarray(mean), self.inputs[in_][1:]
        if mean.ndim == 1:
            if len(mean) != shape[0]:
                raise ValueError(f"the mean has {len(mean)} channels, input '{in_}' has {shape[0]}")
            self.mean[in_] = mean[:, np.newaxis, np.newaxis]
            return
        if mean.ndim == 2:
            mean = mean[np.newaxis]
        if mean.ndim != 3 or mean.shape[0] not in (1, shape[0]):
            raise ValueError(f"the mean has shape {list(mean.shape)}, expected {list(shape)} for input '{in_}'")
        if mean.shape[1:] != shape[1:]:
            low, span = mean.min(), float(mean.max() - mean.min()) or 1.0
            resized = resize_image(((mean - low) / span).transpose(1, 2, 0), shape[1:])
            mean = resized.transpose(2, 0, 1) * span + low
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Multiply by this after the mean is subtracted."""
        self._check_input(in_)
        self.input_scale[in_] = scale

    def _check_input(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise UsageError(f"'{in_}' is not one of the net inputs: {', '.join(self.inputs)}")
