"""Pictures of a folder as inputs of a model: to calibrate it with, and to compare it on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from caffe_compat.deploy.facts import ROIS
from caffe_compat.errors import CaffeCompatError, DataError, MissingFileError, UsageError
from caffe_compat.layers import Shape
from caffe_compat.media import Preparation, Preprocessing
from caffe_compat.net import Net
from caffe_compat.onnx.metadata import SIZES, read_fact
from caffe_compat.onnx.samples import random_inputs

__all__ = ["Feed", "find_pictures"]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
Item = Mapping[str, str]  #: a picture for each input that takes one


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
        wants: how pictures become inputs.
    """

    net: Net
    model: onnx.ModelProto
    wants: Preparation

    def find(self, folder: str | os.PathLike[str]) -> list[Item]:
        """The pictures of a folder.

        Of a net with several inputs of pictures the folder holds one folder for each, called like the input, with
        pictures of the same names in all.

        Raises:
            MissingFileError, DataError: no such folder, no pictures, or some that the folder of another input lacks.
            UsageError: the net takes no pictures.
        """
        names = list(self.images)
        if len(names) == 1:
            return [{names[0]: path} for path in find_pictures(folder)]
        stems = {
            name: {os.path.splitext(os.path.relpath(path, root))[0]: path for path in find_pictures(root)}
            for name in names
            for root in [Path(folder) / name]
        }
        first = stems[names[0]]
        for name, found in stems.items():
            lone = sorted(set(first) ^ set(found))
            if lone:
                raise DataError(f"{folder}: picture '{lone[0]}' is not in both {names[0]} and {name}")
        return [{name: stems[name][stem] for name in names} for stem in first]

    def batches(self, items: Sequence[Item], seed: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Inputs by name, of as many pictures at once as the model has fixed, else of one.

        A last batch that is not full repeats its last picture.

        Raises:
            DataError: one cannot be read, or becomes a blob of another size than the model takes; names it.
        """
        random = np.random.default_rng(seed)
        at_once = self._at_once
        for start in range(0, len(items), at_once):
            chunk = list(items[start : start + at_once])
            yield self._complete(
                {name: self._stack([item[name] for item in chunk], name) for name in self.images}, random
            )

    def count(self, items: Sequence[Item]) -> int:
        """How many batches pictures make."""
        return -(-len(items) // self._at_once)

    @cached_property
    def images(self) -> dict[str, Preprocessing]:
        """The inputs that take pictures, and how these are made.

        Raises:
            UsageError: there is none, or one of other channels than is said of it.
            DataError: nothing is said of one.
        """
        regions = read_fact(self.model, ROIS)
        inputs = {value.name: _dims(value) for value in self.model.graph.input}
        found = [name for name, dims in inputs.items() if len(dims) == 4 and name not in regions]
        shown = ", ".join(f"{name} {' x '.join(map(str, dims))}" for name, dims in inputs.items())
        if not found:
            raise UsageError(f"net '{self.net.description.name}' takes {shown}, expected pictures (N x C x H x W)")
        wants = self.wants.of(found)
        for name, wanted in wants.items():
            if inputs[name][1] != len(wanted.channels):
                raise UsageError(
                    f"net '{self.net.description.name}' takes {shown}, but '{name}' is said to be pictures of "
                    f"{len(wanted.channels)} channels ({wanted.modality})"
                )
        return wants

    @property
    def _at_once(self) -> int:
        first = next(_dims(value)[0] for value in self.model.graph.input if value.name in self.images)
        return first if isinstance(first, int) else 1

    def _stack(self, paths: Sequence[str], name: str) -> np.ndarray:
        dims = next(_dims(value) for value in self.model.graph.input if value.name == name)
        blobs = [self._blob(path, name, dims) for path in paths]
        blobs += [blobs[-1]] * (self._at_once - len(blobs))
        for path, blob in zip(paths, blobs, strict=False):
            if blob.shape != blobs[0].shape:
                raise DataError(f"{path}: becomes a blob of another size than {paths[0]}, with it in a batch")
        return np.stack(blobs)

    def _blob(self, path: str, name: str, dims: Sequence[int | str]) -> np.ndarray:
        wanted = self.images[name]
        try:
            blob = wanted.blob(wanted.picture(path))
        except CaffeCompatError as error:
            raise error if path in str(error) else DataError(f"{path}: {error}") from error
        if any(isinstance(dim, int) and dim != size for dim, size in zip(dims[1:], blob.shape, strict=True)):
            raise DataError(
                f"{path}: becomes {' x '.join(map(str, blob.shape))}, input '{name}' takes "
                f"{' x '.join(map(str, dims[1:]))}; the preprocessing must resize or crop pictures to it"
            )
        return blob

    def _complete(self, images: Mapping[str, np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Add values that the other inputs may hold for such images."""
        taken = [value.name for value in self.model.graph.input]
        if set(taken) == set(images):
            return dict(images)
        sizes = read_fact(self.model, SIZES)
        shapes: dict[str, Shape] = {self.net.plan.names[b]: self.net.plan.shapes[b] for b in self.net.plan.inputs}
        for value in self.model.graph.input:
            known = zip(_dims(value), shapes[value.name], strict=True)
            shapes[value.name] = tuple(d if isinstance(d, int) else sizes.get(d, size) for d, size in known)
        shapes |= {name: tuple(array.shape) for name, array in images.items()}
        made = random_inputs(self.net, shapes, random)
        return {name: images[name] if name in images else made[name] for name in taken}


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
