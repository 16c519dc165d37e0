"""The benchmark of exported graphs: what it compares is the same net, and what it prints is what it measured."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch
from gpu import DEVICE, needs_gpu
from program import call

from caffe_compat.commands.measurements import onnx_cpu, onnx_gpu, onnx_runtimes
from caffe_compat.commands.measurements.contest import LEAST, Contestant, Result, contest
from caffe_compat.commands.measurements.onnx_nets import RANKS, Entry, detector_net, entry, regions
from caffe_compat.commands.measurements.onnx_profile import nodes_by_provider, operators, unlike
from caffe_compat.commands.measurements.onnx_rows import ratio_row


def test_all_run_equally_often_and_in_changing_order() -> None:
    ran: list[str] = []
    results = contest([Contestant(name, lambda name=name: ran.append(name)) for name in "abc"], seconds=0)
    assert [result.label for result in results] == ["a", "b", "c"]
    assert [len(result.seconds) for result in results] == [LEAST] * 3
    rounds = ["".join(ran[start : start + 3]) for start in range(0, len(ran), 3)]
    assert rounds[0] == "abc" and all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 1, "a contestant that always follows the same one finds its caches"


def test_ratios_and_percentiles() -> None:
    ours = Result("ours", (0.1, 0.2, 0.9), (0.1, 0.1, 0.3))
    peer = Result("peer", (0.2, 0.1, 1.0), (0.2, 0.4, 0.4))
    assert ours.ratio(peer) == pytest.approx(0.9)  # of 0.5, 2 and 0.9
    assert ours.best_ratio(peer) == pytest.approx(1.0)
    assert ours.cpu_ratio(peer) == pytest.approx(0.5)
    assert ours.quartiles(peer) == pytest.approx((0.7, 1.45))
    label, mine, theirs, ratio, target = ratio_row(ours, peer, "<= 1.00")
    assert label == "  by peer (0.70 to 1.45, minima 1.00, CPU 0.50)"
    assert (mine, theirs, ratio, target) == (0.2, 0.2, pytest.approx(0.9), "<= 1.00")
    line = ours.line(8)
    assert "p50   200.00" in line and "p90   760.00" in line and "p99   886.00 ms" in line and "40.0 images/s" in line


@pytest.mark.parametrize("name", ["caffenet", "squeezenet", "detector"])
def test_the_peer_is_the_same_net(name: str) -> None:
    item = entry(name, rois=5)
    tensors = item.inputs(2)
    with torch.inference_mode():
        found = item.peer(*tensors.values())
        blobs = item.net(**tensors, blobs=list(item.outputs))
    for blob, value in zip(item.outputs, found if isinstance(found, tuple) else (found,), strict=True):
        assert float(blobs[blob].std()) > 1e-4
        torch.testing.assert_close(value.flatten(), blobs[blob].flatten(), rtol=1e-4, atol=1e-5)


def test_regions_lie_in_their_pictures() -> None:
    inputs = regions(50, 3)
    index, boxes = inputs["rois"][:, 0], inputs["rois"][:, 1:]
    assert index.bincount().tolist() == [50] * 3 if index.dtype == torch.long else index.unique().tolist() == [0, 1, 2]
    assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
    assert boxes[:, 2].max() < 640 and boxes[:, 3].max() < 480


def test_a_compressed_detector_has_both_factors() -> None:
    shapes = {
        node.name: tuple(node.layer.blob_shapes[0])
        for node in detector_net("alexnet_hha", svd=True).nodes
        if node.layer.blobs
    }
    for name, rank in RANKS:
        assert shapes[f"da_{name}_L"][0] == rank and shapes[f"da_{name}_U"] == (4096, rank)


def test_rows_of_a_net(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_cpu, "has_openvino", lambda: "")
    whole = entry("squeezenet", rois=0)
    item = Entry("net", whole.net, whole.peer, whole.inputs, whole.outputs, (1,))
    found = list(onnx_cpu.contest_of(item, (), seconds=0))
    lines, rows = [one for one in found if isinstance(one, str)], [one for one in found if not isinstance(one, str)]
    assert re.match(r"net, as ONNX Runtime optimised it: \d+ nodes and \d+; ours alone ", lines.pop(0))
    assert lines[0] == f"net, batch 1, {LEAST} rounds"
    labels = [line.split("p50")[0].strip() for line in lines[1:]]
    assert labels[0] == "our export" and "torch.onnx.export" in labels[1] and labels[2:] == ["torch, eager"]
    assert [row[0].split(" (")[0] for row in rows] == [f"  by {label}" for label in labels[1:]]
    assert [row[4] for row in rows] == ["<= 1.00", ""]
    assert all(float(line.rsplit(", ", 1)[1].split()[0]) < 1e-5 for line in lines[1:3]), lines


def test_sessions_take_turns() -> None:
    ran: list[str] = []
    call = onnx_cpu.in_turns([lambda: ran.append("a"), lambda: ran.append("b")])
    for _ in range(5):
        call()
    assert "".join(ran) == "ababa"


def test_what_runs_on_a_gpu_runs_on_the_cpu_too() -> None:
    """All but its numbers: no GPU is needed to see that the measurement holds together."""
    item, device = entry("squeezenet", rois=0), torch.device("cpu")
    found = list(onnx_gpu.onnx_on(device, item, (1,), seconds=0))
    rows = [one for one in found if not isinstance(one, str)]
    assert [row[4] for row in rows] == ["<= 1.00", "", ""]
    assert re.fullmatch(r"  our export: nodes \d+ on CPU; 0 copies between CPU and GPU \(target 0\)", str(found[-1]))
    found = list(onnx_gpu.regions_on(device, 20, seconds=0))
    assert [one.split("p50")[0].strip() for one in map(str, found[1:3])] == ["--roi gpu", "--roi cpu"]
    assert found[-1][4] == "<= 0.50"


def test_copies_are_told_from_nodes() -> None:
    """Events in the form that ONNX Runtime writes."""
    events = [
        {"cat": "Session", "name": "model_run"},
        {"cat": "Node", "name": "conv1_fence_before", "args": {"op_name": "Conv"}},
        {"cat": "Node", "name": "conv1_kernel_time", "args": {"op_name": "Conv", "provider": "CUDA"}},
        {"cat": "Node", "name": "Memcpy_kernel_time", "args": {"op_name": "MemcpyToHost", "provider": "CUDA"}},
        {"cat": "Node", "name": "pool_kernel_time", "args": {"op_name": "MaxRoiPool", "provider": "CPU"}},
        {"cat": "Node", "name": "Memcpy_1_kernel_time", "args": {"op_name": "MemcpyFromHost", "provider": "CUDA"}},
    ]
    assert operators(events) == {"Conv": 1, "MaxRoiPool": 1, "MemcpyToHost": 1, "MemcpyFromHost": 1}
    assert nodes_by_provider(events) == ({"CUDA": 1, "CPU": 1}, 2)


def test_how_graphs_are_unlike() -> None:
    ours, theirs = Counter(Conv=3, Flatten=1), Counter(Conv=2, Pow=1, Reshape=2)
    assert unlike(ours, theirs) == "4 nodes and 5; ours alone 1 Conv, 1 Flatten; theirs 1 Pow, 2 Reshape"
    assert unlike(ours, ours) == "4 nodes and 4; ours alone nothing; theirs nothing"


@needs_gpu
def test_on_a_gpu() -> None:
    found = list(onnx_gpu.onnx_on(DEVICE, entry("detector", rois=20), (1,), seconds=0))
    assert str(found[-1]).endswith("; 0 copies between CPU and GPU (target 0)")
    assert all(float(str(line).rsplit(", ", 1)[1].split()[0]) < 1e-3 for line in found[1:3]), found


def test_rows_of_compression_and_of_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_cpu, "SVD_ROIS", 10)
    *lines, row = onnx_cpu.compressed(seconds=0)
    assert [str(line).split("p50")[0].strip() for line in lines[1:]] == ["compressed", "the whole one"]
    assert row[0].startswith("  by the whole one (") and row[4] == "<= 0.50"
    ((label, ours, peer, ratio, target),) = onnx_cpu.overhead(seconds=0)
    assert re.match(r"Session, -?\d+ us a call more than run, on SqueezeNet$", label) and target == "<= 1.02"
    assert ratio == pytest.approx(ours / peer)


def test_openvino_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtimes.importlib.util, "find_spec", lambda name: None)
    assert onnx_runtimes.has_openvino() == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--net", "cafenet"], "no net 'cafenet'"), (["--batch", "0"], "got 0"), (["--rois", "-3"], "got -3")],
)
def test_bad_input(words: list[str], message: str) -> None:
    done = call("bench", "onnx", *words)
    assert done.status == 2 and message in done.stderr and "Traceback" not in done.stderr
