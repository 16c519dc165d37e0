"""``--amp`` of what trains: given on, recorded, and part of the command that goes on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from caffe_compat.commands import train_net, transfer
from caffe_compat.commands.caffe_actions import CaffeOptions
from caffe_compat.commands.caffe_actions import caffe as run_caffe
from caffe_compat.commands.training import TrainOptions, train
from caffe_compat.errors import UsageError
from caffe_compat.proto.state import read_state
from caffe_compat.solver import Action
from caffe_compat.solver.metrics import read_metrics
from caffe_compat.solver.signals import SignalHandler
from caffe_compat.transfer.runs import read_run

NET = """
layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 2 }
  data_filler { type: "gaussian" } data_filler { type: "constant" value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)
    Path("net.prototxt").write_text(NET)
    Path("s.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 4 snapshot: 2 display: 2 '
        'snapshot_prefix: "run" random_seed: 5'
    )


def _weights() -> bytes:
    return Path("run_iter_4.caffemodel").read_bytes()


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_it_is_recorded_and_changes_the_weights(amp: str) -> None:
    train_net.main(["--solver", "s.prototxt", "--no-tensorboard"])
    plain, known = _weights(), read_run("run_metrics.jsonl")
    assert "amp" not in read_metrics("run_metrics.jsonl")[0]
    assert read_state("run_iter_4.solverstate").loss_scale is None
    train_net.main(["--solver", "s.prototxt", "--no-tensorboard", "--amp", amp])
    assert _weights() != plain and read_metrics("run_metrics.jsonl")[0]["amp"] == amp
    scale = read_state("run_iter_4.solverstate").loss_scale
    assert (scale is None) == (amp == "bf16") and (scale is None or 1 < scale[0] <= 65536)
    assert read_run("run_metrics.jsonl").setting != known.setting  # no other seed of the same


def test_a_stopped_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SignalHandler, "poll", lambda self: Action.STOP)
    train(TrainOptions(solver="s.prototxt", amp="bf16", tensorboard=False))
    assert "--amp bf16" in capsys.readouterr().out


def test_a_run_in_float16_that_goes_on_without_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    train(TrainOptions(solver="s.prototxt", amp="fp16", tensorboard=False, iters=2))
    with caplog.at_level(logging.WARNING, "caffe_compat"):
        train(TrainOptions(solver="s.prototxt", snapshot="run_iter_2.solverstate", amp="fp16", tensorboard=False))
        assert "float16" not in caplog.text
        train(TrainOptions(solver="s.prototxt", snapshot="run_iter_2.solverstate", tensorboard=False))
    assert "run_iter_2.solverstate was trained in float16 (amp fp16)" in caplog.text


def test_caffe_train_takes_it_too() -> None:
    run_caffe("train", CaffeOptions(solver="s.prototxt"))
    plain = _weights()
    run_caffe("train", CaffeOptions(solver="s.prototxt", amp="bf16"))
    assert _weights() != plain
    with pytest.raises(UsageError, match="amp is 'half', expected bf16 or fp16"):
        run_caffe("train", CaffeOptions(solver="s.prototxt", amp="half"))


def test_other_kinds_are_refused() -> None:
    for main, words in ((train_net.main, ["--solver", "s.prototxt"]), (transfer.main, [])):
        with pytest.raises(UsageError, match="--amp: invalid choice: 'fp8'"):
            main([*words, "--amp", "fp8"])
