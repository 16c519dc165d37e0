"""Batches of the records of a database."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from caffe_compat.batches.images import Seed
from caffe_compat.batches.pictures import Loaded, PictureReader
from caffe_compat.batches.reader import shown
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
class RecordReader(PictureReader[RecordJob, Record]):
    """Pictures out of serialized ``Datum`` messages."""

    def batch(self, job: RecordJob) -> tuple[Seed, Sequence[Record]]:
        """As :meth:`PictureReader.batch`."""
        return job.seed, job.records

    def about(self, job: RecordJob) -> str:
        """As :meth:`Reader.about`."""
        return shown(record.name for record in job.records)

    def load(self, item: Record) -> Loaded:
        """A record's picture or its planes, see :func:`read_datum`."""
        own = self.transform
        with self.naming():
            picture, planes, label = read_datum(item.value, item.name, own.force_color, own.force_gray)
        with self.naming(item.name):
            return Loaded(picture, planes, own.shape(*_size(picture, planes)), label)

    def unlike(self, item: Record, shape: Sequence[int], first: Sequence[int]) -> str:
        """As :meth:`PictureReader.unlike`."""
        return (
            f"{item.name} has the shape {list(shape)}, the first record of the batch {list(first)}; use batch_size 1 "
            "or crop_size"
        )

    def size(self, record: Record) -> tuple[int, int, int]:
        """Channels, height and width of a record."""
        return _size(*self.load(record)[:2])


def _size(picture: np.ndarray, planes: np.ndarray | None) -> tuple[int, int, int]:
    """Channels, height and width."""
    if planes is not None:
        return len(planes), planes.shape[1], planes.shape[2]
    return 1 if picture.ndim == 2 else picture.shape[2], picture.shape[0], picture.shape[1]
