"""Pictures that stay in memory, and how many batches are read ahead."""

import numpy as np
import pytest

from caffe_compat import devices
from caffe_compat.batches.kept import Kept
from caffe_compat.layers.data import prefetch


def test_what_fits_is_made_once_and_cannot_be_written() -> None:
    made: list[str] = []

    def maker(name: str, size: int):
        def make() -> tuple[np.ndarray, ...]:
            made.append(name)
            return np.zeros(size, np.uint8), np.ones(size, np.uint8)

        return make

    kept = Kept(limit=100)
    for _ in range(3):
        for name, size in (("a", 20), ("b", 40), ("c", 25), ("d", 10)):  # b does not fit, then d
            first, second = kept.get(name, maker(name, size))
            assert (len(first), first.sum(), second.sum()) == (size, 0, size)
            with pytest.raises(ValueError, match="read-only"):
                first[0] = 1
    assert made == ["a", "b", "c", "d", "b", "d", "b", "d"]


@pytest.mark.parametrize(("cores", "depth"), [(1, 4), (2, 4), (8, 8), (64, 16)])
def test_one_batch_a_core_is_read_ahead(monkeypatch: pytest.MonkeyPatch, cores: int, depth: int) -> None:
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert devices.cores() == cores and prefetch.usual_depth() == depth
