"""Waiting for what a process does, by events: nothing here depends on how long it takes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

LIMIT = 600.0
"""Seconds after which something is broken for good, however busy the machine is."""


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something has happened, while ``process`` lives.

    Raises:
        AssertionError: the process ended first (with its standard error, if that is a pipe), or ten minutes are over.
    """
    end = time.monotonic() + LIMIT
    while not happened():
        if process.poll() is not None and not happened():
            raise AssertionError(f"ended with status {process.returncode}: {process.communicate()[1]}")
        assert time.monotonic() < end, f"nothing happened in {LIMIT:.0f} s"
        time.sleep(0.02)
