"""What a net wants of a picture: one frozen description, kept beside the net as ``preprocessing.json``."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.documents import read_json
from caffe_compat.errors import CaffeCompatError, DataError, UsageError, nearest
from caffe_compat.files import write_file
from caffe_compat.media.blob import fill_blob, negate_planes
from caffe_compat.media.geometry import centre_window, resize_caffe, resize_short_side, resize_skimage
from caffe_compat.media.means import read_mean
from caffe_compat.media.modalities import find_modality
from caffe_compat.media.pictures import planes, read_picture

__all__ = ["RESIZERS", "Preprocessing", "read_preprocessing", "write_preprocessing"]

VERSION = 1
RESIZERS: Mapping[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "caffe": resize_caffe,
    "skimage": lambda image, height, width: resize_skimage(image, height, width),
}
"""How a picture gets the size that ``resize`` says, by name."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a blob: resize, crop in the middle, ``(pixel - mean) * scale``.

    Attributes:
        modality: name of what the net sees, see :data:`~caffe_compat.media.MODALITIES`.
        channels: names of the channels, in the order of the blob; those of the modality, in any order.
        mean: subtracted: one number for each channel, or one for all.  Empty with a ``mean_file``.
        mean_file: ``.binaryproto`` with the mean of every pixel, of the size that resizing gives.
        scale: factor on what is left.
        resize: height and width; None leaves the size.
        resize_rule: ``caffe`` (OpenCV's bilinear) or ``skimage`` (pycaffe's ``resize_image``).
        short_side: pixels of the short side instead of ``resize``; 0: not.
        longest_side: with ``short_side``: pixels that the long side may have; 0: any.
        crop: height and width of what is cut from the middle; None: nothing is.
        flip: whether the net may be shown pictures in a mirror too (not where writing or sides count).
        classes: names of what it tells apart, in the order of its output.

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

    def __post_init__(self) -> None:
        kind = find_modality(self.modality)
        self._default("channels", self.channels or kind.channels)
        if sorted(self.channels) != sorted(kind.channels):
            raise UsageError(f"channels {list(self.channels)}: expected those of '{kind.name}', {list(kind.channels)}")
        if self.mean is None:  # the modality's, in the order of our channels
            places = _order(self.channels, kind.channels)
            self._default("mean", () if self.mean_file else tuple(kind.mean[at] for at in places))
        if self.scale is None:
            self._default("scale", kind.scale)
        self._check()

    def _default(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        numbers = self._mean
        if numbers and self.mean_file:
            raise UsageError("mean and mean_file are given, expected one of them")
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
        if self.short_side and self.resize_rule != "caffe":
            raise UsageError(f"resize_rule '{self.resize_rule}': short_side goes by 'caffe'")
        for name, size in (("resize", self.resize), ("crop", self.crop)):
            if size is not None and (len(size) != 2 or min(size) < 1):
                raise UsageError(f"{name} {list(size)}: expected height and width")
        if min(self.short_side, self.longest_side) < 0:
            raise UsageError(f"short_side {self.short_side}, longest_side {self.longest_side}: expected 0 or more")
        if len(set(self.classes)) != len(self.classes):
            raise UsageError(f"classes: {len(self.classes) - len(set(self.classes))} names stand there twice")

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
    def _mean_values(self) -> np.ndarray:
        """What is subtracted: (0), (1), (channels), or (channels, height, width)."""
        return read_mean(self.mean_file) if self.mean_file else np.array(self._mean, np.float32)

    def picture(self, path: str | os.PathLike[str], *, most: int | None = None) -> np.ndarray:
        """Read a picture file as :meth:`blob` takes it: uint8 (height, width, 3), as OpenCV gives it.

        Raises:
            MissingFileError: no such file.
            DataError: it is no picture, or larger than the limit (``most`` pixels, 0 for none).
        """
        return read_picture(path, most=most)

    def blob(self, image: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
        """What the net takes: float32 (channels, height, width).

        Args:
            image: uint8 (height, width, 3), channels in the order of the modality (colour: blue, green, red).
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
        order = _order(self.channels, kind.channels)
        channels = [channels[at] for at in order]
        height, width = channels[0].shape
        rows, columns = centre_window((height, width), self.crop or (height, width))
        mean = self._mean_values
        if mean.ndim == 3:
            if mean.shape != (len(channels), height, width):
                raise DataError(
                    f"mean file {self.mean_file} has the shape {list(mean.shape)}, the picture "
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
            return RESIZERS[self.resize_rule](image, *self.resize)
        return resize_short_side(image, self.short_side, self.longest_side) if self.short_side else image


def _order(wanted: tuple[str, ...], have: tuple[str, ...]) -> list[int]:
    """Where each wanted channel stands; of several with one name the first that is left."""
    free = list(range(len(have)))
    found = []
    for name in wanted:
        at = next(index for index in free if have[index] == name)
        free.remove(at)
        found.append(at)
    return found


# -- preprocessing.json -----------------------------------------------------------------------------------------------


def write_preprocessing(path: str | os.PathLike[str], wanted: Preprocessing) -> None:
    """Write ``preprocessing.json``; a mean file is named relative to it.

    Raises:
        WriteError: it cannot be written.
    """
    content: dict[str, Any] = {"version": VERSION, **dataclasses.asdict(wanted)}
    if wanted.mean_file:
        content["mean_file"] = Path(os.path.relpath(wanted.mean_file, Path(path).parent)).as_posix()
    content["units"] = find_modality(wanted.modality).units
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_preprocessing(path: str | os.PathLike[str]) -> Preprocessing:
    """Read ``preprocessing.json``.

    Raises:
        MissingFileError: no such file.
        DataError: it is not such a file: a key that does not exist, a value of another type, fields that contradict
            each other; names file and field.
    """
    content = read_json(path, "preprocessing")
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object")
    if type(content.get("version")) is not int or content.pop("version") != VERSION:
        raise DataError(f"{path}: version: expected {VERSION}")
    units = content.pop("units", None)
    fields: dict[str, Any] = {}
    for key, value in content.items():
        if key not in _READERS:
            raise DataError(f"{path}: unknown key '{key}'{nearest(key, _READERS)}")
        expected, reader = _READERS[key]
        try:
            fields[key] = reader(value)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{path}: {key}: expected {expected}, found {_brief(value)}") from None
    if fields.get("mean_file"):
        fields["mean_file"] = os.path.join(Path(path).parent, fields["mean_file"])
    try:
        found = Preprocessing(**fields)
    except CaffeCompatError as error:
        raise DataError(f"{path}: {error}") from error
    if units is not None and units != find_modality(found.modality).units:
        raise DataError(f"{path}: units: expected '{find_modality(found.modality).units}', found {_brief(units)}")
    return found


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) >= 1 << 31:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError
    return float(value)


def _list(reader: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError
        return tuple(reader(part) for part in value)

    return read


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    height, width = _list(_whole)(value)
    return height, width


_READERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "modality": ("a name", _text),
    "channels": ("a list of names", _list(_text)),
    "mean": ("a list of numbers", _list(_number)),
    "mean_file": ("the name of a file", _text),
    "scale": ("a number", _number),
    "resize": ("[height, width] or null", _size),
    "resize_rule": ("a name", _text),
    "short_side": ("a whole number", _whole),
    "longest_side": ("a whole number", _whole),
    "crop": ("[height, width] or null", _size),
    "flip": ("true or false", _flag),
    "classes": ("a list of names", _list(_text)),
}
