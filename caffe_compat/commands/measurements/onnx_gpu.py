"""The benchmark of exported graphs on a GPU: bound tensors, copies between the GPU and the CPU, pooling of regions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffe_compat.commands.measurements.contest import Contestant, contest
from caffe_compat.commands.measurements.onnx_nets import NETS, Entry, detector_net, entry, regions
from caffe_compat.commands.measurements.onnx_profile import nodes_by_provider, profiled_run
from caffe_compat.commands.measurements.onnx_rows import EAGER, Call, Row, ratio_row, rows_of
from caffe_compat.commands.measurements.onnx_runtimes import eager, export_with_torch, ort_session
from caffe_compat.commands.measurements.settings import OnnxSettings
from caffe_compat.deploy import Session
from caffe_compat.devices import choose
from caffe_compat.onnx import export_onnx

__all__ = ["onnx_gpu", "onnx_on", "regions_on"]

GPU_ROIS, GPU_BATCHES = 2000, (1, 8, 32)


def onnx_gpu(rounds: int, wanted: OnnxSettings) -> Iterator[Row | str]:
    """The nets on a GPU, and a detector that pools 2,000 regions there instead of on the CPU.

    Raises:
        UsageError: there is no such GPU, or ONNX Runtime does not run there.
    """
    device = choose(wanted.gpu)
    torch.manual_seed(0)
    yield f"on {torch.cuda.get_device_name(device)} in float32; ONNX Runtime is given torch's tensors, and gives such"
    for name in wanted.nets or tuple(NETS):
        yield from onnx_on(device, entry(name, wanted.rois), wanted.batches or GPU_BATCHES, rounds)
    if not wanted.nets or "detector" in wanted.nets:
        yield from regions_on(device, GPU_ROIS, rounds)


def onnx_on(device: torch.device, item: Entry, batches: Sequence[int], seconds: float) -> Iterator[Row | str]:
    """One net at each batch, on any device, by tensors there and by arrays, which are copied both ways."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.onnx", Path(folder) / "theirs.onnx"
        shapes = {name: tuple(value.shape) for name, value in item.inputs(1).items()}
        export_onnx(item.net, ours, inputs=shapes, outputs=item.outputs, roi="gpu")
        label = export_with_torch(item, theirs)
        sessions = {"our export": Session(ours, str(device)), label: Session(theirs, str(device))}
        peer = item.peer.to(device)
        for batch in batches:
            values = item.inputs(batch)
            tensors = {name: value.to(device) for name, value in values.items()}
            arrays = {name: value.numpy() for name, value in values.items()}
            calls = {name: _finished(_bound(session, tensors)) for name, session in sessions.items()}
            calls[EAGER] = _finished(eager(peer, tuple(tensors.values())))
            calls["our export, arrays"] = _bound(sessions["our export"], arrays)
            yield from rows_of(f"{item.name}, batch {batch}", calls, batch, seconds)
        yield "  our export: " + _nodes(ours, item.inputs(1), device)
        peer.to("cpu")


def regions_on(device: torch.device, rois: int, seconds: float) -> Iterator[Row | str]:
    """A detector's regions pooled by operators that a GPU has, against MaxRoiPool, which only the CPU has."""
    net, values = detector_net("alexnet_hha"), regions(rois, 1)
    tensors = {name: value.to(device) for name, value in values.items()}
    contestants, nodes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for roi in ("gpu", "cpu"):
            path = Path(folder) / f"{roi}.onnx"
            export_onnx(net, path, inputs={name: tuple(value.shape) for name, value in values.items()}, roi=roi)
            contestants.append(Contestant(f"--roi {roi}", _finished(_bound(Session(path, str(device)), tensors))))
            nodes.append(f"  --roi {roi}: " + _nodes(path, values, device))
        ours, peer = contest(contestants, seconds)
    yield f"detector, {rois} regions, {len(ours.seconds)} rounds"
    yield from (result.line(1) for result in (ours, peer))
    yield from nodes
    yield ratio_row(ours, peer, "<= 0.50")


def _bound(session: Session, values: Mapping[str, Any]) -> Call:
    return lambda: session(values)


def _finished(call: Call) -> Call:
    """The same until the GPU is done."""

    def run() -> Any:
        found = call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return found

    return run


def _nodes(path: Path, values: Mapping[str, torch.Tensor], device: torch.device) -> str:
    """What a profile of one run says of nodes and of copies between them."""
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": str(device.index or 0)}))
    with tempfile.TemporaryDirectory() as folder:
        session = ort_session(path, providers, Path(folder) / "profile")
        events = profiled_run(session, {name: np.asarray(value) for name, value in values.items()})
    counts, copies = nodes_by_provider(events)
    where = ", ".join(f"{count} on {name.removesuffix('ExecutionProvider')}" for name, count in sorted(counts.items()))
    return f"nodes {where}; {copies} copies between CPU and GPU (target 0)"
