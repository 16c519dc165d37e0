"""What a stopped run left is read as far as it is whole, and only by a run with the same settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffe_compat.deploy.journal import Journal


def keys(path: Path, settings: dict) -> list[str]:
    journal = Journal(path, settings)
    return [key for key in "abc" if journal.get(key) is not None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "x.part", {"top": 5})
    for number, key in enumerate("abc"):
        journal.append(key, {"n": number}, {"prob": np.full((2, number), number, np.float32)} if number else {})
    return journal.path


def test_records_come_back(path: Path) -> None:
    journal = Journal(path, {"top": 5})
    assert len(journal) == 3 and journal.get("d") is None
    assert journal.get("a") == ({"n": 0}, {})
    record, arrays = journal.get("c") or ({}, {})
    assert record == {"n": 2} and arrays["prob"].tolist() == [[2, 2], [2, 2]]
    journal.append("d", {}, {})
    assert len(Journal(path, {"top": 5})) == 4
    journal.remove()
    assert not path.exists()


def test_other_settings_begin_anew(path: Path) -> None:
    assert keys(path, {"top": 6}) == []
    Journal(path, {"top": 6}).append("b", {}, {})
    assert keys(path, {"top": 6}) == ["b"] and keys(path, {"top": 5}) == []


def test_damage_ends_it(path: Path) -> None:
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        found = keys(path, {"top": 5})
        assert found == ["a", "b", "c"][: len(found)] and len(found) < 3
    at = whole.rindex(b'{"key": "b"')
    path.write_bytes(whole[:at] + b"x" + whole[at + 1 :])
    assert keys(path, {"top": 5}) == ["a"]
    Journal(path, {"top": 5}).append("b", {"again": True}, {})
    assert keys(path, {"top": 5}) == ["a", "b"]
