"""Nets of tests/data/onnx through the tool, at the sizes that showed faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx_nets import dims
from program import call

from caffe_compat.net import load_net
from caffe_compat.onnx import Session, export_onnx, export_verified

DATA = Path(__file__).resolve().parents[1] / "data/onnx"


@pytest.mark.parametrize(
    ("name", "dynamic", "opset"),
    [
        ("ave", True, 17),
        ("maxpad", True, 17),
        ("ave55", False, 21),
        ("ave55", True, 21),
        ("boxes", True, 17),
        ("pick", True, 17),
    ],
)
def test_verified(name: str, dynamic: bool, opset: int, tmp_path: Path) -> None:
    net = load_net(DATA / f"{name}.prototxt")
    report = export_verified(net, tmp_path / "net.onnx", dynamic=dynamic, opset=opset, tolerance=1e-5)
    assert report.passed, report.lines()


def test_average_of_a_partial_window() -> None:
    """The fifth column is half a window: Caffe divides by 2."""
    model = export_onnx(load_net(DATA / "ave.prototxt"), dynamic=True)
    found = Session(model)({"data": np.arange(20, dtype=np.float32).reshape(1, 1, 4, 5)})["pool"]
    assert found.tolist() == [[[[3, 5, 6.5], [13, 15, 16.5]]]]


@pytest.mark.parametrize("dynamic", [True, False])
def test_maxima_of_a_padded_image(dynamic: bool) -> None:
    """The window that would begin in the padding at the end is no window."""
    model = export_onnx(load_net(DATA / "maxpad.prototxt"), dynamic=dynamic)
    found = Session(model)({"data": np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)})["pool"]
    assert found.tolist() == [[[[0, 2, 4], [10, 12, 14], [20, 22, 24]]]]


def test_the_number_of_boxes_is_open() -> None:
    """There may be more classes than boxes but not fewer, so both change together."""
    net = load_net(DATA / "boxes.prototxt")
    model = export_onnx(net)
    assert dims(model.graph.input) == {
        "data": ["batch", 2, 8, 8],
        "rois": ["boxes", 5],
        "categids": ["boxes"],
    }
    assert dims(model.graph.output) == {"pick": ["boxes", 2]}
    random = np.random.default_rng(0)
    session = Session(onnx.load_from_string(model.SerializeToString()))
    for number, batch in ((1, 1), (3, 1), (17, 2)):
        corners = np.sort(random.uniform(0, 8, (number, 2, 2)), axis=1).reshape(number, 4)
        rois = np.concatenate([random.integers(0, batch, (number, 1)), corners], axis=1)
        values = {
            "data": random.standard_normal((batch, 2, 8, 8)),
            "rois": rois,
            "categids": random.integers(0, 3, number),
        }
        arrays = {name: value.astype(np.float32) for name, value in values.items()}
        expected = net(**{name: torch.from_numpy(value) for name, value in arrays.items()})["pick"]
        torch.testing.assert_close(torch.from_numpy(session(arrays)["pick"]), expected.detach())


def test_the_number_of_boxes_alone_through_the_command(tmp_path: Path) -> None:
    words = ("--model", DATA / "boxes.prototxt", "--output", tmp_path / "n.onnx", "--dynamic", "boxes")
    done = call("export_onnx", *words)
    assert done.status == 0 and "inputs: data 1 x 2 x 8 x 8, rois boxes x 5, categids boxes" in done.stdout, done
