"""Lines that Caffe logs while a solver is made, in its words, with its source lines, in its order."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from caffe_compat.proto import caffe_pb2, parse_text
from caffe_compat.solver import Solver, load_solver, solver_class

NET = """
name: "n"
layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "scale" type: "Scale" bottom: "x" top: "x" scale_param { bias_term: true } }
layer { name: "plain" type: "Scale" bottom: "x" top: "x" include { phase: TRAIN min_level: 0 } }
layer { name: "low" type: "ReLU" bottom: "x" top: "x" include { min_level: 3 } include { phase: TEST } }
layer { name: "high" type: "ReLU" bottom: "x" top: "x" exclude { max_level: -1 } exclude { not_stage: "a" } }
layer { name: "staged" type: "ReLU" bottom: "x" top: "x" include { stage: "a" stage: "b" } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "y" top: "loss" }
"""
SOLVER = 'base_lr: 0.1 lr_policy: "fixed" test_iter: 1 test_interval: 5 train_state { stage: "a" } random_seed: 1 '


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.source}] {record.getMessage()}" for record in caplog.records]  # type: ignore[attr-defined]


def make(net: str = NET) -> Solver:
    param = parse_text(f"{SOLVER} net_param {{ {net} }}", caffe_pb2.SolverParameter)
    return solver_class(param)(param)


def test_what_is_left_out_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "caffe_compat")
    make()
    found = [line for line in lines(caplog) if any(word in line for word in ("specified", "Initializing net"))]
    found = [line.partition("\n")[0] for line in found]
    where = "specified by a rule in layer"
    assert found == [
        "solver.cpp:82] Creating training net specified in net_param.",
        f"net.cpp:304] The NetState level (0) is above the min_level (3) {where} low",
        f"net.cpp:294] The NetState phase (0) differed from the phase (1) {where} low",
        f"net.cpp:314] The NetState level (0) is above the max_level (-1) {where} high",
        f"net.cpp:345] The NetState contained a not_stage 'a' {where} high",
        f"net.cpp:330] The NetState did not contain stage 'b' {where} staged",
        "net.cpp:51] Initializing net from parameters: ",
        "solver.cpp:172] Creating test net (#0) specified by net_param",
        f"net.cpp:294] The NetState phase (1) differed from the phase (0) {where} plain",
        f"net.cpp:304] The NetState level (0) is above the min_level (3) {where} low",
        f"net.cpp:314] The NetState level (0) is above the max_level (-1) {where} high",
        f"net.cpp:330] The NetState did not contain stage 'a' {where} staged",
        "net.cpp:51] Initializing net from parameters: ",
    ]


def test_layers_inside_layers_are_created_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "caffe_compat")
    make()
    begin = lines(caplog).index("net.cpp:84] Creating Layer loss")
    assert lines(caplog)[begin - 1 : begin + 6] == [
        "layer_factory.hpp:77] Creating layer loss",
        "net.cpp:84] Creating Layer loss",
        "net.cpp:406] loss <- x",
        "net.cpp:406] loss <- y",
        "net.cpp:380] loss -> loss",
        "layer_factory.hpp:77] Creating layer loss",
        "net.cpp:122] Setting up loss",
    ]
    created = [line.rpartition(" ")[2] for line in lines(caplog) if "Creating layer" in line]
    train = created[: created.index("x", 1)]
    assert train == ["x", "scale", "scale", "plain", "high", "loss", "loss"]


def test_snapshot_prefix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "caffe_compat")
    path = tmp_path / "s.prototxt"
    for given, line in (
        ("", f"upgrade_proto.cpp:1108] snapshot_prefix was not specified and is set to {tmp_path}/s"),
        (
            f'snapshot_prefix: "{tmp_path}"',
            f"upgrade_proto.cpp:1113] snapshot_prefix was a directory and is replaced to {tmp_path}/s",
        ),
    ):
        caplog.clear()
        path.write_text(f"{SOLVER} {given} net_param {{ {NET} }}")
        assert load_solver(path).param.snapshot_prefix == f"{tmp_path}/s"
        assert lines(caplog)[0] == line
    caplog.clear()
    path.write_text(f'{SOLVER} snapshot_prefix: "x" net_param {{ {NET} }}')
    load_solver(path)
    assert not any(line.startswith("upgrade_proto") for line in lines(caplog))
