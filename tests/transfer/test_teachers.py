"""Teachers that no prototxt describes: what make_transfer writes for them, and that it trains."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision
from foreign.modules import write_onnx
from transfer.tiny_nets import write_nets, write_pairs

from caffe_compat.commands import make_transfer, measure_scale
from caffe_compat.errors import CaffeCompatError, UsageError
from caffe_compat.net import load_net
from caffe_compat.proto import read_net, read_solver
from caffe_compat.solver.rules import solver_class

DATA = ["--source", "pairs/train_pairs.txt", "--val-source", "pairs/val_pairs.txt", "--image-size", "40", "48"]
USUAL = ["--student", "student.prototxt", "--student-layer", "c2", "--output", "out", *DATA]
RESNET = ["--teacher", "torchvision:resnet18@layer1", "--teacher-weights", "resnet18.pth"]
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_nets(tmp_path)
    write_pairs(tmp_path / "pairs")
    torch.manual_seed(2)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), "resnet18.pth")


def make(*arguments: str) -> dict[str, Any]:
    """Run the tool; layers of train_val.prototxt by name."""
    assert make_transfer.main(list(arguments)) == 0
    return {layer.name: layer for layer in read_net("out/train_val.prototxt").layer}


def resnet() -> torch.nn.Module:
    net = torchvision.models.resnet18(weights=None).eval()
    net.load_state_dict(torch.load("resnet18.pth", weights_only=True))
    return net


def test_the_teacher_sees_its_own_preprocessing_and_the_student_caffes() -> None:
    layers = make(*RESNET, *USUAL)
    data = layers["pairs"].paired_image_data_param
    assert list(data.mean_value) == [0] and list(data.mean_value_1) == pytest.approx([102.9801, 115.9465, 122.7717])
    param = layers["teacher"].foreign_net_param
    assert (param.source, list(param.feature), param.weights) == ("torchvision:resnet18", ["layer1"], "resnet18.pth")
    assert (list(param.mean), list(param.std)) == tuple(map(pytest.approx, IMAGENET))

    net = load_net("out/train_val.prototxt", phase="TEST")
    blobs = net(blobs=["data", "da_data", "layer1"])
    first, second = (cv2.imread(f"pairs/{which}0.png").astype(np.float32) for which in "ab")
    student = torch.from_numpy((second - np.float32([102.9801, 115.9465, 122.7717])).transpose(2, 0, 1))
    torch.testing.assert_close(blobs["da_data"][0], student)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    images = ((torch.from_numpy(first[..., ::-1].copy()).permute(2, 0, 1) / 255 - mean) / std)[None]
    teacher = resnet()
    stem = teacher.maxpool(teacher.relu(teacher.bn1(teacher.conv1(images))))
    torch.testing.assert_close(blobs["layer1"], teacher.layer1(stem), rtol=1e-4, atol=1e-5)


def test_it_trains_and_no_file_holds_the_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    measure = ["--measure", "pairs/train_pairs.txt", "--max-iter", "30"]
    make(*RESNET, *USUAL, *measure, "--test-interval", "30", "--test-iter", "4")
    printed = capsys.readouterr().out
    assert "layer1: mean norm" in printed and "TEACHER.caffemodel" not in printed
    param = read_solver("out/solver.prototxt")
    assert not param.weights, "the teacher's weights are no caffemodel"
    solver = solver_class(param)(param)
    loss = float(solver.net()["loss_layer1"].detach())
    solver.solve()
    assert float(solver.net()["loss_layer1"].detach()) < 0.8 * loss
    assert Path("out/transfer_iter_30.caffemodel").stat().st_size < 50_000
    student = load_net("out/student_deploy.prototxt", "out/transfer_iter_30.caffemodel")
    assert student.output_names == ["adapt_layer1"] and student.blob_shapes["adapt_layer1"] == (1, 64, 10, 12)


def test_the_measured_norm_is_that_of_what_the_teacher_sees(capsys: pytest.CaptureFixture[str]) -> None:
    make(*RESNET, *USUAL, "--measure", "pairs/train_pairs.txt")
    found = float(capsys.readouterr().out.split("mean norm ")[1].split(",")[0])
    net = load_net("out/train_val.prototxt", phase="TEST")
    with torch.no_grad():
        norms = [net(blobs=["layer1"])["layer1"].norm(dim=1).mean() for _ in range(4)]
    assert found == pytest.approx(float(torch.stack(norms).mean()), rel=1e-4)


def test_the_header_command_writes_the_same_files_again() -> None:
    make(*RESNET, *USUAL, "--teacher-std", "0.25", "0.25", "0.5", "--teacher-seed", "3")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    words = shlex.split(Path("out/train_val.prototxt").read_text().splitlines()[1].lstrip("# "))
    make(*words[1:])
    del before["measured.json"]  # what the numbers in that command were; it measures none
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


@pytest.mark.slow
def test_a_feature_before_its_relu_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*USUAL, "--measure", "pairs/train_pairs.txt", "--sweep", "0"]
    make("--teacher", "torchvision:resnet18@layer1.1.bn2", *RESNET[2:], *arguments)
    assert " % of the values of 'layer1_1_bn2' are negative" in capsys.readouterr().out
    make(*RESNET, *arguments)
    assert "negative" not in capsys.readouterr().out


@pytest.mark.parametrize("teacher", ["torchvision:resnet18", "torchvision:resnet18@layer1"])
def test_the_list_of_features_that_fit(teacher: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--teacher", teacher, "--student", "student.prototxt", "--list", "--image-size", "40", "48"]
    assert make_transfer.main(arguments) == 0
    printed = capsys.readouterr().out
    teacher_line = "teacher: maxpool (64), layer1.0 (64), layer1 (64), layer1.1 (64)"
    assert f"stride 4, 10 x 12\n  {teacher_line}\n  student: c2" in printed


def test_the_list_of_an_onnx_file(capsys: pytest.CaptureFixture[str]) -> None:
    for dynamic in (("batch", "height", "width"), ()):
        write_onnx(Path("small.onnx"), dynamic)
        make_transfer.main(["--teacher", "small.onnx", "--student", "student.prototxt", "--list", "--crop", "24", "32"])
        assert "pool1 (5)" in capsys.readouterr().out


def test_no_franken_net_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    make(*RESNET, *USUAL)
    printed = capsys.readouterr().out
    assert "no franken net: it needs the teacher's upper part as a prototxt, and torchvision:resnet18 is a" in printed
    assert not Path("out/franken_deploy.prototxt").exists() and not Path("out/surgery.json").exists()


def test_several_features_with_dots_in_their_names() -> None:
    layers = make(
        "--teacher", "torchvision:resnet18@layer1.0.relu,layer2", "--teacher-weights", "random",
        *USUAL, "--student-layer", "c2", "c3",
    )  # fmt: skip
    assert list(layers["teacher"].top) == ["layer1_0_relu", "layer2"]
    assert layers["adapt_layer1_0_relu"].convolution_param.num_output == 64
    assert layers["adapt_layer2"].convolution_param.num_output == 128
    load_net("out/train_val.prototxt", phase="TRAIN")()


def test_an_onnx_teacher() -> None:
    net = write_onnx(Path("small.onnx"))
    layers = make(
        "--teacher", "small.onnx@pool1", *USUAL,
        "--teacher-mean", "102.9801", "115.9465", "122.7717", "--teacher-range", "1", "--teacher-bgr",
    )  # fmt: skip
    param = layers["teacher"].foreign_net_param
    assert (param.rgb, param.pixel_range, list(param.std)) == (False, 1, [1, 1, 1])
    blobs = load_net("out/train_val.prototxt", phase="TEST")(blobs=["data", "pool1"])
    mean = torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)
    with torch.no_grad():
        expected = net(data=blobs["data"] - mean, blobs=["pool1"])["pool1"]
    torch.testing.assert_close(blobs["pool1"], expected, rtol=1e-4, atol=1e-3)


def test_an_onnx_teacher_of_one_size() -> None:
    write_onnx(Path("one.onnx"), ())
    with pytest.raises(
        UsageError, match="the file takes images of 1 x 3 x 24 x 32, not 1 x 3 x 40 x 48; choose .*--crop"
    ):
        make("--teacher", "one.onnx@pool1", *USUAL)
    make("--teacher", "one.onnx@pool1", *USUAL, "--crop", "24", "32")
    load_net("out/train_val.prototxt", phase="TRAIN")()


def test_a_module_of_an_entry_point(capsys: pytest.CaptureFixture[str]) -> None:
    layers = make("--teacher", "foreign.modules:tiny@conv2", *USUAL)
    assert list(layers["teacher"].foreign_net_param.mean) == [0.5, 0.25, 0.125], "its own pretrained_cfg"
    make("--teacher", "foreign.modules:winding@act", *USUAL, "--student-layer", "c1")
    assert "winding does not say how it takes pictures" in capsys.readouterr().out


def test_timm() -> None:
    pytest.importorskip("timm")
    layers = make("--teacher", "timm:resnet10t@layer1", "--teacher-weights", "random", *USUAL)
    assert layers["adapt_layer1"].convolution_param.num_output == 64
    load_net("out/train_val.prototxt", phase="TRAIN")()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--teacher", "torchvision:resnet18@layer1"], "needs --teacher-weights: a file .*, or 'random'"),
        ([*RESNET, "--layer", "layer2"], "--teacher ends with @layer1, --layer is layer2: give one"),
        (["--teacher", "torchvision:resnet18", "--teacher-weights", "random"], "which feature of torchvision:resnet18"),
        (["--teacher", "teacher.prototxt"], "which feature of teacher.prototxt"),
        (["--teacher", "torchvision:resnet18@layr1", *RESNET[2:]], r"has no feature 'layr1' \(did you mean 'layer1"),
        (["--teacher", "torchvision:resnt18@layer1", *RESNET[2:]], r"no net 'resnt18' \(did you mean 'resnet18'\?\)"),
        (["--teacher", "torchvision:vgg11@features.2", *RESNET[2:]], "does not fit torchvision:vgg11"),
        (["--teacher", "torchvision:resnet18@layer3", *RESNET[2:]], "strides of 16 and 4 pixels"),
        (["--teacher", "torchvision:resnet18@fc", *RESNET[2:]], "expected both N x C x H x W or both N x C"),
        (["--teacher", "teacher.prototxt@pool1", "--teacher-bgr"], "--teacher-bgr is for teachers of other frameworks"),
        ([*RESNET, "--teacher-std", "1", "0", "1"], "expected positive numbers"),
        (["--teacher", "none.onnx@x"], "none.onnx"),
        (["--teacher", "torchvision:resnet18@layer1", "--teacher-weights", "none.pth"], "none.pth"),
    ],
)
def test_what_is_refused_writes_nothing(arguments: list[str], message: str) -> None:
    with pytest.raises(CaffeCompatError, match=message):
        make(*arguments, *USUAL)
    assert not Path("out").exists()


def test_a_prototxts_feature_may_stand_with_it() -> None:
    assert "adapt_pool1" in make("--teacher", "teacher.prototxt@pool1", *USUAL)


def test_measure_scale_of_nets_of_any_framework(capsys: pytest.CaptureFixture[str]) -> None:
    images = ["--images", "pairs/train_pairs.txt", "--quiet"]
    torchvision_net = ["--model", "torchvision:resnet18@layer1", "--weights", "resnet18.pth", *images]
    load_net("teacher.prototxt").save("teacher.caffemodel")
    reference = ["--reference-model", "teacher.prototxt@conv1", "--reference-weights", "teacher.caffemodel"]
    assert measure_scale.main([*torchvision_net, *reference]) == 0
    printed = capsys.readouterr().out
    norms = []
    for number in range(4):
        image = torch.from_numpy(cv2.imread(f"pairs/a{number}.png")[..., ::-1].astype(np.float32)).permute(2, 0, 1)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
        net, x = resnet(), ((image / 255 - mean) / std)[None]
        norms.append(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x))))).detach().norm(dim=1).mean())
    assert float(printed.split("--mean-norm ")[1].split()[0]) == pytest.approx(
        float(torch.stack(norms).mean()), rel=1e-4
    )
    assert "conv1 of teacher.prototxt: mean norm" in printed and "--scale" in printed
    assert "--teacher torchvision:resnet18 --layer layer1 --teacher-weights resnet18.pth --student teacher" in printed

    write_onnx(Path("small.onnx"))
    assert measure_scale.main(["--model", "small.onnx@pool1", *images, "--teacher-range", "1"]) == 0
    assert "pool1 of small.onnx: mean norm" in capsys.readouterr().out
    for given, message in (
        (["--model", "torchvision:resnet18@layer1"], r"needs its weights \(--weights, --reference-weights\): a .pth"),
        (["--model", "torchvision:resnet18", "--weights", "resnet18.pth"], "give --blob, or --model .*@FEATURE"),
        (["--model", "teacher.prototxt@conv1"], "teacher.prototxt needs its weights .*: a caffemodel"),
        (["--model", "torchvision:resnet18@layr1", "--weights", "resnet18.pth"], "did you mean 'layer1"),
    ):
        with pytest.raises(UsageError, match=message):
            measure_scale.main([*given, *images])
