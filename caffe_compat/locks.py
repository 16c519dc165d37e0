"""One run at a time writes into one place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from caffe_compat.errors import CaffeCompatError

try:
    import fcntl
except ImportError:  # Windows has no such locks: there two runs are not told apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["hold", "is_held"]

_TRIES = 1000


@contextlib.contextmanager
def hold(path: Path, doing: str, instead: str, error: Callable[[str], CaffeCompatError]) -> Iterator[None]:
    """Keep other runs (processes, or other parts of this one) out during the block.

    A lock on a file, which is removed at the end.  The lock dies with its process, so that the file of a killed run
    keeps nobody out.  Where there are no locks (Windows, some network disks) nothing is kept out.

    Args:
        path: the file; its folder is made.
        doing: what a run that holds it does, such as ``"testing into output/x"``.
        instead: what to do, other than wait.
        error: makes what is raised if another run holds it, or there is no way to write there.
    """
    if fcntl is None:
        yield
        return
    descriptor = _locked(path, doing, instead, error)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_held(path: Path) -> bool | None:
    """Whether a process of this machine holds a file (:func:`hold`); None: there are no locks here to tell.

    To look takes the lock for a moment.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # this file system has no locks
        return None
    else:
        return False
    finally:
        os.close(descriptor)


def _locked(path: Path, doing: str, instead: str, error: Callable[[str], CaffeCompatError]) -> int:
    for _ in range(_TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as failed:
            raise error(
                f"cannot write {path}, which keeps others out while {doing}: {failed.strerror or failed}"
            ) from failed
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode("ascii", "replace")
            os.close(descriptor)
            who = f"process {owner}" if owner else "another process"
            raise error(f"{who} is {doing} and holds {path}: wait for it, or {instead}") from None
        except OSError:  # this file system has no locks
            return descriptor
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.truncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
        os.close(descriptor)  # its owner ended and removed it between opening and locking
    raise error(f"cannot lock {path}: other runs come and go there all the time")
