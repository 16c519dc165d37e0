"""Many frames to HHA or disparity images: workers, resume, a report of what failed."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.checks import resolve_camera
from caffe_compat.depth.disparity import disparity
from caffe_compat.depth.fill import complete
from caffe_compat.depth.hha import hha
from caffe_compat.depth.io import DepthFormat, read_color, read_depth, read_parameters, write_color, write_encoded
from caffe_compat.depth.register import register_nyud2
from caffe_compat.errors import CaffeCompatError, DataError, UsageError
from caffe_compat.files import atomic_write, open_existing

__all__ = ["Frame", "Options", "Report", "encode_depth", "encode_frame", "index_frames", "run_frames", "write_pairs"]

FORMAT_VERSION = 1
"""Goes into every file; raise it when the same parameters begin to give other pixels."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame to encode.

    Args:
        depth: depth file.
        output: png to write.
        camera: who made it; disparity images do without.
        form: how the file's numbers become metres.
        raw_depth: file of the same form and size whose holes are the missing pixels of an already filled ``depth``.
        color: colour file; checked for size, needed to fill by colorization and for ``nyud2_raw``.
        color_output: where to write the colour image as png.
    """

    depth: str
    output: str
    camera: Camera | None
    form: DepthFormat = DepthFormat()
    raw_depth: str | None = None
    color: str | None = None
    color_output: str | None = None

    def __post_init__(self) -> None:
        if self.form.encoding == "nyud2_raw" and (self.raw_depth is not None or self.color is None):
            raise UsageError(
                f"{self.depth}: raw NYUD2 depth needs its colour image to be registered to, "
                "and takes no separate raw depth"
            )


@dataclasses.dataclass(frozen=True)
class Options:
    """What holds for all frames of a run.

    Args:
        kind: ``hha`` or ``disparity``.
        fill: how holes are filled before encoding: ``nearest``, ``colorization``, or ``none``, which leaves them as the
            Matlab code does (disparity 255).
        overwrite: redo outputs that were made with other parameters, or by other programs, instead of refusing.
    """

    kind: Literal["hha", "disparity"] = "hha"
    fill: Literal["nearest", "colorization", "none"] = "nearest"
    overwrite: bool = False


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


def encode_depth(
    depth: np.ndarray,
    missing: np.ndarray | None,
    camera: Camera | str | None,
    options: Options,
    color: np.ndarray | None = None,
) -> np.ndarray:
    """Fill, then encode one depth map [H, W] in metres (0 = hole) as uint8 [H, W, 3]."""
    holes = depth == 0
    hidden = holes if missing is None else holes | missing
    if options.fill != "none":
        depth = complete(depth, holes, method=options.fill, color=color)
    if options.kind == "disparity":
        return disparity(depth, hidden)
    return hha(depth, resolve_camera(camera), hidden)


def encode_frame(frame: Frame, options: Options) -> Literal["written", "skipped"]:
    """Read, encode and write one frame, unless its output is there and was made with the same parameters.

    Raises:
        CaffeCompatError: an input cannot be used, or the output was made with other parameters; names the file.
    """
    parameters = _parameters(frame, options)
    if _is_done(frame, parameters, options.overwrite):
        return "skipped"
    depth = read_depth(frame.depth, frame.form)
    color = None if frame.color is None else read_color(frame.color)
    if color is not None and color.shape[:2] != depth.shape:
        raise DataError(
            f"{frame.color} is {color.shape[0]} x {color.shape[1]} but {frame.depth} is "
            f"{depth.shape[0]} x {depth.shape[1]}: colour and depth must be registered and of one size"
        )
    try:
        if frame.form.encoding == "nyud2_raw" and color is not None:
            depth, color = register_nyud2(depth, color)
        image = encode_depth(depth, _missing(frame, depth.shape), frame.camera, options, color)
    except DataError as error:
        raise DataError(f"{frame.depth}: {error}") from error
    if frame.color_output is not None and color is not None:
        write_color(frame.color_output, color)
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
                report.failed.append((frame.depth, result.reason))
            else:
                (report.written if result.outcome == "written" else report.skipped).append(frame.output)
            report.warned += [(frame.depth, text) for text in result.warned]
            bar.update()
    return report


def index_frames(
    index: str | os.PathLike[str], output: str | os.PathLike[str], kind: Literal["hha", "disparity"] = "hha"
) -> list[Frame]:
    """Frames listed in a JSON file, with ``color/NAME.png`` and ``hha/NAME.png`` (or ``disparity/``) below ``output``.

    Each entry has ``color``, ``depth`` (paths beside the index), ``K_fx_fy_cx_cy`` and ``depth_units_per_metre``;
    it may have ``rawdepth``, ``encoding`` (``SUN...`` or ``raw 11-bit...``), ``invalid`` and ``origin``
    (if absent 0, but 1 for NYUD2's own intrinsics).

    Raises:
        MissingFileError, DataError: no such file; not such a list; the entry and field that is wrong.
    """
    with open_existing(index, "index of frames") as stream:
        try:
            entries = json.load(stream)
        except ValueError as error:
            raise DataError(f"{os.fspath(index)}: not JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{os.fspath(index)}: expected a list of frames")
    frames = []
    for number, entry in enumerate(entries):
        try:
            frames.append(_index_frame(entry, Path(index).parent, Path(output), kind))
        except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else error
            raise DataError(f"{os.fspath(index)}: frame {number}: {reason}") from error
    return frames


def write_pairs(path: str | os.PathLike[str], frames: Sequence[Frame], report: Report) -> int:
    """Write ``colour_path output_path`` of every finished frame, one pair a line, relative to the list's folder.

    Returns:
        How many pairs.

    Raises:
        DataError: a path with a space, which such lists cannot hold.
    """
    done = set(report.written) | set(report.skipped)
    base = Path(path).parent
    lines = []
    for frame in frames:
        if frame.color_output is None or frame.output not in done:
            continue
        pair = [Path(os.path.relpath(name, base)).as_posix() for name in (frame.color_output, frame.output)]
        if any(" " in name for name in pair):
            raise DataError(f"{path}: '{pair[0]}' or '{pair[1]}' has a space, which the pair list cannot hold")
        lines.append(" ".join(pair))
    with atomic_write(path, "w") as stream:
        stream.write("".join(f"{line}\n" for line in lines))
    return len(lines)


def split_pairs(path: str | os.PathLike[str], every: int) -> tuple[int, int]:
    """Split a list of pairs into ``train_pairs.txt`` and ``val_pairs.txt``; every ``every``-th line validates.

    Frames are held out, not scenes: a scene with many frames has some in both lists.

    Returns:
        How many pairs train and how many validate.

    Raises:
        UsageError: ``every`` is less than 2, or the list has fewer lines than that.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    if every < 2 or len(lines) < every:
        raise UsageError(f"cannot hold out every {every}th of {len(lines)} pairs, expected 2 to {len(lines)}")
    kept: tuple[list[str], list[str]] = ([], [])
    for index, line in enumerate(lines):
        kept[index % every == every // 2].append(line)
    for name, part in zip(("train_pairs.txt", "val_pairs.txt"), kept, strict=True):
        with atomic_write(Path(path).with_name(name), "w") as stream:
            stream.write("".join(f"{line}\n" for line in part))
    return len(kept[0]), len(kept[1])


def _index_frame(entry: dict[str, Any], root: Path, output: Path, kind: str) -> Frame:
    encoding = _index_encoding(str(entry.get("encoding", "plain")))
    units = None if encoding == "nyud2_raw" else float(entry["depth_units_per_metre"])
    fx, fy, cx, cy = (float(value) for value in entry["K_fx_fy_cx_cy"])
    nyud2 = CAMERAS["nyud2_color"]
    usual_origin = 1 if abs(fx - nyud2.fx) < 1e-5 and abs(fy - nyud2.fy) < 1e-5 else 0
    name = "_".join(Path(entry["depth"]).with_suffix("").parts) + ".png"
    raw = entry.get("rawdepth")
    return Frame(
        depth=str(root / entry["depth"]),
        output=str(output / kind / name),
        camera=Camera(fx, fy, cx, cy, origin=int(entry.get("origin", usual_origin))),
        form=DepthFormat(units, encoding, tuple(entry.get("invalid", (0, 65535)))),
        raw_depth=None if raw is None else str(root / raw),
        color=str(root / entry["color"]),
        color_output=str(output / "color" / name),
    )


def _index_encoding(text: str) -> Literal["plain", "sun", "nyud2_raw"]:
    if text.lower().startswith("sun"):
        return "sun"
    if text == "nyud2_raw" or text.startswith("raw 11-bit"):
        return "nyud2_raw"
    if text == "plain":
        return "plain"
    raise DataError(f"encoding '{text}': expected plain, sun or nyud2_raw")


def _missing(frame: Frame, shape: tuple[int, ...]) -> np.ndarray | None:
    if frame.raw_depth is None:
        return None
    raw = read_depth(frame.raw_depth, frame.form)
    if raw.shape != shape:
        raise DataError(
            f"raw depth {frame.raw_depth} is {raw.shape[0]} x {raw.shape[1]}, depth {shape[0]} x {shape[1]}"
        )
    return raw == 0


def _parameters(frame: Frame, options: Options) -> dict[str, Any]:
    """What the pixels of an output depend on, with the inputs by content."""
    found: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "kind": options.kind,
        "fill": options.fill,
        "encoding": frame.form.encoding,
        "units_per_metre": frame.form.units_per_metre,
        "invalid": list(frame.form.invalid),
        "depth": Path(frame.depth).name,
        "depth_sha1": _sha1(frame.depth),
        "missing_sha1": None if frame.raw_depth is None else _sha1(frame.raw_depth),
    }
    if options.kind == "hha":
        camera = resolve_camera(frame.camera)
        found["camera"] = [camera.fx, camera.fy, camera.cx, camera.cy]
        found["origin"] = camera.origin
    if options.fill == "colorization" and frame.color is not None:
        found["color_sha1"] = _sha1(frame.color)
    return found


def _sha1(path: str) -> str:
    with open_existing(path) as stream:
        return hashlib.sha1(stream.read(), usedforsecurity=False).hexdigest()


def _is_done(frame: Frame, parameters: dict[str, Any], overwrite: bool) -> bool:
    """Whether the outputs are there; without ``overwrite`` an output with other parameters is refused."""
    if not os.path.exists(frame.output):
        return False
    if not overwrite:
        _check_same(frame.output, parameters)
    elif not _is_same(frame.output, parameters):
        return False
    return frame.color_output is None or os.path.exists(frame.color_output)


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
    try:
        waiting = {pool.submit(_attempt, frame, options): frame for frame in frames}
        for future in concurrent.futures.as_completed(waiting):
            yield waiting[future], future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise CaffeCompatError("a worker process died (out of memory?); fewer --workers may help") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and share the cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
