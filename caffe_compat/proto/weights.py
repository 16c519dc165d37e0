"""Binary ``.caffemodel`` files: read the weights of any age and fork, write what BVLC Caffe reads.

Only names, types and blobs are read.  Layer parameters inside a weights file are never interpreted: forks gave the
same field numbers different meanings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from caffe_compat.errors import ModelFileError
from caffe_compat.files import atomic_write, open_existing
from caffe_compat.proto.blob import Blob
from caffe_compat.proto.blob_scan import scan_blob
from caffe_compat.proto.caffe_pb2 import V1LayerParameter
from caffe_compat.proto.mapping import ITEM
from caffe_compat.proto.upgrade import V1_TYPES
from caffe_compat.proto.upgrade_v0 import V0_TYPES
from caffe_compat.proto.wire import BYTES, MAX_AXES, MAX_COUNT, MAX_FILE, VARINT, Scanner

__all__ = ["ModelFile", "ModelLayer", "is_hdf5", "read_blob_proto", "scan", "write"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_V0_TO_V2 = {old: V1_TYPES[V1LayerParameter.LayerType.Value(new)] for old, new in V0_TYPES.items()}


@dataclass
class ModelLayer:
    """One layer of a weights file: its name, its type in today's spelling ('' if unknown), its blobs in order."""

    name: str
    type: str
    blobs: list[Blob] = field(default_factory=list)


@dataclass
class ModelFile:
    """What a weights file holds: the net's name and its layers in file order."""

    path: str
    name: str
    layers: list[ModelLayer] = field(default_factory=list)


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether the file is HDF5, by its signature (as Caffe: never by its name).

    Raises:
        MissingFileError: no such file.
    """
    with open_existing(path) as stream:
        return stream.read(len(_HDF5)) == _HDF5


def scan(path: str | os.PathLike[str]) -> ModelFile:
    """Find all layers and blobs of a binary weights file, without reading the numbers.

    Takes the V2 (``layer``), V1 (``layers``) and V0 formats, packed, unpacked and chunked numbers, floats and doubles;
    fields it does not know are skipped.

    Raises:
        MissingFileError: no such file.
        ModelFileError: the file is malformed, or is text or HDF5; with file, byte offset, layer and blob.
    """
    with Scanner(path, "caffemodel") as scanner:
        if scanner.size == 0:
            raise ModelFileError(f"{scanner.path}: the file is empty")
        model = ModelFile(scanner.path, "")
        used: set[int] = set()
        at = 0
        while at < scanner.size:
            scanner.context = ""
            number, wire, value, after = scanner.field(at, scanner.size)
            if number in (1, 2, 100):
                scanner.expect(at, number, wire, BYTES)
            if number == 1:
                model.name = scanner.string(value, after)
            elif number in (2, 100):
                used.add(number)
                if len(used) > 1:
                    raise scanner.error(at, "both 'layer' and 'layers' blocks; Caffe refuses such a file")
                layer = ModelLayer("", "")
                _scan_layer(scanner, value, after, layer, _FORMATS[number], len(model.layers))
                model.layers.append(layer)
            at = after
    return model


@dataclass(frozen=True)
class _Format:
    """Field numbers of one generation of layer messages."""

    name: int
    type: int
    blobs: int


_V0 = _Format(name=1, type=2, blobs=50)
_V1 = _Format(name=4, type=5, blobs=6)
_V2 = _Format(name=1, type=2, blobs=7)
_FORMATS = {2: _V1, 100: _V2}


def _scan_layer(scanner: Scanner, start: int, end: int, layer: ModelLayer, form: _Format, index: int) -> None:
    at = start
    while at < end:
        scanner.context = f"layer {index} '{layer.name}'"
        number, wire, value, after = scanner.field(at, end)
        if number == form.name:
            scanner.expect(at, number, wire, BYTES)
            layer.name = scanner.string(value, after)
        elif number == form.type:
            scanner.expect(at, number, wire, VARINT if form is _V1 else BYTES)
            layer.type = _type(form, value if form is _V1 else scanner.string(value, after))
        elif number == form.blobs:
            scanner.expect(at, number, wire, BYTES)
            scanner.context += f", blob {len(layer.blobs)}"
            layer.blobs.append(scan_blob(scanner, value, after, ""))
        elif form is _V1 and number == 1:
            scanner.expect(at, number, wire, BYTES)
            _scan_layer(scanner, value, after, layer, _V0, index)
        at = after
    for position, blob in enumerate(layer.blobs):
        blob.label = f"layer '{layer.name}' blob {position}"


def _type(form: _Format, stored: int | str) -> str:
    if isinstance(stored, int):
        return V1_TYPES.get(stored, "")
    return _V0_TO_V2.get(stored, "") if form is _V0 else stored


def read_blob_proto(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a file that holds one BlobProto (a mean file) as float32; old four-axis blobs keep their four axes.

    Raises:
        MissingFileError: no such file.
        ModelFileError: malformed, with file and byte offset.
    """
    with Scanner(path, "binaryproto") as scanner:
        if scanner.size == 0:
            raise ModelFileError(f"{scanner.path}: the file is empty")
        blob = scan_blob(scanner, 0, scanner.size, "the blob")
    return blob.read()


_SHAPE = b"\x3a"
_PADDING = {0: b"", **{size % ITEM: _SHAPE + b"\x80" * (size - 2) + b"\0" for size in (2, 3, 5)}}
"""A shape without axes, of so many bytes over a multiple of 4: messages of one field are merged, so it adds nothing."""

LayerBlobs = tuple[Any, Sequence[np.ndarray]] | tuple[Any, Sequence[np.ndarray], Sequence[np.ndarray] | None]
"""A ``LayerParameter`` without blobs, its arrays and, if wanted, as many arrays of gradients."""


def write(path: str | os.PathLike[str], name: str, layers: Iterable[LayerBlobs], aligned: bool = False) -> None:
    """Write a binary caffemodel that BVLC Caffe reads: V2, ``shape`` fields, packed floats, no legacy dims.

    Layers are taken one by one, so ``layers`` may be a generator.  The file appears whole or not at all.

    Args:
        path: the file.
        name: the net's name.
        layers: see :data:`LayerBlobs`.
        aligned: let all numbers begin at a multiple of 4 bytes, so that the file can be mapped
            (:mod:`caffe_compat.proto.mapping`).  Lengths have more bytes than they need for this (at most the 5 that
            protobuf's own readers allow), and blobs a second, empty shape, which adds nothing; every reader of protobuf
            takes both.  Without it the file is byte for byte what Caffe writes.

    Raises:
        ModelFileError: numbers of arrays or shapes that do not match, or a file beyond Caffe's 2 GiB limit.
    """
    with atomic_write(path) as stream:
        raw_name = name.encode()
        stream.write(b"\x0a" + varint(len(raw_name)) + raw_name)
        for message, arrays, *rest in layers:
            _write_layer(stream, f"{os.fspath(path)}: layer '{message.name}'", message, (arrays, *rest), aligned)
            if stream.tell() > MAX_FILE:
                raise ModelFileError(f"{os.fspath(path)}: more than {MAX_FILE} bytes, which Caffe cannot read")


def _write_layer(
    stream: IO[bytes], who: str, message: Any, given: Sequence[Sequence[np.ndarray] | None], aligned: bool
) -> None:
    arrays, diffs = given[0] or (), given[1] if len(given) > 1 else None
    if diffs is not None and len(diffs) != len(arrays):
        raise ModelFileError(f"{who}: {len(arrays)} arrays, but {len(diffs)} diffs")
    head, tail = type(message)(), type(message)()
    head.CopyFrom(message)
    tail.CopyFrom(message)
    for descriptor, _ in message.ListFields():  # Caffe writes fields in number order; blobs are number 7
        for part in {7: (head, tail)}.get(descriptor.number, (tail,) if descriptor.number < 7 else (head,)):
            part.ClearField(descriptor.name)
    before, after = head.SerializeToString(), tail.SerializeToString()
    least = 5 if aligned else 1  # bytes of a length, known before the length is
    at = stream.tell() + 2 + least + len(before)
    blobs = []
    for index, array in enumerate(arrays):
        place = at + 1 + least if aligned else None
        chunks = blob_chunks(array, diffs[index] if diffs is not None else None, f"{who} blob {index}", place)
        blobs += [b"\x3a" + varint(sum(map(len, chunks)), least), *chunks]
        at += 1 + least + sum(map(len, chunks))
    total = len(before) + sum(map(len, blobs)) + len(after)
    for chunk in (b"\xa2\x06" + varint(total, least), before, *blobs, after):
        stream.write(chunk)


def varint(value: int, least: int = 1) -> bytes:
    """A number as protobuf writes it, in at least so many bytes."""
    out = bytearray()
    while value > 0x7F or len(out) < least - 1:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def blob_chunks(
    array: np.ndarray, diff: np.ndarray | None, label: str, place: int | None = None
) -> list[bytes | memoryview]:
    """The bytes of a BlobProto: packed float data, diff, shape.

    Args:
        place: where in the file it will stand, for numbers that begin at multiples of 4 bytes.

    Raises:
        ModelFileError: array and diff differ in shape, or are too large for Caffe.
    """
    if diff is not None and diff.shape != array.shape:
        raise ModelFileError(f"{label}: shape {array.shape}, but its diff has {diff.shape}")
    if array.size > MAX_COUNT or array.ndim > MAX_AXES:
        raise ModelFileError(f"{label}: shape {array.shape} is beyond Caffe's {MAX_AXES} axes, {MAX_COUNT} elements")
    chunks: list[bytes | memoryview] = []
    for tag, values in ((b"\x2a", array), (b"\x32", diff)):
        if values is not None and values.size:
            raw = np.ascontiguousarray(values, "<f4").reshape(-1).view(np.uint8).data
            length = varint(len(raw))
            gap = 0 if place is None else -(place + sum(map(len, chunks)) + 1 + len(length)) % ITEM
            chunks += [_PADDING[gap] + tag + length, raw]
    dims = b"".join(varint(dim) for dim in array.shape)
    shape = b"\x0a" + varint(len(dims)) + dims if dims else b""
    return [*chunks, _SHAPE + varint(len(shape)) + shape]
