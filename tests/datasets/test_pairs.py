import dataclasses

import pytest

from caffe_compat.datasets.pairs import finished, hold_out
from caffe_compat.depth import FileSource, Options
from caffe_compat.errors import UsageError
from caffe_compat.frames import Frame, Report

ENCODER = Options("disparity").encoder(None)


def frames(count: int, scenes: int) -> list[Frame]:
    return [Frame(FileSource(f"{i}"), ENCODER, f"h{i}", f"c{i}", f"scene{i % scenes}") for i in range(count)]


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
