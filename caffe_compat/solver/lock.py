"""One run at a time writes snapshots of one prefix."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from caffe_compat.errors import SolverError

try:
    import fcntl
except ImportError:  # Windows has no such locks: there two runs are not told apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["hold"]

_TRIES = 1000


@contextlib.contextmanager
def hold(prefix: str) -> Iterator[None]:
    """Keep other runs (processes, or solvers of this one) from the snapshots of a prefix during the block.

    A lock on the file ``PREFIX.lock``, which is removed at the end.  The lock dies with its process, so that the file
    of a killed run keeps nobody out.  Where there are no locks (Windows, some network disks) nothing is kept out.

    Raises:
        SolverError: another run holds it, or there is no way to write there.
    """
    if fcntl is None:
        yield
        return
    path = Path(f"{prefix}.lock")
    descriptor = _locked(path, prefix)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, prefix: str) -> int:
    for _ in range(_TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise SolverError(f"cannot write to snapshot prefix '{prefix}': {error.strerror or error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode("ascii", "replace")
            os.close(descriptor)
            who = f"process {owner}" if owner else "another process"
            raise SolverError(
                f"{who} is training with the snapshot prefix '{prefix}' and holds {path}: wait for it, or give this "
                "run a snapshot_prefix of its own"
            ) from None
        except OSError:  # this file system has no locks
            return descriptor
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.truncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
        os.close(descriptor)  # its owner ended and removed it between opening and locking
    raise SolverError(f"cannot lock {path}: other runs come and go there all the time")
