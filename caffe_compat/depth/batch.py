"""Many frames to HHA or disparity images: workers, resume, a report of what failed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import math
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from caffe_compat.depth.camera import Camera
from caffe_compat.depth.checks import resolve_camera
from caffe_compat.depth.disparity import disparity
from caffe_compat.depth.fill import complete
from caffe_compat.depth.frames import Frame, Reading
from caffe_compat.depth.hha import hha
from caffe_compat.depth.io import is_whole_png, read_parameters, write_color, write_encoded
from caffe_compat.errors import CaffeCompatError, DataError, UsageError

__all__ = ["Kind", "Options", "Report", "encode_frame", "encode_reading", "fill_reading", "run_frames"]

Kind = Literal["hha", "disparity"]

FORMAT_VERSION = 1
"""Goes into every file; raise it when the same parameters begin to give other pixels."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What holds for all frames of a run.

    Args:
        kind: ``hha`` or ``disparity``.
        fill: how holes are filled before encoding: ``nearest``, ``colorization``, or ``none``, which leaves them as the
            Matlab code does (disparity 255).
        overwrite: redo outputs that were made with other parameters, or by other programs, instead of refusing.
        nearest, farthest: metres; a value outside counts as not measured (a Kinect v2 has stray values of 1 cm).
        device: where torch computes, as ``cpu`` or ``cuda:0``.
    """

    kind: Kind = "hha"
    fill: Literal["nearest", "colorization", "none"] = "nearest"
    overwrite: bool = False
    device: str = "cpu"
    nearest: float = 0.0
    farthest: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.nearest < (math.inf if self.farthest is None else self.farthest):
            raise UsageError(
                f"depth from {self.nearest} to {self.farthest} m: expected 0 or more, and the first to be the smaller"
            )


@dataclasses.dataclass
class Report:
    """What became of the frames: outputs written, outputs found complete, (depth file, reason) of the failed, and
    (depth file, text) of the warnings."""

    written: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    failed: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    warned: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as text, one line a warning or failure and one for the sums."""
        sums = f"{len(self.written)} written, {len(self.skipped)} already there, {len(self.failed)} failed"
        warned = [f"warning: {name}: {text}" for name, text in self.warned]
        return [*warned, *(f"failed: {reason}" for _, reason in self.failed), sums]


def fill_reading(reading: Reading, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Depth [H, W] in metres with its holes filled, and what of it was not measured, bool [H, W].

    Raises:
        DataError: nothing was measured, or it cannot be filled so.
    """
    depth, farthest = reading.depth, math.inf if options.farthest is None else options.farthest
    if options.nearest > 0 or farthest < math.inf:
        depth = np.where((depth >= options.nearest) & (depth <= farthest), depth, 0.0)
    holes = depth == 0
    hidden = holes if reading.missing is None else holes | reading.missing
    if options.fill != "none":
        depth = complete(depth, holes, method=options.fill, color=reading.color)
    return depth, hidden


def encode_reading(reading: Reading, camera: Camera | str | None, options: Options) -> np.ndarray:
    """Fill, then encode one frame as uint8 [H, W, 3].

    Raises:
        DataError: depth that cannot be used, or HHA without a camera.
    """
    depth, hidden = fill_reading(reading, options)
    metres, mask = torch.from_numpy(depth).to(options.device), torch.from_numpy(hidden).to(options.device)
    if options.kind == "disparity":
        return np.asarray(disparity(metres, mask).cpu().numpy())
    return hha(metres, resolve_camera(camera), mask).cpu().numpy()


def encode_frame(frame: Frame, options: Options) -> Literal["written", "skipped"]:
    """Read, encode and write one frame, unless its output is there and was made with the same parameters.

    Raises:
        CaffeCompatError: an input cannot be used, or the output was made with other parameters; names the file.
    """
    parameters = _parameters(frame, options)
    if _is_done(frame, parameters, options.overwrite):
        return "skipped"
    reading = frame.source.read()
    try:
        image = encode_reading(reading, frame.camera, options)
    except DataError as error:
        raise DataError(f"{frame.source.name}: {error}") from error
    if frame.color_output is not None and reading.color is not None:
        write_color(frame.color_output, reading.color)
    write_encoded(frame.output, image, parameters)
    return "written"


def run_frames(frames: Sequence[Frame], options: Options, *, workers: int = 0, progress: bool = True) -> Report:
    """Encode frames; a bad one is noted and the others go on.

    Args:
        frames: what to do.
        options: how.
        workers: processes to use, each with one thread; 0 works in this process.
        progress: show a bar (on a terminal).

    Raises:
        KeyboardInterrupt: Ctrl-C; frames in work are dropped, no file is left half-written, and the same call goes on
            where this one stopped.
    """
    report = Report()
    results = _in_process(frames, options) if workers < 1 else _in_workers(frames, options, workers)
    with tqdm(total=len(frames), unit="frame", disable=None if progress else True) as bar:
        for frame, result in results:
            if result.outcome == "failed":
                report.failed.append((frame.source.name, result.reason))
            else:
                (report.written if result.outcome == "written" else report.skipped).append(frame.output)
            report.warned += [(frame.source.name, text) for text in result.warned]
            bar.update()
    return report


def _parameters(frame: Frame, options: Options) -> dict[str, Any]:
    """What the pixels of an output depend on, with the inputs by content."""
    found: dict[str, Any] = {"version": FORMAT_VERSION, "kind": options.kind, "fill": options.fill}
    found["range"] = [options.nearest, options.farthest]
    if options.kind == "hha":
        camera = resolve_camera(frame.camera)
        found["camera"] = [camera.fx, camera.fy, camera.cx, camera.cy]
        found["origin"] = camera.origin
    return found | frame.source.fingerprint()


def _is_done(frame: Frame, parameters: dict[str, Any], overwrite: bool) -> bool:
    """Whether the outputs are there; without ``overwrite`` an output with other parameters is refused."""
    if not is_whole_png(frame.output):
        return False
    if not overwrite:
        _check_same(frame.output, parameters)
    elif not _is_same(frame.output, parameters):
        return False
    return frame.color_output is None or is_whole_png(frame.color_output)


def _check_same(path: str, parameters: dict[str, Any]) -> None:
    found = read_parameters(path)
    if found is None:
        raise DataError(f"{path} exists and does not say how it was made; --overwrite replaces it")
    for name in sorted(found.keys() | parameters.keys()):
        if found.get(name) != parameters.get(name):
            raise DataError(
                f"{path} exists and was made with {name} = {found.get(name)!r}, now {parameters.get(name)!r}; "
                "--overwrite replaces it"
            )


def _is_same(path: str, parameters: dict[str, Any]) -> bool:
    try:
        return read_parameters(path) == parameters
    except DataError:
        return False  # not a png of ours: it was asked to be overwritten


@dataclasses.dataclass(frozen=True)
class _Result:
    """Of one frame: ``written``, ``skipped`` or ``failed``, why it failed, what was warned of."""

    outcome: str
    reason: str
    warned: tuple[str, ...]


def _attempt(frame: Frame, options: Options) -> _Result:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outcome, reason = str(encode_frame(frame, options)), ""
        except CaffeCompatError as error:
            outcome, reason = "failed", str(error)
    return _Result(outcome, reason, tuple(str(warning.message) for warning in caught))


def _in_process(frames: Sequence[Frame], options: Options) -> Iterator[tuple[Frame, _Result]]:
    for frame in frames:
        yield frame, _attempt(frame, options)


def _in_workers(frames: Sequence[Frame], options: Options, workers: int) -> Iterator[tuple[Frame, _Result]]:
    # Torch is not safe to fork once it has run.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    coming = iter(frames)
    try:
        with _no_interrupt():  # the workers inherit it: from their first moment Ctrl-C is the parent's affair
            waiting = {pool.submit(_attempt, frame, options): frame for frame in itertools.islice(coming, 4 * workers)}
        while waiting:
            done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()
            more = itertools.islice(coming, len(done))
            waiting |= {pool.submit(_attempt, frame, options): frame for frame in more}
    except concurrent.futures.process.BrokenProcessPool as error:
        raise CaffeCompatError("a worker process died (out of memory?); fewer --workers may help") from error
    finally:
        with _no_interrupt():  # a second Ctrl-C would leave workers behind; they only finish the frame they are at
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Ignore Ctrl-C for a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, share the cores, and do not outlive a parent that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
