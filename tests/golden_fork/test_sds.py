"""The branch's own figures of segmenting detections, and that every array of them is compared exactly once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from golden_fork import sds

FOLDER = Path(__file__).resolve().parents[1] / "data" / "golden_fork" / "sds"


def test_arrays_agree_and_each_is_compared_once() -> None:
    found = list(sds.check(FOLDER))
    assert Counter(name for name, _ in found) == Counter(np.load(FOLDER / "sds.npz").files)
    assert not [f"{name}: {problem}" for name, problem in found if problem]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("blobs/1/sppboxes", "blobs/1/sppboxes"),
        ("paste/0/output", "paste/0/values"),
        ("apr/3/1/overlaps", "apr/3/prec_0.5"),
        ("draws/2/proposals", "draws/batch_0/normalizedboxes"),
        ("draws/batch_7/labels", "draws/batch_7/labels"),
    ],
)
def test_a_wrong_number_is_noticed(tmp_path: Path, name: str, wrong: str) -> None:
    arrays = dict(np.load(FOLDER / "sds.npz"))
    arrays[name] = arrays[name][::-1] if name != "apr/3/1/overlaps" else 1 - arrays[name]
    np.savez(tmp_path / "sds.npz", **arrays)
    assert wrong in {key for key, problem in sds.check(tmp_path) if problem}
