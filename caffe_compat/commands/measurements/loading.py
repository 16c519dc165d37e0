"""How fast weights get into a net, against protobuf's runtime, and against reading the file at all."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffe_compat.devices import cores
from caffe_compat.net import Net, load_net
from caffe_compat.net.load import load_description
from caffe_compat.resources import prototxt

__all__ = ["weights"]

Row = tuple[str, float, float, float, str]


def weights(rounds: int) -> Iterator[Row]:
    """A 553 MB VGG16 file into a ready module: against protobuf's runtime and numpy, each in a fresh process, and
    against one thread that only reads the file into new memory, in turn in one process; on 1 to 16 cores, mapped, and
    onto a GPU where there is one.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, aligned = Path(folder) / "vgg16.caffemodel", Path(folder) / "aligned.caffemodel"
        net = Net(load_description(_text()), fill=False)
        net.save(model)
        net.save(aligned, aligned=True)
        del net
        yield _against_protobuf(model, rounds)
        for count in dict.fromkeys(min(number, cores()) for number in (1, 2, 4, 8, 16)):
            with _on_cores(count):
                found = _against_one_thread(lambda: load_net(_text(), model), model, rounds)
            on = "1 core" if count == 1 else f"{count} cores"
            yield f"The same on {on}, against one thread's read of the file", *found, _BY_CORES[count > 1]
        found = _against_one_thread(lambda: load_net(_text(), aligned, mmap=True), model, rounds)
        yield "The same, mapped (mmap=True), against that read", *found, "<= 0.1"
        if torch.cuda.is_available():
            found = _against_one_thread(lambda: load_net(_text(), model, device="cuda"), model, rounds)
            yield "The same onto a GPU (device='cuda'), against that read", *found, "<= 1.0"


_BY_CORES = ("<= 1.1", "<= 0.65")


def _text() -> Path:
    return prototxt() / "vgg16" / "deploy.prototxt"


def _against_protobuf(model: Path, rounds: int) -> Row:
    size = model.stat().st_size
    mine, theirs = [], []
    for _ in range(max(3, rounds // 2)):
        mine.append(_child(_OURS, model))
        theirs.append(_child(_PROTOBUF, model))
    best = [min(run[0] for run in runs) for runs in (mine, theirs)]
    peak = min(run[1] for run in mine) / size
    label = f"VGG16 caffemodel, {size / 1e6:.0f} MB (our peak {peak:.2f} x file)"
    return label, best[0], best[1], best[0] / best[1], "<= 0.125, peak <= 1.05"


def _against_one_thread(load: Callable[[], object], model: Path, rounds: int) -> tuple[float, float, float]:
    """Best seconds of loading and of reading, and the median of the ratios of runs that follow each other."""

    def read() -> object:
        memory = torch.empty(model.stat().st_size, dtype=torch.uint8)
        view = memory.numpy().data
        with open(model, "rb", buffering=0) as stream:
            while view:
                view = view[stream.readinto(view) :]
        return memory

    times = [(_timed(load), _timed(read)) for _ in range(max(5, rounds) + 1)][1:]
    ours, theirs = (min(run[side] for run in times) for side in (0, 1))
    return ours, theirs, float(np.median([mine / other for mine, other in times]))


def _timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@contextlib.contextmanager
def _on_cores(count: int) -> Iterator[None]:
    """Let this thread and those that it starts use so many of its cores only, where the system can be told so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


_OURS = """
from caffe_compat.net import load_net
baseline = memory("VmRSS")
start = clock()
net = load_net(prototxt, model)
seconds = clock() - start
"""
_PROTOBUF = """
import numpy as np
from caffe_compat.proto import caffe_pb2
baseline = memory("VmRSS")
start = clock()
message = caffe_pb2.NetParameter()
with open(model, "rb") as stream:
    message.ParseFromString(stream.read())
arrays = [np.array(blob.data, np.float32).reshape(blob.shape.dim) for layer in message.layer for blob in layer.blobs]
seconds = clock() - start
"""
_CHILD = """
import sys, time
prototxt, model = sys.argv[1:]
clock = time.perf_counter
def memory(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))
{body}
print(seconds, memory("VmHWM") - baseline)
"""


def _child(body: str, model: Path) -> tuple[float, float]:
    """Seconds, and bytes that the peak memory rose by."""
    command = [sys.executable, "-c", _CHILD.format(body=body), str(_text()), str(model)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, grown = result.stdout.split()
    return float(seconds), float(grown)
