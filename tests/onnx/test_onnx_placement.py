"""Where ONNX Runtime puts nodes, told from the table of kernels, and what it copies."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from gpu import needs_gpu
from onnx import TensorProto, helper, numpy_helper
from onnx_nets import conv, ip, layer, make_net, source

from caffe_compat.commands import export_onnx as export_command
from caffe_compat.commands import placement as command
from caffe_compat.errors import CaffeCompatError, ExportError, UsageError
from caffe_compat.net import Net, load_net
from caffe_compat.onnx import export_onnx, place, profile
from caffe_compat.onnx.cuda_kernels import CPU_INPUTS, VERSIONS, kernels
from caffe_compat.onnx.export import export_parts
from caffe_compat.onnx.placement import CPU, CPU_BY_SHAPE, CUDA, Placement

PROTOTXT = Path(__file__).resolve().parents[2] / "prototxt"
FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def detector(more: str = "") -> Net:
    text = (
        source("data", 1, 3, 32, 40) + source("rois", 6, 5) + conv("c1", "data", "c1") + layer("ReLU", "r", "c1", "c1")
    )
    text += layer("Pooling", "p", "c1", "p", "pooling_param { kernel_size: 3 stride: 2 }") + more
    pool = "roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.5 }"
    text += layer("ROIPooling", "pooled", "p rois", "pooled", pool) + ip("fc", "pooled", "fc")
    return make_net(text + layer("Softmax", "prob", "fc", "prob"))


def graph(nodes: list[onnx.NodeProto], shape: tuple[int | str, ...] = (4, 6), kind: int = FLOAT, opset: int = 17):
    """A model from x to y, with int64 constants ``two`` (2 elements) and ``many`` (101)."""
    constants = [
        numpy_helper.from_array(numpy_helper.np.full(size, 2, "int64"), name)
        for name, size in (("two", (2,)), ("many", (101,)), ("last", (1,)))
    ]
    inputs = [helper.make_tensor_value_info("x", kind, list(shape))]
    outputs = [helper.make_tensor_value_info("y", kind, None)]
    made = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])


def places(found: Placement) -> dict[str, str]:
    return {node.name: node.where for node in found.nodes}


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


# -- detectors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dynamic", [("batch",), True])
@pytest.mark.parametrize("name", ["squeezenet_rgb", "caffenet_hha"])
def test_detectors_stay_on_the_gpu(name: str, dynamic: bool | tuple[str, ...], version: str) -> None:
    net = load_net(PROTOTXT / f"detection/{name}/test.prototxt")
    found = place(export_parts(net, roi="gpu", dynamic=dynamic).model, version)
    assert {node.where for node in found.nodes} <= {CUDA, CPU_BY_SHAPE} and found.passed, found.lines()
    assert not found.copies, "not even a size"


def test_max_roi_pool_leaves_the_gpu() -> None:
    found = place(export_onnx(detector()))
    assert [node.name for node in found.nodes if node.where != CUDA] == ["pooled"]
    assert [(copy.value, copy.source, copy.target, copy.size) for copy in found.copies] == [
        ("p", CUDA, CPU, 4 * 4 * 16 * 20),
        ("pooled", CPU, CUDA, 4 * 6 * 4 * 9),
    ]
    assert not found.passed and "'pooled' runs on the CPU: no CUDA kernel at any opset" in found.refusal


def test_sizes_that_are_open_come_from_the_prototxt_or_the_caller() -> None:
    model = export_onnx(detector(), dynamic=True)
    assert [copy.size for copy in place(model).copies] == [5120, 864]
    boxes = next(value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input if value.name == "rois")
    assert [copy.size for copy in place(model, sizes={boxes: 100}).copies] == [5120, 14400]
    assert place(model, limit=5120).passed
    with pytest.raises(UsageError, match="no open size 'bath'.*did you mean 'batch'"):
        place(model, sizes={"bath": 3})


def test_opsets_that_take_a_kernel_away_are_refused_for_a_gpu() -> None:
    """Flatten changed with opset 21, and no table has that form."""
    with pytest.raises(ExportError, match=r"opset is 21: node 'fc/Flatten' .Flatten-21. has no CUDA kernel"):
        export_onnx(detector(), roi="gpu", opset=21)
    assert place(export_onnx(detector(), roi="gpu", opset=18)).passed
    model = export_onnx(detector(), opset=21)  # for a CPU there is no reason to refuse it
    found = place(model, limit=10**6)
    assert not found.too_large and not found.passed and "node 'fc/Flatten' runs on the CPU" in found.refusal
    assert [node.name for node in found.nodes if node.lost] == ["fc/Flatten"], "MaxRoiPool has no kernel at any opset"


# -- the rules ---------------------------------------------------------------------------------------------------


def test_a_kernel_without_end_is_for_one_form() -> None:
    """MaxPool's is registered as 12+, and a MaxPool came with opset 22."""
    pool = [node("MaxPool", "x", "y", kernel_shape=[2, 2])]
    assert places(place(graph(pool, (1, 1, 4, 4), opset=21))) == {"y": CUDA}
    found = place(graph(pool, (1, 1, 4, 4), opset=22))
    assert places(found) == {"y": CPU} and "no CUDA kernel for MaxPool-22, only for 12" in found.nodes[0].reason


@pytest.mark.parametrize(("version", "where"), [("1.20", CPU), ("1.22", CPU), ("1.24", CUDA)])
def test_versions_differ(version: str, where: str) -> None:
    assert places(place(graph([node("Transpose", "x", "y")], opset=21), version)) == {"y": where}


def test_types_count() -> None:
    """Clip of int32 has no kernel, of int64 it has."""
    nodes = [node("Cast", "x", "wide", to=INT64), node("Clip", "wide last", "a"), node("Cast", "a", "y", to=FLOAT)]
    nodes[1].input[1] = ""
    assert places(place(graph(nodes)))["a"] == CUDA
    nodes[0].attribute[0].i = TensorProto.INT32
    found = place(graph(nodes))
    assert places(found) == {"wide": CUDA, "a": CPU, "y": CUDA} and "for int32" in found.nodes[1].reason


def shape_nodes(constant: str = "two", between: str = "Mul") -> list[onnx.NodeProto]:
    shape = [node("Shape", "x", "shape"), node(between, f"shape {constant}", "double")]
    return [*shape, node("Expand", "x double", "y")]


def test_sums_of_shapes_stay_on_the_cpu_without_a_copy() -> None:
    found = place(graph(shape_nodes()))
    assert places(found) == {"shape": CUDA, "double": CPU_BY_SHAPE, "y": CUDA} and not found.copies


def test_a_large_constant_takes_them_to_the_gpu() -> None:
    """A hundred elements is what ONNX Runtime calls small; the shape is copied then, and the sum back."""
    found = place(graph(shape_nodes("many"), (101,)))
    assert places(found)["double"] == CUDA
    assert [(copy.value, copy.target, copy.size) for copy in found.copies] == [("shape", CUDA, 8), ("double", CPU, 808)]


def test_a_shape_that_meets_the_map_goes_to_the_gpu() -> None:
    nodes = [node("Shape", "x", "shape"), node("Cast", "shape", "f", to=FLOAT), node("Relu", "x", "r")]
    nodes += [node("Gather", "f last", "one"), node("Mul", "r one", "y")]
    nodes[3].input[1] = "index"
    model = graph(nodes)
    model.graph.initializer.append(numpy_helper.from_array(numpy_helper.np.array([0]), "index"))
    found = place(model)
    assert places(found) == {"shape": CUDA, "f": CPU_BY_SHAPE, "one": CPU_BY_SHAPE, "r": CUDA, "y": CUDA}
    assert [(copy.value, copy.source, copy.size) for copy in found.copies] == [("one", CPU, 4)] and found.passed


def test_halves_are_not_computed_on_the_cpu() -> None:
    nodes = [node("Shape", "x", "shape"), node("Cast", "shape", "half", to=HALF), node("Sqrt", "half", "root")]
    found = place(graph([*nodes, node("Cast", "root", "y", to=FLOAT)]))
    assert places(found) == {"shape": CUDA, "half": CPU_BY_SHAPE, "root": CUDA, "y": CUDA}


def test_what_follows_from_a_node_without_kernel() -> None:
    """It is no shape, so its readers go back to the GPU."""
    nodes = [node("Det", "x", "det"), node("Sqrt", "det", "root"), node("Relu", "root", "y")]
    found = place(graph(nodes, (2, 3, 3)))
    assert places(found) == {"det": CPU, "root": CUDA, "y": CUDA}
    assert [(copy.value, copy.size) for copy in found.copies] == [("det", 8)]


def test_an_open_size_that_nobody_knows() -> None:
    model = graph([node("Det", "x", "y")], ("n", 3, 3))
    model.graph.node.append(node("Relu", "y", "z"))
    found = place(model)
    assert found.sizes == {"n": 300} and "at n 300" in found.lines()
    assert [copy.size for copy in found.copies] == [1200]
    assert place(model, sizes={"n": 4}).copies[0].size == 16


def test_unknown_version() -> None:
    with pytest.raises(UsageError, match="no table of kernels for ONNX Runtime 1.19, only 1.20, 1.22, 1.24"):
        place(graph([node("Relu", "x", "y")]), "1.19")


@pytest.mark.parametrize("version", VERSIONS)
def test_table_is_of_onnxs_operators(version: str) -> None:
    table = kernels(version)
    assert len(table) > 100 and "MaxRoiPool" not in table and set(CPU_INPUTS) <= set(table)
    for name, entries in table.items():
        for kernel in entries:
            schema = onnx.defs.get_schema(name, kernel.last, "")
            parameters = [*schema.inputs, *schema.outputs]
            known = {part for parameter in parameters for part in (parameter.name, parameter.type_str)}
            assert kernel.first <= kernel.last and set(kernel.types) <= known, f"{name} {kernel}"


# -- commands ----------------------------------------------------------------------------------------------------


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_onnx(detector(), tmp_path / "cpu.onnx", dynamic=True)
    export_onnx(detector(), tmp_path / "gpu.onnx", dynamic=True, roi="gpu")
    assert command.main([str(tmp_path / "gpu.onnx")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["c1", "Conv-11", "CUDA"] and "no copies between them" in lines[-1]
    assert command.main([str(tmp_path / "cpu.onnx"), "--brief", "--onnxruntime", "1.20", "--size", "batch=2"]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["pooled", "copy", "copy", "at", "ONNX"]
    assert "copy of 'p', 10240 bytes, CUDA to CPU, over 1024 bytes" in err
    assert command.main([str(tmp_path / "cpu.onnx"), "--limit", "5120"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "batch"], "expected NAME=N"),
        (["--size", "batch=0"], "expected NAME=N"),
        (["--limit", "-1"], "expected 0 or more bytes"),
        (["--onnxruntime", "9"], "no table of kernels"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, tmp_path: Path) -> None:
    export_onnx(detector(), tmp_path / "net.onnx")
    with pytest.raises(CaffeCompatError, match=message):
        command.main([str(tmp_path / "net.onnx"), *arguments])


def test_wrong_files(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no model at all")
    (tmp_path / "empty.onnx").touch()
    for name, message in (("net.onnx", "is no ONNX model"), ("empty.onnx", "is no ONNX model"), ("a.onnx", "a.onnx")):
        with pytest.raises(CaffeCompatError, match=message):
            command.main([str(tmp_path / name)])


def test_export_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = source("data", 1, 3, 32, 40) + source("rois", 6, 5)
    pool = layer("ROIPooling", "pooled", "data rois", "y", "roi_pooling_param { pooled_h: 3 pooled_w: 3 }")
    (tmp_path / "net.prototxt").write_text(text + pool)
    words = ["--model", str(tmp_path / "net.prototxt"), "--output", str(tmp_path / "net.onnx")]
    assert export_command.main([*words, "--roi", "gpu", "--placement"]) == 0
    assert "ONNX Runtime 1.24: " in capsys.readouterr().out
    relu = layer("ReLU", "r", "data", "map") + pool.replace("data rois", "map rois").replace('"data"', '"map"')
    (tmp_path / "net.prototxt").write_text(text + relu)
    assert export_command.main([*words, "--placement", "1.20"]) == 1
    assert "copy of 'map', 15360 bytes" in capsys.readouterr().err and (tmp_path / "net.onnx").exists()


# -- profiles ----------------------------------------------------------------------------------------------------


def test_profile_of_a_run_on_the_cpu(tmp_path: Path) -> None:
    """Every node, none of it on a GPU."""
    export_onnx(detector(), tmp_path / "net.onnx", dynamic=True)
    found = profile(tmp_path / "net.onnx", "cpu", {"batch": 2})
    assert {node.where for node in found.nodes} == {CPU} and not found.copies and found.passed
    assert {"MaxRoiPool", "Softmax"} <= {node.op for node in found.nodes}
    assert onnxruntime.__version__ in found.summary()


def test_no_gpu(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    export_onnx(detector(), tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="CUDAExecutionProvider (was asked for|did not start)"):
        profile(tmp_path / "net.onnx")


@needs_gpu
@pytest.mark.parametrize("roi", ["cpu", "gpu"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_profile_is_what_the_table_says(roi: str, dynamic: bool, tmp_path: Path) -> None:
    """Node by node, of those that ONNX Runtime did not join with others."""
    export_onnx(detector(), tmp_path / "net.onnx", dynamic=dynamic, roi=roi)
    told, found = place(tmp_path / "net.onnx"), profile(tmp_path / "net.onnx")
    expected, got = places(told), places(found)
    common = set(expected) & set(got)
    assert {name: got[name] for name in common} == {name: expected[name] for name in common}
    assert found.passed == told.passed == (roi == "gpu") and len(found.copies) == len(told.copies)
