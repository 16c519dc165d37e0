"""debug_info lines, and the log of a net's structure."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from caffe_compat.net import BlobNet, load_net
from caffe_compat.net.debug import DebugInfo, log_structure, memory_required

NET = """
name: "net" debug_info: true
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 }
  data_filler { type: "constant" value: -2 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" } param { lr_mult: 0 }
  inner_product_param { num_output: 3 weight_filler { type: "constant" value: 0.5 } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
  inner_product_param { num_output: 3 bias_term: false } }
layer { name: "r" type: "Reduction" bottom: "b" top: "r" loss_weight: 1 }
"""


@pytest.fixture
def engine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> BlobNet:
    (tmp_path / "net.prototxt").write_text(NET)
    caplog.set_level(logging.INFO, "caffe_compat")
    engine = BlobNet(load_net(tmp_path / "net.prototxt", phase="TRAIN"))
    DebugInfo(engine, engine.net.description.debug_info)
    return engine


def test_every_pass_is_logged(engine: BlobNet, caplog: pytest.LogCaptureFixture) -> None:
    engine.forward()
    assert [record.getMessage() for record in caplog.records] == [
        "    [Forward] Layer x, top blob x data: 2",
        "    [Forward] Layer a, top blob a data: 3",
        "    [Forward] Layer a, param blob w data: 0.5",
        "    [Forward] Layer a, param blob 1 data: 0",
        "    [Forward] Layer b, top blob b data: 4.5",
        "    [Forward] Layer b, param blob w data: 0.5",
        "    [Forward] Layer r, top blob r data: 27",
    ]
    caplog.clear()
    engine.backward()
    # d r / d b = 1; of w: 2 images * -3 from b, and 2 * 1.5 * -2 from a; the bias has lr_mult 0
    assert [record.getMessage() for record in caplog.records] == [
        "    [Backward] Layer r, bottom blob b diff: 1",
        "    [Backward] Layer b, bottom blob a diff: 1.5",
        "    [Backward] Layer b, param blob 0 diff: 6",
        "    [Backward] Layer a, param blob 0 diff: 12",
        "    [Backward] All net params (data, diff): L1 norm = (4.5, 108); L2 norm = (1.5, 36)",
    ]
    assert caplog.records[-1].levelno == logging.ERROR
    caplog.clear()
    engine.backward(3, 2)
    assert len(caplog.records) == 3 and "All net params" not in caplog.text
    (watcher,) = engine.observers
    watcher.enabled = False
    caplog.clear()
    engine.forward()
    assert not caplog.records


def test_structure(engine: BlobNet, caplog: pytest.LogCaptureFixture) -> None:
    log_structure(engine.net)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith('Initializing net from parameters: \nname: "net"\nstate {\n  phase: TRAIN')
    begin = lines.index("Creating Layer b")
    assert lines[begin - 1 : begin + 7] == [
        "Creating layer b",
        "Creating Layer b",
        "b <- a",
        "b -> b",
        "Setting up b",
        "Top shape: 2 3 (6)",
        "Memory required for data: 72",
        "Sharing parameters 'w' owned by layer 'a', param index 0",
    ]
    assert "    with loss weight 1" in lines and "x does not need backward computation." in lines
    assert lines[-2:] == ["This network produces output r", "Network initialization done."]
    assert memory_required(engine.net) == 76 and memory_required(engine.net, 2) == 48


def test_nothing_is_made_where_nobody_listens(engine: BlobNet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "caffe_compat")
    log_structure(engine.net)
    assert not caplog.records
