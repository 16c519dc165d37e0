"""SparseData: rows of which few numbers are not 0, out of a database."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.batches.records import Record, RecordJob
from caffe_compat.batches.sparse import SparseReader
from caffe_compat.errors import CaffeCompatError, DataError
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media import open_database

__all__ = ["SparseData"]


@register(dialect="deepdetect")
class SparseData(DataLayer):
    """Batches of ``SparseDatum`` records, (batch, size), and their labels (batch).

    The top is dense here, where the fork has a blob of its own kind that few layers can read; ``transform_param`` is
    not used, as there.
    """

    caffe_type = "SparseData"
    labelled = True
    top_count = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        section = params.section("data_param")
        super().__init__(params, bottoms, int(section.prefetch))
        self.size = self.batch_size(section)
        try:
            self.database = open_database(section.source, section.enum("backend"))
        except DataError as error:
            raise self.data_error(str(error)) from error
        self.samples = len(self.database)
        self.order = Order(self.samples, False, self.seed)
        self.reader = reader = SparseReader(self.who)
        width = reader.size(self._record(0))
        self.require_memory("a batch of rows", [(self.size, width)])
        self.shapes = [(self.size, width), (self.size,)][: len(params.tops)]

    def job(self, number: int) -> RecordJob:
        """As :meth:`DataLayer.job`."""
        records = [self._record(self.order[index]) for index in self.records(number, self.size)]
        return RecordJob(self.random_seed(number), records)

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`DataLayer.finish`."""
        return arrays[: len(self.params.tops)]

    def identity(self) -> str:
        """How many records there are, and the keys of the first and the last."""
        return self.database.identity()

    def _record(self, number: int) -> Record:
        try:
            return self.record(self.database, number)
        except CaffeCompatError as error:
            raise self.data_error(str(error)) from error
