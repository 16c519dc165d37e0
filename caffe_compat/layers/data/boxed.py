"""BoxData: pictures of a database with the boxes of objects, for YOLO version 2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.boxed import BoxRecordReader
from caffe_compat.batches.records import Record, RecordJob
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.layers.base import UNLIMITED, Shape
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import Transformer
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media import open_database

__all__ = ["BoxData"]

_BOXES = 30  #: of an image


@register(dialect="intel")
class BoxData(DataLayer):
    """Batches of encoded records with boxes.

    Tops: (batch, channels, height, width), and for each ``side``, of which nothing else is used, the same (batch, 150):
    30 rows of class, centre and size, in parts of the picture, zeros behind.  A record has class, difficult, centre and
    size of each box as its ``float_data``.  In TRAIN a part of the picture, up to 30 % shorter, in which the centre of
    some box lies, becomes the picture; boxes with a centre outside go.  As in the fork mirror and crop_size of
    transform_param do not move boxes.  With ``num_label`` (quhezheng/caffe_yolo_v2) there are so many rows, and records
    have the corner, size and class of a box; the corner then counts for the centre in what was said.  The forks take
    no notice of ``shuffle`` and ``rand_skip`` here, this layer refuses them.  The labels of yeahkun/caffe-yolo, one box
    for each of ``side`` x ``side`` cells, are not made.
    """

    caffe_type = "BoxData"
    labelled = True
    top_count = (1, UNLIMITED)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        section = params.section("data_param")
        super().__init__(params, bottoms, int(section.prefetch))
        ignore_transform_fields(params, section, "scale", "mean_file", "crop_size", "mirror", "force_encoded_color")
        self.size = self.batch_size(section)
        sides, labels = max(1, len(section.side)), len(params.tops) - 1
        if labels and labels != sides:
            raise self.error(f"has {labels} tops of boxes and {sides} entries of data_param.side, expected as many")
        corners, most = section.has("num_label"), int(section.num_label)
        if most < 1:
            raise self.error(f"data_param.num_label is {most}, expected a positive number")
        try:
            self.database = open_database(section.source, section.enum("backend"))
        except DataError as error:
            raise self.data_error(str(error)) from error
        self.samples = len(self.database)
        self.order = Order(self.samples, False, self.seed)
        self.reader = reader = BoxRecordReader(self.who, Transformer(params).plain(), most, corners)
        shape = reader.shape(self._record(0))
        self.shapes = [(self.size, *shape), *[(self.size, 5 * most)] * labels]

    def job(self, number: int) -> RecordJob:
        """As :meth:`DataLayer.job`."""
        records = [self._record(self.order[index]) for index in self.records(number, self.size)]
        return RecordJob(self.random_seed(number), records)

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`DataLayer.finish`."""
        return (arrays[0], *[arrays[1]] * (len(self.params.tops) - 1))

    def identity(self) -> str:
        """How many records there are, and the keys of the first and the last."""
        return self.database.identity()

    def _record(self, number: int) -> Record:
        try:
            return self.record(self.database, number)
        except CaffeCompatError as error:
            raise self.data_error(str(error)) from error
