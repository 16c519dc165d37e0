"""``index``: the frames of a recording, from its folders to a list."""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from caffe_compat.commands.indexing_cameras import Cameras, cameras_of, units_of
from caffe_compat.datasets.folders import find_recording, one_size, write_index
from caffe_compat.datasets.imu import Accelerometer, read_accelerometer
from caffe_compat.datasets.matching import Matching, frame_time, match_files, time_unit
from caffe_compat.datasets.registering import Registering, register_files
from caffe_compat.depth.io import DepthFormat, read_depth
from caffe_compat.depth.nominal import known_name
from caffe_compat.errors import DataError, UsageError
from caffe_compat.frames import Report
from caffe_compat.resources import program

__all__ = ["Done", "index_frames"]

SHOWN = 3
SMALLEST_UNITS = 1000.0
TILT = 60.0
"""Degrees between gravity and the image's downward axis beyond which the axes of a sensor are in doubt."""
Pair = tuple[Path, Path]
Gravity = tuple[float, float, float]


@dataclasses.dataclass
class Done:
    """What was done, in lines, and the frames that could not be used."""

    lines: list[str] = dataclasses.field(default_factory=list)
    failed: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def index_frames(args: argparse.Namespace) -> Done:
    """Do what the command line says.

    Raises:
        UsageError: arguments that are missing or contradict each other.
        DataError, MissingFileError: what no frame can do without.
    """
    _check(args)
    done = Done()
    color, depth, name = find_recording(*args.folders)
    matching = match_files(color, depth, args.by, unit=args.time_unit, max_gap=args.max_gap)
    done.lines += _told(matching, len(color), len(depth), args.dry_run)
    pairs, sizes = _of_one_size(matching, done)
    for option in ("camera", "depth_camera"):
        setattr(args, option, getattr(args, option) and known_name(getattr(args, option)))
    cameras = cameras_of(args, *sizes)
    form, told = units_of(args, [pair[1] for pair in pairs])
    done.lines += [*cameras.lines, told]
    done.lines += _check_units(pairs, form)
    gravity = _gravities(args, matching, pairs, cameras, done)
    if args.dry_run:
        done.lines += [f"would write {len(pairs)} frames{_scene(args.scene or name)}", *_failures(done, len(pairs))]
        return done
    placed, units = _registered(args, pairs, cameras, form, done)
    fields: dict[str, Any] = {"K_fx_fy_cx_cy": cameras.numbers, "origin": cameras.color.camera.origin}
    fields["depth_units_per_metre"] = units
    if args.invalid is not None:
        fields["invalid"] = args.invalid
    if args.scene or name:
        fields["scene"] = args.scene or name
    entries = [
        {"color": str(first), "depth": str(target), **fields, **_field(gravity.get(second))}
        for (first, second), target in placed
    ]
    if not entries:
        raise DataError(f"no frame can be used; {done.failed[0][1]}")
    write_index(args.output, entries)
    done.lines += [
        *_failures(done, len(entries)),
        f"wrote {args.output}: {len(entries)} frames{_scene(args.scene or name)}",
    ]
    done.lines.append(f"next: {program('make_hha')} --index {args.output} --output hha --hold-out 5")
    return done


def _check(args: argparse.Namespace) -> None:
    if len(args.folders) > 2:
        raise UsageError(
            f"{len(args.folders)} folders: expected one of colour and one of depth, or one that holds both"
        )
    if not args.output and not args.dry_run:
        raise UsageError("--output is missing (or --dry-run)")
    if args.workers < 0:
        raise UsageError(f"--workers is {args.workers}, expected 0 or more")
    if not args.imu_window > 0:
        raise UsageError(f"--imu-window is {args.imu_window}, expected a positive number of seconds")


def _told(matching: Matching, color: int, depth: int, every: bool) -> list[str]:
    """The rule, some pairs or all, and the files without a partner."""
    pairs = matching.pairs
    lines = [f"{color} colour and {depth} depth files, {len(pairs)} pairs by {matching.says()}"]
    shown = pairs if every else pairs[:SHOWN]
    lines += [f"  {first.name}  {second.name}" for first, second in shown]
    if len(shown) < len(pairs):
        lines.append(f"  .. {len(pairs) - len(shown)} more (--dry-run shows all)")
    for what, left in (("colour", matching.color_left), ("depth", matching.depth_left)):
        if left:
            names = ", ".join(path.name for path in (left if every else left[:SHOWN]))
            more = "" if every or len(left) <= SHOWN else f" and {len(left) - SHOWN} more"
            lines.append(f"without a partner: {len(left)} of {what}: {names}{more}")
    return lines


def _of_one_size(matching: Matching, done: Done) -> tuple[list[Pair], tuple[tuple[int, int], tuple[int, int]]]:
    """The pairs whose pictures have the size of most, and the sizes (width, height) of colour and depth."""
    color, wrong = one_size([pair[0] for pair in matching.pairs])
    depth, odd = one_size([pair[1] for pair in matching.pairs])
    wrong |= odd
    done.failed += [(str(path), reason) for path, reason in wrong.items()]
    pairs = [pair for pair in matching.pairs if not wrong.keys() & set(pair)]
    if not pairs:
        raise DataError(f"no pair can be used; {done.failed[0][1]}")
    return pairs, (color, depth)


def _check_units(pairs: Sequence[Pair], form: DepthFormat) -> list[str]:
    """Refuse units that no frame can have, before the work: of the first, the middle and the last one must be depth.

    Returns:
        What there is to be warned of.
    """
    errors = []
    for place in sorted({0, len(pairs) // 2, len(pairs) - 1}):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                read_depth(pairs[place][1], form)
        except DataError as error:
            errors.append(error)
        else:
            return [f"warning: {warning.message}" for warning in caught]
    raise errors[0]


def _registered(
    args: argparse.Namespace, pairs: Sequence[Pair], cameras: Cameras, form: DepthFormat, done: Done
) -> tuple[list[tuple[Pair, Path]], float]:
    """Each pair with the depth file that belongs to the pixels of its colour, and the units of these files."""
    if cameras.rig is None:
        return [(pair, pair[1]) for pair in pairs], float(form.units_per_metre or 0)
    folder = args.registered or str(Path(args.output).with_suffix("")) + "_depth"
    units = max(float(form.units_per_metre or 0), SMALLEST_UNITS)
    work = Registering(cameras.rig, form, folder, units)
    for first, second in pairs:
        if work.target(second).absolute() in (first.absolute(), second.absolute()):
            raise UsageError(f"--registered {folder}: {work.target(second)} is an input, it would be overwritten")
    wrong: dict[Path, str] = {}
    results = register_files(work, [pair[1] for pair in pairs], args.workers)
    with tqdm(total=len(pairs), unit="frame", disable=True if args.quiet else None) as bar:
        for path, reason in results:
            if reason is not None:
                wrong[path] = reason
            bar.update()
    done.failed += [(str(path), reason) for path, reason in wrong.items()]
    done.lines.append(f"registered {len(pairs) - len(wrong)} depth files into {folder}, {units:g} units per metre")
    return [(pair, work.target(pair[1])) for pair in pairs if pair[1] not in wrong], units


def _gravities(
    args: argparse.Namespace, matching: Matching, pairs: Sequence[Pair], cameras: Cameras, done: Done
) -> dict[Path, Gravity]:
    """Gravity of the depth files whose time the accelerometer knows, in the axes of the colour camera."""
    if not args.imu:
        return {}
    columns = None if args.imu_columns is None else _numbers(args.imu_columns)
    samples = read_accelerometer(args.imu, args.imu_unit, axes=args.imu_axes, columns=columns)
    unit = args.time_unit or matching.unit or time_unit([pair[1].stem for pair in pairs])
    times = {second: frame_time(second, unit) for _, second in pairs}
    found: dict[Path, Gravity] = {}
    reasons: dict[str, int] = {}
    for path, time in times.items():
        answer = "no time stamp in its name" if time is None else samples.gravity(time, args.imu_window)
        if isinstance(answer, str):
            reasons[answer] = reasons.get(answer, 0) + 1
        else:
            found[path] = cameras.turned(answer)
    if not found:
        raise DataError(f"{args.imu}: gives gravity to no frame: {_spans(samples, [t for t in times.values() if t])}")
    why = "".join(f", {count} without: {reason}" for reason, count in reasons.items())
    done.lines.append(f"gravity of {len(found)} frames from {args.imu}{why}")
    tilted = sum(down[1] < 0.5 for down in found.values())
    if 2 * tilted > len(found):
        done.lines.append(
            f"warning: gravity is over {TILT:g} degrees off the pictures' downward axis in {tilted} frames; unless the "
            f"camera looked so, --imu-axes {args.imu_axes} is wrong"
        )
    return found


def _spans(samples: Accelerometer, times: Sequence[float]) -> str:
    if not times:
        return "their names have no time stamps"
    return (
        f"its samples are of {samples.times[0]:.3f} to {samples.times[-1]:.3f} s, the frames of {min(times):.3f} to "
        f"{max(times):.3f} s (--imu-unit, --time-unit)"
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--imu-columns is '{text}', expected four numbers from 0, T,X,Y,Z") from None


def _field(gravity: Gravity | None) -> dict[str, Any]:
    return {} if gravity is None else {"gravity": list(gravity)}


def _scene(name: str) -> str:
    return f" of scene {name}" if name else ""


def _failures(done: Done, used: int) -> list[str]:
    """The frames that cannot be used; what they share is said once."""
    return Report(written=[""] * used, failed=done.failed).lines()[:-1]
