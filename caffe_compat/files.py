"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from caffe_compat.errors import CaffeCompatError, MissingFileError

__all__ = ["atomic_path", "atomic_write", "open_existing"]

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EISDIR, errno.ENOTDIR}


def open_existing(path: str | os.PathLike[str], why: str = "") -> IO[bytes]:
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


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path``; it takes the name ``path`` when the block ends without an error.

    For writers that want a file name (cv2, h5py, onnx).  The suffix of ``path`` is kept.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise CaffeCompatError(f"cannot write {target}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        if error.errno in _UNWRITABLE:
            raise CaffeCompatError(f"cannot write {target}: {error.strerror or error}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """An open file that becomes ``path`` when the block ends without an error."""
    with atomic_path(path) as temporary, open(temporary, mode, encoding=None if "b" in mode else "utf-8") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
