"""Where down is, from the accelerometer of a camera.

A sensor at rest measures what holds it up: 9.81 m/s^2 upwards.  While it is moved it measures that too, so samples
around a frame are averaged, and a frame whose samples are not as long as the file's usual ones gets no gravity.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence

import numpy as np

from caffe_compat.datasets.matching import TIME_UNITS
from caffe_compat.errors import DataError, UsageError, in_file
from caffe_compat.files import open_existing

__all__ = ["Accelerometer", "parse_axes", "read_accelerometer"]

WINDOW = 0.1
"""Seconds around a frame, to both sides, over which samples are averaged."""
SHAKEN = 0.1
"""A mean whose length differs from the usual by more than this part says more than gravity."""
MOST_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True)
class Accelerometer:
    """Samples of an accelerometer.

    Args:
        times: float64 [N] seconds, rising.
        samples: float64 [N, 3] in the axes of the camera (X right, Y down, Z forward), any unit.
    """

    times: np.ndarray
    samples: np.ndarray

    def gravity(self, time: float, window: float = WINDOW) -> tuple[float, float, float] | str:
        """The unit vector that points down in the camera's axes at a moment, or why it is not known."""
        low, high = np.searchsorted(self.times, (time - window, time + window))
        if low == high:
            return "no sample near it"
        mean = self.samples[low:high].mean(axis=0)
        length = float(np.linalg.norm(mean))
        if not abs(length / self.usual - 1) <= SHAKEN:
            return "the camera was shaken"
        x, y, z = (round(float(-part / length), 6) for part in mean)
        return x, y, z

    @property
    def usual(self) -> float:
        """The median length of the samples, which is gravity's where the camera mostly is at rest."""
        return float(np.median(np.linalg.norm(self.samples, axis=1)))


def parse_axes(text: str) -> tuple[tuple[int, float], ...]:
    """``-y,-z,x``: which axis of the sensor is the camera's right, down and forward one, and its sign.

    Raises:
        UsageError: not three different ones of x, y and z.
    """
    parts = [part.strip().lower() for part in text.split(",")]
    axes = [part.lstrip("+-") for part in parts]
    if sorted(axes) != ["x", "y", "z"] or not all(re.fullmatch("[+-]?[xyz]", part) for part in parts):
        raise UsageError(
            f"axes '{text}': expected the sensor's axis for right, down and forward, such as x,y,z or -y,-z,x"
        )
    return tuple(("xyz".index(axis), -1.0 if part[0] == "-" else 1.0) for axis, part in zip(axes, parts, strict=True))


def read_accelerometer(
    path: str | os.PathLike[str],
    unit: str | None = None,
    *,
    axes: str = "x,y,z",
    columns: Sequence[int] | None = None,
) -> Accelerometer:
    """Read an accelerometer's file: one sample a line, numbers apart by commas, semicolons, tabs or spaces.

    A line of names says which columns are the time (``time``, ``timestamp``, ``t``) and the acceleration (``ax``,
    ``accel_x``, ``a_RS_S_x [m s^-2]``, ``linear_acceleration.x``, ``x`` ..); without names there are four columns.

    Args:
        path: the file.
        unit: of its time, of ``s``, ``ms``, ``us`` and ``ns``; None takes what the name of the column says, or what
            stamps that count from 1970 must be.
        axes: see :func:`parse_axes`; ``x,y,z`` for RealSense, whose driver turns samples into the axes of the depth
            camera.  Signs all turned round, for a file that holds gravity itself.
        columns: numbers, from 0, of the columns of time and of x, y, z.

    Raises:
        MissingFileError: no such file.
        DataError: it cannot be read; names the line, or what is not known.
        UsageError: axes or columns that are none.
    """
    with open_existing(path, "samples of an accelerometer") as stream:
        content = stream.read(MOST_BYTES + 1)
    turned = parse_axes(axes)
    if columns is not None and (len(columns) != 4 or min(columns) < 0):
        raise UsageError(f"columns {list(columns)}: expected four numbers from 0, of time and of x, y and z")
    with in_file(path):
        if len(content) > MOST_BYTES:
            raise DataError(f"over {MOST_BYTES >> 20} MiB, which is more than a recording's samples")
        names, rows = _rows(content)
        time, *places = columns if columns is not None else _columns(names, len(rows[0]))
        if max(time, *places) >= len(rows[0]):
            raise DataError(f"column {max(time, *places)} of {len(rows[0])}, which are counted from 0")
        values = np.array(rows)
        unit = unit or _named_unit(names[time] if names else "") or _unit_of(float(values[0, time]))
        order = np.argsort(values[:, time], kind="stable")
        samples = np.stack([sign * values[order, places[axis]] for axis, sign in turned], axis=1)
        if not np.linalg.norm(samples, axis=1).all():
            raise DataError("a sample is 0 in all directions")
        return Accelerometer(values[order, time] * (TIME_UNITS[unit] / 1e9), samples)


def _rows(content: bytes) -> tuple[list[str], list[list[float]]]:
    """Names of the columns, if there are any, and the numbers of each line."""
    names: list[str] = []
    rows: list[list[float]] = []
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), 1):
        text = line.strip()
        if not text:
            continue
        separator = next((mark for mark in (",", ";", "\t") if mark in text), None)
        parts = [part.strip() for part in text.lstrip("# ").split(separator)]
        try:
            row = [float(part) for part in parts if part]
        except ValueError:
            if rows:
                raise DataError(f"line {number} is not numbers: {text[:60]}") from None
            names = parts if len(parts) >= 4 else names
            continue
        if not np.isfinite(row).all() or (rows and len(row) != len(rows[0])) or len(row) < 4:
            raise DataError(f"line {number} has {len(row)} numbers, expected {len(rows[0]) if rows else '4 or more'}")
        rows.append(row)
    if not rows:
        raise DataError("no line of numbers: expected time, x, y, z")
    return (names if len(names) == len(rows[0]) else []), rows


def _columns(names: Sequence[str], count: int) -> list[int]:
    if not names:
        if count != 4:
            raise DataError(f"{count} columns without names: which are time, x, y and z? say --imu-columns T,X,Y,Z")
        return [0, 1, 2, 3]
    plain = [re.sub(r"[\[(].*", "", name).strip().lower() for name in names]
    time = [index for index, name in enumerate(plain) if re.search(r"time|stamp|^t$", name)]
    found = [_axis_column(plain, axis) for axis in "xyz"]
    if not time or None in found:
        raise DataError(
            f"columns {', '.join(names)}: which are the time and the acceleration? say --imu-columns T,X,Y,Z, from 0"
        )
    return [time[0], *(place for place in found if place is not None)]


def _axis_column(names: Sequence[str], axis: str) -> int | None:
    """The column of an axis: of those that end in it the one that speaks of acceleration, or the only one."""
    ends = [index for index, name in enumerate(names) if name.endswith(axis) and not re.search(r"gyro|ang|omega", name)]
    speaking = [index for index in ends if re.search(r"acc|^a[_. ]?|linear", names[index])]
    chosen = speaking or ends
    return chosen[0] if len(chosen) == 1 else None


def _named_unit(name: str) -> str | None:
    found = re.search(r"(?:[\[(_ ])(ns|nsec|us|usec|ms|msec|s|sec)[\])]?$", name.strip().lower())
    return found[1].removesuffix("ec") if found else None


def _unit_of(stamp: float) -> str:
    units = [unit for unit, size in TIME_UNITS.items() if 10**9 <= stamp * size / 1e9 < 4 * 10**9]
    if not units:
        raise DataError(f"its time {stamp:g} does not count from 1970, so that its unit cannot be told; say --imu-unit")
    return units[0]
