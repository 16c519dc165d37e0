"""Temporary files beside their targets: names, locks, leftovers, and the flushing of files and renames.

:mod:`caffe_compat.files` is what the package writes with; this is what it is made of.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from caffe_compat.errors import WriteError

try:
    import fcntl
except ImportError:  # Windows: there a file that somebody has open cannot be removed
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "RawFile",
    "open_file",
    "refusal",
    "remove_leftovers",
    "sync_folder",
    "sync_path",
    "temporary_file",
    "temporary_folder",
]

PathLike = str | os.PathLike[str]
BINARY = getattr(os, "O_BINARY", 0)

_TEMPORARY = re.compile(r"\..+\.\d+-\d+\.tmp$", re.DOTALL)
_numbers = itertools.count()
_swept: set[str] = set()


class RawFile(io.RawIOBase):
    """The file that is being written; its errors name the target."""

    def __init__(self, descriptor: int, path: PathLike) -> None:
        self._descriptor, self._path = descriptor, path
        self.abandoned = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        view = memoryview(data)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        done = 0
        while done < len(view) and not self.abandoned:
            try:
                done += os.write(self._descriptor, view[done:])
            except OSError as error:
                self.abandoned = True
                raise refusal(self._path, error) from error
        return len(view)

    def readinto(self, buffer: Any) -> int:
        data = os.read(self._descriptor, len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            self.abandoned = True
            raise refusal(self._path, error) from error
        return size

    def sync(self) -> None:
        """Wait until the disk has it; quotas and network disks report what is missing only now."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):  # what has no disk: devices, pipes
                raise refusal(self._path, error) from error

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


@contextlib.contextmanager
def temporary_file(target: Path, path: PathLike) -> Iterator[RawFile]:
    """A locked temporary file beside ``target``, which takes its name when the block ends without an error.

    Whoever uses it closes it, flushed, before the block ends.

    Args:
        path: the target as errors name it.
    """
    if target.is_dir():
        raise WriteError(path, "it is a folder")
    descriptor, temporary = -1, target
    while descriptor < 0:
        temporary = _temporary_name(target, path)
        descriptor = _locked(open_file(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY, path))
    lock = os.dup(descriptor) if fcntl else None  # outlives the stream, as the lock must live until the rename
    try:
        yield RawFile(descriptor, path)
        try:
            os.replace(temporary, target)
        except OSError as error:
            raise refusal(path, error) from error
        sync_folder(target.parent)
    finally:
        _discard(temporary)
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def temporary_folder(target: Path, path: PathLike) -> Iterator[Path]:
    """A locked temporary folder beside ``target``; what is in it after the block is removed.

    Args:
        path: the target as errors name it.
    """
    lock: int | None = -1
    while lock == -1:
        temporary = _temporary_name(target, path)
        try:
            os.mkdir(temporary)
        except OSError as error:
            raise refusal(path, error) from error
        lock = _locked(os.open(temporary, os.O_RDONLY)) if fcntl else None
    try:
        yield temporary
    finally:
        _discard(temporary)
        if lock is not None:
            os.close(lock)


def _temporary_name(target: Path, path: PathLike) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(path, error) from error
    if str(target.parent) not in _swept:
        _swept.add(str(target.parent))
        remove_leftovers(target.parent)
    return target.with_name(f".{target.name[:50]}.{os.getpid()}-{next(_numbers)}.tmp")


def _locked(descriptor: int) -> int:
    """Lock a new temporary file or folder; -1 if another process took it for a leftover in between."""
    if fcntl:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not os.fstat(descriptor).st_nlink:
            os.close(descriptor)
            return -1
    return descriptor


def open_file(file: Path, flags: int, path: PathLike) -> int:
    """A descriptor for writing; errors name ``path``."""
    try:
        return os.open(file, flags, 0o666)
    except OSError as error:
        raise refusal(path, error) from error


def remove_leftovers(folder: PathLike) -> list[str]:
    """Remove what killed processes left unfinished in a folder; returns the names.

    Temporary files of processes that live are kept.  It runs by itself at the first file that a process writes into a
    folder.
    """
    removed = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        removed = [entry.name for entry in entries if _TEMPORARY.match(entry.name) and _remove_if_dead(entry.path)]
    return removed


def _remove_if_dead(path: str) -> bool:
    try:
        lock = os.open(path, os.O_RDONLY) if fcntl else -1
    except OSError:
        return False
    try:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _discard(Path(path))
        return True
    except OSError:  # its owner lives, or this kind of file system cannot tell
        return False
    finally:
        if lock >= 0:
            os.close(lock)


def sync_path(path: PathLike) -> None:
    """Wait until the disk has a file."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush a rename.  Errors are ignored as SQLite ignores them: the file is complete, and some systems cannot."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _discard(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def refusal(path: PathLike, error: Exception) -> WriteError:
    """The package's error for one of the system's."""
    return WriteError(path, getattr(error, "strerror", None) or str(error))
