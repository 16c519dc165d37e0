"""The C++ client of the documents: compiled against ONNX Runtime's C API, it says what the session says.

Wheels bring the library and no headers.  These are looked for in $ONNXRUNTIME_INCLUDE and where systems put them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_nets import conv, ip, layer, make_net, source

from caffe_compat.deploy import Session
from caffe_compat.onnx import export_onnx

SOURCE = Path(__file__).resolve().parents[2] / "docs" / "deployment" / "client.cpp"
PLACES = (os.environ.get("ONNXRUNTIME_INCLUDE", ""), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime")
HEADERS = next((place for place in PLACES if place and Path(place, "onnxruntime_c_api.h").exists()), "")
LIBRARY = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"), None)
NET = (
    source("data", 1, 3, 16, 12)
    + conv("c", "data", "c")
    + layer("Pooling", "p", "c", "p", "pooling_param { pool: AVE global_pooling: true }")
    + ip("f", "p", "f", 7)
)
pytestmark = pytest.mark.skipif(
    not HEADERS or LIBRARY is None or not shutil.which("g++"),
    reason="needs g++, ONNX Runtime's library for Linux and its headers (ONNXRUNTIME_INCLUDE)",
)


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Path:
    """The program, and the library under the names that linkers and loaders look for."""
    folder = tmp_path_factory.mktemp("client")
    for file in LIBRARY.parent.glob("libonnxruntime*.so*"):
        (folder / file.name).symlink_to(file)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(LIBRARY)
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-I", HEADERS, str(SOURCE)]
    command += ["-o", str(folder / "client"), f"-L{folder}", "-lonnxruntime", f"-Wl,-rpath,{folder}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "client"


def run(client: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(client), *map(str, words)], check=False, capture_output=True, text=True)


def picture(folder: Path, height: int = 16, width: int = 12) -> np.ndarray:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    cv2.imwrite(str(folder / "a.ppm"), image)
    return image


def check(done: subprocess.CompletedProcess[str], scores: np.ndarray) -> None:
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    order = np.argsort(-scores)[:5]
    assert [int(index) for index, _ in lines] == order.tolist()
    np.testing.assert_allclose([float(score) for _, score in lines], scores[order], rtol=1e-4, atol=1e-4)


def test_a_net_of_caffe(client: Path, tmp_path: Path) -> None:
    image = picture(tmp_path)
    export_onnx(make_net(NET), tmp_path / "n.onnx")
    blob = image.transpose(2, 0, 1).astype(np.float32) - np.array([104, 117, 123.5], np.float32)[:, None, None]
    done = run(client, tmp_path / "n.onnx", tmp_path / "a.ppm", "--mean", "104,117,123.5")
    check(done, Session(tmp_path / "n.onnx")({"data": blob[None]})["f"][0])


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_a_model_that_takes_bytes(client: Path, tmp_path: Path, order: str) -> None:
    image = picture(tmp_path)
    values = [
        helper.make_tensor_value_info("data", TensorProto.UINT8, ["batch", 16, 12, 3]),
        helper.make_tensor_value_info("f", TensorProto.FLOAT, ["batch", 3]),
    ]
    nodes = [
        helper.make_node("Cast", ["data"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["f"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="preprocessing_in_graph", value=f'{{"data": {{"order": "{order}", "size": null}}}}')
    onnx.save(model, tmp_path / "n.onnx")
    means = image.reshape(-1, 3).astype(np.float64).mean(0)
    check(run(client, tmp_path / "n.onnx", tmp_path / "a.ppm"), means if order == "bgr" else means[::-1])


def test_what_the_client_refuses(client: Path, tmp_path: Path) -> None:
    export_onnx(make_net(NET), tmp_path / "n.onnx")
    picture(tmp_path, 15)
    (tmp_path / "cut.ppm").write_bytes((tmp_path / "a.ppm").read_bytes()[:100])
    for words, message in (
        (["n.onnx", "a.ppm"], "the picture's height is 15, the model takes 16"),
        (["n.onnx", "cut.ppm"], "cut.ppm: ends before its last row"),
        (["n.onnx", "n.onnx"], "is no binary PPM"),
        (["none.onnx", "a.ppm"], "none.onnx"),
        (["n.onnx", "a.ppm", "--mean", "1"], "expected --mean B,G,R"),
        (["n.onnx"], "usage"),
    ):
        done = run(client, *(tmp_path / word if word.count(".") else word for word in words))
        assert done.returncode == 1 and done.stderr.startswith("error: ") and message in done.stderr, done
