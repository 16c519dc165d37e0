"""Which depth file belongs to which colour file of two folders: by name, by number, or by time stamp."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal

import numpy as np

from caffe_compat.errors import DataError, UsageError

__all__ = ["MODALITY_WORDS", "RULES", "TIME_UNITS", "Matching", "Rule", "frame_time", "match_files", "time_unit"]

Rule = Literal["stem", "number", "time"]
RULES: tuple[Rule, ...] = ("stem", "number", "time")
TIME_UNITS: Mapping[str, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds of each unit of time stamps."""
MAX_GAP = 0.02
"""Seconds between depth and colour that are still one moment, as TUM's ``associate.py`` has it."""
MODALITY_WORDS = {
    "color": ("color", "colour", "rgb", "col", "image", "img", "r"),
    "depth": ("depth", "depthimage", "d", "dep", "disp", "z16"),
}
_FURTHER = ("raw", "rect", "aligned", "to", "registered", "camera", "frame", "png", "metadata")
_WORDS = frozenset((*MODALITY_WORDS["color"], *MODALITY_WORDS["depth"], *_FURTHER))
_EPOCH = (10**9, 4 * 10**9)
"""Seconds since 1970 that a recording may have been made at: 2001 to 2096."""


@dataclasses.dataclass(frozen=True)
class Matching:
    """What became of the files.

    Attributes:
        rule: by which files were paired.
        unit: of the time stamps, where time decided.
        pairs: colour and depth file.
        color_left, depth_left: files without a partner.
        gaps: seconds between the two of each pair, where time decided.
    """

    rule: Rule
    unit: str | None
    pairs: tuple[tuple[Path, Path], ...]
    color_left: tuple[Path, ...]
    depth_left: tuple[Path, ...]
    gaps: tuple[float, ...] = ()

    def says(self) -> str:
        """The rule in words."""
        if self.rule == "stem":
            return "names that are the same but for words such as color and depth"
        if self.rule == "number":
            return "the last number in their names"
        largest = f", at most {1000 * max(self.gaps):.1f} ms apart" if self.gaps else ""
        return f"time stamps in their names ({self.unit}), nearest first{largest}"


def match_files(
    color: Sequence[Path],
    depth: Sequence[Path],
    rule: Rule | None = None,
    *,
    unit: str | None = None,
    max_gap: float = MAX_GAP,
) -> Matching:
    """Pair the files of two folders, each with one partner at most.

    Args:
        color, depth: the files.
        rule: None takes the first of stem, time and number that gives every file of the shorter side a partner; else
            the one that gives the most, where that is at least half of them.
        unit: of time stamps, ``s``, ``ms``, ``us`` or ``ns``; None tells it from stamps that count from 1970.
        max_gap: seconds, for time stamps.

    Raises:
        DataError: nothing fits; two files of one side have one key; time stamps whose unit cannot be told.
        UsageError: a gap that is not positive.
    """
    if not max_gap > 0:
        raise UsageError(f"the longest gap is {max_gap} s, expected a positive number")
    if rule is not None:
        return _match(rule, color, depth, unit, max_gap)
    tried: list[Matching] = []
    reasons: list[str] = []
    rules: tuple[Rule, ...] = ("stem", "time", "number")
    for one in rules:
        try:
            tried.append(_match(one, color, depth, unit, max_gap))
        except DataError as error:
            reasons.append(f"by {one}: {error}")
            continue
        if len(tried[-1].pairs) == min(len(color), len(depth)):
            return tried[-1]
    best = max(tried, key=lambda found: len(found.pairs), default=None)
    if best is None or 2 * len(best.pairs) < min(len(color), len(depth)):
        reasons += [f"by {found.rule}: {len(found.pairs)} pairs" for found in tried]
        raise DataError(
            f"{len(color)} colour and {len(depth)} depth files, such as {color[0].name} and {depth[0].name}, do not "
            f"pair: {'; '.join(reasons)}"
        )
    return best


def _match(rule: Rule, color: Sequence[Path], depth: Sequence[Path], unit: str | None, max_gap: float) -> Matching:
    if rule == "time":
        return _by_time(color, depth, unit, max_gap)
    key = _stem if rule == "stem" else _number
    first, second = (_keyed(files, key, rule) for files in (color, depth))
    both = sorted(first.keys() & second.keys(), key=lambda name: str(first[name]))
    if not both:
        raise DataError("no pair")
    return Matching(
        rule,
        None,
        tuple((first[name], second[name]) for name in both),
        tuple(first[name] for name in first if name not in second),
        tuple(second[name] for name in second if name not in first),
    )


def _keyed(files: Iterable[Path], key: object, rule: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        name = key(path.stem)  # type: ignore[operator]
        if name is None:
            raise DataError(f"{path.name} has no number")
        if name in found:
            raise DataError(f"{found[name].name} and {path.name} would be one frame")
        found[name] = path
    return found


def _stem(stem: str) -> str:
    """A name without the words that say its modality; punctuation only separates."""
    parts = re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", stem))
    return " ".join(part for part in (word.lower() for word in parts) if part not in _WORDS)


def _number(stem: str) -> str | None:
    numbers = re.findall(r"\d+", stem)
    return str(int(numbers[-1])) if numbers and len(numbers[-1]) < 30 else None


def _by_time(color: Sequence[Path], depth: Sequence[Path], unit: str | None, max_gap: float) -> Matching:
    """Nearest first, as TUM's ``associate.py``: the two that are closest belong together, then the next two."""
    unit = unit or time_unit([path.stem for path in (*color, *depth)])
    times = [np.array([_stamp(path, unit) for path in files], np.int64) for files in (color, depth)]
    order = [np.argsort(side, kind="stable") for side in times]
    (first, second), longest = (side[places] for side, places in zip(times, order, strict=True)), int(max_gap * 1e9)
    begin, end = np.searchsorted(second, first - longest), np.searchsorted(second, first + longest, "right")
    near = [(abs(int(first[i] - second[j])), i, j) for i in range(len(first)) for j in range(begin[i], end[i])]
    of_color: dict[int, tuple[int, int]] = {}
    taken: set[int] = set()
    for gap, i, j in sorted(near):
        if i not in of_color and j not in taken:
            of_color[i] = (j, gap)
            taken.add(j)
    if not of_color:
        raise DataError(f"no colour and depth file lie within {max_gap:g} s of each other (time stamps in {unit})")
    return Matching(
        "time",
        unit,
        tuple((color[order[0][i]], depth[order[1][of_color[i][0]]]) for i in sorted(of_color)),
        tuple(color[order[0][i]] for i in range(len(first)) if i not in of_color),
        tuple(depth[order[1][j]] for j in range(len(second)) if j not in taken),
        tuple(of_color[i][1] / 1e9 for i in sorted(of_color)),
    )


def frame_time(path: Path, unit: str) -> float | None:
    """Seconds of the time stamp in a file's name; None if it has none."""
    stamp = _digits(path.stem)
    return None if stamp is None else _nanoseconds(stamp, unit) / 1e9


def time_unit(stems: Sequence[str]) -> str:
    """The unit of time stamps that count from 1970: each stamp has its usual number of digits.

    Raises:
        DataError: a name without a stamp, or stamps that do not count from 1970.
    """
    found: set[str] = set()
    for stem in stems:
        stamp = _digits(stem)
        if stamp is None:
            raise DataError(f"{stem} has no time stamp")
        units = [unit for unit, size in TIME_UNITS.items() if _EPOCH[0] <= stamp * size / 10**9 < _EPOCH[1]]
        if not units:
            raise DataError(
                f"the time stamp {stamp} does not count from 1970, so that its unit cannot be told; say --time-unit "
                f"{', '.join(TIME_UNITS)}"
            )
        found.add(units[0])
    if len(found) != 1:
        raise DataError(f"time stamps in {' and '.join(sorted(found))}; say --time-unit")
    return found.pop()


def _stamp(path: Path, unit: str) -> int:
    stamp = _digits(path.stem)
    if stamp is None:
        raise DataError(f"{path.name} has no time stamp")
    return _nanoseconds(stamp, unit)


def _nanoseconds(stamp: Decimal, unit: str) -> int:
    value = int(stamp * TIME_UNITS[unit])
    if value >= 2**63:
        raise DataError(f"the time stamp {stamp} {unit} is beyond the year 2262")
    return value


def _digits(stem: str) -> Decimal | None:
    """The stamp in a name: its longest number, with a fraction; ``SECONDS_NANOSECONDS`` is one number too."""
    joined = re.sub(r"(?<!\d)(\d{10})[_-](\d{9})(?!\d)", r"\1.\2", stem)
    numbers = re.findall(r"\d+(?:\.\d+)?", joined)
    longest = max(numbers, key=len, default=None)
    return None if longest is None or len(longest) > 30 else Decimal(longest)
