"""Nets that are trained on labelled flow: UCF101's classifier, and R-CNN as ActionTubes has it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT

from caffe_compat.net import load_net
from caffe_compat.proto import read_net, read_solver

ZOO = ROOT / "prototxt"


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Flow of 3 pixels to the right on the left and none on the right, where the nets expect their pictures."""
    monkeypatch.chdir(tmp_path)
    for folder in ("output/jhmdb", "data/ucf101/pairs/lists"):
        (tmp_path / folder).mkdir(parents=True)
    picture = np.full((240, 320, 3), 128, np.uint8)
    picture[:, :160, 2] = picture[:, :160, 0] = 128 + 48
    for folder in ("output", "data/ucf101/pairs"):
        cv2.imwrite(f"{folder}/flow.png", picture)
    for part in ("train", "val"):
        Path(f"data/ucf101/pairs/lists/split1_flow_{part}.txt").write_text("flow.png 100\n")
    windows = "# 0\noutput/flow.png\n3 240 320\n2\n21 0.9 80 60 239 179\n0 0.1 0 0 99 99\n"
    for part in ("train", "test"):
        Path(f"output/jhmdb/window_flow_{part}.txt").write_text(windows)
    return tmp_path


def convolutions(path: Path) -> list[tuple[int, int, int, int, int, float]]:
    found = []
    for layer in read_net(path).layer:
        if layer.type == "Convolution":
            param = layer.convolution_param
            first = [list(value)[0] if value else usual for value, usual in ((param.stride, 1), (param.pad, 0))]
            found.append((param.num_output, param.kernel_size[0], *first, param.group, param.bias_filler.value))
    return found


@pytest.mark.parametrize("file", ["deploy.prototxt", "train_val.prototxt"])
def test_the_net_of_actiontubes(file: str) -> None:
    assert convolutions(ZOO / "actiontubes" / file) == [
        (96, 7, 2, 0, 1, 0),
        (384, 5, 2, 0, 2, 1),
        (512, 3, 1, 1, 1, 0),
        (512, 3, 1, 1, 2, 1),
        (384, 3, 1, 1, 2, 1),
    ]
    products = {x.name: x for x in read_net(ZOO / "actiontubes" / file).layer if x.type == "InnerProduct"}
    assert [layer.inner_product_param.num_output for layer in products.values()] == [4096, 4096, 22]
    assert [spec.lr_mult for spec in products["fc8_jhmdb"].param] == [10, 20]
    with torch.device("meta"):
        shapes = load_net(ZOO / "actiontubes" / "deploy.prototxt").blob_shapes
    assert shapes["pool5"] == (10, 384, 6, 6) and shapes["prob"] == (10, 22)


@pytest.mark.usefixtures("flow")
@pytest.mark.parametrize(("folder", "batches"), [("ucf101_flow", (128, 50)), ("actiontubes", (128, 128))])
def test_the_training_nets_build_and_turn_flow_in_a_mirror(folder: str, batches: tuple[int, int]) -> None:
    for phase, batch in zip(("TRAIN", "TEST"), batches, strict=True):
        net = load_net(ZOO / folder / "train_val.prototxt", phase=phase)
        assert net.blob_shapes["data"] == (batch, 3, 227, 227) and "loss" in net.output_names
        assert ("accuracy" in net.output_names) == (phase == "TEST")
        pixels, labels = net.layer("data")()
        assert labels.max() == (100 if folder == "ucf101_flow" else 21) and pixels.abs().max() <= 48
        lowest = pixels[:, 2].amin().item()
        assert lowest == (-48 if phase == "TRAIN" else 0), "x of mirrored pictures, which only training has"
        assert pixels[:, 0].amin().item() == 0, "the magnitude stays"


@pytest.mark.parametrize(
    ("folder", "iterations", "step"), [("ucf101_flow", 50_000, 20_000), ("actiontubes", 2000, 10_000)]
)
def test_solvers(folder: str, iterations: int, step: int) -> None:
    solver = read_solver(ZOO / folder / "solver.prototxt")
    assert solver.net == f"prototxt/{folder}/train_val.prototxt" and (solver.max_iter, solver.stepsize) == (
        iterations,
        step,
    )
    assert (round(solver.base_lr, 6), solver.lr_policy, solver.gamma) == (0.001, "step", pytest.approx(0.1))
    assert list(solver.weights) == (
        ["data/init_models/CaffeNet/CaffeNet.v2.caffemodel"] if folder == "ucf101_flow" else []
    )


def test_the_classifier_of_flow_is_caffenet_with_101_outputs() -> None:
    ours, theirs = (
        {layer.name: layer for layer in read_net(ZOO / net / "train_val.prototxt").layer if layer.param}
        for net in ("ucf101_flow", "caffenet")
    )
    assert ours.pop("fc8_ucf101").inner_product_param.num_output == 101
    assert theirs.pop("fc8") and ours == theirs
