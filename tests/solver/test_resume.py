"""A run that was stopped and resumed ends with the bits of an uninterrupted one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from solver import noise_pairs

from caffe_compat.errors import SolverError
from caffe_compat.solver import Action, load_solver

NET = """
name: "pairs"
layer {{ name: "pairs" type: "PairedImageData" top: "data" top: "hha" include {{ phase: TRAIN }}
  paired_image_data_param {{ source: "{folder}/pairs.txt" batch_size: 2 crop_height: 12 crop_width: 10
    shuffle: true mirror: true mean_value: 100 mean_value: 110 mean_value: 120 }} }}
layer {{ name: "pairs" type: "PairedImageData" top: "data" top: "hha" include {{ phase: TEST }}
  paired_image_data_param {{ source: "{folder}/pairs.txt" batch_size: 1 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" param {{ lr_mult: 0 }} param {{ lr_mult: 0 }}
  convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "da_conv" type: "Convolution" bottom: "hha" top: "da_conv"
  convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "drop" type: "Dropout" bottom: "da_conv" top: "da_conv" }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "da_conv" bottom: "conv" top: "loss" loss_weight: 0.01 }}
layer {{ name: "ev" type: "ExplainedVariance" bottom: "da_conv" bottom: "conv" top: "ev" include {{ phase: TEST }} }}
"""
SOLVER = """
net: "{folder}/net.prototxt" test_iter: 3 test_interval: 4 base_lr: 0.001 lr_policy: "multistep" gamma: 0.1
stepvalue: 5 stepvalue: 9 momentum: 0.9 weight_decay: 0.0005 max_iter: 12 snapshot: {snapshot}
snapshot_prefix: "{folder}/{name}" random_seed: 7 type: "{type}" iter_size: 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return noise_pairs.write(tmp_path, NET, 5, (16, 14))


def _solver(folder: Path, name: str, snapshot: int = 0, rule: str = "SGD") -> Path:
    path = folder / f"{name}.prototxt"
    path.write_text(SOLVER.format(folder=folder, name=name, snapshot=snapshot, type=rule))
    return path


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_resume_is_bit_for_bit(folder: Path, rule: str) -> None:
    load_solver(_solver(folder, "whole", rule=rule)).solve()
    first = load_solver(_solver(folder, "parts", rule=rule))
    first.poll = lambda: Action.STOP if first.iter == 7 else Action.NONE
    first.solve()
    assert first.stopped_early and first.iter == 7
    second = load_solver(_solver(folder, "parts", rule=rule))
    second.solve(folder / "parts_iter_7.solverstate")
    for kind in ("caffemodel",):
        whole = (folder / f"whole_iter_12.{kind}").read_bytes()
        assert (folder / f"parts_iter_12.{kind}").read_bytes() == whole
    assert (folder / "parts_iter_12.solverstate").read_bytes().replace(b"parts", b"whole") == (
        folder / "whole_iter_12.solverstate"
    ).read_bytes()


def test_frozen_teacher_stays_and_student_learns(folder: Path) -> None:
    solver = load_solver(_solver(folder, "frozen"))
    before = {name: [b.detach().clone() for b in solver.net.layer(name).blobs] for name in ("conv", "da_conv")}
    solver.step(3)
    after = {name: solver.net.layer(name).blobs for name in before}
    assert all(a.equal(b) for a, b in zip(before["conv"], after["conv"], strict=True))
    assert not before["da_conv"][0].equal(after["da_conv"][0])
    assert not any(blob.requires_grad for blob in after["conv"])


def test_scores_of_a_test_cover_it_whole(folder: Path) -> None:
    solver = load_solver(_solver(folder, "scores"))
    solver.param.test_iter[0] = 5
    (scores,) = solver.test_all()
    engine, predictions, targets = solver.test_engines[0], [], []
    for node in engine.net.nodes:
        if node.type == "PairedImageData":
            node.layer.seek(0)  # type: ignore[operator]
    for _ in range(5):
        engine.forward()
        predictions.append(engine.blob("da_conv").tensor.clone().numpy())
        targets.append(engine.blob("conv").tensor.clone().numpy())
    prediction, target = np.concatenate(predictions).astype(np.float64), np.concatenate(targets).astype(np.float64)
    spread = ((target - target.mean((0, 2, 3), keepdims=True)) ** 2).sum()
    assert scores["ev"] == pytest.approx(1 - ((prediction - target) ** 2).sum() / spread, rel=1e-5)


def test_state_of_another_net_is_refused(folder: Path) -> None:
    solver = load_solver(_solver(folder, "adam", rule="Adam"))
    solver.step(1)
    _, state = solver.snapshot()
    other = load_solver(_solver(folder, "sgd"))
    weights = other.net.layer("da_conv").blobs[0].detach().clone()
    with pytest.raises(SolverError, match=r"adam_iter_1\.solverstate.*history"):
        other.restore(state)
    assert other.net.layer("da_conv").blobs[0].equal(weights) and other.iter == 0
