"""Batches of pictures with boxes, as SSD trains and tests on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from caffe_compat import log
from caffe_compat.batches.augmenting import as_jpeg, distorted, expanded, jittered, make_noise, resize_picture, sampled
from caffe_compat.batches.effects import has_switches
from caffe_compat.batches.images import Seed
from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.batches.records import Record, RecordJob
from caffe_compat.errors import DataError
from caffe_compat.media import datum_channels, fill_blob
from caffe_compat.media.annotations import Annotations, Frame, extrapolated, mirrored, projected, resized
from caffe_compat.proto import caffe_pb2

__all__ = ["YOLO_ROWS", "AnnotatedJob", "AnnotatedReader", "AnnotatedTransform", "resize_mode"]

YOLO_ROWS = 300  #: boxes of a picture, with ``yolo_data_type: 1``


def _colored(pixels: np.ndarray) -> np.ndarray:
    """The same, for ``distort_param``."""
    if pixels.shape[2] != 3:
        raise DataError(f"has {pixels.shape[2]} channel(s), expected 3 for distort_param")
    return pixels


def resize_mode(resize: Any) -> str:
    """The name of a ``ResizeParameter``'s mode."""
    name: str = resize.Resize_mode.Name(resize.resize_mode)
    return name


@dataclasses.dataclass(frozen=True, eq=False)
class AnnotatedTransform:
    """``transform_param`` with the fields of SSD's fork, for one picture and its boxes.

    Args:
        crop: height and width; (0, 0): none.
        resizes: the ``resize_param`` messages, of which one is drawn for a batch.
        noise, emit, distort, expand: the messages, or None.
        mean: of each channel or all (1), of each pixel (channels, height, width) where ``mean_file`` names one.
    """

    train: bool
    scale: np.float32
    mirror: bool
    force_color: bool
    force_gray: bool
    crop: tuple[int, int]
    resizes: Sequence[Any]
    noise: Any
    emit: Any
    distort: Any
    expand: Any
    mean: np.ndarray
    mean_file: str

    @property
    def one_size(self) -> bool:
        """Whether pictures of all sizes become one."""
        if self.crop[0]:
            return True
        return bool(self.resizes) and all(resize_mode(one) != "FIT_SMALL_SIZE" for one in self.resizes)

    @property
    def resize(self) -> Any:
        """The first of the sizes, or None."""
        return self.resizes[0] if self.resizes else None

    def with_size(self, seed: Seed) -> AnnotatedTransform:
        """The same with one of several sizes, drawn by their ``prob``."""
        if len(self.resizes) < 2:
            return self
        chances = np.cumsum([one.prob for one in self.resizes])
        drawn = int(np.searchsorted(chances, np.random.default_rng(seed).uniform(0, chances[-1])))
        return dataclasses.replace(self, resizes=[self.resizes[min(drawn, len(self.resizes) - 1)]])

    def __call__(
        self, pixels: np.ndarray, found: Annotations, random: np.random.Generator
    ) -> tuple[np.ndarray, Annotations]:
        """The blob (float32 [C, H, W]) of a picture (uint8 [H, W, C]), and its boxes."""
        mirror = self.mirror and bool(random.integers(2))
        size = (pixels.shape[0], pixels.shape[1])
        if self.resize is not None:
            pixels = resize_picture(pixels, self.resize, random)
        if self.distort is not None and has_switches(self.distort):
            pixels = distorted(_colored(pixels), self.distort, random)
        if self.noise is not None:
            pixels = make_noise(pixels, self.noise, random, self._chance)
        height, width = pixels.shape[:2]
        high, wide = self.crop if self.crop[0] else (height, width)
        if high > height or wide > width:
            raise DataError(f"is {width}x{height}, smaller than the crop of {wide}x{high}")
        if self.crop[0] and self.train:
            top, left = int(random.integers(height - high + 1)), int(random.integers(width - wide + 1))
        else:
            top, left = (height - high) // 2, (width - wide) // 2
        part = np.array([left / width, top / height, (left + wide) / width, (top + high) / height], np.float32)
        if self.resize is not None:
            found = resized(found, size, self.resize)
        found = projected(found, Frame(part, self.emit))
        found = mirrored(found) if mirror else found
        if self.resize is not None:
            found = extrapolated(found, size, self.resize, part)
        return self._blob(pixels[top : top + high, left : left + wide], mirror), found

    @property
    def _chance(self) -> float:
        """Of each noise; ``prob`` is not SSD's, which reads it nowhere."""
        switches = has_switches(self.noise) or (self.distort is not None and has_switches(self.distort))
        return float(self.noise.prob) if switches else 1.0

    def _blob(self, pixels: np.ndarray, mirror: bool) -> np.ndarray:
        """The mean is that of the place where a pixel goes to."""
        planes = (pixels[:, ::-1] if mirror else pixels).transpose(2, 0, 1)
        if self.mean.ndim == 3 and self.mean.shape != planes.shape:
            raise DataError(f"is {list(planes.shape)}, the mean of {self.mean_file} {list(self.mean.shape)}")
        if self.mean.ndim == 1 and self.mean.size not in (0, 1, len(planes)):
            raise DataError(f"has {len(planes)} channel(s), but there are {self.mean.size} mean_value entries")
        out = np.empty(planes.shape, np.float32)
        fill_blob(list(planes), out, self.mean, self.scale)
        return out


@dataclasses.dataclass(frozen=True, eq=False)
class AnnotatedJob(RecordJob):
    """The records of a batch; ``sized``: the seed of the drawing of a size, where there are several."""

    sized: Seed


@dataclasses.dataclass(frozen=True, eq=False)
class AnnotatedReader(Reader[AnnotatedJob]):
    """Pictures (batch, channels, height, width), and boxes 1 x 1 x G x 8 or labels (batch) out of ``AnnotatedDatum``.

    Args:
        samplers: the ``batch_sampler`` messages.
        boxed: whether there are boxes; else labels.
        yolo: whether boxes are those of ``yolo_data_type: 1``, batch x 1 x 300 x 5.
        difficult: whether difficult boxes are among those.
        jitter: how small a side of a part of a picture may be, 1 less this; 0: no parts but of samplers.
    """

    who: str
    transform: AnnotatedTransform
    samplers: Sequence[Any]
    boxed: bool
    yolo: bool = False
    difficult: bool = True
    jitter: float = 0.0

    def read(self, job: AnnotatedJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: pictures, and boxes or labels."""
        random, own = np.random.default_rng(job.seed), self.transform.with_size(job.sized)
        pictures: np.ndarray | None = None
        rows, labels = [], np.empty(len(job.records), np.float32)
        for place, record in enumerate(job.records):
            data, found = self.item(record, random, own)
            if pictures is None:
                pictures = new((len(job.records), *data.shape))
            if pictures.shape[1:] != data.shape:
                raise self.error(
                    f"{record.name} becomes {list(data.shape)}, the first record of the batch "
                    f"{list(pictures.shape[1:])}; use batch_size 1 or resize_param"
                )
            pictures[place] = data
            rows.append(self._yolo_rows(found, record) if self.yolo else found.rows(place))
            labels[place] = self.message(record).datum.label if not self.boxed else 0
        assert pictures is not None
        if self.yolo and self.boxed:
            return pictures, np.stack(rows)[:, None]
        boxes = np.concatenate(rows)
        boxes = boxes if len(boxes) else np.full((1, 8), -1, np.float32)
        return pictures, boxes[None, None] if self.boxed else labels

    def _yolo_rows(self, found: Annotations, record: Record) -> np.ndarray:
        """Rows label - 1, centre x and y, width and height of one picture (float32 [300, 5]), then of 0."""
        kept = slice(None) if self.difficult else found.marks[:, 2] == 0
        boxes, labels = found.boxes[kept], found.marks[kept, :1]
        if len(boxes) > YOLO_ROWS:
            told = f"{self.who}: {record.name} has {len(boxes)} boxes, the first {YOLO_ROWS} of them count"
            log.warning(told, "annotated_data_layer.cpp:570")
        low, high = boxes[:YOLO_ROWS, :2], boxes[:YOLO_ROWS, 2:]
        rows = np.zeros((YOLO_ROWS, 5), np.float32)
        rows[: len(low)] = np.concatenate([labels[:YOLO_ROWS] - 1, (low + high) / 2, high - low], 1)
        return rows

    def about(self, job: RecordJob) -> str:
        """As :meth:`Reader.about`."""
        return shown(record.name for record in job.records)

    def message(self, record: Record) -> Any:
        """A record as a message."""
        message = caffe_pb2.AnnotatedDatum()
        with self.naming():
            value = record.value
        try:
            message.ParseFromString(value)
        except DecodeError as error:
            raise self.error(f"{record.name}: is no AnnotatedDatum: {error}") from error
        return message

    def item(
        self, record: Record, random: np.random.Generator, own: AnnotatedTransform, augmented: bool = True
    ) -> tuple[np.ndarray, Annotations]:
        """One picture and its boxes, after all that is done to them; or after what decides the shape."""
        name, message = record.name, self.message(record)
        with self.naming():
            raw = message.datum.SerializeToString()
            channels, _ = datum_channels(raw, name, own.force_color, own.force_gray)
            pixels = np.ascontiguousarray(np.stack(list(channels), -1))
            if pixels.dtype != np.uint8:
                raise DataError(f"{name}: holds numbers of another type than uint8")
        with self.naming(name):
            found = Annotations.of(message)
            if augmented:
                pixels, found = self._augmented(pixels, found, random, own)
            return own(pixels, found, random)

    def _augmented(
        self, pixels: np.ndarray, found: Annotations, random: np.random.Generator, own: AnnotatedTransform
    ) -> tuple[np.ndarray, Annotations]:
        """Distorted, expanded, and a part of that."""
        if own.distort is not None:
            pixels = as_jpeg(distorted(_colored(pixels), own.distort, random))
        if own.expand is not None:
            pixels, found = expanded(pixels, found, own.expand, own.emit, own.mean, random)
        if self.jitter:
            square = own.resize is not None and resize_mode(own.resize) == "FIT_LARGE_SIZE_AND_PAD"
            return jittered(pixels, found, self.jitter, (own.emit, square), random)
        return sampled(pixels, found, self.samplers, own.emit, random) if self.samplers else (pixels, found)
