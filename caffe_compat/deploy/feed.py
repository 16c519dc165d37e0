"""From picture files to what a model takes, as the model itself says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from caffe_compat.deploy.values import Value
from caffe_compat.errors import DataError, UsageError, in_file
from caffe_compat.files import open_existing
from caffe_compat.media import Pair, Preparation, Preprocessing, different_sizes, find_modality
from caffe_compat.media.video import gray_of

__all__ = ["DEPTH_SUFFIXES", "IN_GRAPH", "Feed", "Runner", "Sample", "holds_depth", "picture_inputs"]

IN_GRAPH = "preprocessing_in_graph"
"""Key of a model's metadata: inputs that take bytes, as ``{"data": {"order": "bgr", "size": [h, w] or null}}``."""
DEPTH_SUFFIXES = (".npy", ".pgm", ".tif", ".tiff")
"""Endings of files that hold depth, as 16-bit png does too."""

Encode = Callable[[str, str], np.ndarray]
"""Depth file and colour file ("" where there is none) -> uint8 [H, W, 3] in OpenCV's order."""
ReadFrame = Callable[[str, int], np.ndarray]
"""Video file and number of a frame -> uint8 [H, W, 3] in OpenCV's order."""


class Runner(Protocol):
    """What runs: an exported model (:class:`~caffe_compat.deploy.Session`), or a net
    (:class:`~caffe_compat.net.runner.NetRunner`).

    Attributes:
        inputs: what it takes, by name.
        outputs: what it can give, by name.
        output_names: those of them that it gives where nothing else is asked for.
        metadata: what is stored in a model.
        preparation: what it wants of pictures; None: it does not say.
    """

    @property
    def inputs(self) -> Mapping[str, Value]: ...  # noqa: D102
    @property
    def outputs(self) -> Mapping[str, Value]: ...  # noqa: D102
    @property
    def output_names(self) -> list[str]: ...  # noqa: D102
    @property
    def metadata(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def preparation(self) -> Preparation | None: ...  # noqa: D102
    def __call__(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]: ...  # noqa: D102


@dataclass(frozen=True)
class Sample:
    """One scene.

    Attributes:
        name: that no other has, for what is written of it.
        pictures: files, one for each picture input of the model, in its order.
        color: a colour picture of the same view, to look at; empty: the first picture.
        frame: number of the frame, from 0, where the only file is a video; None: it is not.
        time: of the frame, seconds from the beginning; None: the video does not say how fast it is.
    """

    name: str
    pictures: tuple[str, ...]
    color: str = ""
    frame: int | None = None
    time: float | None = None

    @property
    def shown(self) -> str:
        """The picture to look at, and what messages call the sample."""
        file = self.color or self.pictures[0]
        return file if self.frame is None else f"{file}#{self.frame}"


def picture_inputs(session: Runner) -> list[str]:
    """Inputs that take pictures: those with four axes, but for what older prototxts say of regions in as many.

    These are N x 5 x 1 x 1 (image and corners), N x 6 x 1 x 1 (and class) and the input ``categids``.
    """
    return [
        value.name
        for value in session.inputs.values()
        if len(value.shape) == 4 and value.shape[1:] not in ((5, 1, 1), (6, 1, 1)) and value.name != "categids"
    ]


def holds_depth(path: str) -> bool:
    """Whether a file holds depth (16-bit png, pgm, tiff, npy) and not a picture.

    Raises:
        MissingFileError: no such file.
    """
    with open_existing(path, "picture") as stream:
        head = stream.read(25)
    return path.lower().endswith(DEPTH_SUFFIXES) or (head.startswith(b"\x89PNG") and head[24:] == b"\x10")


class Feed:
    """Reads pictures and makes of them what a model's inputs take.

    Args:
        session: the model.
        preparation: what its net wants; None: what the model carries.
        encode: makes pictures of depth files; None: these are refused.
        frames: reads frames of videos; None: there are none.

    Attributes:
        names: of the inputs with pictures.
        wanted: what each wants.
        in_graph: of those that take bytes, what the graph does with them.

    Raises:
        UsageError: the model takes no picture, or nothing is known of what it wants.
        DataError: an input that the preparation does not know.
    """

    def __init__(
        self,
        session: Runner,
        preparation: Preparation | None = None,
        encode: Encode | None = None,
        frames: ReadFrame | None = None,
    ) -> None:
        self.names = picture_inputs(session)
        if not self.names:
            raise UsageError(f"the model takes {', '.join(map(str, session.inputs.values())) or 'nothing'}, no picture")
        known = session.preparation if preparation is None else preparation
        if known is None:
            raise UsageError(
                "the model does not say how pictures are prepared for it (metadata 'preprocessing'): export it with "
                "--preprocessing FILE, or give that file here"
            )
        self.wanted: dict[str, Preprocessing] = known.of(self.names)
        self.classes = known.classes
        self._values = {name: session.inputs[name] for name in self.names}
        self.in_graph = _in_graph(session.metadata)
        self._encode, self._frames = encode, frames

    def pictures(self, sample: Sample) -> list[np.ndarray]:
        """The pictures of a sample: uint8 [H, W, 3] in OpenCV's order each; those of one scene are of one size.

        Raises:
            MissingFileError: no such file.
            DataError: no picture, pictures of different sizes, or depth where a picture is wanted.
        """
        found = [self._picture(name, path, sample) for name, path in zip(self.names, sample.pictures, strict=True)]
        for path, picture in zip(sample.pictures, found, strict=True):
            if picture.shape[:2] != found[0].shape[:2]:
                pair = Pair(sample.pictures[0], path, 0)
                raise DataError(different_sizes(pair, found[0].shape, picture.shape))
        return found

    def blobs(self, pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """What the inputs take of one sample, without the axis of the batch.

        Raises:
            DataError: a picture that does not fit.
        """
        return {name: self._blob(name, picture) for name, picture in zip(self.names, pictures, strict=True)}

    def _picture(self, name: str, path: str, sample: Sample) -> np.ndarray:
        wanted = self.wanted[name]
        if sample.frame is not None:
            if self._frames is None:
                raise DataError(f"{path}: is a video, expected a picture")
            return _channels_of(wanted, self._frames(path, sample.frame))
        if not holds_depth(path):
            return wanted.picture(path)
        kind = find_modality(wanted.modality)
        if not kind.encoder:
            raise DataError(f"{path}: holds depth, the input '{name}' takes {kind.name} pictures of 8 bits")
        if self._encode is None:
            raise DataError(f"{path}: holds depth, and it is not said how {kind.name} is made of it")
        with in_file(path):
            return self._encode(path, sample.color)

    def _blob(self, name: str, picture: np.ndarray) -> np.ndarray:
        value, wanted = self._values[name], self.wanted[name]
        if value.kind != "uint8":
            return wanted.blob(picture)
        told = self.in_graph.get(name, {})
        sized = picture if told.get("size") else _bytes_of(wanted.resized(picture))
        return np.ascontiguousarray(sized[..., ::-1] if told.get("order") == "rgb" else sized)


def _channels_of(wanted: Preprocessing, picture: np.ndarray) -> np.ndarray:
    """A colour picture as the net wants it, which may be grey."""
    return gray_of(picture)[..., None] if len(wanted.channels) == 1 else picture


def _bytes_of(picture: np.ndarray) -> np.ndarray:
    """A picture that was resized in float32, as bytes again."""
    if picture.dtype == np.uint8:
        return picture
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


def _in_graph(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = json.loads(metadata.get(IN_GRAPH, "{}"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"metadata '{IN_GRAPH}' is damaged: {os.fspath(metadata[IN_GRAPH])[:60]}") from error
    return {name: told for name, told in found.items() if isinstance(told, dict)} if isinstance(found, dict) else {}
