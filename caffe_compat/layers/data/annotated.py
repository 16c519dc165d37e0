"""AnnotatedData: pictures with boxes out of a database, as SSD trains and tests on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.augmenting import (
    as_jpeg,
    check_samplers,
    distorted,
    expanded,
    make_noise,
    resize_picture,
    sampled,
)
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import plain
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing, datum_channels, fill_blob, open_database, read_mean
from caffe_compat.media.annotations import Annotations, Frame, extrapolated, mirrored, projected, resized
from caffe_compat.proto import caffe_pb2

__all__ = ["AnnotatedData"]


class _Transform:
    """``transform_param`` with the fields of SSD's fork, for one picture and its boxes."""

    def __init__(self, params: Params) -> None:
        section = params.section("transform_param")
        self.train = params.phase == "TRAIN"
        self.scale, self.mirror = np.float32(section.scale), bool(section.mirror)
        self.force_color, self.force_gray = bool(section.force_color), bool(section.force_gray)
        self.crop = (int(section.crop_h), int(section.crop_w))
        if section.crop_size:
            self.crop = (int(section.crop_size),) * 2
        if bool(self.crop[0]) != bool(self.crop[1]):
            raise params.error(f"transform_param has crop_h and crop_w {list(self.crop)}, expected both or none")
        self.resize = section.resize_param if section.has("resize_param") else None
        self.noise = section.noise_param if section.has("noise_param") else None
        self.emit = section.emit_constraint if section.has("emit_constraint") else None
        self.distort = section.distort_param if section.has("distort_param") else None
        self.expand = section.expand_param if section.has("expand_param") else None
        self.mean = np.array(section.mean_value, np.float32)
        self.mean_file = str(section.mean_file) if section.has("mean_file") else ""
        if self.mean_file and (self.mean.size or self.expand is not None or self.crop[0]):
            raise params.error(f"mean_file ({self.mean_file}) with mean_value, expand_param or a crop; expected alone")
        if self.mean_file:
            self.mean = read_mean(self.mean_file)
        if self.resize is not None and not (self.resize.height and self.resize.width):
            raise params.error("transform_param.resize_param has no height or width, expected positive numbers")
        if self.expand is not None and not self.expand.max_expand_ratio > 1:
            raise params.error(
                f"expand_param.max_expand_ratio is {self.expand.max_expand_ratio:g}, expected more than 1"
            )

    @property
    def one_size(self) -> bool:
        """Whether pictures of all sizes become one."""
        if self.crop[0]:
            return True
        return self.resize is not None and self.resize.Resize_mode.Name(self.resize.resize_mode) != "FIT_SMALL_SIZE"

    def __call__(
        self, pixels: np.ndarray, found: Annotations, random: np.random.Generator
    ) -> tuple[np.ndarray, Annotations]:
        """The blob (float32 [C, H, W]) of a picture (uint8 [H, W, C]), and its boxes."""
        mirror = self.mirror and bool(random.integers(2))
        size = (pixels.shape[0], pixels.shape[1])
        if self.resize is not None:
            pixels = resize_picture(pixels, self.resize, random)
        if self.noise is not None:
            pixels = make_noise(pixels, self.noise, random)
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


@register
class AnnotatedData(DataLayer):
    """Batches of pictures of a LMDB or LevelDB of ``AnnotatedDatum`` and, if a second top is there, their boxes.

    Tops: (batch, channels, height, width), BGR, and 1 x 1 x G x 8, rows [item, label, instance, x1, y1, x2, y2,
    difficult] in parts of the picture; a batch without boxes has one row of -1.  Without any annotation type (in the
    records or ``anno_type``) the second top is (batch), the label of each.  Source: weiliu89/caffe,
    annotated_data_layer.cpp and data_transformer.cpp.  In order: distort_param, expand_param, one part out of the
    batch_samplers, mirror, resize_param, noise_param, crop; emit_constraint says which boxes a part keeps.  Without
    those fields nothing is random in TEST.  The draws are the original's in kind and order, their numbers this
    package's.
    """

    caffe_type = "AnnotatedData"
    splits = True
    top_count = (1, 2)
    sized_by_values = True
    rows_axis = 2

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        section, annotated = params.section("data_param"), params.section("annotated_data_param")
        super().__init__(params, bottoms, int(section.prefetch))
        self.size = self.batch_size(section)
        section.ignore("rand_skip")  # the original reads it nowhere
        self.transform = _Transform(params)
        self.samplers = list(annotated.batch_sampler)
        annotated.ignore("label_map_file")  # only its drawing of boxes asks for it
        if problem := check_samplers(self.samplers):
            raise self.error(f"annotated_data_param.{problem}")
        if self.size > 1 and not self.transform.one_size and self.transform.resize is not None:
            raise self.error(f"data_param.batch_size is {self.size}, expected 1 with FIT_SMALL_SIZE")
        if (resize := self.transform.resize) is not None:
            self.require_memory("a batch of resized pictures", [(self.size, 3, resize.height, resize.width)])
        try:
            self.database = open_database(section.source, section.enum("backend"))
        except DataError as error:
            raise self.data_error(str(error)) from error
        self.order = Order(len(self.database), bool(section.shuffle), self.seed)
        first = self._message(self.order[0])
        self.boxed = first.HasField("type") or annotated.has("anno_type")
        data, found = self._item(self.order[0], np.random.default_rng(0), augmented=False)
        rows = (1, 1, max(len(found.boxes), 1), 8)
        self.shapes = [(self.size, *data.shape), rows if self.boxed else (self.size,)][: len(params.tops)]

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``: pictures and boxes."""
        random = self.random(number)
        pictures: list[np.ndarray] = []
        rows, labels = [], np.empty(self.size, np.float32)
        for item, index in enumerate(self.records(number, self.size)):
            record = self.order[index]
            data, found = self._item(record, random)
            if pictures and pictures[0].shape != data.shape:
                raise self.data_error(
                    f"{self.database.name(record)} becomes {list(data.shape)}, the first record of the batch "
                    f"{list(pictures[0].shape)}; use batch_size 1 or resize_param"
                )
            pictures.append(data)
            rows.append(found.rows(item))
            labels[item] = self._message(record).datum.label if not self.boxed else 0
        boxes = np.concatenate(rows)
        boxes = boxes if len(boxes) else np.full((1, 8), -1, np.float32)
        second = boxes[None, None] if self.boxed else labels
        return (np.stack(pictures), second)[: len(self.params.tops)]

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`, where the size is fixed by warping."""
        own = self.transform
        if own.resize is not None and own.resize.Resize_mode.Name(own.resize.resize_mode) != "WARP":
            return {}
        size = None if own.resize is None else (int(own.resize.height), int(own.resize.width))
        channels = self.shapes[0][1]
        if channels not in (1, 3):
            return {}
        found = Preprocessing(
            "color" if channels == 3 else "gray",
            mean=tuple(map(plain, own.mean)) if own.mean.ndim == 1 else (),
            mean_file=own.mean_file,
            scale=plain(own.scale),
            resize=size,
            crop=own.crop if own.crop[0] else None,
            flip=own.mirror,
        )
        return {self.params.tops[0]: found}

    def _message(self, record: int) -> Any:
        message = caffe_pb2.AnnotatedDatum()
        try:
            message.ParseFromString(self.database[record])
        except DecodeError as error:
            raise self.data_error(f"{self.database.name(record)}: is no AnnotatedDatum: {error}") from error
        return message

    def _item(self, record: int, random: np.random.Generator, augmented: bool = True) -> tuple[np.ndarray, Annotations]:
        """One picture and its boxes, after all that is done to them; or after what decides the shape."""
        own, name, message = self.transform, self.database.name(record), self._message(record)
        try:
            raw = message.datum.SerializeToString()
            channels, _ = datum_channels(raw, name, own.force_color, own.force_gray)
            pixels = np.ascontiguousarray(np.stack(list(channels), -1))
            if pixels.dtype != np.uint8:
                raise DataError(f"{name}: holds numbers of another type than uint8")
        except CaffeCompatError as error:
            raise self.data_error(str(error)) from error
        try:
            found = Annotations.of(message)
            if augmented:
                pixels, found = self._augmented(pixels, found, random)
            return own(pixels, found, random)
        except CaffeCompatError as error:
            raise self.data_error(f"{name}: {error}") from error

    def _augmented(
        self, pixels: np.ndarray, found: Annotations, random: np.random.Generator
    ) -> tuple[np.ndarray, Annotations]:
        """Distorted, expanded, and a part of that."""
        own = self.transform
        if own.distort is not None:
            if pixels.shape[2] != 3:
                raise DataError(f"has {pixels.shape[2]} channel(s), expected 3 for distort_param")
            pixels = as_jpeg(distorted(pixels, own.distort, random))
        if own.expand is not None:
            pixels, found = expanded(pixels, found, own.expand, own.emit, own.mean, random)
        return sampled(pixels, found, self.samplers, own.emit, random) if self.samplers else (pixels, found)
