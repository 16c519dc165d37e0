"""How much memory is left, so that a definition that asks for more is refused instead of killing the process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["SMALL", "available_memory", "human_size"]

SMALL = 64 << 20
"""Bytes that are asked for without looking."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


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


def human_size(size: int) -> str:
    """``8.0 GiB``."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.4g} {unit}"
