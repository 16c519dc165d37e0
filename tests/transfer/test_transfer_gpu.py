"""Supervision transfer with ``--gpu 0``: from pairs to a student, a franken net and an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gpu import DEVICE, needs_gpu, same, weights_in
from transfer.boxed_nets import write_boxed_nets, write_proposals
from transfer.tiny_nets import write_nets, write_pairs, write_teacher

from caffe_compat.commands import make_transfer, measure_scale, transfer
from caffe_compat.net import load_net
from caffe_compat.transfer.scale import load_branch, measure_norms

pytestmark = needs_gpu
NETS = ["--teacher", "teacher.prototxt", "--teacher-weights", "teacher.caffemodel", "--student", "student.prototxt"]
WHAT = [*NETS, "--layer", "pool1", "--student-layer", "c2", "--image-size", "40", "48"]
LISTS = ["--source", "pairs/train_pairs.txt", "--val-source", "pairs/val_pairs.txt"]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)
    write_nets(tmp_path)
    write_pairs(tmp_path / "pairs", count=6)
    write_teacher(tmp_path)


def test_the_measured_start_is_that_of_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for folder, gpu in (("gpu", "0"), ("cpu", "-1")):
        words = [*WHAT, *LISTS, "--gpu", gpu, "--sweep", "12", "--max-iter", "6"]
        assert make_transfer.main([*words, "--output", folder]) == 0
        told.append(capsys.readouterr().out)
    texts = [Path(folder, "solver.prototxt").read_text() for folder in ("gpu", "cpu")]
    rates = [[line for line in text.splitlines() if line.startswith(("base_lr", "clip"))] for text in texts]
    assert rates[0] == rates[1], told


def test_the_whole_transfer() -> None:
    words = [*WHAT, *LISTS, "--gpu", "0", "--sweep", "12", "--output", "out"]
    words += ["--max-iter", "12", "--snapshot", "8", "--test-interval", "6", "--display", "4"]
    assert transfer.main(words) == 0
    for name in ("student.onnx", "franken.onnx", "franken.caffemodel", "transfer_iter_12.caffemodel"):
        assert Path("out", name).stat().st_size > 0
    weights = load_net("out/train_val.prototxt", "out/transfer_iter_12.caffemodel", "TRAIN")
    Path("out/transfer_iter_12.solverstate").unlink()
    assert transfer.main(words) == 0  # goes on from iteration 8
    again = load_net("out/train_val.prototxt", "out/transfer_iter_12.caffemodel", "TRAIN")
    for (name, got), wanted in zip(again.named_parameters(), weights.parameters(), strict=True):
        same(name, got, wanted, 1e-3)


def test_measuring_the_scale(capsys: pytest.CaptureFixture[str]) -> None:
    images = [f"pairs/a{index}.png" for index in range(6)]
    net = load_branch("teacher.prototxt", "teacher.caffemodel", ["pool1"])
    on_cpu = measure_norms(net, ["pool1"], images, progress=False)["pool1"]
    on_gpu = measure_norms(net.to(DEVICE), ["pool1"], images, progress=False)["pool1"]
    assert on_gpu.mean == pytest.approx(on_cpu.mean, rel=1e-5)
    Path("images.txt").write_text("\n".join(images))
    words = ["--model", "teacher.prototxt", "--weights", "teacher.caffemodel", "--blob", "pool1", "--gpu", "0"]
    assert measure_scale.main([*words, "--images", "images.txt", "--quiet"]) == 0
    told = capsys.readouterr().out.partition("mean norm ")[2].partition(",")[0]
    assert float(told) == pytest.approx(on_cpu.mean, rel=1e-5)


def test_a_teacher_of_torchvision() -> None:
    pytest.importorskip("torchvision")
    write_pairs(Path("large"), count=4, size=(96, 128))
    words = ["--teacher", "torchvision:squeezenet1_1@features.2", "--teacher-weights", "random"]
    words += ["--student", "student.prototxt", "--student-layer", "c2", "--output", "foreign", "--gpu", "0"]
    words += ["--source", "large/train_pairs.txt", "--val-source", "large/val_pairs.txt", "--sweep", "6"]
    assert transfer.main([*words, "--max-iter", "4", "--snapshot", "4", "--test-interval", "4"]) == 0
    assert all(np.isfinite(values).all() for values in weights_in(Path("foreign/transfer_iter_4.caffemodel")))
    assert Path("foreign/student.onnx").stat().st_size > 0


def test_features_over_boxes() -> None:
    write_boxed_nets(Path())
    write_proposals(Path("boxes.npz"), 6)
    words = ["--teacher", "boxed_teacher.prototxt", "--teacher-weights", "boxed_teacher.caffemodel", *LISTS]
    words += ["--student", "boxed_student.prototxt", "--layer", "conv2", "fc7", "--proposals", "boxes.npz"]
    words += ["--gpu", "0", "--sweep", "12", "--output", "boxed", "--max-iter", "6", "--test-interval", "3"]
    assert transfer.main(words) == 0
    assert all(np.isfinite(values).all() for values in weights_in(Path("boxed/transfer_iter_6.caffemodel")))
    nets = [load_net("boxed/train_val.prototxt", "boxed/transfer_iter_6.caffemodel", "TEST") for _ in range(2)]
    nets[1].to(DEVICE)
    names = ["rois", "fc7", "adapt_fc7", "loss_fc7", "explained_variance_fc7"]
    with torch.no_grad():
        on_cpu, on_gpu = (net(blobs=names) for net in nets)
    for name in names:
        same(name, on_gpu[name], on_cpu[name], 1e-3)
