"""Preprocessing as a part of the graph: bytes of a picture in, instead of what the net wants.

Without resizing the numbers are those of :meth:`Preprocessing.blob`, bit for bit.  ONNX's ``Resize`` (linear, half
pixel centres) is OpenCV's INTER_LINEAR up to its rounding: OpenCV interpolates bytes in fixed point, so that one number
in eight (of noise; halving is exact) is another by one code of 255; in float32 (rule ``fast-rcnn``) by 1e-3 codes.
Every node has a CUDA kernel; Shape arithmetic, only for a crop out of pictures of any size, runs on the CPU by rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto

from caffe_compat.deploy.facts import IN_GRAPH, MASKS
from caffe_compat.errors import DataError, ExportError
from caffe_compat.media import Preparation, Preprocessing, centre_window
from caffe_compat.onnx.metadata import read_fact
from caffe_compat.onnx.parts import Parts
from caffe_compat.onnx.patch import Patch, dims_of

__all__ = ["Pictures", "add_preprocessing", "net_inputs", "picture_names", "random_pictures"]


@dataclass(frozen=True)
class Pictures:
    """What the graph is to do with pictures.

    Attributes:
        preparation: what the net wants.
        order: of the bytes' channels: ``bgr``, as OpenCV reads a file (and as the modality orders them), or ``rgb``.
        size: height and width that pictures of any size are resized to; None: they come in the net's size (with a crop:
            in the size that it is cut from).

    Raises:
        ExportError: another order, or a size that is none.
    """

    preparation: Preparation
    order: str = "bgr"
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.order not in ("bgr", "rgb"):
            raise ExportError(f"--preprocess is '{self.order}', expected bgr or rgb")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ExportError(f"--resize is {list(self.size)}, expected height and width")


@dataclass(frozen=True)
class _Input:
    """One input: its name, its sizes [N, C, H, W], what it wants, and what is asked for."""

    name: str
    dims: list[int | str]
    wanted: Preprocessing
    asked: Pictures

    def error(self, reason: str) -> ExportError:
        return ExportError(f"input '{self.name}': {reason}")

    @property
    def picture(self) -> str:
        """The graph's input; the blob keeps its name."""
        return f"{self.name}_picture"

    @property
    def mean(self) -> np.ndarray:
        return self.wanted.mean_values

    def whole(self) -> list[int | str]:
        """Height and width of what the net's input is cut from."""
        if self.asked.size is not None:
            return list(self.asked.size)
        if self.mean.ndim == 3:
            return list(self.mean.shape[1:])
        return list(self.own) if self.wanted.crop else self.dims[2:]

    @property
    def own(self) -> tuple[str, str]:
        """Height and width of a picture that may have any."""
        return f"{self.name}_rows", f"{self.name}_columns"

    def like(self, axis: int) -> int:
        """A height (axis 0) or width that such a picture may have."""
        return (self.asked.size or self.wanted.resize or self.wanted.crop or (1, 1))[axis]

    def check(self) -> None:
        """Refuse what the net cannot take."""
        wanted, whole = self.wanted, self.whole()
        if self.dims[1] != len(wanted.channels):
            raise self.error(f"has {self.dims[1]} channels, the preprocessing is of {len(wanted.channels)}: "
                             f"'{wanted.modality}', {list(wanted.channels)}")  # fmt: skip
        if self.asked.size is not None and wanted.resize_rule == "skimage":
            raise self.error("is resized by the rule 'skimage', which no ONNX operator follows; leave out --resize")
        if self.mean.ndim == 3 and tuple(self.mean.shape) != (self.dims[1], *whole):
            raise self.error(
                f"the mean picture has the shape {list(self.mean.shape)}, pictures {[self.dims[1], *whole]}"
            )
        cut = list(wanted.crop) if wanted.crop else whole
        for have, want in zip(cut, self.dims[2:], strict=True):
            if isinstance(have, int) and isinstance(want, int) and have != want:
                what = "a crop" if wanted.crop else "--resize" if self.asked.size else "the mean picture"
                raise self.error(f"takes {_size(self.dims[2:])}, {what} gives {_size(cut)}; export with --shape, or "
                                 "with another size")  # fmt: skip
        if wanted.crop and all(isinstance(side, int) for side in whole):
            try:
                centre_window([int(side) for side in whole], wanted.crop)
            except DataError as error:
                raise self.error(f"a picture {error}") from error


def add_preprocessing(parts: Parts, asked: Pictures) -> Parts:
    """The model with uint8 inputs ``NAME_picture`` [N, H, W, C] instead of ``NAME`` [N, C, H, W]; other inputs stay.

    Raises:
        ExportError: nothing is known of an input, or the net cannot take what its preprocessing gives.
        MissingFileError, ModelFileError: a mean file cannot be read.
    """
    inputs = _inputs(parts.model, asked)
    patch = Patch(parts, "preprocess/")
    others = [entry for entry in patch.model.graph.input if entry.name not in {one.name for one in inputs}]
    kept = [onnx.ValueInfoProto.FromString(entry.SerializeToString()) for entry in others]
    facts = {}
    for one in inputs:
        _write(patch, one)
        facts[one.picture] = {"of": one.name, "order": asked.order, "size": list(asked.size) if asked.size else None}
    for entry in others:
        patch.model.graph.input.remove(entry)
    patch.model.graph.input.extend(kept)
    patch.fact(IN_GRAPH, facts)
    return patch.finish(before=True)


def _inputs(model: onnx.ModelProto, asked: Pictures) -> list[_Input]:
    dims = {entry.name: dims_of(entry) for entry in model.graph.input}
    names = [name for name, sizes in dims.items() if len(sizes) == 4]
    if read_fact(model, MASKS):
        raise ExportError("--preprocess: the net segments boxes, which are measured in scaled pictures: leave it out")
    if not names:
        raise ExportError(f"--preprocess: the model takes {', '.join(dims) or 'nothing'}, no picture")
    try:
        wanted = asked.preparation.of(names)
    except DataError as error:
        raise ExportError(f"--preprocess: the preprocessing {error}") from error
    found = [_Input(name, dims[name], wanted[name], asked) for name in names]
    for one in found:
        one.check()
    return found


def _write(patch: Patch, one: _Input) -> None:
    patch.take_input(one.name)
    size, wanted = one.asked.size, one.wanted
    rows = list(one.own) if size is not None else one.whole()
    patch.open_sizes({side: one.like(axis) for axis, side in enumerate(rows) if side in one.own})
    patch.add_input(one.picture, TensorProto.UINT8, [one.dims[0], *rows, one.dims[1]])
    value = patch.add("Transpose", [one.picture], perm=[0, 3, 1, 2])
    order = _order(wanted, one.asked.order)
    value = patch.add("Cast", [value], to=TensorProto.FLOAT)
    if order != list(range(len(order))):
        value = patch.add("Gather", [value, patch.constant(order)], axis=1)
    if size is not None:
        value = _resize(patch, value, size, one)
    if wanted.crop is not None:
        value = _crop(patch, value, one.whole(), wanted.crop)
    mean = _mean(one)
    if mean.any():
        value = patch.add("Sub", [value, patch.constant(mean, np.float32)])
    if wanted.scale != 1:
        value = patch.add("Mul", [value, patch.constant(wanted.scale, np.float32)])
    patch.rename(value, one.name)


def _order(wanted: Preprocessing, order: str) -> list[int]:
    """Which channel of the bytes each channel of the blob is."""
    last = len(wanted.channels) - 1
    return wanted.order if order == "bgr" else [last - at for at in wanted.order]


def _mean(one: _Input) -> np.ndarray:
    """What is subtracted, to be broadcast over [N, C, H, W]."""
    mean = one.mean
    if mean.ndim == 3 and one.wanted.crop:
        mean = mean[:, *centre_window(mean.shape[1:], one.wanted.crop)]
    return mean if mean.ndim == 3 else mean.reshape(-1, 1, 1) if len(mean) else np.zeros((1, 1, 1), np.float32)


def _resize(patch: Patch, value: str, size: Sequence[int], one: _Input) -> str:
    batch, channels, rule = one.dims[0], len(one.wanted.channels), one.wanted.resize_rule
    if isinstance(batch, int):
        sizes = patch.constant([batch, channels, *size])
    else:
        number = patch.add("Slice", [patch.add("Shape", [value]), patch.constant([0]), patch.constant([1])])
        sizes = patch.add("Concat", [number, patch.constant([channels, *size])], axis=0)
    value = patch.add("Resize", [value, "", "", sizes], mode="linear", coordinate_transformation_mode="half_pixel")
    if rule == "fast-rcnn":
        return value
    return patch.add("Floor", [patch.add("Add", [value, patch.constant(0.5, np.float32)])])  # OpenCV's are bytes again


def _crop(patch: Patch, value: str, whole: Sequence[int | str], crop: tuple[int, int]) -> str:
    ends = patch.constant(crop)
    if all(isinstance(side, int) for side in whole):
        rows, columns = centre_window([int(side) for side in whole], crop)
        first, last = patch.constant([rows.start, columns.start]), patch.constant([rows.stop, columns.stop])
    else:
        shape = patch.add("Slice", [patch.add("Shape", [value]), patch.constant([2]), patch.constant([4])])
        free = patch.add("Sub", [shape, ends])
        first = patch.add("Div", [free, patch.constant(2)])
        last = patch.add("Add", [first, ends])
    cut = patch.add("Slice", [value, first, last, patch.constant([2, 3])])
    # smaller pictures would slip through with another size: here they fail
    return patch.add("Reshape", [cut, patch.constant([0, 0, *crop])])


def _size(sides: Sequence[int | str]) -> str:
    return " x ".join(map(str, sides))


# -- for comparing ----------------------------------------------------------------------------------------------------


def picture_names(model: onnx.ModelProto, asked: Pictures) -> list[str]:
    """Which inputs a model has in bytes after :func:`add_preprocessing`, given what it was before."""
    return [one.picture for one in _inputs(model, asked)]


def random_pictures(
    model: onnx.ModelProto, asked: Pictures, inputs: Mapping[str, np.ndarray], random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Bytes for a model with preprocessing, of sizes that give inputs of the net of given shapes without resizing.

    Args:
        model: before :func:`add_preprocessing`.
        inputs: of the net, by name; only shapes are read.
    """
    found = {}
    for one in _inputs(model, asked):
        number, channels, *sides = inputs[one.name].shape
        known = [side for side in one.whole() if isinstance(side, int)]
        if len(known) == 2:
            sides = known
        elif one.wanted.crop:
            sides = [side + 7 for side in one.wanted.crop]
        found[one.picture] = random.integers(0, 256, (number, *sides, channels), np.uint8)
    return found


def net_inputs(asked: Pictures, pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the net is to be fed for pictures, as inference without ONNX does it: float32 [N, C, H, W] by blob.

    Args:
        pictures: uint8 [N, H, W, C] by input of the graph, in the order that was asked for.

    Raises:
        DataError: nothing is known of an input, or a picture does not fit.
    """
    found = {}
    shown = {name.removesuffix("_picture"): values for name, values in pictures.items()}
    for name, wanted in asked.preparation.of(list(shown)).items():
        plain = replace(wanted, resize=asked.size, short_side=0, longest_side=0)
        ordered = shown[name] if asked.order == "bgr" else shown[name][..., ::-1]
        found[name] = np.stack([plain.blob(np.ascontiguousarray(picture)) for picture in ordered])
    return found
