"""Frames come by their number, whatever the order in which threads ask, and videos that lie are found out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from flow.clips import moved
from flow.clips import write_video as write_lossless

from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.media import video
from caffe_compat.media.video import EndOfVideo, VideoHead, Videos, gray_of, video_head


def write_video(path: Path, frames: int = 20) -> Path:
    """Frames of one grey each, 10 more than the frame before."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no videos")
    for number in range(frames):
        writer.write(np.full((32, 48, 3), 10 * number, np.uint8))
    writer.release()
    return path


def number_of(picture: np.ndarray) -> int:
    return round(float(picture.mean()) / 10)


@pytest.mark.parametrize("every", [1, 3])
def test_frames_are_those_that_are_asked_for(tmp_path: Path, every: int) -> None:
    path = str(write_video(tmp_path / "v.avi"))
    assert video_head(path) == VideoHead(20, 10.0)
    wanted = list(range(0, 20, every))
    videos = Videos(every, 4)
    with ThreadPoolExecutor(4) as pool:
        assert [number_of(picture) for picture in pool.map(lambda at: videos.read(path, at), wanted)] == wanted
    backwards = Videos(every, 2)
    assert [number_of(backwards.read(path, at)) for at in reversed(wanted)] == wanted[::-1]
    with pytest.raises(EndOfVideo, match=r"v\.avi: ends after 20 frames, its head says 20"):
        videos.read(path, 30 * every)


def test_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"words" * 50)
    with pytest.raises(DataError, match=r"a\.mp4: is no video"):
        video_head(tmp_path / "a.mp4")
    with pytest.raises(MissingFileError, match=r"b\.mp4"):
        Videos().read(str(tmp_path / "b.mp4"), 0)


def test_many_videos_do_not_stay_open(tmp_path: Path) -> None:
    paths = [str(write_video(tmp_path / f"{k}.avi", 2 + k)) for k in range(video._MOST_OPEN + 2)]
    videos = Videos()
    for _ in range(2):
        assert [number_of(videos.read(path, 1)) for path in paths] == [1] * len(paths)
    assert len(videos._open) == video._MOST_OPEN


def test_grey_is_opencvs() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(gray_of(picture), cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))


def test_all_frames_in_order(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi")
    found = video.video_frames(path)
    assert [number_of(picture) for picture in found] == list(range(20))
    cut = write_lossless(tmp_path / "cut.avi", moved([(1, 0)] * 19))
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    seen = 0
    with pytest.raises(EndOfVideo, match=r"cut\.avi: ends after \d+ frames, its head says 20"):
        for _ in video.video_frames(cut):
            seen += 1
    assert 0 < seen < 20
    (tmp_path / "a.mp4").write_bytes(b"words" * 50)
    for bad in ("a.mp4", "b.mp4"):
        with pytest.raises((DataError, MissingFileError), match=bad):
            next(video.video_frames(tmp_path / bad))
