"""Caffe's DataTransformer: crop, mirror, subtract the mean, scale.

Source: BVLC Caffe 1.0, ``data_transformer.cpp``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from caffe_compat.batches.reader import Levels
from caffe_compat.batches.stretching import Stretching
from caffe_compat.batches.turning import Affine
from caffe_compat.batches.varying import Varying
from caffe_compat.errors import DataError
from caffe_compat.media import fill_blob, negate_planes, planes, split_into

__all__ = ["Transform"]

_TURNED = 2  #: the channel of flow to the right


@dataclasses.dataclass(eq=False)
class Transform:
    """``(pixel - mean) * scale`` for one image, of which a square may be cropped and which may be mirrored.

    Mirroring happens in both phases (as in Caffe, also in TEST); the crop is random in TRAIN and centred in TEST.
    The mean of a ``mean_file`` is the one at the place of the pixel before cropping and mirroring.

    ``negate_x`` is this package's, for pictures of optical flow: the channel (2 of 0, 1, 2 as OpenCV reads them) that
    holds flow to the right, whose values v become 256 - v, 255 at most, in a mirror.  ActionTubes, the source of this
    rule, has it in a data layer of its own.

    Args:
        mean_values: of all channels, or of each; none where there is a ``mean`` for each pixel, that of ``mean_file``.
        flow: LisaAnne's: in a mirror channel 2 of numbers that were no encoded picture becomes 255 - v.
        pad: intel/caffe's, for pictures: zeros around what is cut out, which stay zeros; but for one row below and one
            column behind it, and numbers are rounded where there are ``mean_values``.
        varying: what comes before the crop, intel/caffe's, NVIDIA/caffe's or lim0606/ndsb's.
        rectangle: height and width of the crop where they are not ``crop`` (Cysu/caffe); 0: they are.
    """

    train_phase: bool
    scale: np.float32
    mirror: bool
    crop: int
    force_color: bool
    force_gray: bool
    mean_file: str
    mean_values: np.ndarray
    negate_x: int
    mean: np.ndarray | None = None
    flow: bool = False
    pad: int = 0
    varying: Varying | Stretching | Affine | None = None
    rectangle: tuple[int, int] = (0, 0)

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the crop; 0: all that there is."""
        return self.rectangle[0] or self.crop, self.rectangle[1] or self.crop

    def shape(self, channels: int, height: int, width: int) -> tuple[int, ...]:
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
        high, wide = self.window
        if (high > height or wide > width) and self.varying is None:
            what = f"the crop of {wide}x{high}" if any(self.rectangle) else f"crop_size {self.crop}"
            raise DataError(f"is {width}x{height}, smaller than {what}")
        return (channels, (high or height) + 2 * self.pad, (wide or width) + 2 * self.pad)

    def __call__(
        self, channels: Sequence[np.ndarray] | np.ndarray, out: np.ndarray, random: np.random.Generator
    ) -> None:
        """Transform an image.

        Args:
            channels: its planes (height, width), of any type.
            out: float32 array of the :meth:`shape` that follows; written.  One of uint8 gets the pixels as they are.
            random: where mirroring and, in TRAIN, the place of the crop are drawn from, in this order.
        """
        if self.pad:
            raise DataError(f"is no encoded picture, but transform_param has pad {self.pad}, which is for these")
        if self.varying is not None:
            channels = planes(self.varying(np.stack(list(channels), -1), random))
        mirrored, window = self._drawn(channels[0].shape, out, random)
        cut = [plane[window] for plane in channels]
        if mirrored and self.flow and len(cut) > _TURNED:
            cut[_TURNED] = 255 - cut[_TURNED]
        if out.dtype == np.uint8:
            for plane, place in zip(self.turned(cut) if mirrored else cut, out, strict=True):
                place[...] = plane[:, ::-1] if mirrored else plane
            return
        fill_blob(self.turned(cut) if mirrored else cut, out, self._mean_at(window), self.scale, mirrored)

    def picture(self, pixels: np.ndarray, out: np.ndarray, random: np.random.Generator) -> None:
        """The same for a picture, uint8 (height, width) or (height, width, channels): cut before it is taken apart."""
        if self.varying is not None:
            pixels = self.varying(pixels, random)
        mirrored, window = self._drawn(pixels.shape[:2], out, random)
        mean = self._mean_at(window)
        cut = pixels[window]
        if self.pad:
            self._bordered(planes(cut), out, mirrored)
            return
        if mirrored:  # turning bytes around is faster than turning numbers
            cut, mean = cv2.flip(cut, 1), mean[..., ::-1] if mean.ndim == 3 else mean
        if out.dtype == np.uint8 and not (mirrored and self.negate_x >= 0):
            split_into(cut, out)
            return
        channels = planes(cut)
        if out.dtype == np.uint8:
            out[...] = self.turned(channels)
            return
        fill_blob(self.turned(channels) if mirrored else channels, out, mean, self.scale)

    def _bordered(self, channels: Sequence[np.ndarray], out: np.ndarray, mirrored: bool) -> None:
        wide = np.pad(np.stack(list(channels)).astype(np.float32), [(0, 0), (self.pad, self.pad), (self.pad, self.pad)])
        if self.mean_values.size:
            wide -= self.mean_values.reshape(-1, 1, 1)
        wide *= self.scale
        if self.mean_values.size:
            np.rint(wide, out=wide)
        outside = np.ones(wide.shape[1:], bool)
        outside[self.pad : wide.shape[1] - self.pad + 1, self.pad : wide.shape[2] - self.pad + 1] = False
        wide[:, outside] = 0
        out[...] = wide[..., ::-1] if mirrored else wide

    def _drawn(
        self, size: Sequence[int], out: np.ndarray, random: np.random.Generator
    ) -> tuple[bool, tuple[slice, slice]]:
        """Whether to mirror, and rows and columns of the crop."""
        mirrored = self.mirror and bool(random.integers(2))
        room = [side - crop if crop else 0 for side, crop in zip(size, self.window, strict=True)]
        if any(self.window) and self.train_phase:
            top, left = (int(random.integers(free + 1)) for free in room)
        else:
            top, left = (free // 2 for free in room)
        high, wide = (side - 2 * self.pad for side in out.shape[1:])
        return mirrored, (slice(top, top + high), slice(left, left + wide))

    def _mean_at(self, window: tuple[slice, slice]) -> np.ndarray:
        return self.mean_values if self.mean is None else self.mean[:, *window]

    @property
    def levels(self) -> Levels | None:
        """What follows where only bytes are cut out; None: the mean is another for every pixel."""
        return None if self.mean is not None or self.pad else Levels(self.mean_values, self.scale)

    def turned(self, channels: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """The channels of what is seen in a mirror, before their columns are put in reverse order."""
        return channels if self.negate_x < 0 else negate_planes(channels, (self.negate_x,))

    def plain(self) -> Transform:
        """The same, of this class: what worker processes can load without torch."""
        return Transform(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Transform)})


def _size(channels: int, height: int, width: int) -> str:
    return f"{channels} channel(s), height {height} and width {width}"
