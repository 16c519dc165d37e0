"""Caffe's DataTransformer: crop, mirror, subtract the mean, scale.

Source: BVLC Caffe 1.0, ``data_transformer.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.params import Params
from caffe_compat.media import MODALITIES, Preprocessing, fill_blob, negate_planes, read_mean

__all__ = ["Transformer", "plain"]


def plain(value: np.floating) -> float:
    """A number of float32 as a prototxt has it: 0.017, not 0.017000000923871994."""
    return float(f"{value:.8g}")


class Transformer:
    """``(pixel - mean) * scale`` for one image, of which a square may be cropped and which may be mirrored.

    Mirroring happens in both phases (as in Caffe, also in TEST); the crop is random in TRAIN and centred in TEST.
    The mean of a ``mean_file`` is the one at the place of the pixel before cropping and mirroring.

    ``negate_x_channel`` is this package's, for pictures of optical flow: the channel (2 of 0, 1, 2 as OpenCV reads
    them) that holds flow to the right, whose values v become 256 - v, 255 at most, in a mirror.  ActionTubes, the
    source of this rule, has it in a data layer of its own.
    """

    def __init__(self, params: Params) -> None:
        section = params.section("transform_param")
        self.train_phase = params.phase == "TRAIN"
        self.scale = np.float32(section.scale)
        self.mirror = bool(section.mirror)
        self.crop = int(section.crop_size)
        self.force_color, self.force_gray = bool(section.force_color), bool(section.force_gray)
        self.mean_file = str(section.mean_file) if section.has("mean_file") else ""
        self.mean_values = np.array(section.mean_value, np.float32)
        self.negate_x = int(section.negate_x_channel)
        if not -1 <= self.negate_x <= 2:
            raise params.error(f"negate_x_channel is {self.negate_x}, expected 0, 1, 2 or -1 for none")
        if self.mean_file and self.mean_values.size:
            raise params.error(f"has mean_file ({self.mean_file}) and mean_value, expected one of them")
        self.mean = read_mean(self.mean_file) if self.mean_file else None

    @property
    def modality(self) -> str:
        """Of pictures of three channels: flow where that is what a mirror turns, else colour."""
        return "flow" if (self.negate_x,) == MODALITIES["flow"].negated else "color"

    def wants(self, channels: int, resize: tuple[int, int] | None = None) -> Preprocessing | None:
        """What a net that is fed so wants of a picture that it is tested on; None: pictures have other channels.

        Args:
            resize: height and width of what is cropped; None: any.
        """
        if channels not in (1, 3):
            return None
        return Preprocessing(
            self.modality if channels == 3 else "gray",
            mean=tuple(map(plain, self.mean_values)),
            mean_file=self.mean_file,
            scale=plain(self.scale),
            resize=resize if self.mean is None else (self.mean.shape[1], self.mean.shape[2]),
            crop=(self.crop, self.crop) if self.crop else None,
            flip=self.mirror,
        )

    def shape(self, channels: int, height: int, width: int) -> Shape:
        """Shape of what becomes of an image of that size.

        Raises:
            DataError: the mean or the crop does not fit the image.
        """
        if self.mean is not None and self.mean.shape != (channels, height, width):
            raise DataError(
                f"mean file {self.mean_file} is for images of {_size(*self.mean.shape)}, this one has "
                f"{_size(channels, height, width)}"
            )
        if self.mean_values.size not in (0, 1, channels):
            raise DataError(
                f"has {channels} channel(s), but there are {self.mean_values.size} mean_value entries, expected 1 or "
                "one per channel"
            )
        if self.negate_x >= channels:
            raise DataError(f"has {channels} channel(s), but negate_x_channel is {self.negate_x}")
        if self.crop > min(height, width):
            raise DataError(f"is {width}x{height}, smaller than crop_size {self.crop}")
        return (channels, self.crop or height, self.crop or width)

    def __call__(
        self, channels: Sequence[np.ndarray] | np.ndarray, out: np.ndarray, random: np.random.Generator
    ) -> None:
        """Transform an image.

        Args:
            channels: its planes (height, width), of any type.
            out: float32 array of the :meth:`shape` that follows; written.
            random: where mirroring and, in TRAIN, the place of the crop are drawn from, in this order.
        """
        mirrored = self.mirror and bool(random.integers(2))
        height, width = channels[0].shape
        top = left = 0
        if self.crop and self.train_phase:
            top, left = int(random.integers(height - self.crop + 1)), int(random.integers(width - self.crop + 1))
        elif self.crop:
            top, left = (height - self.crop) // 2, (width - self.crop) // 2
        window = (slice(top, top + out.shape[1]), slice(left, left + out.shape[2]))
        mean = self.mean_values if self.mean is None else self.mean[:, *window]
        planes = [plane[window] for plane in channels]
        fill_blob(self.turned(planes) if mirrored else planes, out, mean, self.scale, mirrored)

    def turned(self, channels: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """The channels of what is seen in a mirror, before their columns are put in reverse order."""
        return channels if self.negate_x < 0 else negate_planes(channels, (self.negate_x,))


def _size(channels: int, height: int, width: int) -> str:
    return f"{channels} channel(s), height {height} and width {width}"
