"""Batches of records that hold the places and values of what is not 0.

Source: jolibrain/caffe, ``sparse_data_layer.cpp``.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from google.protobuf.message import DecodeError

from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.batches.records import Record, RecordJob
from caffe_compat.proto import caffe_pb2

__all__ = ["SparseReader"]


@dataclasses.dataclass(frozen=True, eq=False)
class SparseReader(Reader[RecordJob]):
    """Rows (float32 [batch, size]) and labels (batch) of ``SparseDatum`` records; values of one place add up."""

    who: str

    def about(self, job: RecordJob) -> str:
        """As :meth:`Reader.about`."""
        return shown(record.name for record in job.records)

    def size(self, record: Record) -> int:
        """Numbers of a row."""
        return int(self._message(record).size)

    def read(self, job: RecordJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`."""
        messages = [self._message(record) for record in job.records]
        data, labels = new((len(messages), messages[0].size)), new((len(messages),))
        data[:] = 0
        for number, (message, record) in enumerate(zip(messages, job.records, strict=True)):
            if message.size != data.shape[1]:
                raise self.error(f"{record.name}: has a size of {message.size}, the first of the batch {data.shape[1]}")
            places, values = np.array(message.indices[: message.nnz]), message.data[: message.nnz]
            if len(places) != message.nnz or len(values) != message.nnz:
                raise self.error(
                    f"{record.name}: has {len(message.indices)} indices and {len(message.data)} values, expected "
                    f"{message.nnz} or more"
                )
            if len(places) and not 0 <= places.min() <= places.max() < message.size:
                raise self.error(f"{record.name}: has indices {places.min()} to {places.max()} in {message.size}")
            np.add.at(data[number], places.astype(np.int64), np.array(values, np.float32))
            labels[number] = message.label
        return data, labels

    def _message(self, record: Record) -> caffe_pb2.SparseDatum:
        message = caffe_pb2.SparseDatum()
        try:
            message.ParseFromString(record.value)
        except DecodeError as error:
            raise self.error(f"{record.name}: is no SparseDatum: {error}") from error
        if message.size < 1 or message.nnz < 0:
            raise self.error(f"{record.name}: has size {message.size} and nnz {message.nnz}, expected a size")
        return message
