"""Data: records of a LMDB or LevelDB database."""

from __future__ import annotations

import gc
import importlib
import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import cv2
import lmdb
import numpy as np
from google.protobuf.message import DecodeError

from caffe_compat.errors import CaffeCompatError, DataError, MissingFileError
from caffe_compat.layers.base import Shape, register
from caffe_compat.layers.data.image import ignore_transform_fields
from caffe_compat.layers.data.images import decode_image, planes
from caffe_compat.layers.data.source import DataLayer
from caffe_compat.layers.data.transformer import Transformer
from caffe_compat.layers.params import Params
from caffe_compat.proto import caffe_pb2

__all__ = ["Data", "Database", "datum_channels", "open_database"]

PATIENCE = 3.0
"""Seconds to wait for a database that this process is about to close."""


class Database:
    """Records in the order of their keys, by number; may be used from several threads.

    Args:
        keys: all keys, in order.
        get: reads the value of one key; called under a lock.
        handle: what must stay open.
    """

    def __init__(self, path: str, keys: list[bytes], get: Any, handle: Any) -> None:
        self.path, self.keys, self._get, self._handle = path, keys, get, handle
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> bytes:
        """The value of record ``index``."""
        with self._lock:
            return bytes(self._get(self.keys[index]))


# Neither kind may be opened twice in a process, and several nets read the same one.
_opened: weakref.WeakValueDictionary[tuple[object, ...], Database] = weakref.WeakValueDictionary()
_open_lock = threading.Lock()


def open_database(path: str, backend: str) -> Database:
    """Open a database for reading.

    Args:
        backend: ``"LMDB"`` or ``"LEVELDB"`` (needs the package ``plyvel``).

    Raises:
        MissingFileError: there is none.
        DataError: it cannot be read, or is empty.
    """
    content = os.path.join(path, "data.mdb") if backend == "LMDB" and os.path.isdir(path) else path
    try:
        status = os.stat(content)
    except OSError as error:
        raise MissingFileError(path, f"{backend} database: {error.strerror}") from error
    written = status.st_mtime_ns if backend == "LMDB" else 0  # opening a LevelDB database changes its folder
    key = (backend, status.st_dev, status.st_ino, written)
    with _open_lock:
        database = _opened.get(key)
        if database is None:
            database = _open_lmdb(path) if backend == "LMDB" else _open_leveldb(path)
            _opened[key] = database
    if not database.keys:
        raise DataError(f"{path}: the database is empty")
    return database


def _open_lmdb(path: str) -> Database:
    try:
        environment = _environment(path)
        _refuse_truncated(path, environment)
        transaction = environment.begin()
        keys = list(transaction.cursor().iternext(values=False))
    except lmdb.Error as error:
        raise DataError(f"{path}: is no LMDB database: {error}") from error
    return Database(path, keys, transaction.get, environment)


def _environment(path: str) -> lmdb.Environment:
    """An environment, which a process may have but once.

    A net that was dropped a moment ago may still hold one: until its cycles are collected, or a thread that reads
    ahead has ended.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return lmdb.open(path, readonly=True, lock=False, readahead=True, subdir=os.path.isdir(path))
        except lmdb.Error as error:
            if "already open" not in str(error) or time.monotonic() > deadline:
                raise
        gc.collect()
        time.sleep(0.05)


def _refuse_truncated(path: str, environment: lmdb.Environment) -> None:
    """LMDB maps its file into memory; reading a page that is not there would end the process."""
    content = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
    wanted = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = os.path.getsize(content)
    if size < wanted:
        raise DataError(f"{path}: is a truncated LMDB database, {size} bytes of {wanted}")


def _open_leveldb(path: str) -> Database:
    try:
        plyvel = importlib.import_module("plyvel")
    except ImportError as error:
        raise DataError(
            f"{path}: a LevelDB database needs the package plyvel, which cannot be imported ({error}); install it, or "
            "use backend: LMDB"
        ) from error
    try:
        handle = plyvel.DB(path, create_if_missing=False)
        keys = list(handle.iterator(include_value=False))
    except (plyvel.Error, OSError) as error:
        raise DataError(f"{path}: is no LevelDB database, or in use: {error}") from error
    return Database(path, keys, handle.get, handle)


def datum_channels(raw: bytes, name: str, force_color: bool = False, force_gray: bool = False) -> tuple[Any, int]:
    """The planes (height, width) of a serialized ``Datum``, and its label.

    ``data`` holds uint8, ``float_data`` float32 values; an ``encoded`` datum is a compressed image, decoded as it is or
    to three channels or one.  The force flags mean nothing to a datum that is not encoded.

    Raises:
        DataError: the datum is malformed.
    """
    datum = caffe_pb2.Datum()
    try:
        datum.ParseFromString(raw)
    except DecodeError as error:
        raise DataError(f"{name}: is no Datum: {error}") from error
    if datum.encoded:
        if force_color and force_gray:
            raise DataError(f"{name}: transform_param has force_color and force_gray, expected one of them")
        flags = cv2.IMREAD_UNCHANGED
        if force_color or force_gray:
            flags = cv2.IMREAD_COLOR if force_color else cv2.IMREAD_GRAYSCALE
        return planes(decode_image(datum.data, name, flags)), datum.label
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1 or values.size != shape[0] * shape[1] * shape[2]:
        raise DataError(f"{name}: a Datum of {values.size} values cannot have the shape {list(shape)}")
    return values.reshape(shape), datum.label


@register
class Data(DataLayer):
    """Batches of records and, if a second top is there, their labels.

    Tops: (batch, channels, height, width) in the order of the database (BGR for images), and (batch).  The backend is
    LevelDB unless the prototxt says LMDB.  All records of a batch must have one size; batches may differ.  After the
    last record comes the first.  ``prefetch`` says how many batches are read ahead (0: none).
    """

    caffe_type = "Data"
    splits = True
    top_count = (1, 2)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        section = params.section("data_param")
        super().__init__(params, bottoms, int(section.prefetch))
        ignore_transform_fields(
            params, section, "scale", "mean_file", "crop_size", "mirror", "rand_skip", "force_encoded_color"
        )
        self.size = self.batch_size(section)
        self.transformer = Transformer(params)
        try:
            self.database = open_database(section.source, section.enum("backend"))
        except DataError as error:
            raise self.data_error(str(error)) from error
        _, shape, _ = self._load(0)
        self.shapes = [(self.size, *shape), (self.size,)][: len(params.tops)]

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``: records and labels."""
        random = self.random(number)
        data: np.ndarray | None = None
        labels = np.empty(self.size, np.float32)
        for item, index in enumerate(self.records(number, self.size)):
            record = index % len(self.database)
            channels, shape, label = self._load(record)
            if data is None:
                data = np.empty((self.size, *shape), np.float32)
            if data.shape[1:] != shape:
                raise self.data_error(
                    f"{self._name(record)} has the shape {list(shape)}, the first record of the batch "
                    f"{list(data.shape[1:])}; use batch_size 1 or crop_size"
                )
            self.transformer(channels, data[item], random)
            labels[item] = label
        assert data is not None
        return (data, labels)[: len(self.params.tops)]

    def _name(self, record: int) -> str:
        return f"{self.database.path}, record {self.database.keys[record].decode(errors='replace')!r}"

    def _load(self, record: int) -> tuple[Any, Shape, int]:
        transformer, name = self.transformer, self._name(record)
        try:
            channels, label = datum_channels(
                self.database[record], name, transformer.force_color, transformer.force_gray
            )
        except CaffeCompatError as error:
            raise self.data_error(str(error)) from error
        try:
            return channels, transformer.shape(len(channels), *channels[0].shape), label
        except CaffeCompatError as error:
            raise self.data_error(f"{name}: {error}") from error
