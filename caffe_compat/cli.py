"""What every tool does around its ``main``."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from caffe_compat import memory
from caffe_compat.errors import CaffeCompatError
from caffe_compat.python_policy import allow_python_layers
from caffe_compat.resources import ZOO, located
from caffe_compat.version import __version__

__all__ = ["run"]

DEBUG = "--debug"
NO_LIMITS = "--no-limits"
NO_PYTHON_LAYERS = "--no-python-layers"

# Read when torch is loaded, after this module.  OpenMP threads that wait by spinning make an operation many times
# slower where other processes use the cores too.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def run(main: Callable[[list[str] | None], int | None]) -> int:
    """Call ``main(None)`` (arguments from ``sys.argv``) and turn what it raises into an exit status.

    Returns:
        What ``main`` returns (None means 0); 2 after a :class:`CaffeCompatError`, printed as one line on stderr; 130
        after Ctrl-C, as shells do; 0 when the reader of a pipe has gone.

    Any other exception is a mistake in the program and keeps its traceback.

    Every tool also takes ``--debug``, with which errors show their traceback; ``--version``; ``--no-python-layers``:
    nets with Python layers, which run code that the prototxt names, are refused then; and ``--no-limits``: files that
    claim far more than they hold are read all the same.  A word ``zoo:NAME`` becomes the path of that prototxt.
    """
    debug = _taken(DEBUG)
    try:
        if _taken(NO_PYTHON_LAYERS):
            allow_python_layers(False)
        if _taken(NO_LIMITS):
            memory.lift_limits()
        if "--version" in sys.argv[1:]:
            print(f"caffe_compat {__version__}")
            return 0
        sys.argv[1:] = [_located(word) for word in sys.argv[1:]]
        return main(None) or 0
    except CaffeCompatError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return int(getattr(error, "status", 130))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _taken(flag: str) -> bool:
    """Whether a flag is among the arguments, from which it is removed."""
    there = flag in sys.argv[1:]
    if there:
        sys.argv.remove(flag)
    return there


def _located(word: str) -> str:
    """``zoo:NAME`` and ``--option=zoo:NAME`` with the path of the file."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return f"{option}{equals}{located(value)}" if value.startswith(ZOO) else word
