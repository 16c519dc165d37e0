"""One run at a time writes snapshots of one prefix."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from caffe_compat import locks
from caffe_compat.errors import SolverError

__all__ = ["hold"]


@contextlib.contextmanager
def hold(prefix: str) -> Iterator[None]:
    """Keep other runs from the snapshots of a prefix during the block, by ``PREFIX.lock``; see :func:`locks.hold`.

    Raises:
        SolverError: another run holds it, or there is no way to write there.
    """
    doing = f"training with the snapshot prefix '{prefix}'"
    with locks.hold(Path(f"{prefix}.lock"), doing, "give this run a snapshot_prefix of its own", SolverError):
        yield
