"""Pictures of a folder as inputs of a model: to calibrate it with, and to compare it on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from caffe_compat.errors import CaffeCompatError, DataError, MissingFileError, UsageError
from caffe_compat.layers import Shape
from caffe_compat.media import Preprocessing
from caffe_compat.net import Net
from caffe_compat.onnx.metadata import SIZES, read_fact
from caffe_compat.onnx.samples import random_inputs

__all__ = ["Feed", "find_pictures"]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def find_pictures(folder: str | os.PathLike[str]) -> list[str]:
    """Picture files of a folder and the folders in it, by name; what does not end like a picture is left alone.

    Raises:
        MissingFileError: no such folder.
        DataError: no picture is in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingFileError(root, "folder of pictures")
    found = sorted(str(path) for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"{root}: holds no picture, expected some that end in {', '.join(_SUFFIXES)}")
    return found


@dataclass(frozen=True)
class Feed:
    """What a model takes, made of pictures.

    Attributes:
        net: that the model was exported from; it says what its other inputs may hold (boxes inside the picture).
        model: whose inputs these are.
        wants: how a picture becomes an input.
    """

    net: Net
    model: onnx.ModelProto
    wants: Preprocessing

    def batches(self, paths: Sequence[str], seed: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Inputs by name, of as many pictures at once as the model has fixed, else of one.

        A last batch that is not full repeats its last picture.

        Raises:
            UsageError: the model does not take pictures.
            DataError: one cannot be read, or becomes a blob of another size than the model takes; names it.
        """
        name, dims = self.image
        at_once = dims[0] if isinstance(dims[0], int) else 1
        random = np.random.default_rng(seed)
        for start in range(0, len(paths), at_once):
            chunk = list(paths[start : start + at_once])
            blobs = [self._blob(path, name, dims) for path in chunk]
            blobs += [blobs[-1]] * (at_once - len(blobs))
            different = [path for path, blob in zip(chunk, blobs, strict=False) if blob.shape != blobs[0].shape]
            if different:
                raise DataError(f"{different[0]}: becomes a blob of another size than {chunk[0]}, with it in a batch")
            yield self._complete(name, np.stack(blobs), random)

    def count(self, paths: Sequence[str]) -> int:
        """How many batches pictures make."""
        first = self.image[1][0]
        return -(-len(paths) // (first if isinstance(first, int) else 1))

    @property
    def image(self) -> tuple[str, list[int | str]]:
        """Name and sizes of the input that takes the picture.

        Raises:
            UsageError: there is none, or several.
        """
        channels = len(self.wants.channels)
        inputs = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in self.model.graph.input
        }
        found = [(name, dims) for name, dims in inputs.items() if len(dims) == 4 and dims[1] == channels]
        if len(found) != 1:
            shown = ", ".join(f"{name} {' x '.join(map(str, dims))}" for name, dims in inputs.items())
            raise UsageError(
                f"net '{self.net.description.name}' takes {shown}; expected one of pictures, N x {channels} x H x W"
            )
        return found[0]

    def _blob(self, path: str, name: str, dims: Sequence[int | str]) -> np.ndarray:
        try:
            blob = self.wants.blob(self.wants.picture(path))
        except CaffeCompatError as error:
            raise error if path in str(error) else DataError(f"{path}: {error}") from error
        if any(isinstance(dim, int) and dim != size for dim, size in zip(dims[1:], blob.shape, strict=True)):
            raise DataError(
                f"{path}: becomes {' x '.join(map(str, blob.shape))}, input '{name}' takes "
                f"{' x '.join(map(str, dims[1:]))}; the preprocessing must resize or crop pictures to it"
            )
        return blob

    def _complete(self, name: str, images: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Add values that the other inputs may hold for such images."""
        taken = [value.name for value in self.model.graph.input]
        if taken == [name]:
            return {name: images}
        sizes = read_fact(self.model, SIZES)
        shapes: dict[str, Shape] = {self.net.plan.names[b]: self.net.plan.shapes[b] for b in self.net.plan.inputs}
        for value in self.model.graph.input:
            dims = value.type.tensor_type.shape.dim
            if value.name != name and value.name in shapes:
                known = zip(dims, shapes[value.name], strict=True)
                shapes[value.name] = tuple(d.dim_value or sizes.get(d.dim_param, size) for d, size in known)
        made = random_inputs(self.net, {**shapes, name: tuple(images.shape)}, random)
        return {**{key: made[key] for key in taken if key != name}, name: images}
