"""BatchNorm, Scale, Bias and Power as part of the weights before them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_nets import conv, ip, layer, make_net, operators, source
from program import call

from caffe_compat.net import Net, load_net
from caffe_compat.onnx import export_onnx, verify_onnx
from caffe_compat.onnx.fold import fold_affine
from caffe_compat.onnx.parts import join, split
from caffe_compat.resources import prototxt

DATA = source("data", 2, 4, 7, 6)
NORM = layer("BatchNorm", "bn", "x", "x") + layer("Scale", "s", "x", "x", "scale_param { bias_term: true }")
DECONV = layer("Deconvolution", "d", "data", "x", "convolution_param { num_output: 6 kernel_size: 3 stride: 2 }")
POWER = layer("Power", "p", "x", "y", "power_param { scale: 0.5 shift: 2 }")


def net_of(text: str) -> Net:
    """A net whose normalizations have means, and variances above 0."""
    net = make_net(text)
    random = torch.Generator().manual_seed(1)
    for node in net.nodes:
        if node.type == "BatchNorm":
            with torch.no_grad():
                node.layer.blobs[1].copy_(torch.rand(node.layer.blob_shapes[1], generator=random) + 0.2)
                node.layer.blobs[2].fill_(0.5)
    return net


def folded(net: Net, tolerance: float = 2e-6, **options: object) -> onnx.ModelProto:
    """The folded model, that agrees with the net."""
    model = export_onnx(net, fold=True, **options)
    for name, found in verify_onnx(net, model).items():
        assert found.relative < tolerance, (name, found)
    return model


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (conv("c", "data", "x") + NORM, ["Conv"]),
        (conv("c", "data", "x", more="kernel_size: 3 bias_term: false") + NORM, ["Conv"]),
        (conv("c", "data", "x", 6, "kernel_size: 3 pad: 1 group: 2") + NORM, ["Conv"]),
        (conv("c", "data", "x") + layer("Bias", "b", "x", "y"), ["Conv"]),
        (conv("c", "data", "x") + NORM + layer("Bias", "b", "x", "y") + layer("ReLU", "r", "y", "y"), ["Conv", "Relu"]),
        (conv("c", "data", "x") + POWER, ["Conv"]),
        (conv("c", "data", "x") + layer("Scale", "s", "x", "y", "scale_param { scale: 3 }"), ["Conv"]),
        (conv("c", "data", "x", 1) + NORM, ["Conv"]),
        (DECONV + NORM, ["ConvTranspose"]),
        (DECONV.replace("num_output: 6", "num_output: 6 group: 2") + NORM, ["ConvTranspose"]),
        (ip("f", "data", "x") + NORM, ["Flatten", "Gemm"]),
        (
            ip("f", "data", "x", 5, "").replace("num_output: 5", "num_output: 5 transpose: true") + NORM,
            ["Flatten", "Gemm"],
        ),
        (ip("f", "data", "x") + layer("Scale", "s", "x", "y"), ["Flatten", "Gemm"]),
        (conv("c", "data", "x") + NORM + conv("e", "x", "z") + layer("BatchNorm", "bn2", "z", "z"), ["Conv", "Conv"]),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_folded(text: str, left: list[str], dynamic: bool) -> None:
    model = folded(net_of(DATA + text), dynamic=dynamic)
    assert operators(model) == left
    names = {tensor.name for tensor in model.graph.initializer}
    assert {name.split(".")[0] for name in names} == {node.name for node in model.graph.node if len(node.input) > 1}


@pytest.mark.parametrize(
    ("text", "left", "outputs"),
    [
        # somebody else reads what the convolution makes
        (conv("c", "data", "x") + layer("BatchNorm", "bn", "x", "y") + layer("Eltwise", "e", "x y", "z"),
         ["Conv", "BatchNormalization", "Add"], None),
        # it is an output
        (conv("c", "data", "x") + layer("BatchNorm", "bn", "x", "y"), ["Conv", "BatchNormalization"], ["x", "y"]),
        # the BatchNorm's own value is one: up to there
        (conv("c", "data", "x") + layer("BatchNorm", "bn", "x", "y") + layer("Scale", "s", "y", "z"),
         ["Conv", "Mul"], ["y", "z"]),
        # something between
        (conv("c", "data", "x") + layer("ReLU", "r", "x", "x") + NORM,
         ["Conv", "Relu", "BatchNormalization", "Mul", "Add"], None),
        # a scale for each column, not channel
        (conv("c", "data", "x") + layer("Scale", "s", "x", "y", "scale_param { axis: 3 }"), ["Conv", "Mul"], None),
        # a scale that is computed
        (conv("c", "data", "x") + source("g", 2, 4) + layer("Scale", "s", "x g", "y", "scale_param { axis: 0 }"),
         ["Conv", "Mul"], None),
        # the batch's own statistics
        (conv("c", "data", "x") + layer("BatchNorm", "bn", "x", "y", "batch_norm_param { use_global_stats: false }"),
         None, None),
    ],
)  # fmt: skip
def test_not_folded(text: str, left: list[str] | None, outputs: list[str] | None) -> None:
    net = net_of(DATA + text)
    found = [name for name in operators(folded(net, 2e-5, outputs=outputs)) if name not in ("Unsqueeze",)]
    assert found == (left or operators(export_onnx(net)))


def test_shared_weights_stay() -> None:
    """Two convolutions of the same weights, with normalizations of their own."""
    shared = 'param { name: "w" } param { name: "b" }'
    text = DATA + source("other", 2, 4, 7, 6)
    for number, bottom in enumerate(("data", "other")):
        text += conv(f"c{number}", bottom, f"x{number}").replace("layer {", f"layer {{ {shared}")
        text += layer("BatchNorm", f"bn{number}", f"x{number}", f"y{number}")
    model = folded(net_of(text))
    assert operators(model).count("BatchNormalization") == 2
    assert [t.name for t in model.graph.initializer if len(t.dims) == 4] == ["c0.weight"]


def test_a_shared_bias_stays_with_the_others() -> None:
    text = conv("c", "data", "x").replace("layer {", 'layer { param { name: "w" } param { name: "b" }') + NORM
    text += conv("e", "x", "z").replace("layer {", 'layer { param { name: "v" } param { name: "b" }')
    net = net_of(DATA + text)
    tensors = {t.name: numpy_helper.to_array(t) for t in folded(net).graph.initializer}
    assert set(tensors) == {"c.weight", "c.bias", "e.weight", "c.bias__2"}
    np.testing.assert_array_equal(tensors["c.bias"], net.layer("c").blobs[1].detach())


def test_weights_that_would_not_be_finite_stay() -> None:
    """1e30 is a weight, 1e60 none."""
    net = net_of(DATA + conv("c", "data", "x") + layer("Power", "a", "x", "y", "power_param { scale: 1e30 }")
                 + layer("Power", "b", "y", "z", "power_param { scale: 1e30 }"))  # fmt: skip
    model = export_onnx(net, fold=True)
    assert operators(model) == ["Conv", "Mul"]


def test_the_net_keeps_its_weights() -> None:
    net = net_of(DATA + conv("c", "data", "x", 70) + NORM)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    folded(net)
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


def test_names_and_shapes_of_what_is_left() -> None:
    model = folded(net_of('name: "n"' + DATA + conv("c", "data", "x") + NORM + conv("e", "x", "z")), dynamic=True)
    assert [(node.name, list(node.output)) for node in model.graph.node] == [("c", ["x"]), ("e", ["z"])]
    assert [value.name for value in model.graph.value_info] == ["x"]


def test_what_others_write() -> None:
    """Gemm with factors, Sub and Div, a constant first, and one that is larger than the value."""
    random = np.random.default_rng(0)
    arrays = {
        "w": random.standard_normal((5, 3)), "u": random.standard_normal((5, 4)), "v": random.standard_normal((4, 5)),
        "five": random.uniform(1, 2, 5), "row": random.uniform(1, 2, (1, 5)), "big": random.uniform(1, 2, (2, 1, 5)),
        "one": np.array(2.0),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], transB=1, alpha=2.0),  # not this one
        helper.make_node("Sub", ["a", "five"], ["b"]),
        helper.make_node("Gemm", ["b", "u"], ["c"]),
        helper.make_node("Div", ["c", "one"], ["d"]),
        helper.make_node("Sub", ["one", "d"], ["e"]),  # nor a difference to it
        helper.make_node("Gemm", ["e", "v"], ["f"], transB=0),
        helper.make_node("Sub", ["f", "five"], ["g"]),
        helper.make_node("Mul", ["row", "g"], ["h"]),
        helper.make_node("Mul", ["h", "big"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2, 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    after = join(fold_affine(split(model)))
    assert operators(after) == ["Gemm", "Sub", "Gemm", "Sub", "Gemm", "Mul"]
    x = random.standard_normal((2, 3)).astype(np.float32)
    (old,), (new,) = (ReferenceEvaluator(m).run(None, {"x": x}) for m in (model, after))
    np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)


def test_resnet50() -> None:
    """388 nodes become 123, to the same features: its softmax would hide differences."""
    net = load_net(prototxt("resnet50/deploy.prototxt"))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for node in net.nodes:
            for index, blob in enumerate(node.layer.blobs):
                fan = max(1, blob[0].numel()) if blob.dim() > 1 else 0
                value = torch.randn(blob.shape, generator=random) * (2 / fan) ** 0.5 if fan else None
                blob.copy_(torch.rand(blob.shape, generator=random) * 0.4 + 0.6 if value is None else value)
                if node.type == "BatchNorm" and index == 2:
                    blob.fill_(1)
    outputs = [net.nodes[-2].description.tops[0], "res3a"]
    model = export_onnx(net, fold=True, inputs={"data": (1, 3, 64, 64)}, outputs=outputs, dynamic=())
    assert len(model.graph.node) <= 124 and "BatchNormalization" not in operators(model)
    for name, found in verify_onnx(net, model, sizes=[{}]).items():
        assert found.relative < 1e-5, (name, found)


def test_command(tmp_path) -> None:
    (tmp_path / "n.prototxt").write_text(DATA + conv("c", "data", "x") + NORM)
    net_of(DATA + conv("c", "data", "x") + NORM).save(tmp_path / "n.caffemodel")
    words = ("--model", "n.prototxt", "--weights", "n.caffemodel", "--output", "n.onnx")
    assert "6 nodes" in call("export_onnx", *words, folder=tmp_path).stdout
    done = call("export_onnx", *words, "--fold", folder=tmp_path)
    assert done.status == 0 and "1 nodes" in done.stdout and "largest difference" in done.stdout
