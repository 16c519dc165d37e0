"""What every tool does around its ``main``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from caffe_compat import memory
from caffe_compat.errors import CaffeCompatError
from caffe_compat.python_policy import allow_python_layers

__all__ = ["run"]

NO_PYTHON_LAYERS = "--no-python-layers"
NO_LIMITS = "--no-limits"

# Read when torch is loaded, after this module.  OpenMP threads that wait by spinning make an operation many times
# slower where other processes use the cores too.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def run(main: Callable[[list[str] | None], int | None]) -> int:
    """Call ``main(None)`` (arguments from ``sys.argv``) and turn what it raises into an exit status.

    Returns:
        What ``main`` returns (None means 0); 2 after a :class:`CaffeCompatError`, printed as one line on stderr; 130
        after Ctrl-C, as shells do; 0 when the reader of a pipe has gone.

    Any other exception is a mistake in the program and keeps its traceback.

    Every tool also takes ``--no-python-layers``: nets with Python layers, which run code that the prototxt names, are
    refused then; and ``--no-limits``: files that claim far more than they hold are read all the same.
    """
    try:
        if NO_PYTHON_LAYERS in sys.argv[1:]:
            sys.argv.remove(NO_PYTHON_LAYERS)
            allow_python_layers(False)
        if NO_LIMITS in sys.argv[1:]:
            sys.argv.remove(NO_LIMITS)
            memory.lift_limits()
        return main(None) or 0
    except CaffeCompatError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
