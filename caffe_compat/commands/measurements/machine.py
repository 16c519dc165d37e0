"""What a benchmark ran on, in one line."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from caffe_compat.devices import cores
from caffe_compat.memory import human_size

__all__ = ["machine"]


def machine() -> str:
    """Processor, cores, memory, GPU, system, Python and torch."""
    import torch

    parts = [_processor(), f"{cores()} cores", _memory()]
    if torch.cuda.is_available():
        parts += [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    parts += [
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
    ]
    return ", ".join(part for part in parts if part)


def _processor() -> str:
    """The name that the processor gives itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not told by this system
        return ""
    return f"{human_size(size)} of memory"
