"""Which processes are no more: told of those that ended, waited for or not, never of one that is only slow."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caffe_compat.distributed.several import _has_ended


def _who(process: int, host: str = "") -> str:
    return f"process {process} on {host or socket.gethostname()}"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells of processes that nobody waited for")
def test_has_ended() -> None:
    assert _has_ended(_who(os.getpid())) is False
    assert _has_ended(_who(os.getpid(), "elsewhere")) is None and _has_ended("never seen") is None
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    end = time.monotonic() + 60
    while _has_ended(_who(child.pid)) is False and time.monotonic() < end:
        time.sleep(0.01)
    assert _has_ended(_who(child.pid)) is True  # nobody has waited for it
    child.wait()
    assert _has_ended(_who(child.pid)) is True
