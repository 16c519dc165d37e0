"""Nets of forks under prototxt/zoo/: published sizes, and that they build, run on a picture, export and agree there."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import ROOT

from caffe_compat.net import load_net
from caffe_compat.net.net import Net
from caffe_compat.onnx import export_onnx

ZOO = ROOT / "prototxt" / "zoo"
SIZE = (224.0, 224.0)
TOPS = {
    "segnet": {"argmax": (1, 1, 360, 480)},
    "enet": {"deconv6_0_0": (1, 19, 512, 1024)},
    "pspnet50": {"conv6_interp": (1, 150, 473, 473)},
    "faster_rcnn_zf": {"cls_prob": (None, 21), "bbox_pred": (None, 84)},
    "rfcn_resnet50": {"cls_prob": (None, 21), "bbox_pred": (None, 8)},
    "yolov2": {"detection_out": (1, 1, None, 7)},
    "yolov3_tiny": {"detection_out": (1, 1, None, 7)},
}
QUICK = ("rfcn_resnet50", "yolov3_tiny")


def _net(name: str) -> Net:
    """With weights of its fillers, statistics of a normalized blob, and scores of detectors that are not all alike."""
    torch.manual_seed(0)
    net = load_net(ZOO / name / "deploy.prototxt")
    with torch.no_grad():
        for node in net.nodes:
            if node.type == "BatchNorm":
                node.layer.blobs[1].fill_(1)
                node.layer.blobs[2].fill_(1)
    return net


def _feeds(net: Net) -> dict[str, torch.Tensor]:
    """A picture of blocks and noise; Darknet's nets take 0 to 1."""
    shape = net.blob_shapes["data"]
    random = np.random.default_rng(0)
    blocks = random.random((1, 3, 9, 9)).repeat(-(-shape[2] // 9), 2).repeat(-(-shape[3] // 9), 3)
    picture = blocks[:, :, : shape[2], : shape[3]] + 0.1 * random.normal(size=shape)
    scaled = picture if "yolo" in net.description.name.lower() else picture * 255 - 110
    feeds = {"data": torch.from_numpy(scaled.astype(np.float32))}
    if "im_info" in net.input_names:
        feeds["im_info"] = torch.tensor([[*SIZE, 1.0]])
    return feeds


@pytest.mark.parametrize(
    ("name", "parameters", "published"),
    [
        ("segnet", 29_449_355, 29.45e6),
        ("enet", 367_687, 0.37e6),
        ("pspnet50", 46_841_174, 46.7e6),
        ("faster_rcnn_zf", 59_294_751, 59.3e6),
        ("rfcn_resnet50", 31_862_776, 31.9e6),
        ("yolov2", 50_676_083, 50.68e6),
        ("yolov3_tiny", 8_858_745, 8.86e6),
    ],
)
def test_sizes(name: str, parameters: int, published: float) -> None:
    net = load_net(ZOO / name / "deploy.prototxt")
    assert sum(blob.numel() for node in net.nodes for blob in node.layer.blobs) == parameters
    assert parameters == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TOPS])
def test_it_runs_on_a_picture_and_exports(name: str) -> None:
    net = _net(name)
    feeds = _feeds(net)
    with torch.no_grad():
        tops = net(**feeds)
    assert set(tops) == set(TOPS[name])
    for blob, shape in TOPS[name].items():
        assert all(wanted in (None, have) for wanted, have in zip(shape, tops[blob].shape, strict=True))
        assert torch.isfinite(tops[blob]).all() and len(tops[blob].unique()) > 1
    model = export_onnx(net, dynamic=())
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {key: value.numpy() for key, value in feeds.items()}), strict=True))
    for blob, value in tops.items():
        _compare(name, found[blob], value.numpy())


def _compare(name: str, found: np.ndarray, wanted: np.ndarray) -> None:
    """Numbers; of nets that keep where maxima were, nearly all of them; of detections the sorted columns."""
    assert found.shape == wanted.shape
    if name in ("segnet", "enet"):  # a near-tie of a pooling moves a pixel, and what convolutions make of it
        near = np.abs(found - wanted) <= 1e-4 * np.abs(wanted).max()
        assert near.mean() > 0.999
    elif name.startswith("yolo"):
        np.testing.assert_allclose(np.sort(found[0, 0], 0), np.sort(wanted[0, 0], 0), rtol=1e-3, atol=1e-4)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_layer_names_are_those_of_the_released_weights() -> None:
    """What a caffemodel is copied by."""
    for name, some in (
        ("segnet", ("conv1_1", "conv1_1_bn", "conv5_3_D", "conv5_3_D_bn", "conv1_1_D")),
        ("enet", ("conv0_1", "bn0_1", "conv2_3_1_a", "deconv4_0_1", "prelu3_8_4")),
        ("pspnet50", ("conv1_1_3x3_s2/bn", "conv4_6_1x1_increase", "conv5_3_pool6_conv", "conv6")),
        ("faster_rcnn_zf", ("conv5", "rpn_conv/3x3", "rpn_cls_score", "bbox_pred")),
        ("rfcn_resnet50", ("bn_conv1", "scale5c_branch2c", "conv_new_1", "rfcn_bbox")),
    ):
        names = {node.name for node in load_net(ZOO / name / "deploy.prototxt").nodes if node.layer.blobs}
        assert set(some) <= names
