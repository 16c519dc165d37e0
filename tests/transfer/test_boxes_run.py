"""Transfer over boxes from pairs to a detector: one command, on from a snapshot, and fine-tuning of what it learned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import needs
from detection.small_run import write_run
from transfer.boxed_nets import write_boxed_nets
from transfer.tiny_nets import write_pairs

from caffe_compat.commands import make_detection, make_hha, make_transfer, train_net, transfer
from caffe_compat.net import load_net
from caffe_compat.proto import read_net, read_solver
from caffe_compat.solver.rules import solver_class

STUDENT = ["da_conv1", "da_conv2", "da_conv3", "da_conv4", "da_conv5", "da_fc6", "da_fc7"]
DETECTORS = ["--teacher", "caffenet/test.prototxt", "--teacher-weights", "random"]
DETECTORS += ["--student", "caffenet_hha/train.prototxt", "--source", "pairs/train_pairs.txt"]
DETECTORS += ["--val-source", "pairs/val_pairs.txt", "--proposals", "builtin"]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)


def test_one_command_goes_on_from_a_snapshot_with_the_same_boxes() -> None:
    write_boxed_nets(Path())
    write_pairs(Path("pairs"), count=6, lists=("all",))
    nets = ["--teacher", "boxed_teacher.prototxt", "--student", "boxed_student.prototxt"]
    what = [
        "--pairs",
        "pairs/all_pairs.txt",
        "--hold-out",
        "3",
        "--layer",
        "fc7",
        "--output",
        "out",
        "--crop",
        "32",
        "40",
    ]
    boxes = ["--proposals", "builtin", "--boxes-per-image", "10"]
    short = ["--max-iter", "6", "--snapshot", "4", "--test-interval", "6", "--sweep", "12"]
    words = [*nets, "--teacher-weights", "boxed_teacher.caffemodel", *what, *boxes, *short]
    assert transfer.main(words) == 0
    for name in ("student.onnx", "franken.onnx", "franken.caffemodel", "proposals.npz", "transfer_iter_6.caffemodel"):
        assert Path("out", name).stat().st_size > 0
    weights = Path("out/transfer_iter_6.caffemodel").read_bytes()
    Path("out/transfer_iter_6.solverstate").unlink()
    assert transfer.main(words) == 0  # goes on from iteration 4
    assert Path("out/transfer_iter_6.caffemodel").read_bytes() == weights


def test_a_detector_takes_all_that_a_transfer_at_fc7_learned(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path())
    write_pairs(Path("pairs"), count=3, size=(96, 128))
    for net in ("caffenet", "caffenet_hha"):
        words = ["--net", net, "--classes", "19", "--folder", net, "--hidden", "16", "--scales", "64"]
        assert make_detection.main(words) == 0
    short = ["--max-iter", "2", "--test-interval", "2", "--sweep", "0", "--boxes-per-image", "8"]
    assert make_transfer.main([*DETECTORS, *short, "--layer", "fc7", "--output", "out"]) == 0
    assert train_net.main(["--solver", "out/solver.prototxt", "--gpu", "-1"]) == 0
    learned = load_net("out/student_deploy.prototxt", "out/transfer_iter_2.caffemodel")

    solver = Path("caffenet_hha/solver.prototxt")
    solver.write_text(solver.read_text().replace("base_lr: 0.001", "base_lr: 1e-30"))  # what is loaded stays
    words = ["--solver", str(solver), "--weights", "out/transfer_iter_2.caffemodel", "--gpu", "-1", "--iters", "1"]
    words += ["--imdb", "nyud2_hha_2015_trainval", "--cfg", "caffenet_hha/config.yml"]
    capsys.readouterr()
    assert train_net.main(words) == 0
    model = "output/caffenet_hha/nyud2_hha_2015_trainval/fast_rcnn_iter_1.caffemodel"
    detector = load_net("caffenet_hha/test.prototxt", model)
    for name in STUDENT:
        for mine, theirs in zip(learned.layer(name).blobs, detector.layer(name).blobs, strict=True):
            assert torch.equal(mine, theirs) and bool(mine.any()), name
    names = {layer.name for layer in read_net("caffenet_hha/train.prototxt").layer if layer.param}
    assert names - set(STUDENT) == {"da_cls_score", "da_bbox_pred"}


def test_the_franken_net_of_a_random_detector_has_all_its_weights() -> None:
    write_pairs(Path("pairs"), count=3, size=(96, 128))
    for net in ("caffenet", "caffenet_hha"):
        assert make_detection.main(["--net", net, "--classes", "2", "--folder", net, "--hidden", "16"]) == 0
    short = ["--max-iter", "1", "--test-interval", "1", "--no-measure", "--boxes-per-image", "8"]
    assert transfer.main([*DETECTORS, *short, "--layer", "fc6", "--output", "out", "--clip-gradients", "1"]) == 0
    franken = load_net("out/franken_deploy.prototxt", "out/franken.caffemodel")
    teacher = load_net("caffenet/test.prototxt", "out/random_teacher.caffemodel")
    for name in ("fc7", "cls_score", "bbox_pred"):
        assert torch.equal(franken.layer(name).blobs[0], teacher.layer(name).blobs[0])
    images = torch.from_numpy(np.random.default_rng(0).normal(0, 50, (1, 3, 96, 128)).astype(np.float32))
    with torch.no_grad():
        found = franken(da_data=images, rois=torch.tensor([[0.0, 5, 5, 60, 70], [0, 20, 0, 127, 95]]))
    assert found["cls_prob"].shape == (2, 3) and found["bbox_pred"].shape == (2, 12)


@pytest.mark.slow
def test_caffenet_with_random_weights_teaches_fc7_on_real_frames() -> None:
    """20 frames of mOSD, short side 240; fc6 and fc7 of 256 units."""
    root = needs("real/rgbd/index_more.json").parent
    frames = [frame for frame in json.loads((root / "index_more.json").read_text()) if "mosd" in frame["color"]][:20]
    for frame in frames:
        frame |= {key: str(root / frame[key]) for key in ("color", "depth", "rawdepth") if key in frame}
    Path("index.json").write_text(json.dumps(frames))
    assert make_hha.main(["--index", "index.json", "--output", "rgbd", "--quiet"]) == 0
    for net in ("caffenet", "caffenet_hha"):
        assert make_detection.main(["--net", net, "--classes", "19", "--folder", net, "--hidden", "256"]) == 0
    nets = ["--teacher", "caffenet/test.prototxt", "--student", "caffenet_hha/train.prototxt"]
    data = ["--source", "rgbd/pairs.txt", "--val-source", "rgbd/pairs.txt", "--short-side", "240", "--modality", "hha"]
    boxes = ["--layer", "fc7", "--proposals", "builtin", "--teacher-weights", "random", "--measure-count", "4"]
    short = ["--output", "out", "--max-iter", "30", "--drops", "1"]
    assert make_transfer.main([*nets, *data, *boxes, *short]) == 0
    param = read_solver("out/solver.prototxt")
    solver = solver_class(param)(param)
    losses: list[float] = []
    solver.on_iteration = lambda iteration, loss: losses.append(loss)
    solver.step(30)
    assert sum(losses[-6:]) < 0.6 * sum(losses[:6]), losses
