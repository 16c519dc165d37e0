"""``bench.py loader`` measures what it says: a layer and torch's DataLoader doing the same, by processor time."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffe_compat.batches.slots import can_share
from caffe_compat.commands.measurements import loader

pytestmark = pytest.mark.skipif(not can_share(), reason="only Linux has what workers need")


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "SIZE", (240, 320))
    monkeypatch.setattr(loader, "WARM", 1)
    monkeypatch.setattr(loader, "LEAST", 8)
    monkeypatch.setattr(loader, "cores", lambda: 1)
    every = loader._cases

    def first(folder: Path) -> Iterator[Any]:
        case = next(every(folder))
        yield dataclasses.replace(case, batch=4, body=case.body.replace("batch_size: 32", "batch_size: 4"))

    monkeypatch.setattr(loader, "_cases", first)
    rows = list(loader.loader(1))
    assert [row[0] for row in rows[::2]] == [
        f"JPEG list, {workers} workers, core seconds of 8000" for workers in ("no", 1, 2)
    ]
    for row, line in zip(rows[::2], rows[1::2], strict=True):
        assert not isinstance(row, str) and isinstance(line, str)
        assert abs(row[3] - row[1] / row[2]) < 1e-9 * row[3]
        assert line.startswith(f"    ours: {8000 / row[1]:.0f} images a second and core, ")
        assert f"\n    peer: {8000 / row[2]:.0f} images a second and core, " in line


def test_both_make_the_same_of_a_picture() -> None:
    """But for the draws: with a mean, columns in reverse order, channels first."""
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    expected = (picture[:, ::-1].astype(np.float32) - loader.MEAN).transpose(2, 0, 1)
    assert np.array_equal(loader._finished(picture, 1, loader.MEAN).numpy(), expected)


def test_processor_time_counts_this_process_and_others() -> None:
    before = loader._processor_time([])
    sum(range(300_000))
    assert loader._processor_time([]) > before
    assert loader._processor_time([os.getpid()]) > 1.5 * before, "this process is not counted beside itself"
