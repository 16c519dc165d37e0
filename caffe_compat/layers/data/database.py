"""Data: records of a LMDB or LevelDB database."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.records import Record, RecordJob, RecordReader
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.data.transformer import Transformer
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media import Preprocessing, open_database

__all__ = ["Data"]


@register
class Data(DataLayer):
    """Batches of records and, if a second top is there, their labels.

    Tops: (batch, channels, height, width) in the order of the database (BGR for images), and (batch).  The backend is
    LevelDB unless the prototxt says LMDB.  All records of a batch must have one size; batches may differ.  After the
    last record comes the first; with ``shuffle`` (intel/caffe, NVIDIA/caffe, lim0606's) every epoch has an order of its
    own, drawn from the layer's seed, where those forks draw from the clock, and so with a ``shuffle_pool_size`` of 2 or
    more (Cysu/dgd_person_reid's, which shuffles so many batches at a time).  ``prefetch`` says how many batches are
    read ahead (0: none).
    """

    caffe_type = "Data"
    labelled = True
    top_count = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        section = params.section("data_param")
        super().__init__(params, bottoms, int(section.prefetch))
        ignore_transform_fields(
            params, section, "scale", "mean_file", "crop_size", "mirror", "rand_skip", "force_encoded_color"
        )
        self.size = self.batch_size(section)
        self.transformer = Transformer(params, rectangles=True)
        try:
            self.database = open_database(section.source, section.enum("backend"))
        except DataError as error:
            raise self.data_error(str(error)) from error
        self.samples = len(self.database)
        pool = int(section.shuffle_pool_size)
        self.order = Order(self.samples, bool(section.shuffle) or pool > 1, self.seed)
        self.reader = self._reader = RecordReader(self.who, self.transformer.plain())
        shape = self._reader.load(self._record(self.order[0])).shape
        self.shapes = [(self.size, *shape), (self.size,)][: len(params.tops)]

    def job(self, number: int) -> RecordJob:
        """As :meth:`DataLayer.job`; of a LevelDB database records are read here: one process alone may open it."""
        records = [self._record(self.order[index]) for index in self.records(number, self.size)]
        return RecordJob(self.random_seed(number), records)

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`DataLayer.finish`."""
        return arrays[: len(self.params.tops)]

    def identity(self) -> str:
        """How many records there are, and the keys of the first and the last."""
        return self.database.identity()

    def wants(self) -> dict[str, Preprocessing]:
        """As :meth:`DataLayer.wants`; pictures have the size of the records, if the last has that of the first."""
        first, last = (self._reader.size(self._record(number)) for number in (0, len(self.database) - 1))
        found = self.transformer.wants(first[0], first[1:] if first[1:] == last[1:] else None)
        return {} if found is None else {self.params.tops[0]: found}

    def _record(self, number: int) -> Record:
        try:
            return self.record(self.database, number)
        except CaffeCompatError as error:
            raise self.data_error(str(error)) from error
