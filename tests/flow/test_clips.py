"""Clips and sources: which frames are taken, in which order, and what each picture says that it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flow.clips import moved, write_frames, write_video

from caffe_compat.errors import DataError
from caffe_compat.flow import Outputs, PictureClip, TwoStreamClip, VideoClip, VideoFlow, evenly, opencv_method
from caffe_compat.flow.clips import in_order
from caffe_compat.flow.sources import own_names
from caffe_compat.media.video import EndOfVideo
from caffe_compat.stamps import file_digest

DIS = opencv_method()


def test_evenly_spaced_frames() -> None:
    assert evenly(5, 201) == [20, 60, 100, 140, 180]
    assert evenly(5, 108) == [11, 32, 54, 75, 96]  # 10.7, 32.1, 53.5, 74.9, 96.3: half away from zero
    assert evenly(5, 6) == [1, 2, 3, 4] and evenly(5, 2) == [0] and evenly(1, 9) == [4]
    for length in range(2, 40):
        for count in range(1, 8):
            assert min(evenly(count, length)) >= 0 and max(evenly(count, length)) <= length - 2


def test_numbers_are_sorted_by_value() -> None:
    assert in_order(["f10.png", "f9.png", "f1.png"]) == ["f1.png", "f9.png", "f10.png"]
    assert in_order(["b2", "a10", "a9", "10", "x"]) == ["10", "a9", "a10", "b2", "x"]


def test_outputs_of_a_frame(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in (1, 2, 3)]
    write_frames(tmp_path, moved([(1, 0)] * 2), "{}.png")
    clip = PictureClip(tuple(paths), str(tmp_path), DIS)
    frames = list(clip.frames(Outputs("o", "c", "f", "w")))
    assert [frame.output for frame in frames] == ["o/1.png", "o/2.png"] and clip.expected() == 2
    assert frames[0].color_output == "c/1.png"
    assert [extra.path for extra in frames[0].extras] == ["f/1.flo", "w/1.png"]
    assert frames[0].source.name == paths[0]
    stamp = frames[1].source.fingerprint()
    assert (stamp["frame"], stamp["next"]) == ("2.png", "3.png") and stamp["frame_sha1"] == file_digest(paths[1])
    assert own_names(stamp) == DIS.settings() == clip.settings()


def test_a_video_is_decoded_once_in_order(tmp_path: Path) -> None:
    frames = moved([(1, 0), (2, 0), (0, 3)])
    path = write_video(tmp_path / "a.avi", frames)
    clip = VideoClip(str(path), DIS)
    found = list(clip.frames(Outputs(str(tmp_path / "o"))))
    assert clip.expected() == 3 and len(found) == 3
    for number, frame in enumerate(found):
        assert isinstance(frame.source, VideoFlow) and frame.source.number == number + 1
        assert frame.source.pictures is not None
        np.testing.assert_array_equal(frame.source.pictures, frames[number : number + 2])
        assert own_names(frame.source.fingerprint()) == DIS.settings()
    alone = VideoFlow(str(path), file_digest(path), 2, DIS)
    np.testing.assert_array_equal(alone.read().flow, found[1].source.read().flow)
    assert alone.fingerprint() == found[1].source.fingerprint()
    np.testing.assert_array_equal(alone.read().color, frames[1][..., ::-1])
    with pytest.raises(EndOfVideo, match=r"a\.avi, frame 4: there is no frame after it"):
        VideoFlow(str(path), "", 4, DIS).read()


def test_frames_of_two_sizes_are_told() -> None:
    small, large = np.zeros((20, 30, 3), np.uint8), np.zeros((24, 30, 3), np.uint8)
    with pytest.raises(DataError, match=r"v\.avi, frame 3 is 30x20, the next is 30x24"):
        VideoFlow("v.avi", "", 3, DIS, (small, large)).read()


def test_two_stream_names() -> None:
    pairs = (("x_00001.jpg", "y_00001.jpg"), ("flow_x_2.jpg", "flow_y_2.jpg"))
    clip = TwoStreamClip(pairs, "w")
    assert [frame.output for frame in clip.frames(Outputs("o"))] == ["o/00001.png", "o/flow_2.png"]


@pytest.mark.parametrize(
    ("stems", "told"),
    [
        ("1 2 3 5", "5.png comes after 3.png"),
        ("a02 a04 a06 a10 a12", "a10.png comes after a06.png"),
        ("1 2 3 4", ""),
        ("3 6 9", ""),
        ("1305031102.175304 1305031102.943233 1305031103.011215", ""),  # times, as TUM's
        ("1403636579763555584 1403636579813555456 1403636579863555584", ""),  # nanoseconds, as EuRoC's
        ("a b", ""),
    ],
)
def test_frames_that_are_missing(tmp_path: Path, recwarn: pytest.WarningsRecorder, stems: str, told: str) -> None:
    for stem in stems.split():
        write_frames(tmp_path, moved([]), f"{stem}.png")
    paths = tuple(str(tmp_path / f"{stem}.png") for stem in stems.split())
    assert len(list(PictureClip(paths, "w", DIS).frames(Outputs("o")))) == len(paths) - 1
    assert [told in str(warning.message) for warning in recwarn] == ([True] if told else [])


def test_several_series_in_a_folder(tmp_path: Path) -> None:
    paths = [tmp_path / f"{kind}_{number}.png" for kind in ("depth", "rgb") for number in (1, 2)]
    for path in paths:
        write_frames(tmp_path, moved([]), path.name)
    with pytest.raises(DataError, match=r"w: holds several series of pictures, such as depth_1\.png and rgb_1\.png"):
        next(PictureClip(tuple(map(str, paths)), "w", DIS).frames(Outputs("o")))
