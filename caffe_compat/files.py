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
import lzma
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from caffe_compat.errors import MissingFileError, WriteError
from caffe_compat.temporary import (
    BINARY,
    RawFile,
    open_file,
    refusal,
    remove_leftovers,
    sync_folder,
    sync_path,
    temporary_file,
    temporary_folder,
)

__all__ = [
    "ZIP_ERRORS",
    "append_part",
    "atomic_folder",
    "atomic_write",
    "copy_file",
    "finish_file",
    "open_existing",
    "remove_leftovers",
    "write_file",
    "write_texts",
]

PathLike = str | os.PathLike[str]

ZIP_ERRORS = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What ``zipfile`` raises for archives that are damaged, encrypted, or packed in a way that it does not know."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EISDIR, errno.ENOTDIR}
_MANY = 100  #: files, from which all that the system holds is flushed at once


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


def write_texts(folder: PathLike, texts: Mapping[str, str]) -> list[str]:
    """Write files of text, by name, into a folder, each whole or not at all; their paths.

    Raises:
        WriteError: one cannot be written.
    """
    paths = {Path(folder) / name: text for name, text in texts.items()}
    for path, text in paths.items():
        write_file(path, text)
    return [str(path) for path in paths]


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
            raw = RawFile(open_file(target, os.O_WRONLY, path), path)
            stack.callback(raw.close)
        else:
            raw = stack.enter_context(temporary_file(target, path))
        stream = _wrap(raw, mode)
        try:
            yield stream
            stream.flush()
            raw.sync()
        except OSError as error:
            raw.abandoned = True
            if error.errno in _FULL:
                raise refusal(path, error) from error
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
        replace: instead of the folder itself its files move into the (old or new) folder that ``path`` is in, over
            those of the same names: all of them, or none.

    Raises:
        WriteError: it cannot be written, or there is something of that name already.
    """
    target = _target(path)
    with temporary_folder(target, path) as folder:
        try:
            yield folder
            inside = sorted(item for item in folder.rglob("*") if item.is_symlink() or item.is_file())
            _sync_all(inside)
            sync_folder(folder)
            if replace:
                _replace_all([(file, target.parent / file.relative_to(folder)) for file in inside])
            else:
                os.rename(folder, target)
        except OSError as error:
            if error.errno in _FULL | {errno.ENOTEMPTY, errno.EEXIST}:
                raise refusal(path, error) from error
            raise
    sync_folder(target.parent)


@contextlib.contextmanager
def append_part(part: PathLike, size: int) -> Iterator[IO[bytes]]:
    """A file that is written in parts, over several runs; what was written stays when the block ends with an error.

    Args:
        size: bytes of it that are kept.

    Raises:
        WriteError: it cannot be written.
    """
    stream = RawFile(open_file(Path(part), os.O_WRONLY | os.O_CREAT | BINARY, part), part)
    try:
        stream.truncate(size)
        stream.seek(size)
        yield stream  # type: ignore[misc]
    finally:
        stream.close()


def finish_file(part: PathLike, target: PathLike) -> None:
    """Give a file that was written in parts, over several runs, its name.

    Raises:
        WriteError: it cannot be renamed.
    """
    try:
        sync_path(part)
        os.replace(part, target)
    except OSError as error:
        raise refusal(target, error) from error
    sync_folder(Path(target).parent)


def _wrap(raw: RawFile, mode: str) -> Any:
    if mode == "w+b":
        return raw
    buffered = io.BufferedWriter(raw, 1 << 18)
    return io.TextIOWrapper(buffered, encoding="utf-8") if mode == "w" else buffered


def _replace_all(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename several files, each over an older one: all, or (should one fail) none."""
    kept: list[tuple[Path, Path | None]] = []
    try:
        for source, target in moves:
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            target.parent.mkdir(parents=True, exist_ok=True)
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


def _sync_all(paths: Sequence[Path]) -> None:
    """Flush files to the disk; of very many all at once, where that can be done."""
    if len(paths) > _MANY and hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        if not path.is_symlink():
            sync_path(path)


def _target(path: PathLike) -> Path:
    """Where the file is to be: at the end of symbolic links, but a device under the name it was given."""
    try:
        status = os.stat(path)
        regular = stat.S_ISREG(status.st_mode)
    except FileNotFoundError:
        regular = True  # as it will be
    except (OSError, ValueError) as error:
        raise refusal(path, error) from error
    if not Path(path).name:
        raise WriteError(path, "it has no file name")
    return Path(os.path.realpath(path)) if regular and os.path.islink(path) else Path(path)
