"""How fast videos become flow pictures."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from caffe_compat.flow import Outputs, VideoClip, encode, opencv_method
from caffe_compat.flow.run import run_clips
from caffe_compat.media.video import video_frames

__all__ = ["flow"]

HEIGHT, WIDTH = 240, 320
SHORT, LONG = 40, 160
"""Pairs of frames of the two videos."""
GOAL, WORKERS = 40.0, 2
"""Pairs a second, on so many cores."""
ENCODE_LIMIT = 1e-3
"""Seconds that one picture may take to be encoded."""

Row = tuple[str, float, float, float, str]


def flow(rounds: int) -> Iterator[Row | str]:
    """DIS from video to png against the bare calls of OpenCV; all times but the last are the processor's."""
    yield from _encoding(rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = {pairs: _video(folder / f"{pairs}.avi", pairs + 1) for pairs in (SHORT, LONG)}
        used: dict[int, list[float]] = {SHORT: [], LONG: []}
        bare: list[float] = []
        for index in range(min(rounds, 3)):
            for pairs, video in videos.items():
                used[pairs].append(_timed(lambda v=video, i=index: _make(v, folder / f"{i}"), time.process_time))  # type: ignore[misc]
            bare.append(_timed(lambda: _bare(videos[SHORT]), time.process_time))
        mine, theirs, whole = (statistics.median(times) for times in (used[SHORT], bare, used[LONG]))
        label = f"{SHORT} pairs {WIDTH}x{HEIGHT} from video to png, one core"
        yield (
            label,
            mine,
            theirs,
            mine / theirs,
            f"<= 2.00 (peer: DIS alone); {GOAL:g}/s on {WORKERS} cores: <= " + (f"{WORKERS * SHORT / GOAL:.1f} s"),
        )
        part = whole * SHORT / LONG
        yield f"{LONG} pairs, of each {SHORT}", part, mine, part / mine, "<= 1.10 (linear; peer: the short video)"
        yield (
            f"{SHORT / mine:.0f} pairs a second of a core's time, {_rate(videos, folder):.0f} by the clock with "
            f"{WORKERS} workers, without their start (goal: {GOAL:g})"
        )


def _encoding(rounds: int) -> Iterator[Row]:
    values = np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH, 2)).astype(np.float32)
    times = []
    for _ in range(5 * rounds):
        times.append(_timed(lambda: [encode(values[..., 0], values[..., 1]) for _ in range(20)], time.process_time))
    mine = statistics.median(times) / 20
    yield f"encode {WIDTH}x{HEIGHT}", mine, ENCODE_LIMIT, mine / ENCODE_LIMIT, "<= 1 (peer: the limit, 1 ms)"


def _rate(videos: dict[int, Path], folder: Path) -> float:
    """Pairs a second by the clock: what the long video takes more than the short one."""
    times = {
        pairs: _timed(lambda v=video: _make(v, folder / "workers", WORKERS), time.perf_counter)  # type: ignore[misc]
        for pairs, video in videos.items()
    }
    return (LONG - SHORT) / max(times[LONG] - times[SHORT], 1e-9)


def _make(video: Path, folder: Path, workers: int = 0) -> None:
    outputs = Outputs(str(folder / video.stem))
    report = run_clips([(VideoClip(str(video), opencv_method()), outputs)], workers=workers, progress=False)
    assert not report.failed and not report.skipped, report.lines()


def _bare(video: Path) -> None:
    """No more than decoding, grey, and OpenCV's DIS."""
    estimator: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    before = None
    for frame in video_frames(video):
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        if before is not None:
            estimator.calc(before, grey, None)
        before = grey


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def _video(path: Path, frames: int) -> Path:
    """A texture that drifts by up to 4 pixels a frame."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (HEIGHT + 80, WIDTH + 80, 3)).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.5))
    texture = (255 * (smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for number in range(frames):
        top, left = (int(40 + 40 * wave) for wave in (np.sin(number / 10), np.cos(number / 13)))
        writer.write(texture[top : top + HEIGHT, left : left + WIDTH])
    writer.release()
    return path
