"""Weights of another net are refused; weights that fit in part are told in one line."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from caffe_compat.commands.caffe_actions import CaffeOptions, caffe
from caffe_compat.errors import WeightsError
from caffe_compat.net import Net, load_net
from caffe_compat.pycaffe import TEST
from caffe_compat.pycaffe import Net as PycaffeNet

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }'
POOL = 'layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }'


def ip(*names: str, param: str = "") -> str:
    """A chain of InnerProduct layers, 3 -> 3."""
    text = INPUT
    for bottom, name in zip(("data", *names), names, strict=False):
        text += (
            f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {param} inner_product_param'
            ' { num_output: 3 bias_term: false weight_filler { type: "gaussian" std: 1 } } }'
        )
    return text


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "caffe_compat")


def saved(name: str, text: str, ending: str = ".caffemodel") -> Net:
    Path(f"{name}.prototxt").write_text(text)
    net = load_net(f"{name}.prototxt")
    if ending == ".h5":
        net.save_hdf5(f"{name}.h5")
    else:
        net.save(f"{name}{ending}")
    return net


@pytest.mark.parametrize("ending", [".caffemodel", ".h5"])
def test_the_file_of_another_net_is_refused(ending: str) -> None:
    saved("net", ip("a", "b"))
    saved("other", ip("x", "y"), ending)
    message = rf"other\{ending}: no layer of this file fits net '': the file has 'x', 'y', the net has 'a', 'b'"
    with pytest.raises(WeightsError, match=message):
        load_net("net.prototxt", f"other{ending}")
    with pytest.raises(WeightsError, match=message):  # one of two
        load_net("net.prototxt", ["net.caffemodel", f"other{ending}"])


def test_layers_without_parameters_do_not_count() -> None:
    """Every net has a layer "data"."""
    saved("net", ip("a"))
    saved("empty", INPUT + POOL)
    with pytest.raises(WeightsError, match="the file has no parameters, the net has 'a'"):
        load_net("net.prototxt", "empty.caffemodel")
    with pytest.raises(WeightsError, match="the file has 'a', the net has no parameters"):
        load_net("empty.prototxt", "net.caffemodel")
    load_net("empty.prototxt", "empty.caffemodel")


def test_a_partly_fitting_file_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    first = saved("net", ip("a", "b", "c"))
    saved("other", ip("b", "d", "e"))
    saved("third", ip("e", "c"))
    caplog.clear()
    net = load_net("other.prototxt", "net.caffemodel")
    assert torch.equal(net.layer("b").blob(0), first.layer("b").blob(0))
    assert caplog.messages == [
        "net.caffemodel: fits net '' in part, 1 of 3 layers with weights: the net has no layer 'a', 'c'; there are no "
        "weights for 'd', 'e', which keep what they had"
    ]
    caplog.clear()
    load_net("net.prototxt", ["net.caffemodel", "other.caffemodel"])
    assert caplog.messages == [
        "net.caffemodel, other.caffemodel: fits net '', 3 of 3 layers with weights: the net has no layer 'd', 'e'"
    ]
    caplog.clear()
    load_net("net.prototxt", ["other.caffemodel", "third.caffemodel"])
    (line,) = caplog.messages
    assert line.endswith("there are no weights for 'a', which keep what they had")


@pytest.mark.parametrize("ending", [".caffemodel", ".h5"])
def test_a_fitting_file_is_no_line(caplog: pytest.LogCaptureFixture, ending: str) -> None:
    saved("net", ip("a", "b", param='param { name: "w" }') + POOL, ending)  # b owns nothing, HDF5 stores it once
    caplog.clear()
    load_net("net.prototxt", f"net{ending}")
    assert [line for line in caplog.messages if line != "Datatype class: H5T_FLOAT"] == []  # Caffe's, once a process


def test_caffes_own_programs_go_on(caplog: pytest.LogCaptureFixture) -> None:
    saved("net", ip("a"))
    saved("other", ip("x"))
    caplog.clear()
    PycaffeNet("net.prototxt", "other.caffemodel", TEST)
    assert "Ignoring source layer x" in caplog.messages
    assert any("nothing was copied" in line for line in caplog.messages)
    caplog.clear()
    assert caffe("test", CaffeOptions(model="net.prototxt", weights="other.caffemodel", iterations=1)) == 0
    assert "Ignoring source layer x" in caplog.messages
