"""A delivered file layer by layer: what it is, where it diverges first, and that another net's is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_nets import conv, ip, layer, make_net, operators, source
from program import Done, call

from caffe_compat.compare import Comparison, compare
from caffe_compat.errors import DataError, MissingFileError, ModelFileError
from caffe_compat.media import Preparation, Preprocessing, write_preprocessing
from caffe_compat.net import Net
from caffe_compat.onnx import export_onnx, save_onnx, to_half, to_int8
from caffe_compat.onnx.delivered import LAYER_TOLERANCES, Delivered, read_delivered

TEXT = (
    source("data", 2, 3, 12, 12)
    + conv("a", "data", "a", 8)
    + layer("ReLU", "ra", "a", "a")
    + conv("b", "a", "b", 8)
    + layer("ReLU", "rb", "b", "b")
    + layer("LRN", "n", "b", "n", "lrn_param { local_size: 3 alpha: 0.0001 beta: 0.75 }")
    + ip("c", "n", "c", 16)
    + layer("ReLU", "rc", "c", "c")
    + layer("Dropout", "dc", "c", "c")
    + ip("d", "c", "d", 6)
    + layer("Softmax", "prob", "d", "prob")
)
LAYERS = ["a", "ra", "b", "rb", "n", "c", "rc", "dc", "d", "prob"]


@pytest.fixture(scope="module")
def net() -> Net:
    return make_net(TEXT)


def samples() -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"data": random.standard_normal((1, 3, 12, 12)).astype("f4") * 64} for _ in range(8)]


def made(net: Net, precision: str) -> onnx.ModelProto:
    model = export_onnx(net)
    return {"float32": lambda: model, "float16": lambda: to_half(model), "int8": lambda: to_int8(model, samples())}[
        precision
    ]()


def check(net: Net, model: onnx.ModelProto, folder: Path) -> tuple[Delivered, Comparison]:
    save_onnx(model, folder / "net.onnx")
    found = read_delivered(net, folder / "net.onnx")
    return found, compare(net, found.inputs, found.values, LAYER_TOLERANCES[found.precision])


def spoil(model: onnx.ModelProto, name: str, factor: float) -> None:
    """Multiply an initializer."""
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values * np.float32(factor)).astype(values.dtype), name))


def rename(model: onnx.ModelProto, names: dict[str, str], everything: bool = False) -> None:
    """Rename values; ``everything``: whatever nodes make, too."""
    if everything:
        names = {**{name: f"v{k}" for k, node in enumerate(model.graph.node) for name in node.output}, **names}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    del model.graph.value_info[:]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_every_layer_is_compared(precision: str, net: Net, tmp_path: Path):
    found, comparison = check(net, made(net, precision), tmp_path)
    assert found.precision == precision and found.absent == ()
    assert [row.layer for row in comparison.rows] == LAYERS and comparison.first is None
    worst = max(row.difference.relative for row in comparison.rows)
    low, high = {"float32": (0, 1e-5), "float16": (1e-5, 5e-3), "int8": (1e-3, 0.2)}[precision]
    assert low <= worst < high
    assert found.lines(net) == [f"{tmp_path / 'net.onnx'}: {precision}, has 10 of 10 values of layers"]


@pytest.mark.parametrize(
    ("precision", "weights"), [("float32", "c.weight"), ("float16", "c.weight"), ("int8", "b.weight_scale")]
)
@pytest.mark.parametrize("factor", [3.0, float("nan")])
def test_the_first_divergence_is_named(precision: str, weights: str, factor: float, net: Net, tmp_path: Path):
    model = made(net, precision)
    spoil(model, weights, factor)
    _, comparison = check(net, model, tmp_path)
    assert comparison.first is not None and comparison.first.layer == weights[0]
    assert ("NaN" in str(comparison.first.difference)) == np.isnan(factor)


def test_precision_is_seen_without_metadata(net: Net, tmp_path: Path):
    for precision in ("float32", "float16", "int8"):
        model = made(net, precision)
        del model.metadata_props[:]
        found, comparison = check(net, model, tmp_path)
        assert found.precision == precision and comparison.first is None


def test_overflow_is_seen_on_a_cpu(net: Net, tmp_path: Path):
    """ONNX Runtime would pass values beyond 65504 on from node to node."""
    large = make_net(source("data", 2, 3, 12, 12) + conv("a", "data", "a") + ip("c", "a", "c") + ip("d", "c", "d"))
    model = to_half(export_onnx(large))
    spoil(model, "c.weight", 3e4)
    spoil(model, "d.weight", 1 / 3e4)
    _, comparison = check(large, model, tmp_path)
    assert comparison.first is not None and comparison.first.layer == "c"
    assert "infinite on one side only" in str(comparison.first.difference)


def test_values_and_inputs_that_were_renamed(net: Net, tmp_path: Path):
    model = made(net, "float32")
    rename(model, {"data": "picture"}, everything=True)
    found, comparison = check(net, model, tmp_path)
    assert [net.nodes[number].name for number, _ in found.absent] == ["dc"]  # it has neither a node nor its blob's name
    assert [row.layer for row in comparison.rows if row.layer != "dc"] == [name for name in LAYERS if name != "dc"]
    assert comparison.first is None
    assert found.lines(net)[1] == "not in the file (folded, pruned or renamed): dc"
    spoil(model, "b.weight", 3)
    comparison = check(net, model, tmp_path)[1]
    assert comparison.first is not None and comparison.first.layer == "b"


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_what_was_folded_is_not_compared(precision: str, tmp_path: Path):
    """BatchNorm and Scale in the weights of a convolution: the last value stays, those before are gone."""
    text = source("data", 1, 3, 6, 6) + conv("a", "data", "a") + layer("BatchNorm", "bn", "a", "a")
    text += layer("Scale", "s", "a", "a", "scale_param { bias_term: true }") + layer("ReLU", "r", "a", "a")
    net = make_net(text + conv("b", "a", "b") + ip("f", "b", "f"))
    with torch.no_grad():
        for blob, value in zip(net.layer("bn").blobs, (0.1, 2.0, 1.0), strict=True):
            blob.fill_(value)
    model = export_onnx(net, fold=True)
    assert "BatchNormalization" not in operators(model)
    data = [{"data": sample["data"][:, :, :6, :6]} for sample in samples()]
    model = {"float32": lambda: model, "float16": lambda: to_half(model), "int8": lambda: to_int8(model, data)}[
        precision
    ]()
    found, comparison = check(net, model, tmp_path)
    assert [net.nodes[number].name for number, _ in found.absent] == ["a", "bn"]
    assert [row.layer for row in comparison.rows] == ["s", "r", "b", "f"] and comparison.first is None


def test_preprocessing_in_the_graph_is_cut_off(net: Net, tmp_path: Path):
    model = made(net, "float16")
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 3, 12, 12])
    model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["data"], name="prepare", to=TensorProto.FLOAT))
    del model.graph.input[:]
    model.graph.input.append(image)
    found, comparison = check(net, model, tmp_path)
    assert set(found.inputs) == {"data"} and len(comparison.rows) == 10 and comparison.first is None
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8))
    wants = Preprocessing(mean=(128.0,), resize=(12, 12))
    shown = read_delivered(net, tmp_path / "net.onnx", picture=(str(tmp_path / "a.png"), Preparation({"data": wants})))
    np.testing.assert_array_equal(shown.inputs["data"][0], wants.blob(wants.picture(tmp_path / "a.png")))


def test_some_outputs_and_in_place_inputs(net: Net, tmp_path: Path):
    save_onnx(export_onnx(net, outputs=["b"], inputs={"data": (3, 3, 12, 12)}, dynamic=False), tmp_path / "net.onnx")
    found = read_delivered(net, tmp_path / "net.onnx")
    assert found.inputs["data"].shape == (3, 3, 12, 12)
    assert len(found.values) == 4 and found.absent == ()
    changed = make_net(source("data", 1, 4) + layer("ReLU", "r", "data", "data") + ip("f", "data", "f"))
    model = export_onnx(changed, outputs=["data", "f"])
    found, comparison = check(changed, model, tmp_path)
    assert [row.layer for row in comparison.rows] == ["r", "f"] and comparison.first is None and found.absent == ()


def test_files_of_other_nets_and_of_none(net: Net, tmp_path: Path):
    other = make_net(source("data", 1, 3, 12, 12) + conv("x", "data", "x") + ip("y", "x", "y"))
    with pytest.raises(DataError, match=r"is not of net '': it computes x, .*, \.\.\., and no layer of the net"):
        check(net, export_onnx(other), tmp_path)
    vectors = make_net('name: "v" ' + source("p", 1, 3) + source("q", 1, 3) + layer("Eltwise", "e", "p q", "e"))
    with pytest.raises(DataError, match=r"it takes p, q, the net data \(it says that it is of net 'v'\)"):
        check(net, export_onnx(vectors), tmp_path)
    with pytest.raises(MissingFileError):
        read_delivered(net, tmp_path / "none.onnx")
    for content in (b"", b"no model at all", export_onnx(net).SerializeToString()[:500]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(ModelFileError, match="expected an ONNX model"):
            read_delivered(net, tmp_path / "bad.onnx")


def test_the_command(net: Net, tmp_path: Path):
    (tmp_path / "net.prototxt").write_text(TEXT)
    net.save(tmp_path / "net.caffemodel")
    model = made(net, "float16")
    save_onnx(model, tmp_path / "net.onnx")

    def verify(*words: str) -> Done:
        return call("verify", "--model", "net.prototxt", "--weights", "net.caffemodel", *words, folder=tmp_path)

    done = verify("--onnx", "net.onnx")
    assert done.status == 0 and done.stdout.startswith("net.onnx: float16, has 10 of 10 values of layers\nlayer ")
    assert done.stdout.endswith("10 blobs agree within 0.02\n")
    assert "first divergence: layer 'a'" in verify("--onnx", "net.onnx", "--tolerance", "1e-6").stdout
    assert verify("--onnx").stdout.endswith("10 blobs agree within 0.0001\n")
    spoil(model, "c.weight", 2)
    save_onnx(model, tmp_path / "net.onnx")
    done = verify("--onnx", "net.onnx")
    assert done.status == 1 and "first divergence: layer 'c' (InnerProduct), blob 'c'" in done.stdout
    np.savez(tmp_path / "in.npz", data=np.ones((5, 3, 12, 12), np.float32))
    assert verify("--onnx", "net.onnx", "--input", "in.npz").status == 1
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8))
    save_onnx(made(net, "int8"), tmp_path / "net.onnx")
    done = verify("--onnx", "net.onnx", "--picture", "a.png")
    assert done.status == 2 and "neither net.onnx nor a preprocessing.json" in done.stderr
    write_preprocessing(tmp_path / "preprocessing.json", Preprocessing(mean=(128.0,), resize=(12, 12)))
    assert verify("--onnx", "net.onnx", "--picture", "a.png").stdout.endswith("10 blobs agree within 0.5\n")
    done = verify("--onnx", "--picture", "a.png")
    assert done.status == 2 and "--picture goes with --onnx FILE and without --input" in done.stderr
    done = verify("--onnx", "net.prototxt")
    assert done.status == 2 and "expected an ONNX model" in done.stderr
