"""Tiny files in the layouts of NYUD2 and of Matlab 7.3, for tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

HEIGHT, WIDTH = 480, 640
USER_BLOCK = 512
CLASSES = {"f8": "double", "f4": "single", "b1": "logical"}


class Opaque:
    """A value that only Matlab can read, as a containers.Map is."""


class V73Writer:
    """Writes variables the way Matlab's ``save -v7.3`` does.

    Axes are reversed; cells and struct arrays are references into ``#refs#``; str is char; dict is a 1 x 1 struct; a
    list is a struct array (1 x n) of dicts; an object array is a cell array.
    """

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.refs = file.create_group("#refs#")

    def put(self, parent: h5py.Group, name: str, value: Any, **options: Any) -> None:
        if isinstance(value, Opaque):
            node = parent.create_dataset(name, data=np.array([[0xDD000000, 2, 1, 1, 1, 1]], np.uint32))
            node.attrs["MATLAB_class"] = np.bytes_("containers.Map")
            node.attrs["MATLAB_object_decode"] = np.int32(3)
        elif isinstance(value, dict):
            group = parent.create_group(name)
            group.attrs["MATLAB_class"] = np.bytes_("struct")
            for field, content in value.items():
                self.put(group, field, content)
        elif isinstance(value, list):
            self._struct_array(parent, name, value)
        elif isinstance(value, str):
            codes = np.array([ord(letter) for letter in value], np.uint16)[:, None]
            node = self._plain(parent, name, codes if value else np.zeros((0, 0), np.uint16), "char")
            node.attrs["MATLAB_int_decode"] = np.int32(2)
        elif value.dtype == object:
            self._plain(parent, name, self._references(value), "cell")
        elif value.dtype == bool:
            node = self._plain(parent, name, np.ascontiguousarray(value.T, np.uint8), "logical")
            node.attrs["MATLAB_int_decode"] = np.int32(1)
        else:
            matlab = CLASSES.get(value.dtype.str[1:], value.dtype.name)
            self._plain(parent, name, np.ascontiguousarray(value.T), matlab, **options)

    def _plain(self, parent: h5py.Group, name: str, data: np.ndarray, matlab: str, **options: Any) -> h5py.Dataset:
        if data.size == 0:
            node = parent.create_dataset(name, data=np.array(data.shape[::-1], np.uint64))
            node.attrs["MATLAB_empty"] = np.uint8(1)
        else:
            node = parent.create_dataset(name, data=data, **options)
        node.attrs["MATLAB_class"] = np.bytes_(matlab)
        return node

    def _references(self, values: np.ndarray) -> np.ndarray:
        references = np.empty(values.shape[::-1], h5py.ref_dtype)
        for index in np.ndindex(values.shape):
            name = f"r{len(self.refs)}"
            self.put(self.refs, name, values[index])
            references[index[::-1]] = self.refs[name].ref
        return references

    def _struct_array(self, parent: h5py.Group, name: str, structs: list[dict[str, Any]]) -> None:
        if not structs:
            self._plain(parent, name, np.zeros((0, 1)), "struct")
            return
        group = parent.create_group(name)
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        for field in structs[0]:
            group.create_dataset(field, data=self._references(cell([item[field] for item in structs], column=False)))


def write_v73(path: Path, variables: Mapping[str, Any], **options: Any) -> Path:
    """Write a file of version 7.3 with Matlab's header; ``options`` go to the numeric variables' data sets."""
    with h5py.File(path, "w", userblock_size=USER_BLOCK) as file:
        writer = V73Writer(file)
        for name, value in variables.items():
            writer.put(file, name, value, **options)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1 00:00:00 1970 HDF5 schema 1.00 ."
    with open(path, "r+b") as stream:
        stream.write(header.ljust(116) + bytes(8) + b"\x00\x02IM")
    return path


def cell(values: list[Any], column: bool = True) -> np.ndarray:
    """A cell array n x 1 (or 1 x n)."""
    cells = np.empty((len(values), 1), object)
    cells[:, 0] = values
    return cells if column else cells.T


def color_frame(number: int) -> np.ndarray:
    """uint8 [480, 640, 3]: row, column, and the frame's number, all of which a transposition would move."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([rows % 251, columns % 241, np.full_like(rows, number % 256)], -1).astype(np.uint8)


def depth_frame(number: int) -> np.ndarray:
    """float32 [480, 640] metres: 1 m at the corner, 1.3 mm more a row, 2.7 mm more a column, 10 mm more a frame."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (1 + 0.0013 * rows + 0.0027 * columns + 0.01 * number).astype(np.float32)


def raw_depth_frame(number: int) -> np.ndarray:
    """The same with a hole at rows 100 to 119, columns 200 to 259, and 0.4 mm (which rounds to 0) at row 120."""
    depth = depth_frame(number)
    depth[100:120, 200:260] = 0
    depth[120, 200:260] = 0.0004
    return depth


def label_frame() -> tuple[np.ndarray, np.ndarray]:
    """labels uint16 and instances uint8 [480, 640]: two beds (1), a night stand (3), an unknown thing (2)."""
    labels, instances = np.zeros((HEIGHT, WIDTH), np.uint16), np.zeros((HEIGHT, WIDTH), np.uint8)
    for label, instance, (x1, y1, x2, y2) in (
        (1, 1, (50, 60, 149, 99)),
        (1, 2, (300, 200, 300, 299)),
        (3, 1, (0, 0, 639, 49)),
        (2, 1, (400, 400, 420, 410)),
        (2, 0, (500, 400, 520, 410)),
    ):
        labels[y1 : y2 + 1, x1 : x2 + 1] = label
        instances[y1 : y2 + 1, x1 : x2 + 1] = instance
    return labels, instances


NAMES = ["bed", "zebra painting", "night stand"]


def labelled(count: int) -> dict[str, Any]:
    """The variables of nyu_depth_v2_labeled.mat with ``count`` frames."""
    labels, instances = label_frame()
    numbers = range(5001, 5001 + count)
    return {
        "accelData": np.zeros((count, 4), np.float32),
        "images": np.stack([color_frame(number) for number in numbers], -1),
        "depths": np.stack([depth_frame(number) for number in numbers], -1),
        "rawDepths": np.stack([raw_depth_frame(number) for number in numbers], -1),
        "labels": np.stack([labels] * count, -1),
        "instances": np.stack([instances] * count, -1),
        "names": cell(NAMES),
        "namesToIds": Opaque(),
        "rawDepthFilenames": cell([f"kitchen_0004/d-{number}.pgm" for number in numbers]),
        "rawRgbFilenames": cell([f"kitchen_0004/r-{number}.ppm" for number in numbers]),
        "scenes": cell([f"kitchen_{number % 3:04d}" for number in numbers]),
        "sceneTypes": cell(["kitchen"] * count),
    }


def truncated(path: Path, length: int) -> Path:
    """A copy of the first ``length`` bytes, beside ``path``."""
    short = path.with_name(f"{path.stem}_{length}{path.suffix}")
    short.write_bytes(path.read_bytes()[:length])
    return short


def lengths(path: Path, count: int) -> list[int]:
    """``count`` lengths shorter than the file, evenly spread."""
    size = os.path.getsize(path)
    return [size * index // count for index in range(count)]
