"""The nets under prototxt/: shapes and sizes known from elsewhere, and that every file builds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, needs

from caffe_compat.description import State, describe_net
from caffe_compat.net import load_net
from caffe_compat.proto import read_net, read_solver
from caffe_compat.transfer import read_branch

ZOO = ROOT / "prototxt"
NETS = ("alexnet", "caffenet", "vgg16")


@pytest.mark.parametrize(
    ("net", "parameters", "order"),
    [
        ("alexnet", 60_965_224, ["conv1", "relu1", "norm1", "pool1", "conv2"]),
        ("caffenet", 60_965_224, ["conv1", "relu1", "pool1", "norm1", "conv2"]),
        ("squeezenet", 1_248_424, ["conv1", "relu_conv1", "pool1", "fire2/conv1x1_1"]),
        ("mobilenet", 4_231_976, ["conv1", "conv1/bn", "conv1/scale", "relu1", "conv2_1/dw"]),
        ("resnet50", 25_557_032, ["conv1", "bn_conv1", "scale_conv1", "conv1_relu", "pool1"]),
    ],
)
def test_deploy_nets_have_the_published_number_of_parameters(net: str, parameters: int, order: list[str]) -> None:
    built = load_net(ZOO / net / "deploy.prototxt")
    assert sum(b.numel() for node in built.nodes for b in node.layer.blobs if not node.layer.gathers) == parameters
    names = [node.name for node in built.nodes if node.type not in ("Input", "Split")]
    assert names[: len(order)] == order
    assert built.nodes[-1].top_ids and len(built.output_names) == 1
    assert built.blob_shapes[built.output_names[0]][1] == 1000


def test_vgg16_has_the_published_number_of_parameters() -> None:
    branch = read_branch(ZOO / "vgg16" / "deploy.prototxt", ["pool5"], "TEST")
    plan = branch.plan((224, 224))
    lower = sum(blob.numel() for node in plan.nodes for blob in node.layer.blobs)
    assert plan.shapes[-1] == (1, 512, 7, 7)
    assert lower + (25088 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000 == 138_357_544


SIZES = {  # stride-16 map, then pool5, of VGG16, of the pad-7 student and of the pad-5 student
    (480, 640): [(30, 40), (15, 20), (30, 40), (15, 20), (31, 41), (15, 20)],
    (425, 560): [(27, 35), (14, 18), (27, 35), (13, 17), (28, 36), (14, 18)],
    (600, 791): [(38, 50), (19, 25), (37, 49), (18, 24), (39, 51), (19, 25)],
    (688, 907): [(43, 57), (22, 29), (43, 57), (21, 28), (44, 58), (22, 29)],
    (416, 544): [(26, 34), (13, 17), (26, 34), (13, 17), (27, 35), (13, 17)],
}


def test_feature_maps_have_the_sizes_of_the_paper_s_nets() -> None:
    blobs = [
        ("vgg16/deploy.prototxt", "conv5_3", "pool5"),
        ("students/alexnet_pad7/deploy.prototxt", "da_conv5", "da_pool5"),
        ("students/caffenet_pad5/deploy.prototxt", "da_conv5", "da_pool5"),
    ]
    for column, (path, conv5, pool5) in enumerate(blobs):
        branch = read_branch(ZOO / path, [conv5, pool5], "TEST")
        plan = branch.plan((480, 640))
        assert (branch.stride(plan, (480, 640), conv5), branch.stride(plan, (480, 640), pool5)) == (16, 32)
        for size, expected in SIZES.items():
            shapes = branch.shapes(plan, size)
            assert [shapes[conv5][2:], shapes[pool5][2:]] == expected[2 * column : 2 * column + 2], (path, size)


def test_students_have_the_fillers_of_the_release() -> None:
    for path in ("students/alexnet_pad7/deploy.prototxt", "students/caffenet_pad5/deploy.prototxt"):
        convs = [layer for layer in read_net(ZOO / path).layer if layer.type == "Convolution"]
        assert [round(layer.convolution_param.weight_filler.std, 6) for layer in convs] == [0.01] * 5
        assert [layer.convolution_param.bias_filler.value for layer in convs] == [0, 1, 0, 1, 1]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_train_val_nets_are_the_deploy_net_between_data_and_loss(net: str, phase: str) -> None:
    message = read_net(ZOO / net / "train_val.prototxt")
    kept = [layer.name for layer in describe_net(message, State(phase)).layers if layer.type != "Split"]
    deploy = [layer.name for layer in read_net(ZOO / net / "deploy.prototxt").layer]
    assert [name for name in kept if name not in ("accuracy", "loss")] == deploy[:-1]
    assert kept[-2:] == (["accuracy", "loss"] if phase == "TEST" else ["fc8", "loss"])
    for layer in message.layer:
        if layer.type in ("Convolution", "InnerProduct"):
            assert [(p.lr_mult, p.decay_mult) for p in layer.param] == [(1, 1), (2, 0)], layer.name


@pytest.mark.parametrize("net", NETS)
def test_solvers_name_files_that_exist(net: str) -> None:
    solver = read_solver(ZOO / net / "solver.prototxt")
    assert (ROOT / solver.net).is_file()
    assert solver.lr_policy == "step" and solver.gamma == pytest.approx(0.1)


def test_squeezenet_takes_the_real_weights_and_classifies() -> None:
    weights = needs("real", "models", "squeezenet_v1.0_deepcomp", "squeezenet_v1.0_decoded.caffemodel")
    photo = needs("real", "photos")
    net = load_net(ZOO / "squeezenet" / "deploy.prototxt", weights)
    from caffe_compat.net.weights import blobs_in

    stored = {name for name, blobs in blobs_in([weights]).items() if blobs}
    assert stored == {node.name for node in net.nodes if node.layer.blobs}
    image = cv2.resize(cv2.imread(str(_cat(photo))), (256, 256), interpolation=cv2.INTER_LINEAR)[14:241, 14:241]
    blob = torch.from_numpy((image.astype(np.float32) - np.float32([104, 117, 123])).transpose(2, 0, 1)[None])
    with torch.no_grad():
        scores = net(data=blob)["pool_final"].flatten()
    assert set(scores.topk(3).indices.tolist()) & {278, 277, 263}  # kit fox, red fox, Pembroke: what Caffe says


def _cat(folder: Path) -> Path:
    found = sorted(folder.rglob("cat.jpg"))
    if not found:
        pytest.skip("no cat.jpg")
    return found[0]
