"""The benchmark of exported graphs on the CPU."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from caffe_compat.commands.measurements.contest import Contestant, contest
from caffe_compat.commands.measurements.onnx_nets import NETS, RANKS, Entry, detector_net, entry, regions
from caffe_compat.commands.measurements.onnx_profile import operators, profiled_run, unlike
from caffe_compat.commands.measurements.onnx_rows import EAGER, Call, Row, ratio_row, rows_of
from caffe_compat.commands.measurements.onnx_runtimes import (
    eager,
    export_with_torch,
    has_openvino,
    openvino,
    ort,
    ort_session,
)
from caffe_compat.commands.measurements.settings import OnnxSettings
from caffe_compat.deploy import Session
from caffe_compat.net import load_net
from caffe_compat.onnx import export_onnx
from caffe_compat.resources import prototxt

__all__ = ["compressed", "contest_of", "in_turns", "onnx", "overhead"]

SVD_ROIS = 2000
SESSIONS = 2
"""Of each graph, in turns: where its weights come to lie makes two sessions of one file differ by some percent."""


def contest_of(item: Entry, batches: Sequence[int], seconds: float) -> Iterator[Row | str]:
    """One net at each batch: a line of percentiles for everything that runs it, and our export's ratio to each.

    Args:
        seconds: for each batch, about.
    """
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.onnx", Path(folder) / "theirs.onnx"
        shapes = {name: tuple(value.shape) for name, value in item.inputs(1).items()}
        export_onnx(item.net, ours, inputs=shapes, outputs=item.outputs)
        label = export_with_torch(item, theirs)
        profile = Path(folder) / "profile"
        sessions = [[ort_session(path, profile=profile) for path in (ours, theirs)] for _ in range(SESSIONS)]
        one = {name: tensor.numpy() for name, tensor in item.inputs(1).items()}
        ran = [[operators(profiled_run(session, one)) for session in pair] for pair in sessions]
        yield f"{item.name}, as ONNX Runtime optimised it: {unlike(*ran[0])}"
        for batch in batches or item.batches:
            tensors = item.inputs(batch)
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            mine, torchs = (in_turns([ort(session, arrays) for session in of]) for of in zip(*sessions, strict=True))
            calls = {"our export": mine, label: torchs, EAGER: eager(item.peer, tuple(tensors.values()))}
            if has_openvino():
                calls["OpenVINO, our export"] = openvino(ours, arrays)
            yield from rows_of(f"{item.name}, batch {batch}", calls, batch, seconds)


def in_turns(calls: Sequence[Call]) -> Call:
    """Each time the next of some ways of doing the same."""
    turns = itertools.cycle(calls)
    return lambda: next(turns)()


def compressed(seconds: float) -> Iterator[Row | str]:
    """A detector with fc6 and fc7 in two factors, as compress_net.py makes it, against the whole one."""
    with tempfile.TemporaryDirectory() as folder:
        arrays = {name: tensor.numpy() for name, tensor in regions(SVD_ROIS, 1).items()}
        calls = []
        for svd in (True, False):
            path = Path(folder) / f"{svd}.onnx"
            shapes = {name: array.shape for name, array in arrays.items()}
            export_onnx(detector_net("alexnet_hha", svd), path, inputs=shapes)
            calls.append(Contestant("compressed" if svd else "the whole one", ort(ort_session(path), arrays)))
        small, whole = contest(calls, seconds)
    what = f"detector, {SVD_ROIS} regions, " + " and ".join(f"{name} of rank {rank}" for name, rank in RANKS)
    yield f"{what}, {len(whole.seconds)} rounds"
    yield from (result.line(1) for result in (small, whole))
    yield ratio_row(small, whole, "<= 0.50")


def overhead(seconds: float) -> Iterator[Row]:
    """What Session adds to ONNX Runtime's run: microseconds on a small net, and what they are of SqueezeNet."""
    differences = []
    with tempfile.TemporaryDirectory() as folder:
        for name, side in (("small", 96), ("squeezenet", 227)):
            path = Path(folder) / f"{name}.onnx"
            net = load_net(prototxt() / name / "deploy.prototxt")
            export_onnx(net, path)
            arrays = {net.input_names[0]: np.zeros((1, 3, side, side), np.float32)}
            session = Session(path)
            raw = ort(ort_session(path), arrays)
            ours, peer = contest([Contestant("Session", partial(session, arrays)), Contestant("run", raw)], seconds)
            differences.append(statistics.median(a - b for a, b in zip(ours.seconds, peer.seconds, strict=True)))
    label = f"Session, {1e6 * differences[0]:.0f} us a call more than run, on SqueezeNet"
    yield label, peer.median + differences[0], peer.median, 1 + differences[0] / peer.median, "<= 1.02"


def onnx(rounds: int, wanted: OnnxSettings) -> Iterator[Row | str]:
    """Exported nets in ONNX Runtime against torch's export of the same nets, torch itself, and OpenVINO."""
    torch.manual_seed(0)
    yield f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {has_openvino() or 'not installed'}"
    for name in wanted.nets or tuple(NETS):
        yield from contest_of(entry(name, wanted.rois), wanted.batches, rounds)
    if not wanted.nets or "detector" in wanted.nets:
        yield from compressed(rounds)
    yield from overhead(rounds / 4)
