"""The benchmarks: each yields (label, our seconds, peer's seconds, ratio, target)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from torch import nn

from caffe_compat.commands.measurements import peers
from caffe_compat.commands.measurements.detector import detector
from caffe_compat.commands.measurements.evaluation import evaluation
from caffe_compat.commands.measurements.flow import flow
from caffe_compat.commands.measurements.forward import compile, forward
from caffe_compat.commands.measurements.hha_peer import port_hha
from caffe_compat.commands.measurements.loader import loader
from caffe_compat.commands.measurements.loading import weights
from caffe_compat.commands.measurements.onnx_cpu import onnx
from caffe_compat.commands.measurements.onnx_gpu import onnx_gpu
from caffe_compat.commands.measurements.proposals import proposals
from caffe_compat.commands.measurements.roi import roi
from caffe_compat.commands.measurements.sds import sds
from caffe_compat.commands.measurements.testing import testing
from caffe_compat.commands.measurements.timing import alternate
from caffe_compat.commands.measurements.transfer_gpu import transfer_gpu
from caffe_compat.commands.measurements.updating import against_autocast, half_precision, updates
from caffe_compat.datasets.motorcycle import MOTORCYCLE_CAMERA, MotorcycleSource
from caffe_compat.depth import complete
from caffe_compat.depth import hha as encode_hha
from caffe_compat.description import State, describe_net
from caffe_compat.errors import UsageError
from caffe_compat.net import BlobNet, Net
from caffe_compat.proto import caffe_pb2, read_net
from caffe_compat.resources import prototxt
from caffe_compat.solver import SGDSolver

__all__ = [
    "build",
    "compile",
    "detector",
    "evaluation",
    "flow",
    "forward",
    "hha",
    "loader",
    "onnx",
    "onnx_gpu",
    "proposals",
    "roi",
    "sds",
    "solver",
    "testing",
    "transfer",
    "transfer_gpu",
    "weights",
]

Row = tuple[str, float, float, float, str]
HHA_FRAMES = 8
PROTOTXT = prototxt()


def _prototxt(*parts: str) -> Path:
    path = PROTOTXT.joinpath(*parts)
    if not path.exists():
        raise UsageError(f"{path} is missing: run the benchmarks from a checkout of the project")
    return path


def transfer(rounds: int) -> Iterator[Row]:
    """One training step of AlexNet -> AlexNet supervision transfer against a hand-written loop."""
    path = _prototxt("transfer", "caffenet_to_caffenet_hha", "train_val.prototxt")
    shape = (2, 3, 480, 640)
    ours, net = _transfer_solver(path, shape)
    theirs = _hand_written_transfer(net, shape)
    times = alternate(lambda: ours.step(1), theirs, rounds)
    yield "AlexNet -> AlexNet pool5 transfer step, 2 x 480 x 640", *times, "<= 1.10"
    yield "  with --amp bf16, CPU time (peer: float32)", *half_precision(ours, rounds), "<= 0.80"
    yield "  with --amp bf16, CPU time (peer: autocast)", *against_autocast(ours, theirs, rounds), "<= 1.00"


def _transfer_solver(path: Path, shape: tuple[int, ...]) -> tuple[SGDSolver, Net]:
    """A solver on the transfer net with its data layer replaced by random inputs."""
    message = read_net(path)
    layers = [layer for layer in message.layer if layer.type != "PairedImageData"]
    tops = next(list(layer.top) for layer in message.layer if layer.type == "PairedImageData")
    del message.layer[:]
    for top in tops:
        inputs = message.layer.add(name=top, type="Input", top=[top])
        inputs.input_param.shape.add(dim=shape)
    message.layer.extend(layers)
    param = caffe_pb2.SolverParameter(
        train_net_param=message, base_lr=1e-3, lr_policy="fixed", momentum=0.9, weight_decay=5e-4, random_seed=1
    )
    solver = SGDSolver(param)
    generator = torch.Generator().manual_seed(0)
    for top in tops:
        solver.engine.blob(top).set_data(torch.randn(shape, generator=generator) * 50)
    return solver, solver.net


def _hand_written_transfer(net: Net, shape: tuple[int, ...]) -> Callable[[], None]:
    teacher, student = peers.alexnet_features(5, 1), peers.alexnet_features(5, 1)
    adapt = nn.Sequential(nn.Conv2d(256, 256, 1), nn.ReLU(inplace=True))
    peers.copy_weights(net, teacher, "conv")
    peers.copy_weights(net, student, "da_conv")
    both = nn.ModuleList([student, adapt])
    groups = [
        {"params": [p for p in both.parameters() if p.dim() > 1], "lr": 1e-3, "weight_decay": 5e-4},
        {"params": [p for p in both.parameters() if p.dim() == 1], "lr": 2e-3, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=1e-3, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    rgb, hha = (torch.randn(shape, generator=generator) * 50 for _ in range(2))

    def step() -> None:
        optimizer.zero_grad()
        with torch.no_grad():
            target = teacher(rgb)
        loss = (adapt(student(hha)) - target).square().sum() / (2 * shape[0]) * 1e-6
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def solver(rounds: int) -> Iterator[Row]:
    """The blob engine, with which solvers train, against the same net as a torch module."""
    message = read_net(_prototxt("caffenet", "deploy.prototxt"))
    message.layer.add(name="loss", type="SoftmaxWithLoss", bottom=["fc8", "label"], top=["loss"])
    labels = message.layer.add(name="label", type="Input", top=["label"])
    labels.input_param.shape.add(dim=[10])
    order = [layer for layer in message.layer if layer.type == "Input"]
    order += [layer for layer in message.layer if layer.type not in ("Input", "Softmax")]
    copies = [caffe_pb2.LayerParameter.FromString(layer.SerializeToString()) for layer in order]
    del message.layer[:]
    message.layer.extend(copies)
    net = Net(describe_net(message, State("TEST")))
    engine = BlobNet(net, keep_graph=False)
    data, label = torch.randn(10, 3, 227, 227) * 50, torch.randint(0, 1000, (10,)).float()
    engine.blob("data").set_data(data)
    engine.blob("label").set_data(label)

    def ours() -> None:
        engine.clear_param_diffs()
        engine.forward()
        engine.backward()

    def theirs() -> None:
        engine.clear_param_diffs()
        net.loss(net(data=data, label=label)).backward()

    yield "CaffeNet forward + backward, engine against module", *alternate(ours, theirs, rounds), "<= 1.10"
    yield from updates(rounds)


def timed(function: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def build(rounds: int) -> Iterator[Row]:
    """Reading and building VGG16 without weights, against making the hand-written one."""
    path = _prototxt("vgg16", "deploy.prototxt")
    ours = min(timed(lambda: describe_net(read_net(path), State())) for _ in range(rounds))
    theirs = min(
        timed(lambda: caffe_pb2.NetParameter.FromString(read_net(path).SerializeToString())) for _ in range(rounds)
    )
    yield "VGG16 prototxt described, against parsed only", ours, theirs, ours / theirs, ""


def hha(rounds: int) -> Iterator[Row]:
    """HHA of one real frame against the published Python port's way of doing it; on a GPU against 300 frames/s."""
    depth = MotorcycleSource().read().depth[:480, :640]
    missing = depth == 0
    depth, camera = complete(depth), MOTORCYCLE_CAMERA.with_size(640, 480)
    peer = port_hha(depth, missing, camera)
    measured = scipy.ndimage.convolve((~missing).astype(int), np.ones((7, 7), int), mode="constant")
    wrong = (np.abs(encode_hha(depth, camera, missing).astype(int) - peer) > 1).any(-1)
    wrong_pixels = int((wrong & (measured >= 8)).sum())  # with fewer a normal is rounding noise
    video, masks = (np.stack([plane] * HHA_FRAMES) for plane in (depth, missing))
    ours, theirs, ratio = alternate(
        lambda: encode_hha(video, camera, masks),
        lambda: port_hha(depth, missing, camera),
        min(rounds, 3),
    )
    start = time.process_time()
    encode_hha(video, camera, masks)
    a_second = HHA_FRAMES / (time.process_time() - start)
    label = f"HHA, 480 x 640: {a_second:.1f} frames/s a core ({wrong_pixels} pixels differ by > 1)"
    yield label, ours / HHA_FRAMES, theirs, ratio / HHA_FRAMES, "<= 0.05"
    if not torch.cuda.is_available():
        return
    batch = torch.from_numpy(depth).cuda().expand(64, -1, -1).contiguous()
    holes = torch.from_numpy(missing).cuda().expand(64, -1, -1).contiguous()
    found = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        encode_hha(batch, camera, holes)
        torch.cuda.synchronize()
        found.append((time.perf_counter() - start) / len(batch))
    best = float(np.median(found[1:]))
    yield "HHA on the GPU, a frame of 480 x 640 (peer: 300 frames/s)", best, 1 / 300, best * 300, "<= 1.00"
