"""Batches of the records of a database."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from caffe_compat.batches.images import Seed
from caffe_compat.batches.reader import Bytes, New, Reader, shown
from caffe_compat.batches.transform import Transform
from caffe_compat.errors import CaffeCompatError
from caffe_compat.media.datum import read_datum
from caffe_compat.media.records import Place, read_place

__all__ = ["Record", "RecordJob", "RecordReader"]


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """A record of a database, and what to call it.

    Args:
        place: the value, where it is, or, for this process alone, what reads it.
    """

    name: str
    place: Place | bytes | Callable[[], bytes]

    @property
    def value(self) -> bytes:
        """As it is in the database, read now."""
        return self.place() if callable(self.place) else read_place(self.place)


@dataclasses.dataclass(frozen=True, eq=False)
class RecordJob:
    """The records of a batch, and the seed of what is random in it."""

    seed: Seed
    records: Sequence[Record]


@dataclasses.dataclass(frozen=True, eq=False)
class RecordReader(Reader[RecordJob]):
    """Pictures (batch, channels, height, width) and labels (batch) out of serialized ``Datum`` messages."""

    who: str
    transform: Transform
    dtype: npt.DTypeLike = np.float32

    def as_bytes(self) -> Bytes | None:
        """As :meth:`Reader.as_bytes`; batches with records of floats come as float32, finished."""
        levels = self.transform.levels
        return None if levels is None else Bytes(dataclasses.replace(self, dtype=np.uint8), (levels,))

    def read(self, job: RecordJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: pictures and labels."""
        random = np.random.default_rng(job.seed)
        data: np.ndarray | None = None
        labels = new((len(job.records),))
        for item, record in enumerate(job.records):
            picture, planes, shape, label = self.load(record)
            if self.dtype != np.float32 and planes is not None and planes.dtype != np.uint8:
                return dataclasses.replace(self, dtype=np.float32).read(job, new)
            if data is None:
                data = new((len(job.records), *shape), self.dtype)
            if data.shape[1:] != shape:
                raise self.error(
                    f"{record.name} has the shape {list(shape)}, the first record of the batch "
                    f"{list(data.shape[1:])}; use batch_size 1 or crop_size"
                )
            if planes is None:
                self.transform.picture(picture, data[item], random)
            else:
                self.transform(planes, data[item], random)
            labels[item] = label
        assert data is not None
        return data, labels

    def about(self, job: RecordJob) -> str:
        """As :meth:`Reader.about`."""
        return shown(record.name for record in job.records)

    def load(self, record: Record) -> tuple[np.ndarray, np.ndarray | None, tuple[int, ...], int]:
        """A record's picture or its planes, see :func:`read_datum`; the shape of what becomes of them; its label."""
        own = self.transform
        try:
            picture, planes, label = read_datum(record.value, record.name, own.force_color, own.force_gray)
        except CaffeCompatError as error:
            raise self.error(str(error)) from error
        try:
            return picture, planes, own.shape(*_size(picture, planes)), label
        except CaffeCompatError as error:
            raise self.error(f"{record.name}: {error}") from error

    def size(self, record: Record) -> tuple[int, int, int]:
        """Channels, height and width of a record."""
        return _size(*self.load(record)[:2])


def _size(picture: np.ndarray, planes: np.ndarray | None) -> tuple[int, int, int]:
    """Channels, height and width."""
    if planes is not None:
        return len(planes), planes.shape[1], planes.shape[2]
    return 1 if picture.ndim == 2 else picture.shape[2], picture.shape[0], picture.shape[1]
