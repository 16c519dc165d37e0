"""The SSD nets of the zoo: sizes known from their papers, and one detection with random weights, exported too."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from conftest import ROOT

from caffe_compat.net import Net, load_net
from caffe_compat.onnx import export_onnx

ZOO = ROOT / "prototxt" / "zoo"
PRIORS = {"mobilenet_ssd": 1917, "ssd300_vgg16": 8732}
PIXELS = {"mobilenet_ssd": (127.5, 0.007843), "ssd300_vgg16": ((104, 117, 123), 1)}


@pytest.mark.parametrize("name", PRIORS)
def test_sizes(name: str) -> None:
    with torch.device("meta"):
        shapes = load_net(ZOO / name / "deploy.prototxt").blob_shapes
    priors = PRIORS[name]
    assert shapes["mbox_priorbox"] == (1, 2, 4 * priors)
    assert shapes["mbox_loc"] == (1, 4 * priors) and shapes["mbox_conf"] == (1, 21 * priors)


def _picture(name: str) -> np.ndarray:
    """A drawn picture as the net wants it."""
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8), (300, 300))
    mean, scale = PIXELS[name]
    blob = (pixels.astype(np.float32) - np.float32(mean)) * np.float32(scale)
    return np.ascontiguousarray(blob.transpose(2, 0, 1)[None])


def _loosened(net: Net) -> Net:
    """Random scores are all alike: have some found."""
    net.layer("detection_out").threshold = 0.02
    return net


@pytest.mark.slow
@pytest.mark.parametrize("name", PRIORS)
def test_detects_and_exports(name: str) -> None:
    torch.manual_seed(0)
    net = _loosened(load_net(ZOO / name / "deploy.prototxt"))
    picture = _picture(name)
    with torch.no_grad():
        want = net(data=torch.from_numpy(picture))["detection_out"].numpy()
    assert want.shape[:2] == (1, 1) and want.shape[3] == 7 and want.shape[2] > 10
    assert (want[0, 0, :, 0] == 0).all() and set(want[0, 0, :, 1]) <= set(range(1, 21))
    assert np.isfinite(want).all()
    model = export_onnx(net)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for images in (1, 2):
        (got,) = session.run(None, {"data": np.repeat(picture, images, 0)})
        for number in range(images):
            rows = got[0, 0, got[0, 0, :, 0] == number]
            assert np.array_equal(rows[:, 1], want[0, 0, :, 1])
            np.testing.assert_allclose(rows[:, 2:], want[0, 0, :, 2:], rtol=1e-3, atol=1e-5)
