"""What an exported model looks like, and which nets are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_nets import conv, dims, ip, layer, make_net, operators, source

from caffe_compat.errors import CaffeCompatError, ExportError
from caffe_compat.onnx import export_onnx, save_onnx, support_table, verify_onnx
from caffe_compat.onnx.options import ExportOptions, Options

CHAIN = (
    source("data", 2, 3, 9, 11)
    + conv("c1", "data", "c1")
    + layer("ReLU", "r1", "c1", "c1")
    + layer("Dropout", "d1", "c1", "c1")
    + layer("Pooling", "p1", "c1", "p1", "pooling_param { kernel_size: 3 stride: 2 }")
    + ip("fc", "p1", "fc")
    + layer("Dropout", "d2", "fc", "fc_drop")
    + layer("Softmax", "prob", "fc_drop", "prob")
)
TRUNK = source("data", 1, 3, 20, 24) + conv("c1", "data", "c1") + layer("ReLU", "r1", "c1", "c1")


def check(net, model, tolerance=1e-5, **more):
    for name, found in verify_onnx(net, model, **more).items():
        assert found.relative < tolerance, (name, found)


def test_names_and_nodes_of_an_in_place_chain():
    net = make_net(CHAIN)
    model = export_onnx(net)
    assert model.opset_import[0].version == 17 and model.ir_version <= 10
    nodes = {node.name: node for node in model.graph.node}
    assert "Dropout" not in operators(model) and "Identity" not in operators(model)
    assert list(nodes["c1"].output) == ["c1__c1"]  # the first of several writers
    assert list(nodes["r1"].output) == ["c1"]  # the last one that computes anything has the blob's name
    assert list(nodes["prob"].output) == ["prob"]
    assert list(nodes["prob"].input) == ["fc"]  # fc_drop was an alias
    assert {t.name for t in model.graph.initializer} >= {"c1.weight", "c1.bias", "fc.weight", "fc.bias"}
    assert dims(model.graph.input) == {"data": ["batch", 3, 9, 11]}
    assert dims(model.graph.output) == {"prob": ["batch", 5]}
    check(net, model)


def test_weights_are_the_parameters():
    net = make_net(CHAIN)
    tensors = {t.name: numpy_helper.to_array(t) for t in export_onnx(net).graph.initializer}
    np.testing.assert_array_equal(tensors["fc.weight"], net.layer("fc").blobs[0].detach().numpy())


def test_outputs_any_blob_and_only_what_they_need():
    net = make_net(CHAIN)
    model = export_onnx(net, outputs=["p1", "c1"])
    assert list(dims(model.graph.output)) == ["p1", "c1"]
    assert not any(t.name.startswith("fc") for t in model.graph.initializer)
    check(net, model)
    check(net, export_onnx(net, outputs=["fc_drop", "fc"]))  # two names of one value


def test_input_used_twice_and_split_names():
    text = source("data", 1, 2, 6, 6) + layer("ReLU", "r", "data", "r") + layer("Eltwise", "e", "data r", "e")
    net = make_net(text)
    model = export_onnx(net, dynamic=True)
    assert list(model.graph.node[-1].input) == ["data", "r"]
    assert len(model.graph.node) == 2
    check(net, model)
    split = net.nodes[1].description.tops[0]
    check(net, export_onnx(net, outputs=["e", split]) if split in net.plan.names else model)


def test_input_changed_in_place_keeps_its_name():
    net = make_net(source("data", 2, 3) + layer("ReLU", "r", "data", "data") + layer("Power", "p", "data", "data"))
    model = export_onnx(net)
    assert list(dims(model.graph.input)) == ["data"] and list(dims(model.graph.output)) == ["data__p"]
    assert json.loads({e.key: e.value for e in model.metadata_props}["caffe_renamed_outputs"]) == {"data__p": "data"}
    check(net, model)


def test_a_net_that_computes_nothing():
    net = make_net(source("data", 2, 3) + layer("Dropout", "d", "data", "out"))
    model = export_onnx(net)
    assert operators(model) == ["Identity"]
    check(net, model)


def test_duplicate_layer_names():
    text = TRUNK + conv("c2", "data", "c2") + layer("Eltwise", "sum", "c1 c2", "s1")
    text += layer("Eltwise", "sum", "s1 data2", "s2")
    net = make_net(source("data2", 1, 4, 20, 24) + text)
    model = export_onnx(net)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names) and {"sum", "sum__2"} <= set(names)
    check(net, model)


def test_shared_parameters_are_stored_once():
    shared = 'param { name: "w" } param { name: "b" }'
    text = source("a", 2, 6) + source("b", 2, 6) + ip("f", "a", "fa", 6, shared) + ip("g", "b", "fb", 6, shared)
    net = make_net(text + layer("Eltwise", "e", "fa fb", "e"))
    model = export_onnx(net)
    assert [t.name for t in model.graph.initializer if len(t.dims) == 2] == ["f.weight"]
    assert dims(model.graph.input) == {"a": ["batch", 6], "b": ["batch", 6]}  # must agree, so one size
    check(net, model)


def test_parameter_shared_in_another_shape():
    more = 'param { name: "w" share_mode: PERMISSIVE } param { lr_mult: 1 }'
    text = source("a", 2, 6) + ip("f", "a", "fa", 4, more) + source("b", 2, 4) + ip("g", "b", "fb", 6, more)
    net = make_net(text)
    model = export_onnx(net)
    assert [t.name for t in model.graph.initializer if t.name.endswith(".weight")] == ["f.weight"]
    check(net, model)


def test_equal_constants_are_stored_once():
    text = source("data", 1, 4)
    for name in "abc":
        text += layer("Power", name, "data", name, "power_param { scale: 3 shift: 2 }")
    model = export_onnx(make_net(text))
    values = [numpy_helper.to_array(t) for t in model.graph.initializer]
    assert sorted(float(v) for v in values if v.size == 1) == [2.0, 3.0]


def test_dynamic_height_and_width():
    net = make_net(
        TRUNK + layer("Pooling", "p", "c1", "p", "pooling_param { kernel_size: 3 stride: 2 pool: AVE pad: 1}")
    )
    model = export_onnx(net, dynamic=("batch", "height", "width"))
    assert dims(model.graph.input) == {"data": ["batch", 3, "height", "width"]}
    assert dims(model.graph.output) == {"p": ["batch", 4, "p_axis2", "p_axis3"]}
    check(net, model)
    check(net, model, sizes=[{"height": h, "width": w} for h, w in ((20, 23), (21, 31), (64, 33))])
    assert dims(export_onnx(net, dynamic=()).graph.input) == {"data": [1, 3, 20, 24]}
    assert export_onnx(net, dynamic=False) == export_onnx(net, dynamic=())


def test_dynamic_true_leaves_open_what_the_net_allows():
    assert dims(export_onnx(make_net(CHAIN), dynamic=True).graph.input) == {"data": ["batch", 3, 9, 11]}
    with pytest.raises(ExportError, match="dynamic height, leave it fixed: layer 'fc' .*input size incompatible"):
        export_onnx(make_net(CHAIN), dynamic=("batch", "height"))


def test_rois_have_a_size_of_their_own():
    roi = "roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.5 }"
    text = TRUNK + layer("Pooling", "p", "c1", "p", "pooling_param { kernel_size: 2 stride: 2 }") + source("rois", 6, 5)
    net = make_net(text + layer("ROIPooling", "roi", "p rois", "roi", roi) + ip("fc", "roi", "score"))
    model = export_onnx(net, dynamic=True)
    assert dims(model.graph.input) == {"data": ["batch", 3, "height", "width"], "rois": ["boxes", 5]}
    assert dims(model.graph.output) == {"score": ["boxes", 5]}
    check(net, model)
    check(net, model, sizes=[{"batch": 2, "height": 33, "width": 50, "boxes": 17}])


def test_recurrent_batch_is_axis_1():
    text = source("x", 3, 2, 4) + source("cont", 3, 2)
    text += layer("LSTM", "l", "x cont", "h", "recurrent_param { num_output: 5 }")
    net = make_net(text)
    model = export_onnx(net)
    assert dims(model.graph.input) == {"x": [3, "batch", 4], "cont": [3, "batch"]}
    check(net, model)


def test_filter_makes_its_rows_dynamic():
    text = source("x", 4, 3) + source("s", 4) + layer("Filter", "f", "x s", "y") + layer("ReLU", "r", "y", "z")
    net = make_net(text)
    model = export_onnx(net, dynamic=())
    assert dims(model.graph.output) == {"z": ["z_axis0", 3]}
    inputs = {"x": np.arange(12, dtype=np.float32).reshape(4, 3), "s": np.array([0, 1, 0, 1], np.float32)}
    assert verify_onnx(net, model, inputs)["z"].shapes == ((2, 3),)


def test_other_input_shape():
    model = export_onnx(make_net(TRUNK), inputs={"data": (7, 3, 40, 50)}, dynamic=())
    assert dims(model.graph.output) == {"c1": [7, 4, 40, 50]}
    net = make_net('layer { name: "x" type: "Input" top: "x" }' + layer("ReLU", "r", "x", "y"))
    check(net, export_onnx(net, inputs={"x": (2, 3)}))


def test_metadata():
    model = export_onnx(make_net('name: "tiny"\n' + TRUNK), metadata={"mean_bgr": [104, 117, 123], "scale": "1"})
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["caffe_net"] == "tiny" and json.loads(facts["mean_bgr"]) == [104, 117, 123] and facts["scale"] == "1"
    assert model.graph.name == "tiny"


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_opsets(opset):
    net = make_net(CHAIN)
    model = export_onnx(net, opset=opset)
    assert model.opset_import[0].version == opset and model.ir_version <= 10
    check(net, model)


DATA_LAYER = 'layer { name: "d" type: "MemoryData" top: "data" top: "label" '
DATA_LAYER += "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 4 } }\n"
REFUSED = [
    (CHAIN, {"outputs": ["prub"]}, "has no blob 'prub' .did you mean 'prob'"),
    (CHAIN, {"outputs": ["prob", "prob"]}, "expected each blob once"),
    (CHAIN, {"outputs": ["data"]}, "'data' is an input"),
    (CHAIN, {"outputs": []}, "no output"),
    (CHAIN, {"opset": 12}, "opset is 12, expected 17 to 21"),
    (CHAIN, {"opset": 22}, "opset is 22, expected 17 to 21"),
    (CHAIN, {"dynamic": ("channels",)}, "expected True or a sequence out of batch, boxes, height, width"),
    (CHAIN, {"dynamic": "batch"}, "expected True or a sequence"),
    (CHAIN, {"inputs": {"date": (1, 3, 9, 11)}}, "no input 'date' .did you mean 'data'"),
    (CHAIN, {"inputs": {"data": (1, 3, 8, 30)}}, "layer 'fc'"),
    (CHAIN, {"inputs": {"data": (0, 3, 9, 11)}}, "expected positive sizes"),
    ('layer { name: "x" type: "Input" top: "x" }' + conv("c", "x", "y"), {}, "Convolution"),
    (
        source("x", 2, 3) + source("y", 2, 3) + layer("EuclideanLoss", "l", "x y", "l"),
        {},
        "layer 'l' .Euclidean.*train",
    ),
    (source("x", 2, 3) + source("y", 2) + layer("Accuracy", "acc", "x y", "acc"), {}, "layer 'acc' .Accuracy"),
    (DATA_LAYER + ip("f", "data", "f"), {}, "layer 'd' .MemoryData.*export the deploy net"),
]


@pytest.mark.parametrize(("text", "arguments", "message"), REFUSED)
def test_refusals(text, arguments, message):
    with pytest.raises(CaffeCompatError, match=message):
        export_onnx(make_net(text), **arguments)


def test_training_nets_are_refused():
    with pytest.raises(ExportError, match="TRAIN phase"):
        export_onnx(make_net(CHAIN, phase="TRAIN"))
    net = make_net(CHAIN)
    net.train()
    with pytest.raises(ExportError, match="TRAIN"):
        export_onnx(net)
    text = source("x", 2, 3) + layer("Dropout", "d", "x", "y", "phase: TRAIN")
    with pytest.raises(ExportError, match="layer 'd' .*TRAIN"):
        export_onnx(make_net(text))


def test_net_without_inputs():
    text = 'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } }'
    net = make_net(text + layer("ReLU", "r", "p", "y"))
    model = export_onnx(net)
    assert not model.graph.input
    check(net, model)


def test_static_sizes_are_demanded_by_name():
    text = source("data", 2, 3, 8) + layer("Reshape", "r", "data", "r", "reshape_param { shape { dim: 2 dim: -1 } }")
    with pytest.raises(ExportError, match="dynamic batch"):
        export_onnx(make_net(text + ip("f", "r", "f")))


def test_file_is_whole_or_absent(tmp_path: Path):
    net = make_net(CHAIN)
    path = tmp_path / "new" / "net.onnx"
    export_onnx(net, path)
    onnx.checker.check_model(str(path))
    check(net, path)
    before = path.read_bytes()
    broken = onnx.load(path)
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ExportError, match="onnx.checker refuses the model"):
        save_onnx(broken, path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["net.onnx"]


def test_weights_in_a_file_of_their_own(tmp_path: Path):
    net = make_net(CHAIN + ip("big", "c1", "big", 64))
    model = export_onnx(net)
    save_onnx(model, tmp_path / "net.onnx", external=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert (tmp_path / "net.onnx.data").stat().st_mode == (tmp_path / "net.onnx").stat().st_mode
    check(net, tmp_path / "net.onnx")
    assert model.graph.initializer[0].raw_data  # the model that was given is unchanged


def test_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(CaffeCompatError, match="cannot write"):
        export_onnx(make_net(CHAIN), tmp_path / "file" / "net.onnx")


def test_support_table():
    rows = [line.split(" | ") for line in support_table().splitlines()[2:]]
    table = {row[0].strip("| "): (row[2], row[3].strip(" |")) for row in rows}
    assert table["Convolution"] == ("yes", "") and table["SoftmaxWithLoss"][0] == "no"
    assert all(reason for exports, reason in table.values() if exports == "no")
    assert not any(reason for exports, reason in table.values() if exports == "yes")


def test_keyword_options_are_the_options():
    fields = {field.name for field in dataclasses.fields(Options)}
    assert fields == set(ExportOptions.__annotations__)


def test_constants_are_named_after_the_layer_that_needs_them_first():
    text = source("data", 1, 4)
    for name, body in (("a", "scale: 3 shift: 2"), ("b", "scale: 3 shift: 4")):
        text += layer("Power", name, "data", name, f"power_param {{ {body} }}")
    names = {t.name: float(numpy_helper.to_array(t)) for t in export_onnx(make_net(text)).graph.initializer}
    assert names == {"a/constant": 3, "a/constant__2": 2, "b/constant": 4}


ROI = "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.5 }"
DETECTOR = (
    TRUNK
    + layer("Pooling", "p", "c1", "p", "pooling_param { kernel_size: 2 stride: 2 }")
    + conv("c2", "p", "c2")
    + layer("ReLU", "r2", "c2", "c2")
    + source("rois", 6, 5)
    + layer("ROIPooling", "roi", "c2 rois", "roi", ROI)
    + ip("fc", "roi", "score")
)


def test_every_value_says_its_type_and_sizes():
    """A size that a layer hands on has one name before and after it."""
    model = export_onnx(make_net(DETECTOR), dynamic=True)
    found = dims(model.graph.value_info)
    assert found == {
        "c1__c1": ["batch", 4, "height", "width"],
        "c1": ["batch", 4, "height", "width"],
        "p": ["batch", 4, "p_axis2", "p_axis3"],
        "c2__c2": ["batch", 4, "p_axis2", "p_axis3"],
        "c2": ["batch", 4, "p_axis2", "p_axis3"],
        "roi": ["boxes", 4, 2, 2],
        "fc/Flatten": ["boxes", 16],
    } | {name: sizes for name, sizes in found.items() if name.startswith("p/")}  # of a pooling with open sizes
    assert {value.type.tensor_type.elem_type for value in model.graph.value_info if "/" not in value.name} == {1}
    fixed = export_onnx(make_net(DETECTOR), dynamic=())
    assert {node.output[0] for node in fixed.graph.node} == {*dims(fixed.graph.value_info), "score"}
    assert all(isinstance(dim, int) for sizes in dims(fixed.graph.value_info).values() for dim in sizes)


@pytest.mark.parametrize(
    ("dynamic", "data", "rois"),
    [
        (("batch",), "batch", "boxes"),
        (("boxes",), 1, "boxes"),
        (("batch", "boxes"), "batch", "boxes"),
        ((), 1, 6),
    ],
)
def test_the_number_of_boxes_alone_or_with_the_batch(dynamic, data, rois):
    net = make_net(DETECTOR)
    model = export_onnx(net, dynamic=dynamic)
    assert dims(model.graph.input) == {"data": [data, 3, 20, 24], "rois": [rois, 5]}
    check(net, model)


def test_nets_without_boxes_have_no_number_of_them():
    with pytest.raises(ExportError, match="dynamic boxes, leave it fixed: no layer takes boxes"):
        export_onnx(make_net(CHAIN), dynamic=("boxes",))
    assert dims(export_onnx(make_net(CHAIN), dynamic=("batch",)).graph.input) == {"data": ["batch", 3, 9, 11]}
