"""HDF5Data and HDF5Output."""

from __future__ import annotations

import contextlib
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

import h5py
import numpy as np
from torch import Tensor

from caffe_compat.errors import MissingFileError, ModelFileError
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.base import count as size_of
from caffe_compat.layers.data.source import DataLayer, Order
from caffe_compat.layers.looking import writes_files
from caffe_compat.layers.params import Params
from caffe_compat.layers.registry import register
from caffe_compat.media import read_name_list
from caffe_compat.proto.hdf5_file import checked_dataset, create_hdf5, open_hdf5

__all__ = ["HDF5Data", "HDF5Output"]


@register
class HDF5Data(DataLayer):
    """Rows of the datasets named like the tops, from the HDF5 files that a list names.

    Tops: (batch, the other axes of the dataset), float32.  Batches go on in the next file and, after the last, in the
    first.  With ``shuffle`` the files, and the rows within each, come in another order every epoch.  Files are loaded
    whole; names are relative to the current folder.
    """

    caffe_type = "HDF5Data"
    top_count = (1, 1 << 30)

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms, prefetch=1)
        section = params.section("hdf5_data_param")
        if params.has_section("transform_param"):
            raise self.error("does not transform data, expected no transform_param")
        self.source, self.size = str(section.source), self.batch_size(section)
        self.files = read_name_list(self.source)
        self.shuffle = bool(section.shuffle)
        self._loaded: dict[int, list[np.ndarray]] = {}
        self._lock = threading.Lock()
        found = [self._look_at(name) for name in self.files]
        self.rows = [rows for rows, _ in found]
        self.row_shapes = found[0][1]
        for name, (_, shapes) in zip(self.files, found, strict=True):
            if shapes != self.row_shapes:
                raise self.data_error(
                    f"{name}: rows have the shapes {shapes}, those of {self.files[0]} have {self.row_shapes}"
                )
        self.total = self.samples = sum(self.rows)
        self.shapes = [(self.size, *shape) for shape in self.row_shapes]
        self._shuffle()

    def _shuffle(self) -> None:
        """Decide the order of files and rows."""
        self._layouts: dict[int, tuple[list[int], list[int]]] = {}
        self.file_order = Order(len(self.files), self.shuffle, self.seed)
        self.row_orders = [Order(rows, self.shuffle, self.seed, 1 + k) for k, rows in enumerate(self.rows)]

    def _look_at(self, name: str) -> tuple[int, list[Shape]]:
        """Number of rows of a file, and shapes of a row of each dataset, without reading them."""
        with self._open(name) as file:
            rows, shapes = [], []
            for top in self.params.tops:
                if top not in file:
                    raise self.data_error(f"{name}: has no dataset '{top}'; it has {', '.join(file) or 'none'}")
                dataset = checked_dataset(file, top, name, "fiu")
                if dataset.ndim < 1:
                    raise self.data_error(f"{name}: dataset '{top}' has no axes, expected at least one")
                rows.append(dataset.shape[0])
                shapes.append(tuple(dataset.shape[1:]))
        if len(set(rows)) != 1:
            listed = ", ".join(f"'{top}' {count}" for top, count in zip(self.params.tops, rows, strict=True))
            raise self.data_error(f"{name}: all tops must have as many rows, expected equal numbers: {listed}")
        if rows[0] == 0:
            raise self.data_error(f"{name}: has no rows")
        return rows[0], shapes

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[h5py.File]:
        if not os.path.isfile(name):
            raise MissingFileError(name, f"layer '{self.name}', named in {self.source}")
        try:
            with open_hdf5(name) as file:
                yield file
        except ModelFileError as error:
            raise self.data_error(str(error)) from error

    def _load(self, index: int) -> list[np.ndarray]:
        """The datasets of a file; the two used last are kept."""
        with self._lock:
            if index not in self._loaded:
                for old in list(self._loaded)[:-1]:
                    del self._loaded[old]
                with self._open(self.files[index]) as file:
                    self._loaded[index] = [self._rows_of(file, top, index) for top in range(len(self.params.tops))]
            return self._loaded[index]

    def _rows_of(self, file: h5py.File, top: int, index: int) -> np.ndarray:
        """A dataset, which must be as large as it was when the net was built."""
        blob, name = self.params.tops[top], self.files[index]
        wanted = (self.rows[index], *self.row_shapes[top])
        dataset = checked_dataset(file, blob, name, "fiu") if blob in file else None
        if dataset is None or tuple(dataset.shape) != wanted:
            now = "is gone" if dataset is None else f"has the shape {list(dataset.shape)}"
            raise self.data_error(
                f"{name}: was replaced while the net runs: dataset '{blob}' had the shape {list(wanted)} and {now}"
            )
        return np.asarray(dataset[()], np.float32)

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``: rows of every dataset."""
        batch = tuple(np.empty((self.size, *shape), np.float32) for shape in self.row_shapes)
        places = [self._place(record) for record in self.records(number, self.size)]
        start = 0
        while start < self.size:  # as many rows at once as lie in one file
            file = places[start][0]
            end = next((k for k in range(start, self.size) if places[k][0] != file), self.size)
            rows = [row for _, row in places[start:end]]
            for top, values in zip(batch, self._load(file), strict=True):
                top[start:end] = values[rows]
            start = end
        return batch

    def _layout(self, epoch: int) -> tuple[list[int], list[int]]:
        """The files in the order of an epoch, and the running number of the first row of each."""
        epoch = epoch if self.shuffle else 0
        layout = self._layouts.get(epoch)
        if layout is None:
            files = [int(file) for file in self.file_order.epoch(epoch)]
            layout = (files, [0, *accumulate(self.rows[file] for file in files)])
            self._layouts = {epoch: layout}
        return layout

    def _place(self, record: int) -> tuple[int, int]:
        """File and row of the record with this running number."""
        epoch, offset = divmod(record, self.total)
        files, starts = self._layout(epoch)
        which = bisect_right(starts, offset) - 1
        file = files[which]
        return file, self.row_orders[file][epoch * self.rows[file] + offset - starts[which]]


@register
class HDF5Output(Layer):
    """Writes its bottoms as the float32 datasets ``data`` and ``label``, always of four axes, at the forward pass.

    The file is made at that pass: building a net, to describe or export it, touches nothing (Caffe empties the file
    when it builds the net).  Neither do verification and export, which run it.  A second forward pass is refused, as in
    Caffe.
    """

    caffe_type = "HDF5Output"
    bottom_count = (2, 2)
    top_count = (0, 0)
    onnx_reason = "it writes a file"
    carries = True  # one file of all passes

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self.file_name = str(params.section("hdf5_output_param").file_name)
        if not self.file_name:
            raise self.error("has no hdf5_output_param.file_name")
        self.written = False

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """None."""
        for shape in bottoms:
            self.require(len(shape) <= 4, f"expected at most 4 axes, a bottom has the shape {list(shape)}")
        first = [shape[0] if shape else 1 for shape in bottoms]
        self.require(first[0] == first[1], f"data and label should have the same number, not {first[0]} and {first[1]}")
        return []

    def forward(self, data: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """Write the file."""
        if data.device.type == "meta" or not writes_files():
            return ()
        if self.written:
            raise self.error(f"the datasets are in {self.file_name} already, expected one forward pass only")
        self._write([("data", data), ("label", label)])
        self.written = True
        return ()

    def _write(self, datasets: Sequence[tuple[str, Tensor]]) -> None:
        with create_hdf5(self.file_name) as file:
            for name, blob in datasets:
                shape = tuple(blob.shape) + (1,) * (4 - blob.dim())
                if size_of(shape) == 0:
                    raise self.error(f"cannot write {name} of shape {list(shape)}")
                file.create_dataset(name, data=blob.detach().cpu().float().numpy().reshape(shape))
