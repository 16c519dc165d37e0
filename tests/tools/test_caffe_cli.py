"""tools/caffe.py: train, test, time, device_query."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pytest
from caffe_log import parse_log
from program import ROOT, Done, call, end, start

GLOG = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [\w.]+:\d+\] ")

NET = """
name: "tiny"
layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 }
  data_filler { type: "constant" value: 1 } data_filler { type: "constant" value: 0.5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "constant" value: 0.1 } } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }
layer { name: "extra" type: "Power" bottom: "ip" top: "extra" include { stage: "more" } }
layer { name: "deep" type: "Power" bottom: "ip" top: "deep" include { min_level: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" loss_weight: 2 }
layer { name: "scores" type: "Reduction" bottom: "ip" top: "scores" include { phase: TEST }
  reduction_param { axis: 1 } }
"""
SOLVER = """
net: "net.prototxt" test_iter: 2 test_interval: 4 base_lr: 0.05 lr_policy: "step" stepsize: 4 gamma: 0.1 display: 2
max_iter: 8 snapshot: 5 snapshot_prefix: "tiny" debug_info: %s
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER % "false")
    return tmp_path


def caffe(folder: Path, *words: str) -> Done:
    """The program, in a folder."""
    return call("caffe", *words, folder=folder)


def messages(log: str) -> list[str]:
    """Lines without the stamp."""
    return [GLOG.sub("", line) for line in log.splitlines()]


def test_train_log_is_read_by_the_log_parser(folder: Path) -> None:
    done = caffe(folder, "train", "-solver", "solver.prototxt")
    assert done.status == 0, done.stderr
    train, test = parse_log(done.stderr)
    assert [row["NumIters"] for row in train] == [0, 2, 4, 6]
    assert [row["NumIters"] for row in test] == [0, 4, 8]
    assert [row["LearningRate"] for row in train[1:]] == pytest.approx([0.05, 0.05, 0.005])
    assert set(train[0]) == {"NumIters", "Seconds", "LearningRate", "loss"}
    assert train[0]["loss"] == pytest.approx(0.04)  # 1/2/4 * 4*2 * (0.3 - 0.5)^2
    assert test[0]["scores"] == pytest.approx(0.6)
    assert all(row["Seconds"] >= 0 for row in train + test)
    assert train[-1]["loss"] < train[0]["loss"]
    assert (folder / "tiny_iter_5.solverstate").exists() and (folder / "tiny_iter_8.caffemodel").exists()


def test_train_lines_stand_in_caffes_order(folder: Path) -> None:
    lines = messages(caffe(folder, "train", "--solver=solver.prototxt").stderr)
    wanted = [
        "Use CPU.",
        "Initializing solver from parameters: ",
        "Creating training net from net file: net.prototxt",
        "Solver scaffolding done.",
        "Starting Optimization",
        "Solving tiny",
        "Learning Rate Policy: step",
        "Iteration 0, Testing net (#0)",
        "    Test net output #0: loss = 0.04 (* 2 = 0.08 loss)",
        "Iteration 0, lr = 0.05",
        "Snapshotting to binary proto file tiny_iter_5.caffemodel",
        "Snapshotting solver state to binary proto file tiny_iter_5.solverstate",
        "Optimization Done.",
    ]
    positions = [lines.index(line) for line in wanted]
    assert positions == sorted(positions)
    assert any(re.fullmatch(r"Iteration 2 \(\S+ iter/s, \S+s/2 iters\), loss = \S+", line) for line in lines)
    structure = [line for line in lines if line.startswith(("ip", "Top shape", "Memory", "This network"))]
    assert "ip <- x" in structure and "ip -> ip" in structure and "Top shape: 4 3 (12)" in structure
    assert "relu -> ip (in-place)" in lines and "ip needs backward computation." in structure
    assert "This network produces output loss" in structure


def test_resume_and_weights(folder: Path) -> None:
    whole = caffe(folder, "train", "--solver=solver.prototxt")
    again = caffe(folder, "train", "--solver=solver.prototxt", "--snapshot=tiny_iter_5.solverstate")
    assert again.status == 0, again.stderr
    assert messages(again.stderr)[-2:] == ["Optimization Done."] * 2
    last = [row["loss"] for row in (parse_log(log.stderr)[1][-1] for log in (whole, again))]
    assert last[0] == pytest.approx(last[1], rel=1e-6)
    started = caffe(
        folder, "train", "--solver=solver.prototxt", "--weights=tiny_iter_5.caffemodel,tiny_iter_8.caffemodel"
    )
    assert [line for line in messages(started.stderr) if line.startswith("Finetuning")] == [
        "Finetuning from tiny_iter_5.caffemodel",
        "Finetuning from tiny_iter_8.caffemodel",
    ]
    both = caffe(folder, "train", "--solver=solver.prototxt", "--weights=a", "--snapshot=b")
    assert both.status == 2 and "not both" in both.stderr


def test_level_and_stage_are_for_the_train_net(folder: Path) -> None:
    lines = messages(caffe(folder, "train", "--solver=solver.prototxt", "--stage=more", "--level=2").stderr)
    assert lines.count("Creating Layer extra") == lines.count("Creating Layer deep") == 1
    lines = messages(caffe(folder, "time", "--model=net.prototxt", "--iterations=1", "--stage=more,other").stderr)
    assert "Creating Layer extra" in lines and "Creating Layer deep" not in lines


def test_test(folder: Path) -> None:
    caffe(folder, "train", "--solver=solver.prototxt")
    words = ("test", "--model=net.prototxt", "--weights=tiny_iter_8.caffemodel", "--iterations=3")
    done = caffe(folder, *words)
    assert done.status == 0, done.stderr
    lines = messages(done.stderr)
    begin = lines.index("Running for 3 iterations.")
    loss = float(lines[begin + 1].rpartition(" = ")[2])
    assert lines[begin + 1] == f"Batch 0, loss = {loss:g}"
    assert sum(line.startswith("Batch 2, scores = ") for line in lines) == 4
    total = next(number for number, line in enumerate(lines) if line.startswith("Loss: "))
    assert float(lines[total][6:]) == pytest.approx(2 * loss, rel=1e-5)
    mean = re.fullmatch(r"loss = (\S+) \(\* 2 = (\S+) loss\)", lines[total + 1])
    assert mean and float(mean[1]) == pytest.approx(loss) and float(mean[2]) == pytest.approx(2 * loss, rel=1e-5)
    assert len(lines) == total + 6  # and the four elements of "scores"
    assert caffe(folder, "test", "--model=net.prototxt").status == 2


def test_time(folder: Path) -> None:
    done = caffe(folder, "-model", "net.prototxt", "time", "-iterations", "2", "--phase", "TEST")
    assert done.status == 0, done.stderr
    lines = messages(done.stderr)
    shape = [
        "Performing Forward",
        "Initial loss: 0.08",
        "Performing Backward",
        "*** Benchmark begins ***",
        "Testing for 2 iterations.",
        r"Iteration: 1 forward-backward time: \S+ ms\.",
        r"Iteration: 2 forward-backward time: \S+ ms\.",
        "Average time per layer: ",
        r"         x\tforward: \S+ ms\.",
        r"        ip\tbackward: \S+ ms\.",
        r"Average Forward pass: \S+ ms\.",
        r"Average Backward pass: \S+ ms\.",
        r"Average Forward-Backward: \S+ ms\.",
        r"Total Time: \S+ ms\.",
        r"\*\*\* Benchmark ends \*\*\*",
    ]
    positions = []
    for pattern in shape:
        literal = pattern.replace("*** Benchmark begins ***", r"\*\*\* Benchmark begins \*\*\*")
        found = [number for number, line in enumerate(lines) if re.fullmatch(literal, line)]
        assert found, pattern
        positions.append(found[0])
    assert positions == sorted(positions)


def test_debug_info_of_the_solver(folder: Path) -> None:
    (folder / "solver.prototxt").write_text(SOLVER % "true")
    done = caffe(folder, "train", "--solver=solver.prototxt")
    stamped = [line for line in done.stderr.splitlines() if "[Forward]" in line or "[Backward]" in line]
    lines = messages("\n".join(stamped))
    values = [float(number) for line in lines for number in re.findall(r": (\S+)$", line)]
    assert all(math.isfinite(value) for value in values)
    # first iteration: w = 0.1, bias = 0, x = 1, target 0.5, loss_weight 2; d loss / d ip = 2 * (0.3 - 0.5) / 4 = -0.1
    expected = [
        "    [Forward] Layer ip, top blob ip data: 0.3",
        "    [Forward] Layer ip, param blob 0 data: 0.1",
        "    [Forward] Layer ip, param blob 1 data: 0",
        "    [Backward] Layer loss, bottom blob ip_relu_0_split_0 diff: 0.1",
        "    [Backward] Layer ip, param blob 0 diff: 0.4",
        "    [Backward] Layer ip, param blob 1 diff: 0.4",
        "    [Backward] All net params (data, diff): L1 norm = (0.6, 3.2); L2 norm = (0.244949, 1.13137)",
    ]
    plain = [line.replace("ip_relu_0_split_0", "ip") for line in lines]
    for line in expected:
        assert line.replace("ip_relu_0_split_0", "ip") in plain, (line, lines[:30])
    assert sum("All net params" in line for line in lines) == 4  # at the display iterations only
    assert [line[0] for line in stamped if "All net params" in line] == ["E"] * 4


def test_device_query_and_mistakes(folder: Path) -> None:
    assert caffe(folder, "device_query", "--gpu=999").status == 2
    help_ = caffe(folder)
    assert help_.status == 0 and "usage" in help_.stdout
    for words, reason in (
        (("bake",), "unknown command 'bake'"),
        (("train",), "--solver is needed"),
        (("time", "--model=absent.prototxt"), "absent.prototxt"),
        (("time", "--model=net.prototxt", "--phase=EVAL"), "expected TRAIN or TEST"),
        (("time", "--model=net.prototxt", "--iterations=-1"), "expected 0 or more"),
        (("train", "--solver=solver.prototxt", "--sigint_effect=explode"), "sigint_effect"),
    ):
        done = caffe(folder, *words)
        assert done.status == 2 and reason in done.stderr and "Traceback" not in done.stderr
    done = caffe(folder, "time", "--model=net.prototxt", "--iterations=1", "--snapshot=x")
    assert done.status == 0 and "--snapshot means nothing to 'caffe time'" in done.stderr


def test_python_layers_import_caffe(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "import caffe\n"
        "class Double(caffe.Layer):\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)\n"
        "    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data\n"
        "    def backward(self, top, propagate_down, bottom): bottom[0].diff[...] = 2 * top[0].diff\n"
    )
    layer = 'layer { name: "d" type: "Python" bottom: "ip" top: "d" python_param { module: "mine" layer: "Double" } }'
    (folder / "net.prototxt").write_text(NET.replace('bottom: "ip" bottom: "t"', 'bottom: "d" bottom: "t"').replace(
        'layer { name: "loss"', layer + '\nlayer { name: "loss"'))  # fmt: skip
    path = f"{ROOT}{os.pathsep}{folder}"
    done = end(start("caffe", "time", "--model=net.prototxt", "--iterations=1", folder=folder, PYTHONPATH=path))
    assert done.status == 0, done.stderr
    assert "Initial loss: 0.02" in messages(done.stderr)  # 2 * 1/2/4 * 8 * (0.6 - 0.5)^2
