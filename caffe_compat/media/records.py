"""LMDB and LevelDB databases of records: read by number, and written as Caffe's tools do, whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import lmdb

from caffe_compat import log
from caffe_compat.errors import DataError, MissingFileError, UsageError, WriteError
from caffe_compat.files import atomic_folder
from caffe_compat.media.lmdb_file import LmdbFile, LmdbPlace

__all__ = ["BACKENDS", "Database", "Place", "RecordWriter", "create_database", "open_database", "read_place"]

BACKENDS = ("lmdb", "leveldb")
COMMIT_RECORDS, COMMIT_BYTES = 1000, 64 << 20


class Place(NamedTuple):
    """Where a record is, for another process.

    Args:
        path: of the database.
        file: what tells its file from another of that name.
    """

    path: str
    file: tuple[int, int]
    at: LmdbPlace


def read_place(place: Place | bytes) -> bytes:
    """The value of a record.

    Raises:
        DataError: it cannot be read, or another file has taken the place of its database.
    """
    if isinstance(place, bytes):
        return place
    file = _opened_here(place.path)
    if file.identity() != place.file:
        _opened_here.cache_clear()
        raise DataError(f"{place.path}: another file has taken its place while it was read")
    return file.value_at(place.at)


@functools.lru_cache(maxsize=8)
def _opened_here(path: str) -> LmdbFile:
    return LmdbFile(path, index=False)


class Database:
    """Records in the order of their keys, by number; may be used from several threads.

    Args:
        path: its folder (LMDB: or file).
        keys: all keys, in order.
        get: reads the value of the record of a number.
        where: says where that is, for other processes; None: they cannot read it.
    """

    def __init__(
        self,
        path: str,
        keys: list[bytes],
        get: Callable[[int], bytes],
        where: Callable[[int], Place] | None = None,
    ) -> None:
        self.path, self.keys, self._get, self._where = path, keys, get, where

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> bytes:
        """The value of record ``index``.

        Raises:
            DataError: it cannot be read.
        """
        return self._get(index)

    def identity(self) -> str:
        """What tells it from another database of the same name: how many records, and the first and the last key."""
        ends = [repr(self.keys[index].decode(errors="replace")) for index in (0, -1)]
        return f"{len(self)} records, {' to '.join(ends)}"

    def place(self, index: int) -> Place | bytes:
        """What :func:`read_place` of any process makes the value of record ``index`` of; if need be, the value."""
        return self[index] if self._where is None else self._where(index)

    def name(self, index: int) -> str:
        """Names a record in messages."""
        return f"{self.path}, record {self.keys[index].decode(errors='replace')!r}"


# A LevelDB database may not be opened twice in a process, and several nets read the same one.
_opened: weakref.WeakValueDictionary[tuple[object, ...], Database] = weakref.WeakValueDictionary()
_open_lock = threading.Lock()


def open_database(path: str, backend: str) -> Database:
    """Open a database for reading.

    Args:
        backend: ``"LMDB"`` or ``"LEVELDB"`` (needs the package ``plyvel``), in letters of either case.

    Raises:
        MissingFileError: there is none.
        DataError: it cannot be read, or is empty.
        UsageError: an unknown backend.
    """
    backend = backend.lower()
    if backend not in BACKENDS:
        raise UsageError(f"backend is '{backend}', expected one of {', '.join(BACKENDS)}")
    content = os.path.join(path, "data.mdb") if backend == "lmdb" and os.path.isdir(path) else path
    try:
        status = os.stat(content)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise MissingFileError(path, f"{backend.upper()} database: {why}") from error
    written = status.st_mtime_ns if backend == "lmdb" else 0  # opening a LevelDB database changes its folder
    key = (backend, status.st_dev, status.st_ino, written)
    with _open_lock:
        database = _opened.get(key)
        if database is None:
            database = _open_lmdb(path) if backend == "lmdb" else _open_leveldb(path)
            _opened[key] = database
    if not database.keys:
        raise DataError(f"{path}: the database is empty")
    return database


def _open_lmdb(path: str) -> Database:
    file = LmdbFile(path)
    identity = file.identity()
    return Database(path, file.keys, file.value, lambda index: Place(path, identity, file.place(index)))


def _open_leveldb(path: str) -> Database:
    plyvel = _plyvel(f"{path}: ", "backend: LMDB")
    try:
        handle = plyvel.DB(path, create_if_missing=False)
        keys = list(handle.iterator(include_value=False))
    except (plyvel.Error, OSError) as error:
        raise DataError(f"{path}: is no LevelDB database, or in use: {error}") from error
    lock = threading.Lock()

    def get(index: int) -> bytes:
        try:
            with lock:
                value = handle.get(keys[index])
        except (plyvel.Error, OSError) as error:
            raise DataError(f"{path}: record {keys[index].decode(errors='replace')!r}: {error}") from error
        if value is None:
            raise DataError(f"{path}: record {keys[index].decode(errors='replace')!r} is gone")
        return bytes(value)

    return Database(path, keys, get)


def _plyvel(where: str, instead: str) -> Any:
    try:
        return importlib.import_module("plyvel")
    except ImportError as error:
        raise DataError(
            f"{where}a LevelDB database needs the package plyvel, which cannot be imported ({error}); install it, or "
            f"use {instead}"
        ) from error


class _Store(Protocol):
    def write(self, records: list[tuple[bytes, bytes]]) -> None: ...

    def close(self) -> None: ...


class RecordWriter:
    """Collects records and commits them by the thousand."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._pending: list[tuple[bytes, bytes]] = []
        self._bytes = 0
        self.count = 0

    def put(self, key: bytes, value: bytes) -> None:
        """Add a record; one of the same key replaces an earlier one."""
        self._pending.append((key, value))
        self._bytes += len(value)
        self.count += 1
        if len(self._pending) >= COMMIT_RECORDS or self._bytes >= COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
        """Write what was put."""
        self._store.write(self._pending)
        self._pending, self._bytes = [], 0


class _Lmdb:
    def __init__(self, path: Path) -> None:
        self._environment = lmdb.open(os.fspath(path), map_size=1 << 26, readahead=False)

    def write(self, records: list[tuple[bytes, bytes]]) -> None:
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in records:
                        transaction.put(key, value)
                return
            except lmdb.MapFullError:
                self._environment.set_mapsize(self._environment.info()["map_size"] * 2)

    def close(self) -> None:
        try:
            self._environment.sync(True)
        finally:
            self._environment.close()


class _LevelDb:
    def __init__(self, path: Path) -> None:
        plyvel = _plyvel("", "--backend lmdb")
        self._handle: Any = plyvel.DB(
            os.fspath(path), create_if_missing=True, write_buffer_size=256 << 20, block_size=64 << 10
        )

    def write(self, records: list[tuple[bytes, bytes]]) -> None:
        with self._handle.write_batch() as batch:
            for key, value in records:
                batch.put(key, value)

    def close(self) -> None:
        self._handle.close()


@contextlib.contextmanager
def create_database(path: str, backend: str) -> Iterator[RecordWriter]:
    """A new database; it appears under its name when the block ends without an error.

    Args:
        backend: ``"lmdb"`` or ``"leveldb"`` (needs the package ``plyvel``).

    Raises:
        UsageError: there is something of that name already, or an unknown backend.
        DataError: no plyvel.
        WriteError: the database cannot be written (disk full, a key over 511 bytes).
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend is '{backend}', expected one of {', '.join(BACKENDS)}")
    if Path(path).exists():
        raise UsageError(f"{path}: exists already, expected the name of a new database")
    try:
        with atomic_folder(path) as scratch, contextlib.closing(_STORES[backend](scratch)) as store:
            writer = RecordWriter(store)
            log.info(f"Opened {backend} {path}", f"db_{backend}.cpp:35")
            yield writer
            writer.commit()
    except (lmdb.Error, OSError) as error:
        raise WriteError(path, str(error)) from error


_STORES: dict[str, Callable[[Path], _Store]] = {"lmdb": _Lmdb, "leveldb": _LevelDb}
