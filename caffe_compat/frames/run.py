"""Many frames to pictures: workers, resume, a report of what failed."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from caffe_compat.errors import DataError, in_file
from caffe_compat.frames.frame import Frame
from caffe_compat.frames.png import is_whole_png, read_parameters, write_color, write_encoded
from caffe_compat.frames.report import Report, SummedWarning, reason_of
from caffe_compat.frames.work import map_jobs
from caffe_compat.stamps import check_stamp, same_stamp

__all__ = ["encode_frame", "is_finished", "run_frames"]

HINT = "--overwrite replaces it"


def encode_frame(frame: Frame, overwrite: bool = False) -> Literal["written", "skipped"]:
    """Read, encode and write one frame, unless its output is there and was made with the same parameters.

    Args:
        frame: what to do.
        overwrite: redo an output that was made with other parameters, or by other programs, instead of refusing.

    Raises:
        CaffeCompatError: an input cannot be used, or the output was made with other parameters; names the file.
    """
    parameters = frame.encoder.parameters() | frame.source.fingerprint()
    if _is_done(frame, parameters, overwrite):
        return "skipped"
    reading = frame.source.read()
    with in_file(frame.source.name):
        image = frame.encoder.encode(reading)
        for extra in frame.extras:
            extra.write(reading)
    if frame.color_output is not None and reading.color is not None:
        write_color(frame.color_output, reading.color)
    write_encoded(frame.output, image, parameters)
    return "written"


def run_frames(
    frames: Iterable[Frame],
    *,
    overwrite: bool = False,
    workers: int = 0,
    progress: bool = True,
    total: int | None = None,
) -> Report:
    """Encode frames; a bad one is noted, whatever is wrong with it, and the others go on.

    Args:
        frames: what to do; taken as they are needed.
        overwrite: redo outputs that were made with other parameters, or by other programs, instead of refusing.
        workers: processes to use, each with one thread; 0 works in this process.
        progress: show a bar (on a terminal).
        total: how many frames there are about, where ``frames`` does not say.

    Raises:
        KeyboardInterrupt: Ctrl-C; frames in work are dropped, no file is left half-written, and the same call goes on
            where this one stopped.
    """
    report = Report()
    results = map_jobs(functools.partial(_attempt, overwrite=overwrite), frames, workers, _lost)
    expected = len(frames) if isinstance(frames, Sized) else total
    with tqdm(total=expected, unit="frame", disable=None if progress else True) as bar:
        for frame, result in results:
            name = frame.source.name
            if result.outcome == "failed":
                report.failed.append((name, result.reason))
            else:
                (report.written if result.outcome == "written" else report.skipped).append(frame.output)
            report.warned += [(name, text) for text in result.warned]
            report.summed += [(name, warning) for warning in result.summed]
            bar.update()
    return report


def is_finished(frame: Frame) -> bool:
    """Whether all that is to be made of a frame is there, and the picture was made with the same parameters.

    Raises:
        MissingFileError: its source is not there.
    """
    return _is_done(frame, frame.encoder.parameters() | frame.source.fingerprint(), overwrite=True)


def _is_done(frame: Frame, parameters: dict[str, Any], overwrite: bool) -> bool:
    """Whether the outputs are there; without ``overwrite`` an output with other parameters is refused."""
    if not is_whole_png(frame.output):
        return False
    try:
        found = read_parameters(frame.output)
    except DataError:  # not a png of ours
        if not overwrite:
            raise
        return False
    if not overwrite:
        check_stamp(frame.output, found, parameters, HINT, assumed=frame.encoder.assumed)
    elif not same_stamp(found, parameters, frame.encoder.assumed):
        return False
    if not all(Path(extra.path).is_file() for extra in frame.extras):
        return False
    return frame.color_output is None or is_whole_png(frame.color_output)


@dataclasses.dataclass(frozen=True)
class _Result:
    """Of one frame: ``written``, ``skipped`` or ``failed``, why it failed, what was warned of."""

    outcome: str
    reason: str = ""
    warned: tuple[str, ...] = ()
    summed: tuple[SummedWarning, ...] = ()


def _attempt(frame: Frame, overwrite: bool) -> _Result:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outcome, reason = str(encode_frame(frame, overwrite)), ""
        except Exception as error:  # one frame's affair, whatever a library made of its file
            outcome, reason = "failed", reason_of(frame.source.name, error)
    found = [warning.message for warning in caught]
    summed = tuple(message for message in found if isinstance(message, SummedWarning))
    return _Result(outcome, reason, tuple(str(text) for text in found if not isinstance(text, SummedWarning)), summed)


def _lost(frame: Frame) -> _Result:
    return _Result("failed", f"{frame.source.name}: its worker process died (out of memory?); fewer --workers may help")
