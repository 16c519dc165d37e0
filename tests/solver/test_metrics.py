"""PREFIX_metrics.jsonl: what a run writes, what a resumed one drops, and what a damaged file gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffe_compat.commands import train_net
from caffe_compat.commands.caffe_actions import CaffeOptions
from caffe_compat.commands.caffe_actions import caffe as run_caffe
from caffe_compat.errors import DataError, MissingFileError, SolverError
from caffe_compat.solver import Action, load_solver, lock
from caffe_compat.solver.metrics import Metrics, metrics_path, read_metrics, record_metrics

NET = """
name: "line"
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 dim: 3 }
  data_filler { type: "gaussian" std: 1 } } }
layer { name: "y" type: "DummyData" top: "y" dummy_data_param { shape { dim: 4 dim: 60 }
  data_filler { type: "constant" value: 1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 60
  weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "y" top: "loss" }
layer { name: "wide" type: "Power" bottom: "fc" top: "wide" include { phase: TEST } }
layer { name: "few" type: "Reduction" bottom: "fc" top: "few" reduction_param { axis: 1 } include { phase: TEST } }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "multistep" gamma: 0.1 stepvalue: 6 momentum: 0.9 display: 2
max_iter: 10 snapshot: 4 test_iter: 2 test_interval: 5 random_seed: 7 snapshot_prefix: "run"
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)


def _timeless(path: str | Path = "run_metrics.jsonl") -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != "seconds"} for one in read_metrics(path)]


def test_every_display_and_test_is_a_line() -> None:
    solver = load_solver("solver.prototxt")
    record_metrics(solver, {"solver": "solver.prototxt"})
    shown: list[float] = []
    solver.on_iteration = lambda iteration, loss: shown.append(loss)
    assert not Path("run_metrics.jsonl").exists()  # not before the run holds its lock
    solver.solve()
    records = read_metrics(metrics_path("run"))
    assert [(one["phase"], one["iteration"]) for one in records] == [
        ("start", 0), ("test", 0), ("train", 0), ("train", 2), ("train", 4), ("test", 5), ("train", 6), ("train", 8),
        ("test", 10),
    ]  # fmt: skip
    first = {key: records[0][key] for key in ("solver", "random_seed", "max_iter", "device", "torch", "threads")}
    assert first == {
        "solver": "solver.prototxt", "random_seed": 7, "max_iter": 10, "device": "cpu", "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    train = [one for one in records if one["phase"] == "train"]
    assert [one["loss"] for one in train] == shown[::2] and [one["outputs"]["loss"] for one in train] == shown[::2]
    assert [one["lr"] for one in train] == pytest.approx([0.01, 0.01, 0.01, 0.001, 0.001])
    seconds = [one["seconds"] for one in records[1:]]
    assert seconds == sorted(seconds) and seconds[0] >= 0


def test_scores_of_a_test_are_its_means_and_large_outputs_are_left_out() -> None:
    solver = load_solver("solver.prototxt")
    record_metrics(solver, {})
    solver.solve()
    (last,) = (one for one in read_metrics("run_metrics.jsonl") if one["phase"] == "test" and one["iteration"] == 10)
    again = load_solver("solver.prototxt")
    again.restore("run_iter_10.solverstate")
    (scores,) = again.test_all()
    assert set(scores) == {"loss", "wide", "few"} and set(last["scores"]) == {"loss", "few"}  # wide: 240 numbers
    assert last["scores"]["loss"] == pytest.approx(scores["loss"]) and last["loss"] == pytest.approx(scores["loss"])
    np.testing.assert_allclose(last["scores"]["few"], scores["few"])
    assert last["net"] == 0


@pytest.mark.parametrize("stop", [4, 7])
def test_a_resumed_run_writes_the_lines_of_an_uninterrupted_one(stop: int) -> None:
    assert train_net.main(["--solver", "solver.prototxt"]) == 0
    whole = _timeless()
    solver = load_solver("solver.prototxt")
    record_metrics(solver, {"solver": "solver.prototxt", "weights": []})
    solver.poll = lambda: Action.STOP if solver.iter == 9 else Action.NONE
    solver.solve()
    killed = Path("run_metrics.jsonl").read_bytes()
    assert {one["iteration"] for one in _timeless()} == {0, 2, 4, 5, 6, 8}  # of the second run alone
    Path("run_metrics.jsonl").write_bytes(killed + b'{"phase": "train", "iterat')
    for path in Path().glob("run_iter_*.solverstate"):
        path.unlink() if path.name != "run_iter_4.solverstate" else None
    assert train_net.main(["--solver", "solver.prototxt", "--resume"]) == 0
    records = _timeless()
    again = records.pop(next(i for i, one in enumerate(records) if one["phase"] == "start" and i))
    assert again["iteration"] == 4 and records == whole
    assert read_metrics("run_metrics.jsonl")[-1]["seconds"] > 0


def test_seconds_go_on_where_the_lines_that_stay_end() -> None:
    lines = [{"phase": "train", "iteration": i, "loss": 1.0, "lr": 1.0, "outputs": {}, "seconds": 100.0 * i}
             for i in range(5)]  # fmt: skip
    Path("m").write_text("".join(json.dumps(line) + "\n" for line in lines))
    metrics = Metrics("m", 3)
    assert 200 <= metrics.seconds < 260
    metrics.append({"phase": "train", "iteration": 3})
    assert [one["iteration"] for one in read_metrics("m")] == [0, 1, 2, 3]


def test_numbers_that_are_not_finite_are_null() -> None:
    Metrics("m", 0).append({"phase": "test", "iteration": 0, "loss": float("nan"), "scores": {"a": np.array(np.inf)}})
    text = Path("m").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert read_metrics("m") == [{"phase": "test", "iteration": 0, "loss": None, "scores": {"a": None}}]


@pytest.mark.parametrize(
    "line",
    [
        "?",
        "[1]",
        '{"phase": "train"}',
        '{"phase": "x", "iteration": 1}',
        '{"phase": "test", "iteration": "1"}',
        '{"phase": "test", "iteration": -1}',
        '{"phase": "test", "iteration": true}',
        '{"phase": "test", "iteration": 1, "loss": "low"}',
        '{"phase": "test", "iteration": 1, "loss": NaN}',
        '{"phase": "test", "iteration": 1, "loss": 1e999}',
        '{"phase": "test", "iteration": 1, "scores": [1]}',
        '{"phase": "test", "iteration": 1, "scores": {"a": "b"}}',
        '{"phase": "start", "iteration": 1, "threads": 1.5}',
        '{"phase": "start", "iteration": 1, "device": 7}',
    ],
)
def test_a_damaged_line_is_named_and_ends_what_a_resumed_run_keeps(line: str) -> None:
    good = '{"phase": "train", "iteration": 1}\n'
    Path("m").write_text(good + line + "\n" + good)
    with pytest.raises(DataError, match=r"^m: line 2: expected an object with phase, iteration"):
        read_metrics("m")
    Metrics("m", 9).append({"phase": "train", "iteration": 9})
    assert [one["iteration"] for one in read_metrics("m")] == [1, 9]
    with pytest.raises(MissingFileError, match="nowhere"):
        read_metrics("nowhere")


def test_who_writes_none() -> None:
    """A run without snapshots has no place of its own; Caffe's own command writes what Caffe writes."""
    text = SOLVER.replace("snapshot: 4", "snapshot: 0 snapshot_after_train: false")
    Path("solver.prototxt").write_text(text)
    assert train_net.main(["--solver", "solver.prototxt"]) == 0
    Path("solver.prototxt").write_text(SOLVER)
    assert run_caffe("train", CaffeOptions(solver="solver.prototxt")) == 0
    assert not Path("run_metrics.jsonl").exists() and Path("run_iter_10.caffemodel").exists()


def test_a_second_run_of_one_prefix_leaves_the_file_of_the_first() -> None:
    Path("run_metrics.jsonl").write_text("of the first\n")
    solver = load_solver("solver.prototxt")
    record_metrics(solver, {})
    with lock.hold("run"), pytest.raises(SolverError, match="holds run.lock"):
        solver.solve()
    assert Path("run_metrics.jsonl").read_text() == "of the first\n"
