"""Nets whose layers overwrite buffers that others read: what Caffe computes, from ONNX Runtime and from a module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_nets import dims, layer, make_net, source

from caffe_compat.compare import compare, difference, from_module, from_npz
from caffe_compat.net import Net, load_net
from caffe_compat.onnx import Session, export_onnx, from_onnx, verify_onnx
from caffe_compat.onnx.metadata import RENAMED, read_fact

CHAINS = Path(__file__).resolve().parents[1] / "data/golden_chains"


def cases() -> list[str]:
    """Of the recorded chains those that share memory, in the TEST phase."""
    found = []
    for path in sorted(CHAINS.glob("alias_*.npz")):
        with np.load(path) as case:
            if json.loads(str(case["case"]))["phase"] == "TEST":
                found.append(path.stem)
    return found


def load(name: str, folder: Path) -> tuple[Net, dict[str, np.ndarray], dict[str, np.ndarray], Any]:
    """The net of a case with its weights, inputs, Caffe's blobs at the end, and the same by place."""
    with np.load(CHAINS / f"{name}.npz") as case:
        arrays = {key: case[key] for key in case.files}
    (folder / "net.prototxt").write_text(str(arrays["prototxt"]))
    net = load_net(folder / "net.prototxt")
    inputs, reference = from_npz(net, CHAINS / f"{name}.npz")
    return net, inputs, {key[4:]: value for key, value in arrays.items() if key.startswith("out/")}, reference


def test_there_are_cases() -> None:
    assert len(cases()) >= 20


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", cases())
def test_model_has_caffes_numbers(name: str, dynamic: bool, tmp_path: Path) -> None:
    net, inputs, expected, _ = load(name, tmp_path)
    outputs = [blob for blob in expected if blob not in net.input_names]
    model = export_onnx(net, outputs=outputs, dynamic=dynamic)
    blobs = {blob: key for key, blob in read_fact(model, RENAMED).items()}
    found = Session(model)(inputs)
    for blob in outputs:
        assert difference(found[blobs.get(blob, blob)], expected[blob]).within(1e-4), blob
    assert all(one.within(1e-5) for one in verify_onnx(net, model).values())


@pytest.mark.parametrize("name", cases())
def test_every_layer_agrees(name: str, tmp_path: Path) -> None:
    """Right after each layer; what Caffe recorded at the end is held against the layer that wrote it last."""
    net, inputs, _, recorded = load(name, tmp_path)
    for reference in (recorded, from_onnx(net, inputs), from_module(net, inputs, "caffe_compat.pycaffe")):
        found = compare(net, inputs, reference)
        assert found.first is None, "\n".join(found.lines())


def test_reader_of_an_overwritten_input() -> None:
    """The sum reads "data" after the ReLU behind the Flatten."""
    text = source("data", 2, 3, 2, 2) + layer("Flatten", "flat", "data", "flat") + layer("ReLU", "r", "flat", "flat")
    net = make_net(text + layer("Power", "twice", "data", "twice", "power_param { scale: 2 }"))
    values = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 2, 2)
    for dynamic in (False, True):
        model = export_onnx(net, dynamic=dynamic)
        assert set(dims(model.graph.output)) == {"flat", "twice"}
        found = Session(model)({"data": values})
        np.testing.assert_array_equal(found["twice"], np.maximum(values, 0) * 2)
        np.testing.assert_array_equal(found["flat"], np.maximum(values, 0).reshape(2, 12))
