"""Running a net only to look at its numbers: layers that write files do nothing meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["only_looking", "writes_files"]

_looking: ContextVar[bool] = ContextVar("only_looking", default=False)


@contextlib.contextmanager
def only_looking() -> Iterator[None]:
    """Let layers that this thread runs within the block open no file for writing."""
    token = _looking.set(True)
    try:
        yield
    finally:
        _looking.reset(token)


def writes_files() -> bool:
    """Whether a layer whose purpose is to write a file may do so now."""
    return not _looking.get()
