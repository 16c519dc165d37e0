"""The benchmark of supervision transfer on a GPU: from files, and without them to tell what loading costs."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from caffe_compat.commands.measurements import peers
from caffe_compat.devices import choose
from caffe_compat.layers.data.paired import PairedImageData
from caffe_compat.media import read_picture
from caffe_compat.proto import caffe_pb2, read_net
from caffe_compat.resources import prototxt
from caffe_compat.solver import SGDSolver
from caffe_compat.solver.solver import Solver

__all__ = ["transfer_gpu", "transfer_on"]

Row = tuple[str, float, float, float, str]
Size = tuple[int, int]
PAIRS, BATCH, WARM = 16, 2, 12
PER_ROUND = 40
"""Iterations for every round that is asked for."""
GOAL = 6 * 60 / 100_000
"""Seconds of an iteration if 100,000 take 6 minutes."""


def transfer_gpu(rounds: int) -> Iterator[Row]:
    """AlexNet -> AlexNet transfer on the first GPU, where there is one."""
    if torch.cuda.is_available():
        yield from transfer_on(choose(0), PER_ROUND * rounds)


def transfer_on(device: torch.device, iterations: int, size: Size = (480, 640)) -> Iterator[Row]:
    """The same on any device, with frames of any height and width.

    Nothing but the images is as in a real transfer: weights are random, and the rate is so low that they stay.
    """
    what = f"{BATCH} x {size[0]} x {size[1]}"
    ours, step = _from_memory(device, size), _hand_written(device, size)
    mine, peer = _timed(lambda: ours.step(iterations), iterations), _timed(lambda: _times(step, iterations), iterations)
    yield f"Transfer step, {what}, against the hand-written loop", mine, peer, mine / peer, "<= 1.00"
    yield f"  100,000 of them: {mine * 100_000 / 60:.2f} min (peer: 6 min)", mine, GOAL, mine / GOAL, "<= 1.00"
    for kind in ("png", "jpg"):
        yield from _from_files(device, size, kind, iterations)
    for name, tf32, search in (("cuDNN's search", False, True), ("TF32", True, False), ("TF32 and search", True, True)):
        with _settings(tf32, search):
            found = _timed(lambda: ours.step(iterations), iterations)
        yield f"  with {name}: {found * 100_000 / 60:.2f} min (peer: without)", found, mine, found / mine, ""


def _from_files(device: torch.device, size: Size, kind: str, iterations: int) -> Iterator[Row]:
    """Training from a list of pairs, and how long it waits for them."""
    with tempfile.TemporaryDirectory() as folder:
        solver = _solver(device, pairs=str(write_pairs(Path(folder), size, kind)))
        (layer,) = (node.layer for node in solver.net.nodes if isinstance(node.layer, PairedImageData))
        solver.step(WARM)
        waited, start = layer.waited, time.perf_counter()
        solver.step(iterations)
        _finish(device)
        seconds, waited = time.perf_counter() - start, layer.waited - waited
        layer.close()
        each = seconds / iterations
        yield f"  from {kind} files: {each * 100_000 / 60:.2f} min (peer: 6 min)", each, GOAL, each / GOAL, "<= 1.00"
        yield f"    of {iterations} iterations, waiting for pictures", waited, seconds, waited / seconds, "<= 0.02"
        cold = max(1, min(iterations, 4 * PAIRS) // 4)
        start = time.perf_counter()
        for number in range(cold):
            for name in layer.pairs[number % PAIRS].first, layer.pairs[number % PAIRS].second:
                read_picture(name)
        one = (time.perf_counter() - start) / cold
        yield f"    reading and decoding a pair of {kind} on one core (peer: an iteration)", one, each, one / each, ""


def write_pairs(folder: Path, size: Size, kind: str) -> Path:
    """Random pictures, smooth enough for their files to be of the usual size; the list."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(PAIRS):
        names = [f"{which}{number}.{kind}" for which in ("color", "hha")]
        for name in names:
            rough = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
            picture = cv2.resize(rough, size[::-1]).astype(np.int16) + rng.integers(-4, 5, (*size, 3))
            data = cv2.imencode(f".{kind}", picture.clip(0, 255).astype(np.uint8))[1]
            (folder / name).write_bytes(data.tobytes())
        lines.append(" ".join(names) + "\n")
    path = folder / "pairs.txt"
    path.write_text("".join(lines))
    return path


def _solver(device: torch.device, pairs: str = "", size: Size | None = None) -> Solver:
    """The solver of the ready-made transfer, from a list of pairs, or with inputs in memory."""
    message = read_net(prototxt() / "transfer" / "alexnet_to_alexnet_hha" / "train_val.prototxt")
    layers = [layer for layer in message.layer if [rule.phase for rule in layer.include] != [caffe_pb2.TEST]]
    data, rest = layers[0], layers[1:]
    del message.layer[:]
    if size is None:
        data.paired_image_data_param.source = pairs
        message.layer.append(data)
    else:
        for top in data.top:
            message.layer.add(name=top, type="Input", top=[top]).input_param.shape.add(dim=[BATCH, 3, *size])
    message.layer.extend(rest)
    param = caffe_pb2.SolverParameter(
        train_net_param=message, base_lr=1e-12, lr_policy="fixed", momentum=0.9, weight_decay=5e-4, random_seed=1,
        clip_gradients=1.0,
    )  # fmt: skip
    solver = SGDSolver(param, device=device)
    solver.stop_at_nan = True  # as train_net.py does
    _draw_weights(solver.net)
    return solver


def _draw_weights(net: nn.Module) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, math.sqrt(2 / parameter[0].numel()))


def _from_memory(device: torch.device, size: Size) -> Solver:
    solver = _solver(device, size=size)
    for name in solver.net.input_names:
        solver.engine.blob(name).set_data(torch.randn((BATCH, 3, *size)).mul(50).to(device))
    solver.step(WARM)
    return solver


def _hand_written(device: torch.device, size: Size) -> Callable[[], None]:
    """The loop that one writes with torch's modules and its optimizer, which looks at every loss."""
    teacher, student = (peers.alexnet_features(5, 1).to(device) for _ in range(2))
    adapt = nn.Sequential(nn.Conv2d(256, 256, 1), nn.ReLU(inplace=True)).to(device)
    both = nn.ModuleList([student, adapt])
    _draw_weights(teacher)
    _draw_weights(both)
    groups = [
        {"params": [p for p in both.parameters() if p.dim() > 1], "lr": 1e-12, "weight_decay": 5e-4},
        {"params": [p for p in both.parameters() if p.dim() == 1], "lr": 2e-12, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=1e-12, momentum=0.9)
    rgb, hha = (torch.randn((BATCH, 3, *size)).mul(50).to(device) for _ in range(2))

    def step() -> None:
        optimizer.zero_grad()
        with torch.no_grad():
            target = teacher(rgb)
        loss = (adapt(student(hha)) - target).square().sum() / (2 * BATCH) * 1e-6
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        loss.item()

    _times(step, WARM)
    return step


def _times(step: Callable[[], None], count: int) -> None:
    for _ in range(count):
        step()


def _timed(function: Callable[[], object], count: int) -> float:
    """Seconds of each of ``count`` steps."""
    _finish(None)
    start = time.perf_counter()
    function()
    _finish(None)
    return (time.perf_counter() - start) / count


def _finish(device: torch.device | None) -> None:
    """Wait for what the GPU was given to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def _settings(tf32: bool, search: bool) -> Iterator[None]:
    """TF32 in convolutions, and cuDNN's search for the fastest way of each, within the block."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32 = products.allow_tf32 = tf32
    cudnn.benchmark = search
    try:
        yield
    finally:
        cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark = before
