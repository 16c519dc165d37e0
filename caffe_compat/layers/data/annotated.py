"""AnnotatedData: pictures with boxes out of a database, as SSD trains and tests on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.annotated import YOLO_ROWS, AnnotatedJob, AnnotatedReader, AnnotatedTransform, resize_mode
from caffe_compat.batches.augmenting import check_samplers
from caffe_compat.batches.effects import check_effects
from caffe_compat.batches.records import Record
from caffe_compat.errors import DataError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import plain
from caffe_compat.layers.params import Params, Section
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing, open_database, read_mean

__all__ = ["AnnotatedData", "read_transform"]

_NEAR = 0.01  #: of the sum of probabilities to 1
_SAME = 10  #: batches of one size, where there are several


def read_transform(params: Params) -> AnnotatedTransform:
    """``transform_param`` with the fields of SSD's fork.

    Raises:
        LayerError: fields that do not go together.
    """
    section = params.section("transform_param")
    crop = (int(section.crop_h), int(section.crop_w))
    if section.crop_size:
        crop = (int(section.crop_size),) * 2
    if bool(crop[0]) != bool(crop[1]):
        raise params.error(f"transform_param has crop_h and crop_w {list(crop)}, expected both or none")
    mean = np.array(section.mean_value, np.float32)
    mean_file = str(section.mean_file) if section.has("mean_file") else ""
    resizes = section.resize_param
    fields = ("noise_param", "emit_constraint", "distort_param", "expand_param")
    noise, emit, distort, expand = (section.value(name) if section.has(name) else None for name in fields)
    if mean_file and (mean.size or expand is not None or crop[0]):
        raise params.error(f"mean_file ({mean_file}) with mean_value, expand_param or a crop; expected alone")
    if problem := check_effects(distort, noise):
        raise params.error(f"transform_param.{problem}")
    if not all(one.height and one.width for one in resizes):
        raise params.error("transform_param.resize_param has no height or width, expected positive numbers")
    chances = [one.prob for one in resizes]
    if len(chances) > 1 and not (min(chances) >= 0 and abs(sum(chances) - 1) <= _NEAR):
        raise params.error(f"transform_param.resize_param has prob {chances}, expected numbers that add up to 1")
    if expand is not None and not expand.max_expand_ratio > 1:
        raise params.error(f"expand_param.max_expand_ratio is {expand.max_expand_ratio:g}, expected more than 1")
    return AnnotatedTransform(
        params.phase == "TRAIN",
        np.float32(section.scale),
        bool(section.mirror),
        bool(section.force_color),
        bool(section.force_gray),
        crop,
        resizes,
        noise,
        emit,
        distort,
        expand,
        read_mean(mean_file) if mean_file else mean,
        mean_file,
    )


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

    ``distort_param`` and ``noise_param`` may be in jolibrain/caffe's words, one ``prob`` and a switch for each effect;
    as there a picture is distorted a second time after ``resize_param``.

    With ``yolo_data_type: 1`` (eric612/MobileNet-YOLO) the second top is batch x 1 x 300 x 5, rows [label - 1, centre
    x, y, width, height] of each picture, the rest 0, without difficult boxes if ``train_diffcult`` is false; without
    batch_samplers a part of a picture is drawn by ``yolo_data_jitter``, in TEST too, as there.  Of several
    ``resize_param`` one is drawn for every ten batches, by ``prob``.
    """

    caffe_type = "AnnotatedData"
    top_count = (1, 2)
    sized_by_values = True
    rows_axis = 2

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        section, annotated = params.section("data_param"), params.section("annotated_data_param")
        super().__init__(params, bottoms, int(section.prefetch))
        self.size = self.batch_size(section)
        section.ignore("rand_skip")  # the original reads it nowhere
        self.transform = read_transform(params)
        samplers = list(annotated.batch_sampler)
        annotated.ignore("label_map_file")  # only its drawing of boxes asks for it
        if problem := check_samplers(samplers):
            raise self.error(f"annotated_data_param.{problem}")
        if self.size > 1 and not self.transform.one_size and self.transform.resizes:
            raise self.error(f"data_param.batch_size is {self.size}, expected 1 with FIT_SMALL_SIZE")
        for resize in self.transform.resizes:
            self.require_memory("a batch of resized pictures", [(self.size, 3, resize.height, resize.width)])
        try:
            self.database = open_database(section.source, section.enum("backend"))
        except DataError as error:
            raise self.data_error(str(error)) from error
        self.samples = len(self.database)
        self.order = Order(self.samples, bool(section.shuffle), self.seed)
        reader = self._read_yolo(annotated, AnnotatedReader(self.who, self.transform, samplers, boxed=False))
        first = self._record(self.order[0])
        self.boxed = reader.message(first).HasField("type") or annotated.has("anno_type")
        self.reader = dataclasses.replace(reader, boxed=self.boxed)
        data, found = reader.item(first, np.random.default_rng(0), self.transform, augmented=False)
        rows = (self.size, 1, YOLO_ROWS, 5) if reader.yolo else (1, 1, max(len(found.boxes), 1), 8)
        self.shapes = [(self.size, *data.shape), rows if self.boxed else (self.size,)][: len(params.tops)]

    def _read_yolo(self, annotated: Section, reader: AnnotatedReader) -> AnnotatedReader:
        """The reader with what MobileNet-YOLO's fields say."""
        kind, jitter = int(annotated.yolo_data_type), float(annotated.yolo_data_jitter)
        if kind not in (0, 1):
            raise self.error(f"annotated_data_param.yolo_data_type is {kind}, expected 0 or 1")
        if not 0 <= jitter < 1:
            raise self.error(f"annotated_data_param.yolo_data_jitter is {jitter:g}, expected 0 to below 1")
        spoken = (kind == 1 or annotated.has("yolo_data_jitter")) and not reader.samplers
        return dataclasses.replace(
            reader, yolo=kind == 1, difficult=bool(annotated.train_diffcult), jitter=jitter if spoken else 0.0
        )

    def job(self, number: int) -> AnnotatedJob:
        """As :meth:`DataLayer.job`; of a LevelDB database records are read here: one process alone may open it."""
        records = [self._record(self.order[index]) for index in self.records(number, self.size)]
        return AnnotatedJob(self.random_seed(number), records, (self.seed, 2, number // _SAME))

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`DataLayer.finish`."""
        return arrays[: len(self.params.tops)]

    def identity(self) -> str:
        """How many records there are, and the keys of the first and the last."""
        return self.database.identity()

    def _record(self, number: int) -> Record:
        try:
            return self.record(self.database, number)
        except DataError as error:
            raise self.data_error(str(error)) from error

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`, where the size is fixed by warping."""
        own = self.transform
        if any(resize_mode(one) != "WARP" for one in own.resizes):
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
