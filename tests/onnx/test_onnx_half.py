"""Models in half precision: what is rounded, what is not, and that every layer survives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exported import case_net, exported_cases
from gpu import needs_gpu
from onnx import TensorProto, helper, numpy_helper
from onnx_nets import conv, ip, layer, make_net, source

from caffe_compat.compare import difference
from caffe_compat.errors import ExportError
from caffe_compat.net import Net
from caffe_compat.onnx import Session, export_onnx, to_half
from caffe_compat.onnx.roles import element_types
from caffe_compat.onnx.samples import random_inputs
from caffe_compat.onnx.save import check_model

NORM = layer("LRN", "norm", "c", "norm", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")
SIX = "pooled_w: 6 pooled_h: 6"
POOL = layer(
    "ROIPooling", "roi", "c rois", "roi", "roi_pooling_param { pooled_w: 6 pooled_h: 6 spatial_scale: 0.0625 }"
)


def types(model: onnx.ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    return Session(model)(inputs)


def identity(net: Net, name: str) -> None:
    """Let a 1 x 1 convolution pass its input through."""
    weight, bias = net.layer(name).blobs
    with torch.no_grad():
        weight.copy_(torch.eye(weight.shape[0]).reshape(weight.shape))
        bias.zero_()


def test_weights_are_halved_and_nothing_else_is_renamed():
    text = source("data", 2, 3, 9, 9) + conv("c", "data", "c") + layer("ReLU", "r", "c", "c") + ip("f", "c", "f")
    model = export_onnx(make_net(text), outputs=["c", "f"])
    before = model.SerializeToString(deterministic=True)
    half = to_half(model)
    assert model.SerializeToString(deterministic=True) == before
    check_model(half)
    assert types(half) == dict.fromkeys(("c.weight", "c.bias", "f.weight", "f.bias"), TensorProto.FLOAT16)
    assert [value.type.tensor_type.elem_type for value in (*half.graph.input, *half.graph.output)] == [1, 1, 1]
    assert [value.name for value in half.graph.output] == ["c", "f"]
    assert sum(node.op_type == "Cast" for node in half.graph.node) == 3  # data, and the two outputs
    data = np.random.default_rng(0).standard_normal((4, 3, 9, 9)).astype(np.float32)
    wanted, got = run(model, data=data), run(half, data=data)
    for name, values in wanted.items():
        assert got[name].dtype == np.float32 and 0 < difference(got[name], values).relative < 3e-3


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_lrn_is_right_above_255(beta: float, dynamic: bool):
    """Squares of more than 255 are no numbers of float16."""
    text = source("data", 1, 8, 5, 5) + conv("c", "data", "c", 8, "kernel_size: 1") + NORM.replace("0.75", str(beta))
    net = make_net(text + conv("d", "norm", "d"))
    identity(net, "c")
    model = export_onnx(net, outputs=["norm", "d"], dynamic=dynamic)
    data = np.random.default_rng(0).uniform(-4000, 4000, (1, 8, 5, 5)).astype(np.float32).round(-2)
    wanted, got = run(model, data=data), run(to_half(model), data=data)
    assert difference(got["norm"], wanted["norm"]).relative < 1e-6  # what comes in is exact, the rest is in float32
    assert difference(got["d"], wanted["d"]).within(2e-3)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("roi", ["cpu", "gpu"])
def test_a_region_pools_the_same_cells(roi: str, dynamic: bool):
    """Corners such as 777.4 and 2049 fall between the numbers of float16; features of whole numbers do not."""
    text = source("data", 1, 4, 80, 160) + source("rois", 500, 5) + conv("c", "data", "c", 4, "kernel_size: 1") + POOL
    net = make_net(text)
    identity(net, "c")
    model = export_onnx(net, dynamic=dynamic, roi=roi)
    random = np.random.default_rng(0)
    data = random.integers(-2000, 2000, (1, 4, 80, 160)).astype(np.float32)
    corners = np.sort(random.uniform(0, 2559, (500, 2, 2)).round(1).astype(np.float32), 1).reshape(500, 4)
    rois = np.hstack([np.zeros((500, 1), np.float32), corners])
    rois[0, 1:] = 777.4, 600, 2049, 1279
    half = to_half(model)
    wanted, got = run(model, data=data, rois=rois), run(half, data=data, rois=rois)
    np.testing.assert_array_equal(got["roi"], wanted["roi"])
    rounded = rois.astype(np.float16).astype(np.float32)
    assert (run(model, data=data, rois=rounded)["roi"] != wanted["roi"]).any()  # or the test shows nothing
    kinds = element_types(half)
    made = {node.op_type: kinds[node.output[0]] for node in half.graph.node if node.name.startswith("roi")}
    if roi == "gpu":  # tables and reads of features in half precision, corners not
        assert made["MaxPool"] == made["GatherND"] == TensorProto.FLOAT16 and made["Floor"] == TensorProto.FLOAT
    assert sum(node.op_type == "Cast" and node.input[0] == "c" for node in half.graph.node) == (roi == "cpu")


def test_box_head_and_softmax_stay_in_float32():
    text = source("data", 1, 4, 20, 20) + source("rois", 3, 5) + conv("c", "data", "c") + POOL.replace("0.0625", "1")
    text += (
        ip("fc", "roi", "fc") + layer("ReLU", "r", "fc", "fc") + ip("score", "fc", "score") + ip("bbox_pred", "fc", "b")
    )
    text += layer("Softmax", "prob", "score", "prob")
    model = export_onnx(make_net(text))
    half = to_half(model)
    check_model(half)
    assert types(half)["bbox_pred.weight"] == TensorProto.FLOAT and types(half)["fc.weight"] == TensorProto.FLOAT16
    made = onnx.shape_inference.infer_shapes(half).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*made.value_info, *made.output)}
    nodes = {node.name: node for node in half.graph.node}
    assert kinds[nodes["prob"].input[0]] == kinds[nodes["bbox_pred"].input[0]] == TensorProto.FLOAT
    assert nodes["prob"].output[0] == "prob" and nodes["bbox_pred"].output[0] == "b"  # no cast behind them
    assert types(to_half(model, keep=("f*",)))["fc.weight"] == TensorProto.FLOAT
    assert types(to_half(model, keep=("f",)))["fc.weight"] == TensorProto.FLOAT16


def test_a_constant_of_both_precisions_is_stored_twice():
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w"], ["y"], name="y"),
                helper.make_node("Mul", ["y", "s"], ["z"], name="z"),
                helper.make_node("Mul", ["x", "s"], ["v"], name="v"),
            ],
            "g",
            [helper.make_tensor_value_info("x", 1, [2, 2])],
            [helper.make_tensor_value_info(name, 1, [2, 2]) for name in "zv"],
            [numpy_helper.from_array(np.eye(2, dtype="f4"), "w"), numpy_helper.from_array(np.float32([0.1]), "s")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    half = to_half(model)
    assert types(half) == {"w": TensorProto.FLOAT16, "s": TensorProto.FLOAT, "s__half": TensorProto.FLOAT16}
    x = np.float32([[1, 2], [3, 4]])
    assert (run(half, x=x)["v"] == x * np.float32(0.1)).all() and np.allclose(run(half, x=x)["z"], x / 10, rtol=1e-3)


@pytest.mark.parametrize(("factor", "fits"), [(1e6, False), (1e-7, False), (1e-3, True)])
def test_weights_that_do_not_fit_stay(factor: float, fits: bool):
    net = make_net(
        source("data", 1, 3, 9, 9)
        + conv("c", "data", "c")
        + layer("Power", "p", "c", "p", f"power_param {{ scale: {1 / factor} }}")
    )
    with torch.no_grad():
        for blob in net.layer("c").blobs:
            blob.mul_(factor)
    model = export_onnx(net)
    half = to_half(model)
    assert (types(half)["c.weight"] == TensorProto.FLOAT16) == fits
    data = np.random.default_rng(0).standard_normal((1, 3, 9, 9)).astype(np.float32)
    assert difference(run(half, data=data)["p"], run(model, data=data)["p"]).within(3e-3)


def test_control_flow_is_refused():
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, [2])]
    )
    node = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch, else_branch=branch)
    inputs = [helper.make_tensor_value_info("x", 1, [2]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, [2])])
    with pytest.raises(ExportError, match=r"node 'choice' \(If\) holds a graph"):
        to_half(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def behind_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its first input multiplied by an identity matrix, so that the rest is behind weights."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    first = new.graph.input[0]
    size = first.type.tensor_type.shape.dim[-1].dim_value
    for node in new.graph.node:
        node.input[:] = ["behind" if name == first.name else name for name in node.input]
    node = helper.make_node("MatMul", [first.name, "identity"], ["behind"], name="identity")
    new.graph.node.insert(0, node)
    new.graph.initializer.append(numpy_helper.from_array(np.eye(size, dtype=np.float32), "identity"))
    return new


@pytest.mark.parametrize(("kind", "body", "shapes", "options"), exported_cases())
def test_every_layer_in_half_precision(kind: str, body: str, shapes: list[tuple[int, ...]], options: dict[str, Any]):
    net = case_net(kind, body, shapes, options)
    try:
        model = export_onnx(net, dynamic=False)
    except ExportError:
        return
    if not model.graph.input or not model.graph.input[0].type.tensor_type.shape.dim:
        return
    model = behind_weights(model)
    half = to_half(model)
    check_model(half)
    values = random_inputs(net, {n: net.blob_shapes[n] for n in net.input_names}, np.random.default_rng(0))
    values = {value.name: values[value.name] for value in model.graph.input}
    values = {name: array.astype(np.float16).astype(np.float32) for name, array in values.items()}
    wanted, got = Session(model)(values), Session(half)(values)
    for name in wanted:
        assert difference(got[name], wanted[name]).within(1e-2), name


@needs_gpu
def test_a_gpu_computes_the_same():
    text = source("data", 1, 3, 40, 60) + source("rois", 9, 5) + conv("c", "data", "c", 8) + NORM
    text += (
        POOL.replace('"c"', '"norm"', 1).replace("0.0625", "1")
        + ip("fc", "roi", "fc")
        + layer("Softmax", "p", "fc", "p")
    )
    model = export_onnx(make_net(text), dynamic=True, roi="gpu")
    random = np.random.default_rng(0)
    data = random.uniform(-400, 400, (1, 3, 40, 60)).astype(np.float32)
    rois = np.float32([[0, x, y, x + 9, y + 7] for x, y in random.uniform(0, 30, (20, 2))])
    wanted = run(model, data=data, rois=rois)["p"]
    got = Session(to_half(model), device="cuda")({"data": data, "rois": rois})["p"]
    assert difference(got, wanted).within(1e-2)
