"""Detectors and nets that packages carry compute what OpenCV's Caffe importer computes, and export to ONNX.

``tests/data/packaged_nets.json`` holds numbers of ``cv2.dnn.readNetFromCaffe`` of OpenCV 4.14 without fusion, of some
blobs of each net for the pictures of ``packaged.py``: the mean of the magnitudes, and values at five places evenly
spread from the first to the last.  Where OpenCV 4 itself is installed, every blob is compared with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from packaged import NETS, astronaut, code, data
from program import call

from caffe_compat.net import Net, load_net
from caffe_compat.onnx import export_onnx

STORED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "packaged_nets.json").read_text())


@pytest.fixture(scope="module", params=sorted(NETS))
def subject(request: pytest.FixtureRequest) -> tuple[str, Net]:
    """The name of a net, and the net."""
    return request.param, load_net(*NETS[request.param].files()).eval()


def blobs(net: Net, name: str, wanted: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """What the net makes of its picture."""
    with torch.no_grad():
        return {key: value.numpy() for key, value in net(blobs=wanted, data=torch.from_numpy(data(name))).items()}


def test_blobs_are_opencvs(subject: tuple[str, Net]) -> None:
    name, net = subject
    stored = STORED[name]["blobs"]
    found = blobs(net, name, list(stored))
    for blob, (mean, *values) in stored.items():
        flat = found[blob].ravel().astype(np.float64)
        places = np.linspace(0, flat.size - 1, len(values)).astype(int)
        assert np.abs(flat).mean() == pytest.approx(mean, rel=2e-6), blob
        np.testing.assert_allclose(flat[places], values, rtol=1e-4, atol=1e-5 * np.abs(flat).max(), err_msg=blob)


def test_detections_are_opencvs(subject: tuple[str, Net]) -> None:
    name, net = subject
    if "detections" not in STORED[name]:
        pytest.skip("the net detects nothing")
    stored = STORED[name]["detections"]
    rows = blobs(net, name)[stored["blob"]]
    assert rows.shape == (1, 1, stored["rows"], 7)
    np.testing.assert_allclose(rows[0, 0, : len(stored["best"])], stored["best"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_every_blob_is_opencvs(subject: tuple[str, Net]) -> None:
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip(f"OpenCV {cv2.__version__} reads no Caffe nets, OpenCV 4 does")
    name, net = subject
    other = cv2.dnn.readNetFromCaffe(*map(str, NETS[name].files()))
    other.enableFusion(False)
    other.setInput(data(name))
    names = list(other.getLayerNames())
    wanted = dict(zip(names, other.forward(names), strict=True))
    writers = {top: node.layer.name for node in net.nodes for top in node.layer.params.tops}  # the last of each
    writers = {top: layer for top, layer in writers.items() if layer in wanted}
    assert len(writers) >= 15
    found = blobs(net, name, list(writers))
    for top, layer in writers.items():
        mine, theirs = found[top], np.asarray(wanted[layer])
        if mine.shape[-1] == 7 and top == net.output_names[-1]:
            theirs = theirs[:, :, : mine.shape[2]]  # newer ones fill up with zeros
        np.testing.assert_allclose(mine.ravel(), theirs.ravel(), rtol=0, atol=3e-5 * np.abs(theirs).max(), err_msg=top)


@pytest.mark.slow
def test_exported(subject: tuple[str, Net]) -> None:
    name, net = subject
    session = onnxruntime.InferenceSession(export_onnx(net).SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    found = dict(zip(outputs, session.run(None, {session.get_inputs()[0].name: data(name)}), strict=True))
    for blob, wanted in blobs(net, name).items():
        assert found[blob].shape == wanted.shape
        np.testing.assert_allclose(found[blob], wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("name", "prepared", "wanted", "near"),
    [
        ("face", ("--mean", "104,117,123"), (178.7, 57.6, 270.7, 177.1), 2),
        ("code", ("--scale", str(1 / 255)), (50.42, 236.77, 132.49, 322.94), 0.05),
    ],
)
def test_predict_finds_the_object(
    name: str, prepared: tuple[str, str], wanted: tuple[float, ...], near: float, tmp_path: Path
) -> None:
    """The astronaut's face; the QR code, whose modules lie at 48 to 132, 238 to 322."""
    files = NETS[name].files()
    picture = astronaut()[..., ::-1] if name == "face" else code()
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    words = ("--model", files[0], "--weights", files[1], *prepared, "a.png", "--json", "o.json", "--draw", "drawn")
    done = call("predict", *words, folder=tmp_path)
    assert done.status == 0, done.stderr
    (found,) = json.loads((tmp_path / "o.json").read_text())["pictures"][0]["objects"]
    assert found["class"] == "1" and found["score"] > 0.99
    np.testing.assert_allclose(found["box"], wanted, atol=near)
    drawn = cv2.imread(str(tmp_path / "drawn" / "a.png"))
    assert drawn.shape[:2] == picture.shape[:2] and (drawn != picture.reshape(*picture.shape[:2], -1)).any()
