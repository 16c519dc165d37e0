"""The tools with ``--gpu 0`` do what they do on the CPU."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu import DEVICE, needs_gpu, same, weights_in
from PIL import Image
from program import ROOT, call

from caffe_compat.net import load_net
from caffe_compat.onnx import export_onnx, verify_onnx
from caffe_compat.proto import caffe_pb2

pytestmark = needs_gpu
DEPLOY = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 24 dim: 24 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 5 stride: 2 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
TRAIN = """
name: "tiny"
layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 }
  data_filler { type: "constant" value: 1 } data_filler { type: "constant" value: 0.5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "constant" value: 0.1 } } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" loss_weight: 2 }
"""
SOLVER = """
net: "net.prototxt" test_iter: 2 test_interval: 4 base_lr: 0.05 lr_policy: "step" stepsize: 4 gamma: 0.1 display: 2
max_iter: 8 snapshot: 5 snapshot_prefix: "tiny"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(TRAIN)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    torch.manual_seed(1)
    load_net(tmp_path / "deploy.prototxt").save(tmp_path / "deploy.caffemodel")
    return tmp_path


def _numbers(log: str, what: str) -> list[float]:
    return [float(number) for number in re.findall(rf"{what} = ([-+.\de]+)", log)]


@pytest.mark.parametrize("words", [("caffe", "train", "-solver"), ("train_net", "--solver")])
def test_training(folder: Path, words: tuple[str, ...]) -> None:
    gpu = "-gpu" if words[0] == "caffe" else "--gpu"
    logs, found = [], []
    for extra in ((gpu, "0"), ()):
        done = call(*words, "solver.prototxt", *extra, folder=folder)
        assert done.status == 0, done.stderr
        logs.append(done.stderr)
        found.append(weights_in(folder / "tiny_iter_8.caffemodel"))
    assert "Use CPU" in logs[1] and "Use CPU" not in logs[0]
    same("losses", _numbers(logs[0], "loss"), _numbers(logs[1], "loss"), 1e-3)
    for index, (got, wanted) in enumerate(zip(*found, strict=True)):
        same(f"blob {index}", got, wanted)
    done = call(*words, "solver.prototxt", gpu, "0", f"{gpu[:-3]}snapshot", "tiny_iter_5.solverstate", folder=folder)
    assert done.status == 0, done.stderr
    for index, (got, wanted) in enumerate(zip(weights_in(folder / "tiny_iter_8.caffemodel"), found[1], strict=True)):
        same(f"blob {index} after going on", got, wanted)


def test_solver_mode_gpu_needs_no_flag(folder: Path) -> None:
    (folder / "solver.prototxt").write_text(SOLVER + "solver_mode: GPU")
    done = call("train_net", "--solver", "solver.prototxt", folder=folder)
    assert done.status == 0 and "Using GPUs 0" in done.stderr, done.stderr


def test_caffe_test_time_and_query(folder: Path) -> None:
    load_net(folder / "net.prototxt").save(folder / "net.caffemodel")
    words = ("-model", "net.prototxt", "-weights", "net.caffemodel", "-iterations", "2", "-gpu", "0")
    done = call("caffe", "test", *words, folder=folder)
    assert done.status == 0, done.stderr
    assert _numbers(done.stderr, "loss")[-1] == pytest.approx(0.04, rel=1e-4)
    done = call("caffe", "time", "-model", "net.prototxt", "-iterations", "3", "-gpu", "0", folder=folder)
    assert done.status == 0 and "Average Forward-Backward" in done.stderr, done.stderr
    done = call("caffe", "device_query", "-gpu", "all", folder=folder)
    assert done.status == 0 and "Device id" in done.stderr, done.stderr


def test_verify(folder: Path) -> None:
    net = load_net(folder / "deploy.prototxt", folder / "deploy.caffemodel")
    data = np.random.default_rng(0).standard_normal((2, 3, 24, 24)).astype(np.float32)
    blobs = net(blobs=["conv", "pool", "norm", "ip"], data=torch.from_numpy(data))
    values = {name: value.detach().numpy() for name, value in blobs.items()}
    np.savez(folder / "blobs.npz", **{"in/data": data}, **values)
    model = ("--model", "deploy.prototxt", "--weights", "deploy.caffemodel", "--gpu", "0")
    for reference in (("--npz", "blobs.npz"), ("--onnx",)):
        done = call("verify", *model, *reference, folder=folder)
        assert done.status == 0, done.stdout + done.stderr


def test_a_net_on_the_gpu_is_exported_and_verified(folder: Path) -> None:
    net = load_net(folder / "deploy.prototxt", folder / "deploy.caffemodel").to(DEVICE)
    model = export_onnx(net)
    assert model.SerializeToString() == export_onnx(net.cpu()).SerializeToString()
    report = verify_onnx(net.to(DEVICE), model)
    assert report


def test_extract_features(folder: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    lines = []
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 255, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        lines.append(f"{folder}/{index}.png {index}\n")
    (folder / "list.txt").write_text("".join(lines))
    source = DEPLOY.replace(
        'type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 24 dim: 24 } }',
        'type: "ImageData" top: "data" top: "label" image_data_param { source: "list.txt" batch_size: 2 }',
    )
    (folder / "features.prototxt").write_text(source)
    for mode in (("GPU", "0"), ("CPU",)):
        words = ("deploy.caffemodel", "features.prototxt", "norm,ip", f"a_{mode[0]},b_{mode[0]}", "2", "lmdb")
        done = call("extract_features", *words, *mode, folder=folder)
        assert done.status == 0, done.stderr
    for name in "ab":
        rows = []
        for mode in ("GPU", "CPU"):
            with lmdb.open(str(folder / f"{name}_{mode}"), readonly=True, lock=False) as found, found.begin() as read:
                rows.append([_floats(value) for _, value in read.cursor()])
        same(f"features {name}", np.array(rows[0]), np.array(rows[1]))


def _floats(value: bytes) -> list[float]:

    return list(caffe_pb2.Datum.FromString(bytes(value)).float_data)


def test_hha_and_disparity_images(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for seed in range(3):
        rows = np.linspace(4000, 1500, 48)[:, None] + np.random.default_rng(seed).normal(0, 5, (48, 64))
        rows[3:5, 4:6] = 0
        Image.fromarray(rows.astype(np.uint16)).save(tmp_path / "in" / f"{seed}.png")
    words = ("--units-per-metre", "1000", "--quiet")
    for tool, camera in (("make_hha", ("--camera", "60,60,32,24")), ("make_disparity", ())):
        for out, more in (("gpu", ("--gpu", "0")), ("cpu", ())):
            done = call(tool, "in", "-o", f"{tool}_{out}", *words, *camera, *more, folder=tmp_path)
            assert done.status == 0, done.stdout + done.stderr
        for seed in range(3):
            images = [np.array(Image.open(tmp_path / f"{tool}_{out}" / f"{seed}.png")) for out in ("gpu", "cpu")]
            assert np.abs(images[0].astype(int) - images[1]).max() <= 1, (tool, seed)


def test_time_of_a_whole_net() -> None:
    done = call("caffe", "time", "-model", ROOT / "prototxt/caffenet/deploy.prototxt", "-iterations", "2", "-gpu", "0")
    assert done.status == 0, done.stderr


def test_the_benchmark_of_transfer_runs() -> None:
    done = call("bench", "transfer_gpu", "--rounds", "1")
    assert done.status == 0 and "waiting for pictures" in done.stdout, done.stdout + done.stderr
