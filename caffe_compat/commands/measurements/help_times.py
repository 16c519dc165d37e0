"""How long a user waits before anything happens: help of every command, import of the package, the first net.

Times are the processor's (user and system) of a Python that begins anew, which others on the machine disturb least.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from caffe_compat.commands import COMMANDS
from caffe_compat.errors import CaffeCompatError
from caffe_compat.resources import package_path

__all__ = ["help_times"]

MOST_HELP, MOST_IMPORT, MOST_NET = 0.5, 0.1, 4.0
"""Seconds: of --help and --version, of the import (beyond Python's own start), of a first CaffeNet."""
IMPORT = "import caffe_compat"
FIRST_NET = "import caffe_compat; caffe_compat.load_net('zoo:caffenet/deploy')"


def help_times(rounds: int) -> Iterator[str]:
    """A line for each command, the slowest first, then the sums and what a first net takes.

    Args:
        rounds: the shortest of so many is taken, of at most 3.
    """
    count = min(rounds, 3)
    found = {}
    for name in COMMANDS:
        command = ["-m", "caffe_compat", name]
        found[name] = [_shortest([*command, option], count) for option in ("--help", "--version")]
    yield f"{'processor time, s':30s} {'--help':>8s} {'--version':>9s}"
    for name, (shown, version) in sorted(found.items(), key=lambda item: -max(item[1])):
        yield f"{name:30s} {shown:8.3f} {version:9.3f}"
    shown, version = (sum(times[index] for times in found.values()) for index in (0, 1))
    worst = max(max(times) for times in found.values())
    yield f"{'all ' + str(len(found)):30s} {shown:8.3f} {version:9.3f}   the slowest {worst:.3f}, target {MOST_HELP:g}"
    bare = _shortest(["-c", "pass"], count)
    imported = _shortest(["-c", IMPORT], count) - bare
    yield f"{'import caffe_compat':30s} {imported:8.3f}   beyond Python's own {bare:.3f}, target {MOST_IMPORT:g}"
    first = _shortest(["-c", FIRST_NET], min(count, 2))
    yield f"{'first load_net of CaffeNet':30s} {first:8.3f}   all of it, random weights, target {MOST_NET:g}"


def _shortest(words: Sequence[str], count: int) -> float:
    return min(_processor_time(words) for _ in range(count))


def _processor_time(words: Sequence[str]) -> float:
    """Of a Python that is given these words.

    Raises:
        CaffeCompatError: it fails.
    """
    import resource  # there only on Unix

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    known = {**os.environ, "PYTHONPATH": str(package_path()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=known, check=False)
    if done.returncode:
        raise CaffeCompatError(f"python {' '.join(words)} ended with status {done.returncode}: {done.stderr[-300:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
