"""Whether nets may run the Python code that a prototxt names."""

from __future__ import annotations

import os
from contextvars import ContextVar, Token

__all__ = ["allow_python_layers", "python_layers_allowed"]

_VARIABLE = "CAFFE_COMPAT_PYTHON_LAYERS"
"""Environment variable; ``0`` refuses in a process and its children from the start."""
_refused = int(os.environ.get(_VARIABLE) == "0")
_here: ContextVar[bool] = ContextVar("python_layers_allowed_here", default=False)


def python_layers_allowed() -> bool:
    """Whether this thread or task may run such code now."""
    return _here.get() or not _refused


class allow_python_layers:  # noqa: N801 - used like a function
    """Whether nets may import and run the Python code that a prototxt names.

    A refusal holds for the whole process, in every thread, pool and child process; a permission given as a context
    manager for the thread or task that gives it.  ``allow_python_layers(False)`` refuses from then on, and
    ``allow_python_layers(True)`` takes all refusals back; as a context manager they hold for a block::

        with allow_python_layers(False):
            net = load_net("from_the_internet.prototxt")
    """

    def __init__(self, allowed: bool) -> None:
        self._allowed = allowed
        self._before = _refused
        self._token: Token[bool] | None = None
        _refuse(0 if allowed else _refused + 1)

    def __enter__(self) -> allow_python_layers:
        if self._allowed:
            _refuse(self._before)
            self._token = _here.set(True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _here.reset(self._token)
        elif not self._allowed:
            _refuse(max(0, _refused - 1))


def _refuse(count: int) -> None:
    """Set how many refusals hold, and tell child processes."""
    global _refused  # noqa: PLW0603 - the state of the process
    _refused = count
    if count:
        os.environ[_VARIABLE] = "0"
    else:
        os.environ.pop(_VARIABLE, None)
