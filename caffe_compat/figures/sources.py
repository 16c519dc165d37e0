"""Pairs of pictures as two nets see them, and as people do: whole, in the size that the nets were trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from caffe_compat.description import LayerDescription, describe_layer
from caffe_compat.errors import DataError, UsageError, in_file
from caffe_compat.layers import Params
from caffe_compat.layers.data import PairedImageData
from caffe_compat.media import Pair, Preprocessing, check_pairs, different_sizes, model_preparation, read_pair_list
from caffe_compat.proto import caffe_pb2

__all__ = ["DeclaredPairs", "Feeding", "PairSource", "PreparedPairs", "check_pairs_layer", "preparation", "stated"]

SECTION = "paired_image_data_param"


class PairSource(Protocol):
    """Pairs in the order of their list."""

    source: str
    pairs: Sequence[Pair]

    def blobs(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """What the two nets take: float32 [1, C, H, W] each."""
        ...

    def pictures(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The same pixels as pictures: uint8 [H, W, 3] each, blue first."""
        ...


@dataclass(frozen=True)
class Feeding:
    """What a user says of the pictures; what is left open, the nets say.

    Attributes:
        source: the list of pairs.
        root_folder: what its paths are relative to.
        short_side: pixels; 0: no resizing.
        multiple_of: pictures are cut to multiples of this at the bottom and at the right.
        mean, mean_second: subtracted from the first and the second pictures, blue, green, red.
    """

    source: str = ""
    root_folder: str | None = None
    short_side: int | None = None
    multiple_of: int | None = None
    mean: tuple[float, ...] = ()
    mean_second: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("--mean", self.mean), ("--mean-second", self.mean_second)):
            if len(value) not in (0, 1, 3):
                raise UsageError(f"{name} has {len(value)} numbers, expected 1 or 3 (blue, green, red)")
        if self.short_side is not None and self.short_side < 0:
            raise UsageError(f"--short-side is {self.short_side}, expected 0 (no resizing) or more")
        if self.multiple_of is not None and self.multiple_of < 1:
            raise UsageError(f"--multiple-of is {self.multiple_of}, expected a positive number")


class DeclaredPairs:
    """Pairs as the data layer of a net for training declares them, but whole pictures, one pair after another.

    Args:
        layer: the data layer.
        keep_crop: whether the crop stays (in the middle), for nets that take one size only.

    Raises:
        UsageError: a layer that reads no pairs.
        DataError, MissingFileError: a list or pictures that cannot be used; all of them at once.
    """

    def __init__(self, layer: LayerDescription, feeding: Feeding, keep_crop: bool = False) -> None:
        message = caffe_pb2.LayerParameter()
        message.CopyFrom(layer.message)
        check_pairs_layer(layer)
        message.ClearField("include")
        del message.top[2:]
        _as_told(getattr(message, SECTION), feeding, keep_crop)
        self._layer = PairedImageData(Params(describe_layer(message)), [])
        self.source: str = self._layer.source
        self.pairs: Sequence[Pair] = self._layer.pairs

    def blobs(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """What the two nets take: float32 [1, 3, H, W] each."""
        first, second = self._layer.read(number)
        return first, second

    def pictures(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The same pixels as pictures: uint8 [H, W, 3] each, blue first."""
        found = [
            np.rint(blob[0].transpose(1, 2, 0) / self._layer.scale + mean).clip(0, 255).astype(np.uint8)
            for blob, mean in zip(self.blobs(number), self._layer.means, strict=True)
        ]
        return found[0], found[1]


def check_pairs_layer(layer: LayerDescription) -> None:
    """Refuse a layer that reads no pairs.

    Raises:
        UsageError: it does not.
    """
    if not layer.message.HasField(SECTION):
        raise UsageError(
            f"layer '{layer.name}' ({layer.type}) reads no pairs of pictures; give the train_val prototxt of a "
            "transfer, or two prototxts: of the teacher and of the student"
        )


def _as_told(param: Any, feeding: Feeding, keep_crop: bool) -> None:
    param.batch_size = 1
    param.shuffle = param.mirror = False
    for field in ("proposals", "rois_per_image", "top_k", *(() if keep_crop else ("crop_height", "crop_width"))):
        param.ClearField(field)
    if feeding.source:
        param.source = feeding.source
    if feeding.root_folder is not None:
        param.root_folder = feeding.root_folder
    if feeding.short_side is not None:
        for field in ("new_height", "new_width", "short_side"):
            param.ClearField(field)
        param.short_side = feeding.short_side
    if feeding.multiple_of is not None:
        param.multiple_of = feeding.multiple_of
    if feeding.mean_second or feeding.mean and not param.mean_value_1:
        second = feeding.mean_second or tuple(param.mean_value)
        del param.mean_value_1[:]
        param.mean_value_1.extend(second)
    if feeding.mean:
        del param.mean_value[:]
        param.mean_value.extend(feeding.mean)


class PreparedPairs:
    """Pairs of which each net says in a ``preprocessing.json`` how it wants them; whole pictures.

    Raises:
        UsageError: the nets want pictures of different sizes.
        DataError, MissingFileError: a list or pictures that cannot be used; all of them at once.
    """

    def __init__(self, first: Preprocessing, second: Preprocessing, feeding: Feeding) -> None:
        if not feeding.source:
            raise UsageError("--source is missing: the list of pairs")
        self.source = feeding.source
        self.pairs: Sequence[Pair] = read_pair_list(feeding.source, feeding.root_folder or "")
        self._multiple = feeding.multiple_of or 1
        self._sides = (_told(first, feeding, feeding.mean), _told(second, feeding, feeding.mean_second))
        one, other = ((side.resize, side.short_side, side.longest_side) for side in self._sides)
        if one != other:
            raise UsageError(
                f"the nets want pictures of different sizes (resize, short_side, longest_side: {one} and {other}); say "
                "which with --short-side"
            )
        check_pairs(self.source, self.pairs)

    def blobs(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """What the two nets take: float32 [1, 3, H, W] each."""
        bare = [replace(side, resize=None, short_side=0, longest_side=0) for side in self._sides]
        first, second = (side.blob(image)[None] for side, image in zip(bare, self.pictures(number), strict=True))
        return first, second

    def pictures(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The same pixels as pictures: uint8 [H, W, 3] each, blue first."""
        pair = self.pairs[number]
        with in_file(f"{self.source}, line {pair.line}"):
            found = [
                side.resized(side.picture(path))
                for side, path in zip(self._sides, (pair.first, pair.second), strict=True)
            ]
        if found[0].shape != found[1].shape:
            told = different_sizes(pair, found[0].shape, found[1].shape)
            raise DataError(f"{self.source}, line {pair.line}: {told}")
        height, width = (side // self._multiple * self._multiple for side in found[0].shape[:2])
        if not height or not width:
            raise DataError(f"{self.source}, line {pair.line}: the images are smaller than {self._multiple} pixels")
        return found[0][:height, :width], found[1][:height, :width]


def _told(side: Preprocessing, feeding: Feeding, mean: tuple[float, ...]) -> Preprocessing:
    changed: dict[str, Any] = {"crop": None}
    if feeding.short_side is not None:
        changed |= {"resize": None, "longest_side": 0, "short_side": feeding.short_side, "resize_rule": "caffe"}
    if mean:
        changed |= {"mean": mean, "mean_file": ""}
    return replace(side, **changed)


def preparation(model: str, modality: str = "", name: str = "", weights: str = "") -> Preprocessing:
    """How a net wants pictures: what ``preprocessing.json`` beside its weights, or its prototxt, says, else the usual.

    Args:
        modality: the one that is meant; a file of another one is not this net's.
        name: of the net's input; needed where a file speaks of several.
        weights: of the net; what is no file is left aside.

    Raises:
        DataError: a file that cannot be read, or was written for other weights.
        UsageError: no such modality.
    """
    found = stated(model, name, weights)
    if found is not None and modality in ("", found.modality):
        return found
    return Preprocessing(modality or "color")


def stated(model: str, name: str = "", weights: str = "") -> Preprocessing | None:
    """The same where a file says it; else None."""
    found = model_preparation(model, weights if os.path.isfile(weights) else None, strict=False)
    return None if found is None else found.inputs.get(name, found.first)
