"""The benchmark of region pooling by operators that a GPU has, here on the CPU, where MaxRoiPool is the peer."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from caffe_compat.commands.measurements.timing import alternate
from caffe_compat.compare import difference
from caffe_compat.deploy import Session
from caffe_compat.description import State, describe_net
from caffe_compat.net import Net
from caffe_compat.onnx import export_onnx
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse

__all__ = ["MAP", "ROIS", "roi"]

Row = tuple[str, float, float, float, str]
MAP, ROIS, BINS, SCALE = (1, 256, 43, 57), 2000, 6, 1 / 16
_MEMORY = """
import sys
import numpy as np, onnxruntime
def largest():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
with np.load(sys.argv[2]) as file:
    inputs = dict(file)
before = largest()
session.run(None, inputs)
print(largest() - before)
"""
"""Prints how many KB the largest size of a process grows by in one run; the kernel's, getrusage has the parent's."""


def roi(rounds: int) -> Iterator[Row | str]:
    """Time and memory of 2,000 regions of an image of 912 x 688, its map 256 x 43 x 57, pooled to 6 x 6."""
    net, inputs = _net(), _inputs()
    with tempfile.TemporaryDirectory() as folder:
        peer = Path(folder) / "peer.onnx"
        export_onnx(net, peer)
        np.savez(Path(folder) / "inputs.npz", **inputs)  # type: ignore[arg-type]
        theirs = Session(peer)
        for label, dynamic in (("batch open", ("batch",)), ("all open", ("batch", "height", "width"))):
            path = Path(folder) / "ours.onnx"
            nodes = len(export_onnx(net, path, roi="gpu", dynamic=dynamic).graph.node)
            ours = Session(path)
            found = difference(ours(inputs)["pooled"], theirs(inputs)["pooled"])
            times = alternate(partial(ours, inputs), partial(theirs, inputs), rounds)
            yield f"--roi gpu, {label} (max difference {found.absolute:.1g})", *times, "<= 1.30"
            yield f"  {nodes} nodes (at most 95), {_megabytes(path):.0f} MB in one run (at most 550)"


def _net() -> Net:
    sizes = {"map": MAP, "rois": (ROIS, 5)}
    text = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        f"{' '.join(f'dim: {dim}' for dim in shape)} }} }} }}\n"
        for name, shape in sizes.items()
    )
    text += (
        'layer { name: "pooled" type: "ROIPooling" bottom: "map" bottom: "rois" top: "pooled" roi_pooling_param { '
        f"pooled_h: {BINS} pooled_w: {BINS} spatial_scale: {SCALE} }} }}"
    )
    return Net(describe_net(parse(text, caffe_pb2.NetParameter), State("TEST")))


def _inputs() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    corners = np.sort(random.uniform(0, 1, (ROIS, 2, 2)), axis=1).reshape(ROIS, 4)
    corners *= np.array([MAP[3], MAP[2], MAP[3], MAP[2]]) / SCALE
    rois = np.concatenate([np.zeros((ROIS, 1)), corners], axis=1).astype(np.float32)
    return {"map": random.standard_normal(MAP).astype(np.float32), "rois": rois}


def _megabytes(path: Path) -> float:
    """What a process of its own grows by when it runs the model once."""
    command = [sys.executable, "-c", _MEMORY, str(path), str(path.with_name("inputs.npz"))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024
