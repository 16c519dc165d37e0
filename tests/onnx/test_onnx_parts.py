"""Model and weights apart, and written without a copy of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_nets import conv, ip, layer, make_net, source

from caffe_compat.errors import ExportError, WriteError
from caffe_compat.onnx import export_onnx, export_verified, save, save_onnx, verify_onnx
from caffe_compat.onnx.export import export_parts
from caffe_compat.onnx.parts import SMALL, Parts, join, pieces, split

NET = source("data", 1, 3, 9, 9) + conv("c", "data", "c", 40) + layer("ReLU", "r", "c", "c") + ip("f", "c", "f", 7)


def typed_model() -> onnx.ModelProto:
    """Initializers of all kinds, on both sides of the limit, and fields that the exporter does not write."""
    random = np.random.default_rng(0)
    arrays = [
        np.float32(3.5),
        random.standard_normal((3, 0)).astype(np.float32),
        random.standard_normal(SMALL // 4).astype(np.float32),
        random.standard_normal(SMALL // 4 + 1).astype(np.float32),
        random.integers(-9, 9, (50, 60)),
        random.integers(-9, 9, (50, 60)).astype(np.int8),
        random.standard_normal((50, 60)).astype(np.float16),
        random.random((50, 60)) > 0.5,
    ]
    tensors = [numpy_helper.from_array(np.asarray(array), f"t{number}") for number, array in enumerate(arrays)]
    tensors.append(helper.make_tensor("floats", TensorProto.FLOAT, [400], [1.5] * 400))  # not as raw data
    tensors[4].doc_string = "a word"
    nodes = [helper.make_node("Shape", [tensor.name], [f"y{number}"]) for number, tensor in enumerate(tensors)]
    outputs = [helper.make_tensor_value_info(f"y{n}", TensorProto.INT64, [len(t.dims)]) for n, t in enumerate(tensors)]
    graph = helper.make_graph(nodes, "g", [], outputs, tensors, doc_string="graph")
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=10
    )
    helper.set_model_props(model, {"a": "1", "b": "ü"})
    return model


def test_pieces_are_the_serialized_model():
    model = typed_model()
    parts = split(model)
    assert set(parts.weights) == {"t3", "t4", "t5", "t6", "t7"}
    assert not any(tensor.raw_data for tensor in parts.model.graph.initializer if tensor.name in parts.weights)
    assert b"".join(pieces(parts)) == model.SerializeToString()
    assert join(parts) == model


def test_a_net_is_written_byte_by_byte_as_protobuf_would(tmp_path: Path):
    net = make_net(NET)
    model = export_onnx(net, tmp_path / "n.onnx", metadata={"x": "y"})
    assert (tmp_path / "n.onnx").read_bytes() == model.SerializeToString()


def test_weights_are_the_memory_of_the_parameters():
    net = make_net(NET)
    parts = export_parts(net)
    assert set(parts.weights) == {"c.weight", "f.weight"}
    weight = net.layer("f").blobs[0].detach().numpy()
    assert np.shares_memory(parts.weights["f.weight"], weight)
    assert parts.size == sum(parameter.nbytes for parameter in net.parameters() if parameter.nbytes > SMALL)


@pytest.mark.parametrize("array", [np.arange(600, dtype=">f4"), np.arange(1200, dtype=np.float32)[::2]])
def test_other_layouts_of_memory(array: np.ndarray):
    plain = np.ascontiguousarray(array).astype("<f4")
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["w"], ["y"])],
            "g",
            [],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [600])],
            [numpy_helper.from_array(plain, "w")],
        )
    )
    assert b"".join(pieces(Parts(split(model).model, {"w": array}))) == model.SerializeToString()


def test_a_weight_of_another_size_is_refused(tmp_path: Path):
    parts = export_parts(make_net(NET))
    weights = {**parts.weights, "f.weight": np.zeros(500, np.float32)}
    for external in (False, True):
        with pytest.raises(ExportError, match=r"'f.weight' of shape \[7, 3240\] holds 2000 bytes, expected 90720"):
            save_onnx(Parts(parts.model, weights), tmp_path / "n.onnx", external=external)
    assert not list(tmp_path.iterdir())


def test_checker_sees_the_shapes_of_weights():
    model = typed_model()
    bad = onnx.ModelProto()
    bad.CopyFrom(model)
    bad.graph.node.append(helper.make_node("MatMul", ["t3", "t6"], ["z"]))
    save.check_model(model)
    with pytest.raises(ExportError, match=r"onnx\.checker refuses the model"):
        save.check_model(bad)


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets of 100 kB take two files."""
    monkeypatch.setattr(save, "_LARGE", 100_000)


@pytest.mark.usefixtures("lowered")
def test_large_weights_get_a_file_of_their_own(tmp_path: Path):
    small, large = make_net(NET), make_net(NET + ip("g", "f", "g", 4000))
    assert export_verified(small, tmp_path / "s" / "n.onnx").passed
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["n.onnx"]
    report = export_verified(large, tmp_path / "l" / "n.onnx")
    files = sorted((tmp_path / "l").iterdir())
    assert report.passed and [path.name for path in files] == ["n.onnx", "n.onnx.data"]
    assert report.size == sum(path.stat().st_size for path in files)
    model = onnx.load(files[0], load_external_data=False)
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in model.graph.initializer]
    places = [place for place in places if place]
    assert len(places) == 4 and all(place["location"] == "n.onnx.data" for place in places)
    assert all(int(place["offset"]) % 4096 == 0 for place in places)  # can be mapped into memory
    assert all(found.relative < 1e-5 for found in verify_onnx(large, files[0]).values())
    assert all(found.relative < 1e-5 for found in verify_onnx(large, export_onnx(large)).values())
    onnx.checker.check_model(str(files[0]), full_check=True)


@pytest.mark.usefixtures("lowered")
def test_a_refused_model_of_two_files_names_its_own_data(tmp_path: Path):
    net = make_net(NET + ip("g", "f", "g", 4000))
    report = export_verified(net, tmp_path / "n.onnx", tolerance=-1.0)
    assert not report.passed and report.path.name == "n.unverified.onnx"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.unverified.onnx", "n.unverified.onnx.data"]
    assert all(found.relative < 1e-5 for found in verify_onnx(net, report.path).values())


@pytest.mark.parametrize("external", [False, True])
def test_symbolic_links_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool):
    if external:
        monkeypatch.setattr(save, "_LARGE", 1)
    (tmp_path / "far").mkdir()
    link = tmp_path / "link.onnx"
    link.symlink_to(tmp_path / "far" / "real.onnx")
    net = make_net(NET)
    assert export_verified(net, link).passed
    names = ["real.onnx", "real.onnx.data"] if external else ["real.onnx"]
    assert link.is_symlink() and sorted(path.name for path in (tmp_path / "far").iterdir()) == names
    assert all(found.relative < 1e-5 for found in verify_onnx(net, link.resolve()).values())


def test_devices_are_written_to_and_stay():
    report = export_verified(make_net(NET), "/dev/null")
    assert report.passed and Path("/dev/null").is_char_device()
    with pytest.raises(WriteError, match="/dev/null: it is no file"):
        save_onnx(export_onnx(make_net(NET)), "/dev/null", external=True)
