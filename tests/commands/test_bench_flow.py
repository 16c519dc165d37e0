"""The benchmark of flow makes what it says, and its rows can be read."""

from __future__ import annotations

import pytest

from caffe_compat.commands.measurements import flow as measurement


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "SHORT", 2)
    monkeypatch.setattr(measurement, "LONG", 4)
    monkeypatch.setattr(measurement, "WORKERS", 1)
    made: list[int] = []
    whole = measurement.run_clips

    def counted(*work: object, **options: object) -> object:
        report = whole(*work, **options)
        made.append(len(report.written))
        return report

    monkeypatch.setattr(measurement, "run_clips", counted)
    *rows, note = measurement.flow(1)
    assert [row[0] for row in rows] == [
        "encode 320x240",
        "2 pairs 320x240 from video to png, one core",
        "4 pairs, of each 2",
    ]
    for row in rows:
        assert not isinstance(row, str) and min(row[1:4]) > 0 and row[3] == pytest.approx(row[1] / row[2])
    assert made == [2, 4, 2, 4]  # in this process, then with a worker
    assert isinstance(note, str) and "pairs a second of a core's time" in note
