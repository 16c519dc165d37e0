"""NYUD2's labelled frames, read one at a time from ``nyu_depth_v2_labeled.mat`` (2.8 GB, Matlab 7.3).

The file (N = 1449, but any N is read; Matlab's shape, HDF5 holds the axes reversed):

====================================  ===================  ======  ==================================================
variable                              shape                class   content
====================================  ===================  ======  ==================================================
images                                480 x 640 x 3 x N    uint8   RGB
depths                                480 x 640 x N        single  metres, holes filled
rawDepths                             480 x 640 x N        single  metres, registered to the image, 0 = not measured
labels                                480 x 640 x N        uint16  position in names from 1, 0 = not labelled
instances                             480 x 640 x N        uint8   number among the things of one label, 0 = none
names                                 894 x 1 cell         char    names of the labels
scenes, sceneTypes, rawRgbFilenames,  N x 1 cell           char    where the frame is from
rawDepthFilenames
====================================  ===================  ======  ==================================================

A frame's number is its position from 1, plus 5000.  The borders of the images are white and without depth; rows 45 to
469 and columns 40 to 599 (from 0) are used, which moves the principal point.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from types import TracebackType
from typing import Self

import h5py
import numpy as np

from caffe_compat.datasets.mat import check_stored, node_v73, open_v73, read_v73
from caffe_compat.errors import DataError, one_line

__all__ = [
    "CLASSES",
    "COUNT",
    "CROP",
    "FIRST_ID",
    "HEIGHT",
    "WIDTH",
    "LabelledFrame",
    "LabelledNYUD2",
]

CLASSES = (
    "bathtub",
    "bed",
    "bookshelf",
    "box",
    "chair",
    "counter",
    "desk",
    "door",
    "dresser",
    "garbage-bin",
    "lamp",
    "monitor",
    "night-stand",
    "pillow",
    "sink",
    "sofa",
    "table",
    "television",
    "toilet",
)
"""The 19 classes with boxes, in the order of the published detectors (which count them from 1; 0 is background)."""
FIRST_ID = 5001
"""Number of the first frame."""
COUNT = 1449
"""Frames in the published file."""
HEIGHT, WIDTH = 480, 640
CROP = (slice(45, 470), slice(40, 600))
"""Rows and columns of a frame that are used: 425 x 560 pixels."""
_CACHE_LIMIT = 256 << 20
_FRAME_SHAPES: dict[str, tuple[tuple[int, ...], str]] = {  # of one frame as HDF5 holds it, and kinds of numbers
    "images": ((3, WIDTH, HEIGHT), "u1"),
    "depths": ((WIDTH, HEIGHT), "f4 f8"),
    "rawDepths": ((WIDTH, HEIGHT), "f4 f8"),
    "labels": ((WIDTH, HEIGHT), "u2"),
    "instances": ((WIDTH, HEIGHT), "u1"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledFrame:
    """One frame, upright.

    Args:
        number: 5001 and up.
        color: uint8 [H, W, 3], RGB.
        depth: float32 [H, W] metres, holes filled.
        raw_depth: float32 [H, W] metres, 0 = not measured.
    """

    number: int
    color: np.ndarray
    depth: np.ndarray
    raw_depth: np.ndarray


class LabelledNYUD2:
    """``nyu_depth_v2_labeled.mat``, open; a context manager.  Its length is the number of frames.

    A frame is read alone.  Where the file keeps several frames in one compressed chunk, a cache of up to 256 MB a
    variable holds a row of chunks, so that frames read in order are decompressed once.

    Args:
        path: the file.
        crop: give 425 x 560 pixels of each frame (:data:`CROP`) instead of 480 x 640.

    Raises:
        MissingFileError: no such file.
        DataError: it is not such a file, or images, depths or rawDepths are absent or of another shape or class.
    """

    def __init__(self, path: str | os.PathLike[str], crop: bool = True) -> None:
        self.path = os.fspath(path)
        self.crop = crop
        self._variables: dict[str, h5py.Dataset] = {}
        self._file = open_v73(path)
        try:
            self._length = self._frames_in("images")
            for name in ("depths", "rawDepths"):
                self._variable(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading from it is an error afterwards."""
        self._variables.clear()
        self._file.close()

    def __len__(self) -> int:
        return self._length

    def __contains__(self, variable: str) -> bool:
        """Whether the file has a variable, such as ``scenes``."""
        return variable in self._file

    @property
    def numbers(self) -> range:
        """The numbers of the frames: 5001 and up."""
        return range(FIRST_ID, FIRST_ID + self._length)

    def frame(self, number: int) -> LabelledFrame:
        """Colour, depth and raw depth of one frame.

        Raises:
            DataError: no such frame, or its part of the file is damaged.
        """
        color = np.ascontiguousarray(self._read("images", number).transpose(2, 1, 0)[self._window])
        return LabelledFrame(number, color, self._map("depths", number), self._map("rawDepths", number))

    def labels(self, number: int) -> np.ndarray:
        """Label of each pixel of a frame, uint16 [H, W]: position in :attr:`names` from 1; 0 is none.

        Raises:
            DataError: the file has no labels, no such frame, or is damaged.
        """
        return self._map("labels", number)

    def instances(self, number: int) -> np.ndarray:
        """Instance of each pixel of a frame, uint8 [H, W], counted from 1 within each label; 0 is none.

        Raises:
            DataError: the file has no instances, no such frame, or is damaged.
        """
        return self._map("instances", number)

    @functools.cached_property
    def names(self) -> list[str]:
        """Names of the labels; label 1 is the first.

        Raises:
            DataError: the file has none.
        """
        return self._texts("names")

    @functools.cached_property
    def scenes(self) -> list[str]:
        """The scene of each frame, such as ``kitchen_0004``.

        Raises:
            DataError: the file has none, or not one a frame.
        """
        return self._texts("scenes", self._length)

    @functools.cached_property
    def scene_types(self) -> list[str]:
        """The kind of scene of each frame, such as ``kitchen``; errors as :attr:`scenes`."""
        return self._texts("sceneTypes", self._length)

    @functools.cached_property
    def raw_depth_filenames(self) -> list[str]:
        """Where each frame's depth is in the raw video; errors as :attr:`scenes`."""
        return self._texts("rawDepthFilenames", self._length)

    @functools.cached_property
    def raw_color_filenames(self) -> list[str]:
        """Where each frame's image is in the raw video; errors as :attr:`scenes`."""
        return self._texts("rawRgbFilenames", self._length)

    @property
    def _window(self) -> tuple[slice, slice]:
        return CROP if self.crop else (slice(None), slice(None))

    def _map(self, name: str, number: int) -> np.ndarray:
        values = self._read(name, number).T[self._window]
        return np.ascontiguousarray(values, np.float32 if values.dtype.kind == "f" else None)

    def _read(self, name: str, number: int) -> np.ndarray:
        """One frame of a variable as HDF5 holds it, axes reversed."""
        variable = self._variable(name)
        if number not in self.numbers:
            raise DataError(
                f"{self.path}: no frame {number!r}; its {self._length} frames are numbered {self.numbers[0]} to "
                f"{self.numbers[-1]}"
            )
        try:
            several = variable.ndim > len(_FRAME_SHAPES[name][0])
            return np.asarray(variable[number - FIRST_ID] if several else variable[()])
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise DataError(
                f"{self.path}: frame {number} of variable '{name}' is damaged: {one_line(error)}"
            ) from error

    def _variable(self, name: str) -> h5py.Dataset:
        if name not in self._variables:
            count = self._frames_in(name)
            if count != self._length:
                raise DataError(f"{self.path}: variable '{name}' has {count} frames, images {self._length}")
            self._variables[name] = _with_cache(self._file, name)
        return self._variables[name]

    def _frames_in(self, name: str) -> int:
        """How many frames a variable has, after checking its class and shape."""
        if not self._file:
            raise DataError(f"{self.path}: the file has been closed")
        try:
            node = node_v73(self._file, name)
            if isinstance(node, h5py.Dataset):
                check_stored(node)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise DataError(f"{self.path}: variable '{name}' is damaged: {one_line(error)}") from error
        if not isinstance(node, h5py.Dataset):
            raise DataError(f"{self.path}: no variable '{name}', expected one of NYUD2's labelled frames")
        frame, kinds = _FRAME_SHAPES[name]
        shape = node.shape if node.ndim > len(frame) else (1, *node.shape)  # Matlab drops a last axis of 1
        if shape[1:] != frame or shape[0] == 0 or node.dtype.str[1:] not in kinds.split():
            raise DataError(
                f"{self.path}: variable '{name}' is {node.dtype} of Matlab shape {_sizes(node.shape)}, "
                f"expected {np.dtype(kinds.split()[0])} {_sizes(frame)} x N"
            )
        return int(shape[0])

    def _texts(self, name: str, count: int | None = None) -> list[str]:
        if not self._file:
            raise DataError(f"{self.path}: the file has been closed")
        value = read_v73(self._file, name)
        cells = list(value.ravel()) if isinstance(value, np.ndarray) and value.dtype == object else [None]
        texts = [text for text in cells if isinstance(text, str)]
        if len(texts) < len(cells):
            raise DataError(f"{self.path}: variable '{name}': expected a cell array of text")
        if count is not None and len(texts) != count:
            raise DataError(f"{self.path}: variable '{name}' has {len(texts)} entries for {count} frames")
        return texts


def _with_cache(file: h5py.File, name: str) -> h5py.Dataset:
    """A variable whose chunk cache holds all chunks that one frame touches.

    HDF5's own cache (1 to 8 MB) would decompress chunks of several frames again for every frame.
    """
    node = file[name]
    if node.chunks is None:
        return node
    touched = int(np.prod([-(-size // chunk) for size, chunk in zip(node.shape[1:], node.chunks[1:], strict=True)]))
    needed = touched * int(np.prod(node.chunks)) * node.dtype.itemsize
    del node  # a variable that is open already keeps its cache
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(_next_prime(10 * touched), min(max(needed, 1 << 20), _CACHE_LIMIT), 1.0)
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))


def _next_prime(number: int) -> int:
    """HDF5 wants a prime number of hash slots."""
    number = max(number, 101)
    while any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
        number += 1
    return number


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in reversed(shape))
