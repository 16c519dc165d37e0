"""Log lines in the form of Caffe's glog, so that its log parsers work.

``I1122 15:02:43.123456 12345 solver.cpp:239] Iteration 0, loss = 2.3``.  The package writes to the logger
``caffe_compat``, and a tool calls :func:`to_stderr` to see its lines in this form.  Where nobody did, and no program
has set up Python's logging, warnings are seen all the same, as ``warning: ...`` on standard error; for silence say
``logging.getLogger("caffe_compat").setLevel("ERROR")``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from caffe_compat.errors import printable

__all__ = ["GlogFormatter", "enabled", "error", "info", "number", "only_errors", "to_stderr", "warning"]

_logger = logging.getLogger("caffe_compat")
_LEVELS = {logging.DEBUG: "I", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}


class GlogFormatter(logging.Formatter):
    """glog before 0.6: level, month and day, time, thread, source, message (Caffe's parsers read this form)."""

    def format(self, record: logging.LogRecord) -> str:
        """One line (or several, where the message has several); see :func:`caffe_compat.errors.printable`."""
        when = time.localtime(record.created)
        micro = int(record.created % 1 * 1e6)
        thread = threading.get_native_id() if os.name == "posix" else record.thread
        source = getattr(record, "source", f"{record.filename}:{record.lineno}")
        head = f"{_LEVELS.get(record.levelno, 'I')}{time.strftime('%m%d %H:%M:%S', when)}.{micro:06d} {thread:5d}"
        return f"{head} {source}] {printable(record.getMessage())}"


class _BarHandler(logging.Handler):
    """Writes lines above a progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)
        sys.stderr.flush()


class _Unasked(logging.Handler):
    """Warnings on standard error as long as nobody, neither a tool nor a user's program, has a place for the log."""

    def emit(self, record: logging.LogRecord) -> None:
        elsewhere = [handler for handler in _logger.handlers if handler is not self]
        if not elsewhere and not (_logger.propagate and logging.getLogger().handlers):
            tqdm.write(f"{record.levelname.lower()}: {printable(record.getMessage())}", file=sys.stderr)
            sys.stderr.flush()


_logger.addHandler(_Unasked(logging.WARNING))


def to_stderr(level: int = logging.INFO) -> None:
    """Show the package's log on standard error (once, however often it is called)."""
    if not any(isinstance(handler, _BarHandler) for handler in _logger.handlers):
        handler = _BarHandler()
        handler.setFormatter(GlogFormatter())
        _logger.addHandler(handler)
    _logger.setLevel(level)


@contextlib.contextmanager
def only_errors() -> Iterator[None]:
    """Show no warnings within the block: what is measured runs with random weights, and that is meant."""
    before = _logger.level
    _logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        _logger.setLevel(before)


def info(message: str, source: str) -> None:
    """Log a line; ``source`` is Caffe's source file and line for it, e.g. ``"solver.cpp:239"``."""
    _logger.info(message, extra={"source": source})


def warning(message: str, source: str) -> None:
    """Log a warning."""
    _logger.warning(message, extra={"source": source})


def error(message: str, source: str) -> None:
    """Log at the level ERROR, which Caffe also uses for lines that must not be missed."""
    _logger.error(message, extra={"source": source})


def enabled() -> bool:
    """Whether anybody sees lines of level INFO."""
    return _logger.isEnabledFor(logging.INFO)


def number(value: Any) -> str:
    """A number as a C++ stream prints it: 6 significant digits."""
    return f"{float(value):g}"
