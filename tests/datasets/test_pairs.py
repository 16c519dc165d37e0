import dataclasses
from pathlib import Path

import pytest

from caffe_compat.datasets.pairs import finished, hold_out, read_pair_list, write_pairs
from caffe_compat.depth import FileSource, Options
from caffe_compat.errors import DataError, UsageError
from caffe_compat.frames import Frame, Report

ENCODER = Options("disparity").encoder(None)


def frames(count: int, scenes: int) -> list[Frame]:
    return [Frame(FileSource(f"{i}"), ENCODER, f"h{i}", f"c{i}", f"scene{i % scenes}") for i in range(count)]


def test_a_written_list_is_what_the_layer_reads(tmp_path):
    (tmp_path / "lists").mkdir()
    pairs = [(str(tmp_path / "c" / "a b.png"), str(tmp_path / "h" / "a b.png")), (str(tmp_path / "c1"), "h1")]
    write_pairs(tmp_path / "lists" / "p.txt", pairs)
    assert (tmp_path / "lists" / "p.txt").read_text().splitlines()[0] == '"../c/a b.png" "../h/a b.png"'
    found = read_pair_list(str(tmp_path / "lists" / "p.txt"))
    assert [tuple(str(Path(name).resolve()) for name in (pair.first, pair.second)) for pair in found] == [
        tuple(str(Path(name).resolve()) for name in pair) for pair in pairs
    ]
    with pytest.raises(DataError, match="double quote"):
        write_pairs(tmp_path / "q.txt", [('a"b', "c")])
    assert not (tmp_path / "q.txt").exists()


def test_hold_out_of_frames_and_of_scenes():
    train, val = hold_out(frames(10, 10), 5)
    assert [frame.output for frame in val] == ["h2", "h7"] and len(train) == 8
    train, val = hold_out(frames(12, 4), 4, scenes=True)
    assert {frame.scene for frame in val} == {"scene2"} and len(val) == 3
    assert not {frame.scene for frame in train} & {frame.scene for frame in val}
    for every, message in ((1, "every 1th of 12 frames"), (13, "expected 2 to 12")):
        with pytest.raises(UsageError, match=message):
            hold_out(frames(12, 4), every)
    with pytest.raises(UsageError, match="12 of 12 frames do not say their scene"):
        hold_out([dataclasses.replace(frame, scene=None) for frame in frames(12, 4)], 2, scenes=True)
    with pytest.raises(UsageError, match="5th of 4 scenes"):
        hold_out(frames(12, 4), 5, scenes=True)


def test_finished_frames_keep_their_order_and_need_both_images():
    work = [*frames(3, 1), Frame(FileSource("x"), ENCODER, "hx")]
    report = Report(written=["h2", "hx"], skipped=["h0"], failed=[("1", "bad")])
    assert [frame.output for frame in finished(work, report)] == ["h0", "h2"]
