"""Writing LMDB and LevelDB databases of records, as Caffe's tools do: whole or not at all."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import lmdb

from caffe_compat import log
from caffe_compat.errors import DataError, UsageError, WriteError
from caffe_compat.files import atomic_folder

__all__ = ["BACKENDS", "RecordWriter", "create_database"]

BACKENDS = ("lmdb", "leveldb")
COMMIT_RECORDS, COMMIT_BYTES = 1000, 64 << 20


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
        try:
            plyvel = importlib.import_module("plyvel")
        except ImportError as error:
            raise DataError(
                f"a LevelDB database needs the package plyvel, which cannot be imported ({error}); install it, or use "
                "--backend lmdb"
            ) from error
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
