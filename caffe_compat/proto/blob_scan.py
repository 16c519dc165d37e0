"""BlobProto in a scanned file: shape, legacy dims, packed, unpacked and chunked numbers, NVCaffe's raw numbers.

C3D 1.0 has a fifth dim, ``length``, in the middle: its fields 3 to 7 are length, height, width, data and diff.  The
width, a number where Caffe has its data, tells; it writes the fields in order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from caffe_compat.proto.blob import Blob, Segment
from caffe_compat.proto.wire import BYTES, FIXED32, FIXED64, MAX_AXES, MAX_COUNT, VARINT, Scanner

__all__ = ["scan_blob"]

_NUMBERS = {5: (4, FIXED32), 6: (4, FIXED32), 8: (8, FIXED64), 9: (8, FIXED64)}  # data, diff, double_data, double_diff
_WIDTH = 5  # of C3D
_MOVED = {6: 5, 7: 6}  # C3D's data and diff
_RAW_TYPES = {10: 12, 11: 13}  # raw_data_type, raw_diff_type (NVCaffe 0.16 and later) and where their bytes are
_RAW_ITEMS = {0: 8, 1: 4, 2: 2}  # double, float, half


@dataclass
class _Found:
    """What the fields of a BlobProto said so far."""

    legacy: dict[int, int] = field(default_factory=dict)
    dims: list[int] = field(default_factory=list)
    numbers: dict[int, list[Segment]] = field(default_factory=lambda: {number: [] for number in _NUMBERS})
    types: dict[int, int] = field(default_factory=dict)
    raw: dict[int, tuple[int, int]] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)


def scan_blob(scan: Scanner, start: int, end: int, label: str) -> Blob:
    """The blob whose BlobProto fills ``start`` to ``end``.

    A shape that no blob can have, or that disagrees with the numbers, is told only when the blob is wanted
    (:meth:`Blob.check`): Caffe does not look at the blobs of layers that its net lacks.

    Raises:
        ModelFileError: a length that lies, or too many axes.
    """
    found = _Found()
    at = start
    while at < end:
        at = _scan_field(scan, at, end, found)
    shape = _legacy_shape(found.legacy) if found.legacy else tuple(found.dims)
    data, diff = (
        _raw(scan, found, kind) or _stored(found.numbers[double]) or _stored(found.numbers[single])
        for kind, double, single in ((10, 8, 5), (11, 9, 6))
    )
    problem = _raw_problem(found) or _problem(shape, data, diff)
    if problem and found.unknown:
        problem += f"; the blob has fields of numbers unknown here: {', '.join(map(str, sorted(found.unknown)))}"
    error = scan.error(start, problem) if problem else None
    return Blob(scan.path, label, shape, bool(found.legacy), scan.stamp, error, data, diff)


def _legacy_shape(dims: dict[int, int]) -> tuple[int, ...]:
    """Num, channels, height and width; with C3D's length after the channels, which old files of its do not have."""
    if _WIDTH not in dims:
        return tuple(dims.get(axis, 0) for axis in (1, 2, 3, 4))
    return tuple(dims.get(axis, 0) or int(axis == 3) for axis in (1, 2, 3, 4, _WIDTH))


def _scan_field(scan: Scanner, at: int, end: int, found: _Found) -> int:
    """Take in one field; returns where the next one starts."""
    number, wire, value, after = scan.field(at, end)
    tag = number << 3 | wire
    if number <= 4 or (number == _WIDTH and wire == VARINT and _WIDTH - 1 in found.legacy):
        scan.expect(at, number, wire, VARINT)
        found.legacy[number] = _signed(value, 32)
        return after
    if _WIDTH in found.legacy:
        number = _MOVED.get(number, number)
    if number == 7:
        scan.expect(at, number, wire, BYTES)
        _scan_shape(scan, value, after, found.dims)
    elif number in _RAW_TYPES and wire == VARINT:
        found.types[number] = value
    elif number in _RAW_TYPES.values() and wire == BYTES:
        found.raw[number] = value, after
    elif number not in _NUMBERS:
        found.unknown.add(number)
    else:
        item, unpacked_wire = _NUMBERS[number]
        if wire == BYTES:
            found.numbers[number].append(_packed(scan, at, value, after, item))
        else:
            scan.expect(at, number, wire, unpacked_wire)
            if count := scan.run(at, end, tag, item):
                after = at + count * (item + 1)
                found.numbers[number].append(Segment(at, count, item, item + 1))
            else:  # a tag written with needless bytes
                found.numbers[number].append(Segment(after - item, 1, item, item))
    return after


def _raw(scan: Scanner, found: _Found, kind: int) -> list[Segment]:
    """Numbers in NVCaffe's way: their type, and bytes."""
    if kind not in found.types or _RAW_TYPES[kind] not in found.raw:
        return []
    item = _RAW_ITEMS.get(found.types[kind], 1)
    start, end = found.raw[_RAW_TYPES[kind]]
    return _stored([_packed(scan, start, start, end, item)])


def _stored(segments: list[Segment]) -> list[Segment]:
    return [segment for segment in segments if segment.count]


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _packed(scan: Scanner, at: int, start: int, end: int, item: int) -> Segment:
    if (end - start) % item:
        raise scan.error(at, f"{end - start} bytes of packed numbers are not a multiple of {item}")
    return Segment(start, (end - start) // item, item, item)


def _scan_shape(scan: Scanner, start: int, end: int, dims: list[int]) -> None:
    at = start
    while at < end:
        number, wire, value, after = scan.field(at, end)
        if number == 1 and wire == VARINT:
            dims.append(_signed(value, 64))
        elif number == 1:
            scan.expect(at, number, wire, BYTES)
            inner = value
            while inner < after and len(dims) <= MAX_AXES:
                dim, inner = scan.varint(inner, after)
                dims.append(_signed(dim, 64))
        if len(dims) > MAX_AXES:
            raise scan.error(at, f"shape has more than {MAX_AXES} axes")
        at = after


def _raw_problem(found: _Found) -> str:
    for kind in found.types.values():
        if kind not in _RAW_ITEMS:
            return f"raw numbers of NVCaffe's type {kind}, expected 0 (double), 1 (float) or 2 (half)"
    return ""


def _problem(shape: tuple[int, ...], data: list[Segment], diff: list[Segment]) -> str:
    """Why these are no blob, or an empty string."""
    if any(dim < 0 for dim in shape):
        return f"shape {shape} has a negative axis"
    count = math.prod(shape)
    if count > MAX_COUNT or any(dim > MAX_COUNT for dim in shape):
        return f"shape {shape} has more than {MAX_COUNT} elements"
    held = sum(segment.count for segment in data)
    if held != count:
        return f"shape {shape} needs {count} numbers, {held} are stored"
    held = sum(segment.count for segment in diff)
    if diff and held != count:
        return f"shape {shape} needs {count} diff numbers, {held} are stored"
    return ""
