"""Files that are written whole or not at all: every file of this package goes through here.

A file is written under a temporary name beside its target (``.NAME.PID-N.tmp``), flushed to the disk, renamed, and the
rename itself is flushed.  Whatever fails on the way (a full disk, a quota, a signal), the old file stays or there is
none, nothing else is left, and the error names the file.

A process that is killed cannot clean up.  It holds a lock on its temporary file, which dies with it; the next process
that writes into the same folder removes what nobody locks.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from caffe_compat.errors import MissingFileError, WriteError

try:
    import fcntl
except ImportError:  # Windows: there a file that somebody has open cannot be removed
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "atomic_path",
    "atomic_folder",
    "atomic_write",
    "copy_file",
    "finish_file",
    "open_existing",
    "remove_leftovers",
    "write_file",
]

PathLike = str | os.PathLike[str]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EISDIR, errno.ENOTDIR}
_TEMPORARY = re.compile(r"\..+\.\d+(-\d+)?\.tmp$", re.DOTALL)
_numbers = itertools.count()
_swept: set[str] = set()


def open_existing(path: PathLike, why: str = "") -> IO[bytes]:
    """Open a file for reading bytes.

    Raises:
        MissingFileError: it does not exist, is a folder, or may not be read.
    """
    if os.path.isdir(path):
        raise MissingFileError(path, "it is a folder")
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise MissingFileError(path, why or getattr(error, "strerror", None) or str(error)) from error


def write_file(path: PathLike, *parts: bytes | memoryview | str) -> None:
    """Write a file from what it holds; text becomes UTF-8.

    Raises:
        WriteError: it cannot be written.
    """
    with atomic_write(path) as stream:
        for part in parts:
            stream.write(part.encode() if isinstance(part, str) else part)


def copy_file(source: PathLike, target: PathLike) -> None:
    """Copy the bytes of a file.

    Raises:
        MissingFileError: there is no source.
        WriteError: the target cannot be written.
    """
    with open_existing(source) as stream, atomic_write(target) as out:
        shutil.copyfileobj(stream, out, 1 << 20)


@contextlib.contextmanager
def atomic_write(path: PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """An open file that becomes ``path`` when the block ends without an error.

    A symbolic link is followed; a device or a pipe (``/dev/null``) is written to as it is.

    Args:
        mode: ``"wb"``, ``"w"`` (UTF-8) or ``"w+b"`` (unbuffered, and can be read).

    Raises:
        WriteError: it cannot be written.
    """
    target = _target(path)
    with contextlib.ExitStack() as stack:
        if target.exists() and not target.is_file():
            raw = _Raw(_open(target, os.O_WRONLY, path), path)
            stack.callback(raw.close)
        else:
            raw = stack.enter_context(_temporary_file(target, path))
        stream = _wrap(raw, mode)
        try:
            yield stream
            stream.flush()
            raw.sync()
        except OSError as error:
            raw.abandoned = True
            if error.errno in _FULL:
                raise _refusal(path, error) from error
            raise
        except BaseException:
            raw.abandoned = True
            raise
        finally:
            stream.close()


@contextlib.contextmanager
def atomic_folder(path: PathLike, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends without an error.

    Args:
        replace: instead of the folder itself its files move into the (old or new) folder that ``path`` is in: all of
            them, or none.

    Raises:
        WriteError: it cannot be written, or there is something of that name already.
    """
    target = _target(path)
    with _temporary_folder(target, path) as folder:
        try:
            yield folder
            for file in (item for item in folder.rglob("*") if item.is_file()):
                _sync_path(file)
            _sync_folder(folder)
            if replace:
                _replace_all([(file, target.parent / file.name) for file in sorted(folder.iterdir())])
            else:
                os.rename(folder, target)
        except OSError as error:
            if error.errno in _FULL | {errno.ENOTEMPTY, errno.EEXIST}:
                raise _refusal(path, error) from error
            raise
    _sync_folder(target.parent)


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary name that becomes ``path`` when the block ends without an error (for writers that want a name)."""
    with atomic_folder(path, replace=True) as folder:
        yield folder / Path(path).name


def finish_file(part: PathLike, target: PathLike) -> None:
    """Give a file that was written in parts, over several runs, its name.

    Raises:
        WriteError: it cannot be renamed.
    """
    try:
        _sync_path(part)
        os.replace(part, target)
    except OSError as error:
        raise _refusal(target, error) from error
    _sync_folder(Path(target).parent)


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


class _Raw(io.RawIOBase):
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

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and not self.abandoned:
            try:
                done += os.write(self._descriptor, view[done:])
            except OSError as error:
                self.abandoned = True
                raise _refusal(self._path, error) from error
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
            raise _refusal(self._path, error) from error
        return size

    def sync(self) -> None:
        """Wait until the disk has it; quotas and network disks report what is missing only now."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):  # what has no disk: devices, pipes
                raise _refusal(self._path, error) from error

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def _wrap(raw: _Raw, mode: str) -> Any:
    if mode == "w+b":
        return raw
    buffered = io.BufferedWriter(raw, 1 << 18)
    return io.TextIOWrapper(buffered, encoding="utf-8") if mode == "w" else buffered


@contextlib.contextmanager
def _temporary_file(target: Path, path: PathLike) -> Iterator[_Raw]:
    if target.is_dir():
        raise WriteError(path, "it is a folder")
    descriptor, temporary = -1, target
    while descriptor < 0:
        temporary = _temporary_name(target, path)
        descriptor = _locked(_open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), path))
    lock = os.dup(descriptor) if fcntl else None  # outlives the stream, as the lock must live until the rename
    try:
        yield _Raw(descriptor, path)
        try:
            os.replace(temporary, target)
        except OSError as error:
            raise _refusal(path, error) from error
        _sync_folder(target.parent)
    finally:
        _discard(temporary)
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def _temporary_folder(target: Path, path: PathLike) -> Iterator[Path]:
    lock: int | None = -1
    while lock == -1:
        temporary = _temporary_name(target, path)
        try:
            os.mkdir(temporary)
        except OSError as error:
            raise _refusal(path, error) from error
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
        raise _refusal(path, error) from error
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


def _open(file: Path, flags: int, path: PathLike) -> int:
    try:
        return os.open(file, flags, 0o666)
    except OSError as error:
        raise _refusal(path, error) from error


def _replace_all(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename several files, each over an older one: all, or (should one fail) none."""
    kept: list[tuple[Path, Path | None]] = []
    try:
        for source, target in moves:
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            old = source.with_name(source.name + ".old") if target.exists() else None
            if old is not None:
                os.link(target, old)
            kept.append((target, old))
            os.replace(source, target)
    except OSError:
        for target, old in reversed(kept):
            with contextlib.suppress(OSError):
                if old is not None:
                    os.replace(old, target)
                else:
                    target.unlink(missing_ok=True)
        raise


def _sync_path(path: PathLike) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
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


def _target(path: PathLike) -> Path:
    """Where the file is to be: at the end of symbolic links, but a device under the name it was given."""
    try:
        status = os.stat(path)
        regular = stat.S_ISREG(status.st_mode)
    except FileNotFoundError:
        regular = True  # as it will be
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error
    if not os.path.basename(path):
        raise WriteError(path, "it has no file name")
    return Path(os.path.realpath(path)) if regular and os.path.islink(path) else Path(path)


def _refusal(path: PathLike, error: Exception) -> WriteError:
    return WriteError(path, getattr(error, "strerror", None) or str(error))
