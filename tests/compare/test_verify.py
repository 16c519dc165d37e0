"""tools/verify.py: layer by layer against ONNX Runtime, another module, and stored blobs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from program import ROOT, Done, call

from caffe_compat import compare
from caffe_compat.errors import CaffeCompatError, DataError, UsageError, WeightsError
from caffe_compat.net import BlobNet, load_net

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "shift" type: "Power" bottom: "conv" top: "conv" power_param { scale: 2 shift: 0.5 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "ip" bottom: "ip" top: "sum" }
layer { name: "drop" type: "Dropout" bottom: "sum" top: "sum" }
layer { name: "prob" type: "Softmax" bottom: "sum" top: "prob" }
"""
STEPS = [("conv", "conv"), ("relu", "conv"), ("shift", "conv"), ("ip", "ip"), ("sum", "sum"), ("drop", "sum")]


def tool(*words: object) -> Done:
    return call("verify", *words)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(1)
    Path("net.prototxt").write_text(NET)
    load_net("net.prototxt").save("net.caffemodel")
    return tmp_path


def recorded() -> dict[str, np.ndarray]:
    """What the net computes, recorded after every layer."""
    net = load_net("net.prototxt", "net.caffemodel")
    engine = BlobNet(net)
    data = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    engine.blob("data").data[...] = data
    arrays = {"in/data": data}
    for number, node in enumerate(net.nodes):
        engine.forward_layer(number)
        for blob in node.top_ids:
            arrays[f"after/{node.name}/{net.plan.names[blob]}"] = engine.blobs[blob].tensor.numpy().copy()
    return {name: value for name, value in arrays.items() if "split" not in name and not name.startswith("after/data")}


def test_onnx_agrees_after_every_layer(folder):
    status, out, err = tool("--model", "net.prototxt", "--weights", "net.caffemodel", "--onnx")
    assert status == 0, out + err
    rows = [tuple(line.split()[:2]) for line in out.splitlines()[1:-1]]
    assert rows == [*STEPS, ("prob", "prob")]


def test_a_module_agrees_and_gets_the_weights(folder):
    for weights in ([], ["--weights", "net.caffemodel"]):
        status, out, _ = tool("--model", "net.prototxt", *weights, "--module", "caffe_compat.pycaffe")
        assert status == 0 and all(f"{layer} " in out for layer, _ in STEPS), out


def test_a_module_that_computes_something_else_is_found(folder):
    Path("other_caffe.py").write_text(
        "from caffe_compat.pycaffe import TEST, Net as Base\n"
        "class Net(Base):\n"
        "    def forward(self):\n"
        "        super().forward()\n"
        "        self.blobs['conv@relu'].data[0, 0, 0, 0] += 1\n"
    )
    status, out, _ = tool("--model", "net.prototxt", "--module", "other_caffe")
    assert status == 1
    assert out.splitlines()[-1].startswith("first divergence: layer 'relu' (ReLU), blob 'conv': 1 absolute"), out
    sys.modules.pop("other_caffe")


@pytest.mark.parametrize("layer, blob", [*STEPS, ("prob", "prob")])
def test_stored_blobs_name_the_first_layer(folder, layer, blob):
    arrays = recorded()
    for later_layer, later_blob in [*STEPS, ("prob", "prob")][[*STEPS, ("prob", "prob")].index((layer, blob)) :]:
        arrays[f"after/{later_layer}/{later_blob}"] = arrays[f"after/{later_layer}/{later_blob}"] + 0.01
    np.savez("ref.npz", **arrays)
    status, out, _ = tool("--model", "net.prototxt", "--weights", "net.caffemodel", "--npz", "ref.npz")
    assert status == 1
    assert out.splitlines()[-1].startswith(f"first divergence: layer '{layer}' (")
    assert f"blob '{blob}': 0.01 absolute" in out.splitlines()[-1]


def test_stored_blobs_that_agree_and_values_at_the_end(folder):
    arrays = recorded()
    np.savez("ref.npz", **arrays)
    assert tool("--model", "net.prototxt", "--weights", "net.caffemodel", "--npz", "ref.npz")[0] == 0
    final = {"in/data": arrays["in/data"], "conv": arrays["after/shift/conv"], "out/prob": arrays["after/prob/prob"]}
    np.savez("final.npz", **final)
    status, out, _ = tool("--model", "net.prototxt", "--weights", "net.caffemodel", "--npz", "final.npz")
    assert status == 0 and [line.split()[0] for line in out.splitlines()[1:-1]] == ["shift", "prob"], out


def test_golden_case(folder):
    with np.load(ROOT / "tests/data/golden/nets/api_forward_blobs.npz") as case:
        Path("golden.prototxt").write_text(str(case["prototxt"][()]))
        arrays = {name: case[name] for name in case.files if name not in ("case", "prototxt")}
    np.savez("golden.npz", **arrays)
    status, out, err = tool("--model", "golden.prototxt", "--npz", "golden.npz")
    assert status == 0, out + err
    arrays["out/c"] = arrays["out/c"] + 0.1
    np.savez("golden.npz", **arrays)
    status, out, _ = tool("--model", "golden.prototxt", "--npz", "golden.npz")
    assert status == 1 and "layer 'ip2' (InnerProduct), blob 'c'" in out


def test_golden_case_in_place_on_the_input(folder):
    with np.load(ROOT / "tests/data/golden/layers/relu_inplace.npz") as case:
        Path("golden.prototxt").write_text(str(case["prototxt"][()]))
        arrays = {name: case[name] for name in case.files if name not in ("case", "prototxt")}
    (blob,) = {name[4:] for name in arrays if name.startswith("out/")} & {name[3:] for name in arrays}
    np.savez("golden.npz", **arrays)
    status, out, err = tool("--model", "golden.prototxt", "--npz", "golden.npz")
    assert status == 0, out + err
    arrays[f"out/{blob}"] = arrays[f"out/{blob}"] + 0.1
    np.savez("golden.npz", **arrays)
    assert tool("--model", "golden.prototxt", "--npz", "golden.npz")[0] == 1


@pytest.mark.parametrize(
    "change, finding",
    [
        (lambda value: value[:1], "shape [2, 5], the reference has [1, 5]"),
        (lambda value: np.full_like(value, np.nan), "0 of 10 values are NaN, in the reference 10 (tol"),
        (lambda value: np.full_like(value, np.inf), "inf absolute: 10 of 10 values are infinite on one side only"),
    ],
)
def test_other_shapes_and_nan_diverge(folder, change, finding):
    arrays = recorded()
    arrays["after/ip/ip"] = change(arrays["after/ip/ip"])
    np.savez("ref.npz", **arrays)
    status, out, _ = tool("--model", "net.prototxt", "--weights", "net.caffemodel", "--npz", "ref.npz")
    assert status == 1 and "layer 'ip'" in out and finding in out.splitlines()[-1], out


NAN_NET = """
name: "hot"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "root" type: "Power" bottom: "data" top: "root" power_param { power: 0.5 } }
layer { name: "twice" type: "Power" bottom: "root" top: "twice" power_param { scale: 2 } }
"""


@pytest.mark.parametrize("reference", [["--onnx"], ["--module", "caffe_compat.pycaffe"]])
def test_nan_in_both_is_never_verified(folder, reference):
    """Both compute NaN at the same places: they agree about nothing."""
    Path("nan.prototxt").write_text(NAN_NET)
    np.savez("in.npz", data=np.array([[1, 4, -1], [9, -4, -9]], np.float32))
    arguments = ["--model", "nan.prototxt", *reference, "--input", "in.npz", "--tolerance"]
    for tolerance in ("1e-4", "inf"):
        status, out, err = tool(*arguments, tolerance)
        assert status == 1 and not err
        finding = "layer 'root' (Power), blob 'root': 3 of 6 values are NaN, in the reference 3"
        assert out.splitlines()[-1].startswith(f"first divergence: {finding}"), out
    np.savez("in.npz", data=np.ones((2, 3), np.float32))
    assert tool(*arguments, "1e-4")[0] == 0


def test_an_output_of_nan_is_never_verified_by_a_reference_that_lacks_it(folder):
    Path("nan.prototxt").write_text(NAN_NET.replace("scale: 2", "power: 0.5 shift: -1.5"))
    data, root = np.array([[1, 4, 9]] * 2, np.float32), np.array([[1, 2, 3]] * 2, np.float32)
    np.savez("ref.npz", **{"in/data": data, "out/root": root})
    status, out, _ = tool("--model", "nan.prototxt", "--npz", "ref.npz")
    assert status == 1 and "layer 'twice' (Power), blob 'twice': 2 of 6 values are NaN (tol" in out
    np.savez("ref.npz", **{"in/data": data * 4, "out/root": root * 2})
    assert tool("--model", "nan.prototxt", "--npz", "ref.npz")[0] == 0


def test_layers_of_one_name_and_shared_parameters(folder):
    text = NET.replace('name: "shift"', 'name: "relu"').replace('name: "drop"', 'name: "sum"')
    Path("net.prototxt").write_text(text)
    assert tool("--model", "net.prototxt", "--onnx")[0] == 0
    message, places = compare.unroll(load_net("net.prototxt"), {"data": (2, 3, 6, 6)})
    assert len(set(places.values())) == len(places) == sum(len(layer.top) for layer in message.layer)


def test_input_file_of_another_size(folder):
    np.savez("in.npz", data=np.ones((5, 3, 6, 6), np.float32))
    assert tool("--model", "net.prototxt", "--onnx", "--input", "in.npz")[0] == 0


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--module", "no_such_module"], "module 'no_such_module' failed: ModuleNotFoundError"),
        (["--npz", "absent.npz"], "Could not open file absent.npz"),
        (["--npz", "net.prototxt"], "net.prototxt is a text file"),
        (["--npz", "cut.npz"], "cut.npz: is no .npz file of plain arrays"),
        (["--npz", "objects.npz"], "objects.npz: is no .npz file of plain arrays"),
        (["--npz", "other.npz"], "the reference has no blob"),
        (["--npz", "param.npz"], "param.npz: param/ip/7: net 'small' has no such parameter"),
        (["--onnx", "--input", "other.npz"], "no values for input 'data'"),
        (["--onnx", "--weights", "absent.caffemodel"], "Could not open file absent.caffemodel"),
    ],
)
def test_bad_input_is_one_line_and_status_2(folder, arguments, reason):
    np.savez("good.npz", **recorded())
    Path("cut.npz").write_bytes(Path("good.npz").read_bytes()[:-40])
    np.savez("objects.npz", ip=np.array([{}, None]))
    np.savez("other.npz", elsewhere=np.ones(3))
    np.savez("param.npz", **{"param/ip/7": np.ones(3)})
    status, out, err = tool("--model", "net.prototxt", *arguments)
    assert status == 2 and not out
    assert err.startswith("error: ") and err.count("\n") == 1 and reason in err


def test_errors_as_exceptions(folder):
    net = load_net("net.prototxt")
    with pytest.raises(DataError, match="no blob that a layer"):
        compare.compare(net, {"data": np.zeros((2, 3, 6, 6), np.float32)}, {})
    with pytest.raises(UsageError, match="no input 'dato'"):
        data = np.zeros((2, 3, 6, 6), np.float32)
        compare.compare(net, {"dato": data, "data": data}, {(1, 0): data})
    np.savez("p.npz", **{"param/ip/0": np.ones(3)})
    with pytest.raises(WeightsError, match="has the shape"):
        compare.from_npz(net, "p.npz")
    with pytest.raises(CaffeCompatError, match="conv"):
        compare.compare(net, {"data": np.zeros((2, 9, 6, 6), np.float32)}, {(1, 0): data})


def test_recurrent_layers_start_from_zero(folder):
    """A net that ran before has a state, which the reference does not."""
    Path("lstm.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 dim: 4 } } }'
        'layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 3 dim: 2 } } }'
        'layer { name: "h" type: "LSTM" bottom: "x" bottom: "cont" top: "h" recurrent_param { num_output: 5'
        ' weight_filler { type: "uniform" min: -1 max: 1 } } }'
    )
    net = load_net("lstm.prototxt")
    inputs = {"x": np.ones((3, 2, 4), np.float32), "cont": np.ones((3, 2), np.float32)}
    reference = compare.from_module(net, inputs, "caffe_compat.pycaffe")
    with torch.no_grad():
        net(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    assert compare.compare(net, inputs, reference).first is None
