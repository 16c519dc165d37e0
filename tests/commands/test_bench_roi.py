"""The benchmark of region pooling compares two ways to one result, and says what they take."""

from __future__ import annotations

import re

import pytest

from caffe_compat.commands.measurements import roi as measurement


def test_same_result_and_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "MAP", (1, 8, 20, 30))
    monkeypatch.setattr(measurement, "ROIS", 500)
    found = list(measurement.roi(1))
    rows, notes = [row for row in found if not isinstance(row, str)], [row for row in found if isinstance(row, str)]
    assert len(rows) == 2 and all("max difference 0)" in row[0] and min(row[1:4]) > 0 for row in rows)
    facts = [re.fullmatch(r"  (\d+) nodes .at most 95., (\d+) MB in one run .at most 550.", note) for note in notes]
    assert all(fact is not None and 40 < int(fact[1]) <= 95 and int(fact[2]) < 550 for fact in facts)
