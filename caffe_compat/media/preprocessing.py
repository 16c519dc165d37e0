"""What a net wants of a picture: one frozen description.  ``preparation.py`` keeps it beside the net."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from caffe_compat.errors import DataError, UsageError
from caffe_compat.media.blob import fill_blob, negate_planes
from caffe_compat.media.encoding import Encoding
from caffe_compat.media.geometry import centre_window, resize_caffe, resize_short_side, resize_skimage
from caffe_compat.media.means import read_mean
from caffe_compat.media.modalities import find_modality
from caffe_compat.media.pictures import planes, read_picture

__all__ = ["RESIZERS", "MeanPicture", "Preprocessing"]


def _in_float(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return resize_caffe(image.astype(np.float32), height, width)


RESIZERS: Mapping[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "caffe": resize_caffe,
    "fast-rcnn": _in_float,
    "skimage": lambda image, height, width: resize_skimage(image, height, width),
}
"""How a picture gets the size that ``resize`` says, by name."""


@dataclass(frozen=True)
class MeanPicture:
    """The mean of every pixel where no file goes along: as an ONNX model keeps it.

    Attributes:
        shape: channels, height, width.
        values: its float32 numbers as bytes, the lowest byte first.

    Raises:
        UsageError: so many bytes do not have that shape.
    """

    shape: tuple[int, int, int]
    values: bytes

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1 or len(self.values) != 4 * math.prod(self.shape):
            raise UsageError(f"mean_picture: {len(self.values)} bytes for the shape {list(self.shape)}")
        if not np.isfinite(self.array).all():
            raise UsageError("mean_picture: holds NaN or infinity")

    @property
    def array(self) -> np.ndarray:
        """float32 (channels, height, width)."""
        return np.frombuffer(self.values, "<f4").reshape(self.shape).astype(np.float32)

    @classmethod
    def of(cls, array: np.ndarray) -> MeanPicture:
        """That of an array (channels, height, width)."""
        channels, height, width = array.shape
        return cls((channels, height, width), np.ascontiguousarray(array, "<f4").tobytes())


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a blob: resize, crop in the middle, ``(pixel - mean) * scale``.

    Attributes:
        modality: name of what the net sees, see :data:`~caffe_compat.media.MODALITIES`.
        channels: names of the channels, in the order of the blob; those of the modality, in any order.
        mean: subtracted: one number for each channel, or one for all.  Empty with a ``mean_file``.
        mean_file: ``.binaryproto`` with the mean of every pixel, of the size that resizing gives.
        mean_picture: the same where no file goes along.
        scale: factor on what is left.
        resize: height and width; None leaves the size.
        resize_rule: ``caffe`` (OpenCV's bilinear), ``fast-rcnn`` (the same in float32, without rounding) or ``skimage``
            (pycaffe's ``resize_image``).
        short_side: pixels of the short side instead of ``resize``; 0: not.
        longest_side: with ``short_side``: pixels that the long side may have; 0: any.
        crop: height and width of what is cut from the middle; None: nothing is.
        flip: whether the net may be shown pictures in a mirror too (not where writing or sides count).
        classes: names of what it tells apart, in the order of its output.
        encoding: how the pictures were made of depth, where our tools made them.

    Raises:
        UsageError: a field that makes no sense, or fields that contradict each other.
    """

    modality: str = "color"
    channels: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    mean_file: str = ""
    scale: float | None = None
    resize: tuple[int, int] | None = None
    resize_rule: str = "caffe"
    short_side: int = 0
    longest_side: int = 0
    crop: tuple[int, int] | None = None
    flip: bool = True
    classes: tuple[str, ...] = ()
    encoding: Encoding | None = None
    mean_picture: MeanPicture | None = None

    def __post_init__(self) -> None:
        kind = find_modality(self.modality)
        self._default("channels", self.channels or kind.channels)
        if sorted(self.channels) != sorted(kind.channels):
            raise UsageError(f"channels {list(self.channels)}: expected those of '{kind.name}', {list(kind.channels)}")
        if self.mean is None:  # the modality's, in the order of our channels
            places = _order(self.channels, kind.channels)
            self._default("mean", () if self._per_pixel else tuple(kind.mean[at] for at in places))
        if self.scale is None:
            self._default("scale", kind.scale)
        self._check()

    def _default(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        numbers = self._mean
        given = [name for name in ("mean", "mean_file", "mean_picture") if getattr(self, name)]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} are given, expected one of them")
        if len(numbers) not in (0, 1, len(self.channels)) or not all(map(math.isfinite, numbers)):
            raise UsageError(f"mean {list(numbers)}: expected 1 or {len(self.channels)} numbers")
        if self.scale is None or not math.isfinite(self.scale) or self.scale == 0:
            raise UsageError(f"scale {self.scale}: expected a number other than 0")
        if self.resize_rule not in RESIZERS:
            raise UsageError(f"resize_rule '{self.resize_rule}': expected one of {', '.join(RESIZERS)}")
        if self.resize is not None and self.short_side:
            raise UsageError("resize and short_side are given, expected one of them")
        if self.longest_side and not self.short_side:
            raise UsageError("longest_side is given, but no short_side")
        if self.short_side and self.resize_rule == "skimage":
            raise UsageError("resize_rule 'skimage': short_side goes by 'caffe' or 'fast-rcnn'")
        for name, size in (("resize", self.resize), ("crop", self.crop)):
            if size is not None and (len(size) != 2 or min(size) < 1):
                raise UsageError(f"{name} {list(size)}: expected height and width")
        if min(self.short_side, self.longest_side) < 0:
            raise UsageError(f"short_side {self.short_side}, longest_side {self.longest_side}: expected 0 or more")
        if len(set(self.classes)) != len(self.classes):
            raise UsageError(f"classes: {len(self.classes) - len(set(self.classes))} names stand there twice")
        if self.encoding is not None and self.encoding.kind != find_modality(self.modality).encoder:
            raise UsageError(f"encoding: is of {self.encoding.kind} pictures, the modality is '{self.modality}'")

    @property
    def _per_pixel(self) -> bool:
        return bool(self.mean_file) or self.mean_picture is not None

    @property
    def order(self) -> list[int]:
        """Which channel of a picture, as the modality orders them, each channel of the blob is."""
        return _order(self.channels, find_modality(self.modality).channels)

    @property
    def negated(self) -> tuple[int, ...]:
        """Channels of the blob whose numbers a mirror turns about what stands for nothing."""
        kind = find_modality(self.modality)
        turned = {kind.channels[at] for at in kind.negated}
        return tuple(at for at, name in enumerate(self.channels) if name in turned)

    @property
    def _mean(self) -> tuple[float, ...]:
        return self.mean or ()

    @cached_property
    def mean_values(self) -> np.ndarray:
        """What is subtracted, in the order of the blob: float32 (0), (1), (channels), or (channels, height, width).

        Raises:
            MissingFileError: the mean file is not there.
            ModelFileError: it holds no mean.
        """
        if self.mean_picture is not None:
            return self.mean_picture.array
        return read_mean(self.mean_file) if self.mean_file else np.array(self._mean, np.float32)

    def picture(self, path: str | os.PathLike[str], *, most: int | None = None) -> np.ndarray:
        """Read a picture file as :meth:`blob` takes it: uint8 (height, width, channels), as OpenCV gives it.

        Raises:
            MissingFileError: no such file.
            DataError: it is no picture, or larger than the limit (``most`` pixels, 0 for none).
        """
        if len(self.channels) == 1:
            return read_picture(path, "gray", most)[..., None]
        return read_picture(path, most=most)

    def blob(self, image: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        """What the net takes: float32 (channels, height, width).

        Args:
            image: uint8 (height, width, channels), these in the order of the modality (colour: blue, green, red).
            mirrored: show it in a mirror.

        Raises:
            DataError: a picture of another type, or too small for the crop, or a mean file of another size.
            UsageError: ``mirrored`` where ``flip`` is False.
        """
        kind = find_modality(self.modality)
        if mirrored and not self.flip:
            raise UsageError("mirrored, but this net is not to see pictures in a mirror (flip is false)")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != len(kind.channels):
            raise DataError(
                f"a picture {image.dtype} {list(image.shape)}: expected uint8 (height, width, {len(kind.channels)})"
            )
        channels = planes(self.resized(image))
        channels = [channels[at] for at in self.order]
        height, width = channels[0].shape
        rows, columns = centre_window((height, width), self.crop or (height, width))
        mean = self.mean_values
        if mean.ndim == 3:
            if mean.shape != (len(channels), height, width):
                raise DataError(
                    f"mean {self.mean_file and f'file {self.mean_file} '}has the shape {list(mean.shape)}, the picture "
                    f"{[len(channels), height, width]}"
                )
            mean = mean[:, rows, columns]
        cut = [plane[rows, columns] for plane in channels]
        if mirrored:
            cut = negate_planes(cut, self.negated, kind.about)
        out = np.empty((len(cut), *cut[0].shape), np.float32)
        fill_blob(cut, out, mean, 1.0 if self.scale is None else self.scale, mirrored)
        return out

    def resized(self, image: np.ndarray) -> np.ndarray:
        """A picture in the size that it is cropped from."""
        if self.resize is not None:
            changed = RESIZERS[self.resize_rule](image, *self.resize)
        elif self.short_side:
            given = image.astype(np.float32) if self.resize_rule == "fast-rcnn" else image
            changed = resize_short_side(given, self.short_side, self.longest_side)
        else:
            return image
        return changed.reshape(*changed.shape[:2], -1)  # OpenCV drops the axis of a single channel


def _order(wanted: tuple[str, ...], have: tuple[str, ...]) -> list[int]:
    """Where each wanted channel stands; of several with one name the first that is left."""
    free = list(range(len(have)))
    found = []
    for name in wanted:
        at = next(index for index in free if have[index] == name)
        free.remove(at)
        found.append(at)
    return found
