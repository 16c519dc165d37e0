"""Frames of a modality that this package does not know: resume, bad frames, what is said once."""

import dataclasses
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from caffe_compat.errors import DataError
from caffe_compat.frames import Frame, Report, SummedWarning, is_finished, read_encoded, read_parameters, run_frames


@dataclasses.dataclass(frozen=True)
class Level:
    level: int
    color: np.ndarray | None = None


class Bright(SummedWarning):
    @classmethod
    def summary(cls, warned, total):
        return f"{len(warned)} of {total} are bright, up to {max(int(str(w)) for _, w in warned)}"


@dataclasses.dataclass(frozen=True)
class Source:
    """Reads nothing; some numbers are bad in their own way."""

    number: int

    @property
    def name(self) -> str:
        return f"in/{self.number}.raw"

    def fingerprint(self) -> dict[str, int]:
        return {"number": self.number}

    def read(self) -> Level:
        bad = {
            90: DataError(f"{self.name}: broken"), 91: OverflowError("int too\nlarge"), 92: RecursionError(),
            93: MemoryError(), 94: KeyError("x"), 95: AssertionError(),
        }  # fmt: skip
        if self.number in bad:
            raise bad[self.number]
        if self.number == 99:
            os._exit(1)
        return Level(self.number, np.full((2, 3, 3), 7, np.uint8))


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Thermal pictures, say."""

    gain: int = 1

    @property
    def assumed(self) -> dict[str, int]:
        return {"gain": 1}

    def parameters(self) -> dict[str, int]:
        return {"gain": self.gain}

    def encode(self, reading: Level) -> np.ndarray:
        if reading.level == 50:
            warnings.warn("odd", UserWarning, stacklevel=1)
        if reading.level > 30:
            warnings.warn(Bright(str(reading.level)), stacklevel=1)
        return np.full((2, 3, 3), self.gain * reading.level, np.uint8)


def frames(folder: Path, numbers, encoder=Encoder()) -> list[Frame]:
    return [Frame(Source(n), encoder, str(folder / f"{n}.png"), str(folder / "color" / f"{n}.png")) for n in numbers]


@pytest.mark.parametrize("workers", [0, 2])
def test_any_exception_of_a_frame_is_noted_and_the_others_go_on(tmp_path, workers):
    report = run_frames(frames(tmp_path, [1, 90, 91, 2, 92, 93, 94, 95, 3]), workers=workers, progress=False)
    assert {Path(name).stem for name in report.written} == {"1", "2", "3"}
    assert dict(report.failed) == {
        "in/90.raw": "in/90.raw: broken",
        "in/91.raw": "in/91.raw: OverflowError: int too large",
        "in/92.raw": "in/92.raw: RecursionError: RecursionError",
        "in/93.raw": "in/93.raw: MemoryError: MemoryError",
        "in/94.raw": "in/94.raw: KeyError: 'x'",
        "in/95.raw": "in/95.raw: AssertionError: AssertionError",
    }
    assert read_encoded(tmp_path / "3.png").max() == 3 and read_parameters(tmp_path / "3.png") == {
        "gain": 1,
        "number": 3,
    }
    assert read_encoded(tmp_path / "color" / "3.png").max() == 7


def test_a_frame_that_kills_its_worker_is_noted(tmp_path):
    report = run_frames(frames(tmp_path, range(95, 103)), workers=2, progress=False)
    # a frame whose process was ended between its last write and its answer is found done when it is tried again
    assert len(report.written) + len(report.skipped) == 6
    assert all((tmp_path / f"{number}.png").exists() for number in (96, 97, 98, 100, 101, 102))
    assert sorted(report.failed) == [
        ("in/95.raw", "in/95.raw: AssertionError: AssertionError"),
        ("in/99.raw", "in/99.raw: its worker process died (out of memory?); fewer --workers may help"),
    ]


def test_resume_and_other_parameters(tmp_path):
    assert len(run_frames(frames(tmp_path, [1, 2]), progress=False).written) == 2
    again = run_frames(frames(tmp_path, [1, 2, 3]), progress=False)
    assert (len(again.written), len(again.skipped)) == (1, 2)
    (tmp_path / "color" / "2.png").unlink()
    assert len(run_frames(frames(tmp_path, [1, 2, 3]), progress=False).written) == 1
    other = run_frames(frames(tmp_path, range(1, 6), Encoder(2)), progress=False)
    assert len(other.written) == 2 and len(other.failed) == 3
    assert "1.png exists and was made with gain = 1, now 2; --overwrite replaces it" in other.failed[0][1]
    done = run_frames(frames(tmp_path, range(1, 6), Encoder(2)), overwrite=True, progress=False)
    assert (len(done.written), len(done.skipped)) == (3, 2)


def test_an_older_picture_is_judged_by_what_it_was_made_with(tmp_path):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("caffe_compat.depth", '{"number": 5}')
    Image.new("RGB", (3, 2)).save(tmp_path / "5.png", pnginfo=chunks)
    work = [dataclasses.replace(frame, color_output=None) for frame in frames(tmp_path, [5])]
    assert run_frames(work, progress=False).skipped
    work = [dataclasses.replace(frame, encoder=Encoder(2)) for frame in work]
    assert "gain = 1, now 2" in run_frames(work, progress=False).failed[0][1]


def test_garbled_outputs_are_their_own_frames_affair(tmp_path):
    """One with parameters nested 100,000 deep, one that is another program's, one that is no png."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("caffe_compat.depth", "[" * 100_000)
    Image.new("RGB", (3, 2)).save(tmp_path / "1.png", pnginfo=chunks)
    Image.new("RGB", (3, 2)).save(tmp_path / "2.png")
    (tmp_path / "3.png").write_bytes(b"no png" + (tmp_path / "2.png").read_bytes()[-12:])
    report = run_frames(frames(tmp_path, [1, 2, 3, 4]), progress=False)
    assert [reason.removeprefix(f"{tmp_path}/")[:60] for _, reason in report.failed] == [
        "1.png: text chunk 'caffe_compat.depth': not JSON that can be",
        "2.png exists and does not say how it was made; --overwrite r",
        "3.png: cannot be read as an encoded png: cannot identify ima",
    ]
    assert len(report.written) == 1
    assert len(run_frames(frames(tmp_path, [1, 2, 3, 4]), overwrite=True, progress=False).written) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_warnings_travel_and_are_summed_up(tmp_path, workers):
    report = run_frames(frames(tmp_path, [1, 40, 50]), workers=workers, progress=False)
    assert report.warned == [("in/50.raw", "odd")]
    assert report.lines() == [
        "warning: 2 of 3 are bright, up to 50",
        "warning: in/50.raw: odd",
        "3 written, 0 already there, 0 failed",
    ]


def test_what_frames_share_is_said_once():
    report = Report()
    for number in range(300):
        name = f"in/frame{number}.png"
        report.failed.append((name, f"out/frame{number}.png exists and was made with seed = 1, now 2; hint"))
        report.warned.append((name, f"{name}: 8-bit"))
    report.failed.append(("in/x.png", "in/x.png: broken"))
    report.failed.append(("in/y.png", "in/y.png: broken"))
    assert report.lines() == [
        "warning: 300 frames, the first: in/frame0.png: 8-bit",
        "failed: 300 frames, the first: out/frame0.png exists and was made with seed = 1, now 2; hint",
        "failed: in/x.png: broken",
        "failed: in/y.png: broken",
        "0 written, 0 already there, 302 failed",
    ]


def test_what_all_of_two_frames_share_is_said_once():
    report = Report(failed=[("in/a.png", "in/a.png: broken"), ("in/b.png", "in/b.png: broken")])
    assert report.lines() == [
        "failed: all 2 frames, the first: in/a.png: broken",
        "0 written, 0 already there, 2 failed",
    ]
    report.skipped.append("c.png")
    assert report.lines()[:2] == ["failed: in/a.png: broken", "failed: in/b.png: broken"]


@dataclasses.dataclass(frozen=True)
class Note:
    """A further file."""

    path: str

    def write(self, reading: Level) -> None:
        Path(self.path).write_text(str(reading.level))


def test_further_files_and_frames_that_come_one_by_one(tmp_path):
    def coming():
        for frame in frames(tmp_path, [1, 2, 90]):
            yield dataclasses.replace(frame, extras=(Note(f"{frame.output}.txt"),))

    report = run_frames(coming(), progress=False, total=3)
    assert len(report.written) == 2 and len(report.failed) == 1
    assert (tmp_path / "2.png.txt").read_text() == "2" and not (tmp_path / "90.png.txt").exists()
    first, second, _ = coming()
    (tmp_path / "2.png.txt").unlink()
    assert is_finished(first) and not is_finished(second)
    assert not is_finished(dataclasses.replace(first, encoder=Encoder(2)))
    assert not is_finished(dataclasses.replace(first, output=str(tmp_path / "none.png")))
    assert len(run_frames(coming(), progress=False).skipped) == 1
    assert (tmp_path / "2.png.txt").read_text() == "2"
