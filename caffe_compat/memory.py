"""How much memory is left, so that a definition that asks for more is refused instead of killing the process."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LIFT", "NO_LIMITS", "SMALL", "available_memory", "human_size", "lift_limits", "limits_apply", "populate"]

NO_LIMITS = "CAFFE_COMPAT_NO_LIMITS"
LIFT = f"--no-limits ({NO_LIMITS}=1)"
"""What lifts the limits, for messages."""
_MADV_POPULATE_WRITE = 23

SMALL = 64 << 20
"""Bytes that are asked for without looking."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def limits_apply() -> bool:
    """Whether a file that claims far more than it holds is refused.

    For files that are trusted the environment variable ``CAFFE_COMPAT_NO_LIMITS=1``, :func:`lift_limits` and
    ``--no-limits`` of every tool lift these limits.
    """
    return os.environ.get(NO_LIMITS, "") in ("", "0")


def lift_limits() -> None:
    """Lift the limits for this process and those that it starts; see :func:`limits_apply`."""
    os.environ[NO_LIMITS] = "1"


def available_memory() -> int:
    """Bytes that this process can still use: the least of what the machine has free, what its container may use, and
    what is left of the limit on its address space.  A very large number where none of them can be found out.
    """
    limits = [sys.maxsize]
    meminfo = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    if "MemAvailable" in meminfo:
        limits.append(int(meminfo["MemAvailable"].split()[0]) << 10)
    for most, used in _CGROUPS:
        numbers = [_read(most).strip(), _read(used).strip()]
        if all(number.isdigit() for number in numbers):
            limits.append(int(numbers[0]) - int(numbers[1]))
    limits.append(_address_space())
    return max(0, min(limits))


def _address_space() -> int:
    """What ``ulimit -v`` leaves."""
    used = _read("/proc/self/statm").split()
    if not used:
        return sys.maxsize
    import resource  # only where /proc is, that is on Linux

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return limit - int(used[0]) * os.sysconf("SC_PAGE_SIZE")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:  # not this kind of system
        return ""


def populate(array: np.ndarray) -> None:
    """Have the system provide the memory of a new array now, in one call instead of a trap for every page.

    Reading a file into memory that was never touched takes a sixth less time so.  (Huge pages would save more, but
    where memory is fragmented the system first compacts it, for seconds.)  Does nothing where it cannot be done:
    Linux before 5.14, other systems.
    """
    if sys.platform != "linux":
        return
    start = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (array.ctypes.data + array.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
    if size > 0:
        _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_POPULATE_WRITE)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def human_size(size: int) -> str:
    """``8.0 GiB``."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.4g} {unit}"
