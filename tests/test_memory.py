import sys

import numpy as np
import pytest

from caffe_compat import memory


@pytest.mark.parametrize("start", [0, 1, 1000])
@pytest.mark.parametrize("count", [0, 1, 1000, 300_000])
def test_populating_changes_nothing(start, count):
    whole = np.arange(1000 + 300_000, dtype="f4")
    memory.populate(whole[start : start + count])
    np.testing.assert_array_equal(whole, np.arange(1000 + 300_000, dtype="f4"))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's call")
def test_only_whole_pages_of_the_array_are_named(monkeypatch):
    asked = []

    class Library:
        @staticmethod
        def madvise(start, size, advice):
            asked.append((start.value, size.value, advice))

    monkeypatch.setattr(memory, "_libc", Library)
    whole = np.zeros(100_000, np.uint8)
    part = whole[1:50_000]
    memory.populate(part)
    memory.populate(whole[:10])
    ((start, size, advice),) = asked
    page = memory.mmap.PAGESIZE
    assert advice == 23 and start % page == size % page == 0
    assert part.ctypes.data <= start < part.ctypes.data + page
    assert part.ctypes.data + part.nbytes - page < start + size <= part.ctypes.data + part.nbytes


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "win32")
    monkeypatch.setattr(memory, "_libc", lambda: pytest.fail("called"))
    memory.populate(np.zeros(100_000, np.uint8))


def test_limits(monkeypatch):
    for value, apply in (("", True), ("0", True), ("1", False)):
        monkeypatch.setenv("CAFFE_COMPAT_NO_LIMITS", value)
        assert memory.limits_apply() is apply
    monkeypatch.delenv("CAFFE_COMPAT_NO_LIMITS")
    assert memory.limits_apply()
