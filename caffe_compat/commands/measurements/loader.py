"""The benchmark of loading: what a core gives, by worker processes, against torch's DataLoader doing the same work.

Processor time is what is compared, of this process and of its workers: images a second of a core.  It is the same with
any number of workers if throughput grows with them, as far as the part goes that is left to this process.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from caffe_compat.batches.kept import Kept
from caffe_compat.batches.pairs import PairReader
from caffe_compat.batches.slots import can_share
from caffe_compat.commands.measurements.transfer_gpu import PAIRS, write_pairs
from caffe_compat.description import State, describe_net
from caffe_compat.devices import cores
from caffe_compat.layers.data import DataLayer
from caffe_compat.media import encoded_datum, picture_datum
from caffe_compat.media.records import create_database
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse

__all__ = ["loader"]

Row = tuple[str, float, float, float, str]
SIZE, CROP, GOAL = (480, 640), 227, 8000
WARM, LEAST = 12, 64
"""Batches before the clock starts, and images of a round."""
MEAN = np.array([103.9, 116.8, 123.7], np.float32)
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclasses.dataclass(frozen=True)
class _Case:
    """One kind of input: our layer, and what a hand-written data set does for one record."""

    name: str
    body: str
    batch: int
    peer: Callable[[int], tuple[Tensor, ...]]


@dataclasses.dataclass(frozen=True)
class _Cost:
    """Of an image: seconds of all processors, those of this process, whose part no worker takes, and images a second
    by the clock.
    """

    cores: float
    parent: float
    rate: float


class _Written(Dataset[tuple[Tensor, ...]]):
    """The data set that one writes by hand."""

    def __init__(self, peer: Callable[[int], tuple[Tensor, ...]], count: int) -> None:
        self.peer, self.count = peer, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self.peer(index)


def loader(rounds: int) -> Iterator[Row | str]:
    """Images of 480 x 640 a second: threads, and 1, 2, ... workers, against as many of DataLoader's."""
    counts = [0, *sorted({1, 2, *range(4, cores() + 1, 4)})] if can_share() else [0]
    with tempfile.TemporaryDirectory() as folder:
        for case in _cases(Path(folder)):
            for workers in counts:
                ours, theirs = _of_layer(case, workers, rounds), _of_peer(case, workers, rounds)
                label = f"{case.name}, {workers or 'no'} workers, core seconds of {GOAL}"
                ratio = ours.cores / theirs.cores
                yield label, ours.cores * GOAL, theirs.cores * GOAL, ratio, "<= 1.00" if workers else ""
                yield f"    ours: {_told(ours)}\n    peer: {_told(theirs)}"


def _told(cost: _Cost) -> str:
    here = f"{1e6 * cost.parent:.0f} us in the training process"
    return f"{1 / cost.cores:.0f} images a second and core, of each {here}; by the clock {cost.rate:.0f}"


def _cases(folder: Path) -> Iterator[_Case]:
    transform = f"transform_param {{ crop_size: {CROP} mirror: true {' '.join(f'mean_value: {m}' for m in MEAN)} }}"
    write_pairs(folder, SIZE, "jpg")
    names = [str(folder / f"{which}{number}.jpg") for number in range(PAIRS) for which in ("color", "hha")]
    (folder / "list.txt").write_text("".join(f"{name} {number}\n" for number, name in enumerate(names)))
    body = f'type: "ImageData" image_data_param {{ source: "{folder}/list.txt" batch_size: 32 shuffle: true }}'
    yield _Case("JPEG list", f"{body} {transform}", 32, lambda i: _labelled(_read(names[i % len(names)])))
    for kind, make in (("encoded", lambda name: encoded_datum(Path(name).read_bytes(), 1)), ("raw", _raw)):
        with create_database(str(folder / kind), "lmdb") as writer:
            for number, name in enumerate(names):
                writer.put(f"{number:08d}".encode(), make(name).SerializeToString())
        body = f'type: "Data" data_param {{ source: "{folder / kind}" backend: LMDB batch_size: 32 }}'
        yield _Case(f"LMDB, {kind}", f"{body} {transform}", 32, _LmdbPeer(str(folder / kind), len(names)))
    pairs = write_pairs(folder, SIZE, "png")
    files = [[str(folder / f"{which}{number}.png") for which in ("color", "hha")] for number in range(PAIRS)]
    body = f'source: "{pairs}" batch_size: 4 mirror: true mean_value: 9'
    body = f'type: "PairedImageData" paired_image_data_param {{ {body} }}'
    yield _Case("PNG pairs", body, 4, lambda i: _pair(files[i % PAIRS]))


class _LmdbPeer:
    """Reads records with the lmdb library, which each process opens for itself."""

    def __init__(self, path: str, count: int) -> None:
        self._path, self._count = path, count
        self._opened: tuple[int, Any] = (0, None)

    def close(self) -> None:
        """A process that is forked later may not find it open."""
        if self._opened[1] is not None:
            self._opened[1].close()
        self._opened = (0, None)

    def __call__(self, index: int) -> tuple[Tensor, ...]:
        if self._opened[0] != os.getpid():
            self._opened = os.getpid(), lmdb.open(self._path, readonly=True, lock=False, readahead=False)
        with self._opened[1].begin(buffers=True) as transaction:
            datum = caffe_pb2.Datum.FromString(transaction.get(f"{index % self._count:08d}".encode()))
        if datum.encoded:
            return _labelled(np.asarray(cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_COLOR)))
        shape = (datum.channels, datum.height, datum.width)
        return _labelled(np.frombuffer(datum.data, np.uint8).reshape(shape).transpose(1, 2, 0))


def _raw(name: str) -> caffe_pb2.Datum:
    return picture_datum(_read(name), 1)


def _read(name: str) -> np.ndarray:
    return np.asarray(cv2.imread(name, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION))


def _labelled(picture: np.ndarray) -> tuple[Tensor, Tensor]:
    top, left = (np.random.randint(side - CROP + 1) for side in picture.shape[:2])
    picture = picture[top : top + CROP, left : left + CROP]
    return _finished(picture, np.random.randint(2), MEAN), torch.ones(1)


def _finished(picture: np.ndarray, mirrored: int, mean: np.ndarray) -> Tensor:
    picture = picture[:, ::-1] if mirrored else picture
    return torch.from_numpy(np.ascontiguousarray((picture.astype(np.float32) - mean).transpose(2, 0, 1)))


def _pair(names: list[str]) -> tuple[Tensor, ...]:
    mirrored = np.random.randint(2)
    return tuple(_finished(_read(name), mirrored, np.full(3, 9, np.float32)) for name in names)


def _of_layer(case: _Case, workers: int, rounds: int) -> _Cost:
    """Of our layer."""
    tops = 'top: "a" top: "b"'
    message = parse(f'layer {{ name: "data" {tops} {case.body} }}', caffe_pb2.NetParameter)
    (layer,) = (n.layer for n in Net(describe_net(message, State("TRAIN"))).nodes if isinstance(n.layer, DataLayer))
    if isinstance(layer.reader, PairReader):
        layer.reader = dataclasses.replace(layer.reader, kept=Kept(0))  # decode every picture every time
    layer.workers = workers
    images = case.batch * (2 if isinstance(layer.reader, PairReader) else 1)
    try:
        return _measured(layer, lambda: layer.worker_pids, images, rounds)
    finally:
        layer.close()


def _of_peer(case: _Case, workers: int, rounds: int) -> _Cost:
    """Of torch's DataLoader."""
    held = _Written(case.peer, 1 << 20)
    found = iter(DataLoader(held, case.batch, num_workers=workers))
    pids = [process.pid for process in getattr(found, "_workers", [])]
    images = case.batch * (2 if case.name == "PNG pairs" else 1)
    try:
        return _measured(lambda: next(found), lambda: pids, images, rounds)
    finally:
        if isinstance(case.peer, _LmdbPeer):
            case.peer.close()


def _measured(step: Callable[[], object], pids: Callable[[], list[int]], images: int, rounds: int) -> _Cost:
    for _ in range(WARM):
        step()
    steps = -(-LEAST * rounds // images)
    parent, before, start = time.process_time(), _processor_time(pids()), time.perf_counter()
    for _ in range(steps):
        step()
    seconds, count = time.perf_counter() - start, steps * images
    spent = _processor_time(pids()) - before
    return _Cost(spent / count, (time.process_time() - parent) / count, count / seconds)


def _processor_time(pids: list[int]) -> float:
    """Seconds that this process and others have computed."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / _TICK
