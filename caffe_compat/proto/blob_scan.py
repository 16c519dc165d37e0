"""BlobProto in a scanned file: shape, legacy dims, packed, unpacked and chunked numbers."""

from __future__ import annotations

import math

from caffe_compat.proto.wire import BYTES, FIXED32, FIXED64, MAX_AXES, MAX_COUNT, VARINT, Blob, Scanner, Segment

__all__ = ["scan_blob"]

_NUMBERS = {5: (4, FIXED32), 6: (4, FIXED32), 8: (8, FIXED64), 9: (8, FIXED64)}  # data, diff, double_data, double_diff


def scan_blob(scan: Scanner, start: int, end: int, label: str) -> Blob:
    """The blob whose BlobProto fills ``start`` to ``end``.

    Raises:
        ModelFileError: a length that lies, a negative or huge axis, or numbers that do not match the shape.
    """
    legacy: dict[int, int] = {}
    dims: list[int] = []
    numbers: dict[int, list[Segment]] = {number: [] for number in _NUMBERS}
    at = start
    while at < end:
        number, wire, value, after = scan.field(at, end)
        if number <= 4:
            scan.expect(at, number, wire, VARINT)
            legacy[number] = _signed(value, 32)
        elif number == 7:
            scan.expect(at, number, wire, BYTES)
            _scan_shape(scan, value, after, dims)
        elif number in _NUMBERS:
            item, unpacked_wire = _NUMBERS[number]
            if wire == BYTES:
                numbers[number].append(_packed(scan, at, value, after, item))
            else:
                scan.expect(at, number, wire, unpacked_wire)
                if count := scan.run(at, end, number << 3 | wire, item):
                    after = at + count * (item + 1)
                    numbers[number].append(Segment(at, count, item, item + 1))
                else:  # a tag written with needless bytes
                    numbers[number].append(Segment(after - item, 1, item, item))
        at = after
    shape = tuple(legacy.get(axis, 0) for axis in (1, 2, 3, 4)) if legacy else tuple(dims)
    data, diff = (_stored(numbers[double]) or _stored(numbers[single]) for double, single in ((8, 5), (9, 6)))
    _check(scan, start, shape, data, diff)
    return Blob(scan.path, label, shape, bool(legacy), scan.stamp, data, diff)


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


def _check(scan: Scanner, at: int, shape: tuple[int, ...], data: list[Segment], diff: list[Segment]) -> None:
    if any(dim < 0 for dim in shape):
        raise scan.error(at, f"shape {shape} has a negative axis")
    count = math.prod(shape)
    if count > MAX_COUNT or any(dim > MAX_COUNT for dim in shape):
        raise scan.error(at, f"shape {shape} has more than {MAX_COUNT} elements")
    held = sum(segment.count for segment in data)
    if held != count:
        raise scan.error(at, f"shape {shape} needs {count} numbers, {held} are stored")
    held = sum(segment.count for segment in diff)
    if diff and held != count:
        raise scan.error(at, f"shape {shape} needs {count} diff numbers, {held} are stored")
