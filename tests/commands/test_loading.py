"""``--workers``, and what training says of waiting for data."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from data_files import write_images

from caffe_compat.batches.slots import can_share
from caffe_compat.commands import loading
from caffe_compat.commands.loading import Waiting, data_layers, set_workers
from caffe_compat.commands.training import TrainOptions, train
from caffe_compat.description import State, describe_net
from caffe_compat.errors import UsageError
from caffe_compat.net import Net
from caffe_compat.proto import read_net

NET = """
layer { name: "data" type: "ImageData" top: "data" top: "label"
  transform_param { mirror: true crop_size: 5 scale: 0.01 }
  image_data_param { source: "list.txt" batch_size: 2 shuffle: true } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 16
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)  # it would stay on for other tests
    write_images(tmp_path, 5)
    Path("net.prototxt").write_text(NET)
    Path("s.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 6 display: 2 snapshot: 6 random_seed: 5'
    )
    return tmp_path


@pytest.mark.skipif(not can_share(), reason="only Linux has what workers need")
def test_training_with_workers_gives_the_same_weights(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    text, made = Path("s.prototxt").read_text(), []
    for workers in ("0", "1"):
        caplog.clear()
        Path("s.prototxt").write_text(text + f' snapshot_prefix: "w{workers}/run"')
        assert train(TrainOptions(solver="s.prototxt", workers=workers)) == 0
        made.append(Path(f"w{workers}/run_iter_6.caffemodel").read_bytes())
        said = [record.getMessage() for record in caplog.records]
        assert sum("% of the time for data" in line for line in said) == 3
        assert any("% of the time" not in line and "Waited" in line and "layer 'data'" in line for line in said)
    assert made[0] == made[1]
    with pytest.raises(UsageError, match="--workers is 'many', expected 0"):
        train(TrainOptions(solver="s.prototxt", workers="many"))


def test_waiting_is_told_at_displays_and_once_what_helps(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    net = Net(describe_net(read_net("net.prototxt"), State("TRAIN")))
    (layer,) = data_layers([net])
    clock, shown = [100.0], []
    monkeypatch.setattr(loading.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(loading, "cores", lambda: 8)
    solver: Any = SimpleNamespace(net=net, test_nets=[], on_display=shown.append)
    Waiting(solver)
    for seconds, waited in ((10, 9.0), (10, 0.5), (20, 4.0), (10, 5.0)):
        clock[0] += seconds
        layer._prefetcher.waited += waited
        solver.on_display(0.1)
    said = [record.getMessage().strip() for record in caplog.records if "% of the time" in record.getMessage()]
    assert said == [
        "Waited 90.0 % of the time for data",  # the start, of which nothing follows
        "Waited 5.0 % of the time for data",
        "Waited 20.0 % of the time for data",
        "20 % of the time goes into waiting for layer 'data' (ImageData), read in threads of this process: try "
        "--workers 7, or more",
        "Waited 50.0 % of the time for data",
    ]
    assert shown == [0.1] * 4


@pytest.mark.parametrize(
    ("workers", "cores", "words"),
    [
        (2, 8, "read in 2 worker processes: try --workers 7, or more"),
        (1, 2, "read in 1 worker process, as many as this machine has cores for: smaller files would help"),
        (0, 1, "read in threads of this process, as many as this machine has cores for"),
    ],
)
def test_advice(folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int, cores: int, words: str) -> None:
    monkeypatch.setattr(loading, "cores", lambda: cores)
    net = Net(describe_net(read_net("net.prototxt"), State("TRAIN")))
    set_workers([net], str(workers))
    (layer,) = data_layers([net])
    assert loading.advice(layer).startswith(f"layer 'data' (ImageData), {words}")
    layer.read_ahead(0)
    assert loading.advice(layer) == "layer 'data' (ImageData), which is read in this process only"
