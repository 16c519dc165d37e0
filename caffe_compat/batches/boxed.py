"""Batches of pictures with the boxes of objects, as the YOLO nets of gklz1982/caffe-yolov2 and intel/caffe take them.

Source: ``box_data_layer.cpp`` and ``data_transformer.cpp`` of these, and of quhezheng/caffe_yolo_v2.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from caffe_compat.batches.reader import New, Reader, shown
from caffe_compat.batches.records import Record, RecordJob
from caffe_compat.batches.transform import Transform
from caffe_compat.media import resize_caffe
from caffe_compat.media.datum import read_boxed_datum

__all__ = ["BoxRecordReader", "drawn_boxes"]

_TRIES = 1000
_LEAST = 30  #: a part of a picture is up to so many percent shorter than it


def drawn_boxes(
    rows: np.ndarray, height: int, width: int, random: np.random.Generator
) -> tuple[np.ndarray, tuple[slice, slice]] | None:
    """A part of a picture with the place (columns 1 and 2) of some box in it, and these boxes in parts of it.

    A place is cut to pixels, and so is a size.  None: no part has a box in it, where the fork would search on and on.

    Args:
        rows: class, place and size of boxes, in parts of the picture (float32[T, 5]).
    """
    places = (rows[:, 1:] * np.array([width, height] * 2, np.float32)).astype(np.int64)
    for _ in range(_TRIES):
        factor = np.float32(1.0 - int(random.integers(_LEAST)) / 100.0)
        wide, high = int(np.float32(width) * factor) - 1, int(np.float32(height) * factor) - 1
        if min(wide, high) < 1:
            return None
        left, top = int(random.integers(width - wide)), int(random.integers(height - high))
        start, size = np.array([left, top]), np.array([wide, high])
        inside = ((places[:, :2] >= start) & (places[:, :2] < start + size)).all(1)
        if inside.any():
            moved = np.concatenate([places[inside, :2] - start, places[inside, 2:]], 1).astype(np.float32)
            found = np.concatenate([rows[inside, :1], moved / np.tile(size, 2).astype(np.float32)], 1)
            return found, (slice(top, top + high), slice(left, left + wide))
    return None


@dataclasses.dataclass(frozen=True, eq=False)
class BoxRecordReader(Reader[RecordJob]):
    """Pictures (batch, channels, height, width) and boxes (batch, 5 x ``most``): class, centre and size, zeros behind.

    Args:
        corners: whether records have the corner, size and class of a box (quhezheng's); else class, difficult, centre
            and size.
    """

    who: str
    transform: Transform
    most: int
    corners: bool

    def read(self, job: RecordJob, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: pictures and boxes."""
        random = np.random.default_rng(job.seed)
        data: np.ndarray | None = None
        labels = np.zeros((len(job.records), self.most, 5), np.float32)
        for item, record in enumerate(job.records):
            picture, rows = self.load(record)
            if self.transform.train_phase:
                high, wide = picture.shape[:2]
                found = drawn_boxes(rows, high, wide, random)
                if found is None:
                    raise self.error(f"{record.name}: no box of {rows[:, 1:].tolist()} is in a part of the picture")
                rows, window = found
                picture = resize_caffe(np.ascontiguousarray(picture[window]), *picture.shape[:2])
            with self.naming(record.name):
                shape = self.transform.shape(1 if picture.ndim == 2 else picture.shape[2], *picture.shape[:2])
            if data is None:
                data = new((len(job.records), *shape))
            if data.shape[1:] != shape:
                raise self.error(
                    f"{record.name}: is {shape[2]}x{shape[1]}, the first picture of the batch {data.shape[3]}x"
                    f"{data.shape[2]}; use batch_size 1 or crop_size"
                )
            self.transform.picture(picture, data[item], random)
            if self.corners:
                rows = np.concatenate([rows[:, :1], rows[:, 1:3] + rows[:, 3:] / 2, rows[:, 3:]], 1)
            labels[item, : len(rows)] = rows
        assert data is not None
        return data, labels.reshape(len(labels), -1)

    def about(self, job: RecordJob) -> str:
        """As :meth:`Reader.about`."""
        return shown(record.name for record in job.records)

    def load(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """A picture, and class, place and size of its boxes (float32[T, 5])."""
        own = self.transform
        with self.naming():
            picture, rows = read_boxed_datum(
                record.value, record.name, 5 if self.corners else 6, own.force_color, own.force_gray
            )
        rows = rows[:, [4, 0, 1, 2, 3]] if self.corners else rows[:, [0, 2, 3, 4, 5]]
        if len(rows) > self.most or not np.isfinite(rows).all() or (rows[:, 0] < 0).any():
            raise self.error(
                f"{record.name}: has {len(rows)} boxes {rows.tolist()[:3]}, expected {self.most} at most, of finite "
                "numbers and classes from 0"
            )
        return picture, rows

    def shape(self, record: Record) -> tuple[int, ...]:
        """Of what becomes of a record's picture."""
        picture, _ = self.load(record)
        with self.naming(record.name):
            return self.transform.shape(1 if picture.ndim == 2 else picture.shape[2], *picture.shape[:2])
