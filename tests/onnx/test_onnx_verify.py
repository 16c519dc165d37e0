"""Verification must be able to fail; sessions must run where they were told to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import needs
from onnx import numpy_helper
from onnx_nets import conv, ip, layer, make_net, source
from program import call

from caffe_compat.errors import ExportError, MissingFileError, ModelFileError, UsageError
from caffe_compat.net import load_net
from caffe_compat.onnx import Session, export_onnx, export_verified, verify_onnx

TEXT = source("data", 2, 3, 6, 6) + conv("c", "data", "c") + layer("ReLU", "r", "c", "c") + ip("f", "c", "f")
ROOT = Path(__file__).resolve().parents[2]


def spoil(model: onnx.ModelProto, amount: float) -> None:
    """Shift the bias of the last layer."""
    (tensor,) = [t for t in model.graph.initializer if t.name == "f.bias"]
    values = numpy_helper.to_array(tensor) + np.float32(amount)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def test_difference_is_measured():
    net = make_net(TEXT)
    model = export_onnx(net)
    assert verify_onnx(net, model)["f"].relative < 1e-6
    spoil(model, 0.25)
    found = verify_onnx(net, model)["f"]
    assert found.absolute == pytest.approx(0.25, rel=1e-3)
    assert found.shapes == ((2, 5), (1, 5))
    spoil(model, float("nan"))
    assert verify_onnx(net, model)["f"].absolute == float("inf")


def test_nan_is_never_verified(tmp_path: Path):
    """Not even where both sides compute it."""
    net = make_net(source("data", 1, 4) + layer("Power", "p", "data", "p", "power_param { power: 0.5 }"))
    report = export_verified(net, tmp_path / "net.onnx", dynamic=False, tolerance=float("inf"))
    assert not report.passed and [path.name for path in tmp_path.iterdir()] == ["net.unverified.onnx"]
    assert "output 'p' differs from PyTorch: " in report.refusal and "of 4 values are NaN, in the ref" in report.refusal
    samples = {"data": np.ones((1, 4), np.float32)}
    assert export_verified(net, tmp_path / "net.onnx", samples=samples).passed


def test_random_inputs_have_logarithms():
    net = make_net(source("data", 2, 40) + layer("Log", "p", "data", "p", "log_param { scale: -2 shift: 1 base: 10 }"))
    assert verify_onnx(net, export_onnx(net))["p"].within(1e-5)


def test_given_inputs_and_sizes():
    net = make_net(TEXT)
    model = export_onnx(net)
    inputs = {"data": np.ones((4, 3, 6, 6), np.float32)}
    assert verify_onnx(net, model, inputs)["f"].shapes == ((4, 5),)
    assert verify_onnx(net, model, sizes=[{"batch": 5}])["f"].shapes == ((5, 5),)
    with pytest.raises(ExportError, match="no dynamic size 'width', only batch"):
        verify_onnx(net, model, sizes=[{"width": 5}])


def test_another_nets_model():
    other = make_net(TEXT.replace('"f"', '"g"'))
    with pytest.raises(ExportError, match="computes 'g', which is no blob"):
        verify_onnx(make_net(TEXT), export_onnx(other))
    model = export_onnx(make_net(TEXT))
    del model.metadata_props[:]
    with pytest.raises(ExportError, match="give inputs"):
        verify_onnx(make_net(TEXT), model)


def test_index_inputs_are_usable():
    text = source("data", 4, 6, 5, 5) + source("index", 3) + layer("BatchReindex", "b", "data index", "b")
    net = make_net(text)
    assert verify_onnx(net, export_onnx(net))["b"].absolute == 0
    text = source("word", 3, 2) + layer("Embed", "e", "word", "e", "embed_param { input_dim: 9 num_output: 4 }")
    net = make_net(text)
    assert verify_onnx(net, export_onnx(net))["e"].absolute == 0


def test_session_of_arrays_and_tensors():
    net = make_net(TEXT)
    session = Session(export_onnx(net))
    assert session.input_names == ["data"] and session.output_names == ["f"]
    values = torch.randn(3, 3, 6, 6)
    expected = net(data=values)["f"].detach()
    from_array = session({"data": values.numpy()})["f"]
    from_tensor = session({"data": values})["f"]
    assert isinstance(from_array, np.ndarray) and isinstance(from_tensor, torch.Tensor)
    torch.testing.assert_close(from_tensor, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(from_array, from_tensor.numpy())
    odd = values.permute(0, 1, 3, 2)  # not contiguous
    torch.testing.assert_close(session({"data": odd})["f"], net(data=odd)["f"].detach(), rtol=1e-4, atol=1e-5)
    kept = from_tensor.clone()
    session({"data": values * 2})
    torch.testing.assert_close(from_tensor, kept)  # a later run does not write into an earlier result


def test_session_refusals(tmp_path: Path):
    model = export_onnx(make_net(TEXT))
    session = Session(model)
    with pytest.raises(UsageError, match="takes the inputs"):
        session({"date": np.zeros((1, 3, 6, 6))})
    with pytest.raises(UsageError, match="expected cpu or cuda"):
        Session(model, device="meta")
    with pytest.raises(UsageError, match="NoSuchProvider was asked for"):
        Session(model, providers=["NoSuchProvider"])
    with pytest.raises(MissingFileError):
        Session(tmp_path / "absent.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match="is no ONNX model"):
        Session(tmp_path / "bad.onnx")


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there")
def test_cuda_is_never_replaced_silently():
    with pytest.raises(UsageError, match="CUDAExecutionProvider was asked for.*onnxruntime-gpu"):
        Session(export_onnx(make_net(TEXT)), device="cuda")


@pytest.mark.skipif(
    not torch.cuda.is_available() or "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs CUDA in torch and ONNX Runtime",
)
def test_cuda_session_stays_on_the_device():
    net = make_net(TEXT)
    session = Session(export_onnx(net), device="cuda")
    values = torch.randn(3, 3, 6, 6, device="cuda")
    result = session({"data": values})["f"]
    assert result.device.type == "cuda"
    torch.testing.assert_close(result, net.cuda()(data=values)["f"].detach(), rtol=1e-3, atol=1e-4)


def test_model_above_tolerance_is_kept_under_another_name(tmp_path: Path):
    net = make_net(TEXT)
    report = export_verified(net, tmp_path / "net.onnx", tolerance=1e-12)
    assert not report.passed and report.path.name == "net.unverified.onnx"
    assert [p.name for p in tmp_path.iterdir()] == ["net.unverified.onnx"]
    report = export_verified(net, tmp_path / "net.onnx")
    assert report.passed and report.size == (tmp_path / "net.onnx").stat().st_size
    assert report.lines()[0].startswith(f"{tmp_path / 'net.onnx'}: ")


def test_tool(tmp_path: Path):
    prototxt, output = tmp_path / "net.prototxt", tmp_path / "net.onnx"
    filled = TEXT.replace("num_output: 5", 'num_output: 5 weight_filler { type: "gaussian" std: 1 }')
    prototxt.write_text(filled.replace("kernel_size: 3", 'kernel_size: 3 weight_filler { type: "xavier" }'))
    done = call("export_onnx", "--model", prototxt, "--output", output, "--outputs", "c", "f", "--dynamic")
    assert done.status == 0, done.stderr
    assert "f: largest difference to PyTorch" in done.stdout and "opset 17" in done.stdout
    output.unlink()
    np.savez(tmp_path / "in.npz", data=np.ones((4, 3, 6, 6), np.float32))
    done = call("export_onnx", "--model", prototxt, "--output", output, "--input", tmp_path / "in.npz")
    assert done.status == 0 and "(compared at 4 x 5)" in done.stdout
    output.unlink()
    np.savez(tmp_path / "in.npz", data=np.full((4, 3, 6, 6), np.nan, np.float32))
    done = call(
        "export_onnx", "--model", prototxt, "--output", output, "--input", tmp_path / "in.npz", "--tolerance", "inf"
    )
    assert done.status == 1 and "20 of 20 values are NaN, in the reference 20" in done.stderr
    assert not output.exists()
    done = call("export_onnx", "--model", prototxt, "--output", output, "--tolerance", "0")
    assert done.status == 1 and "net.unverified.onnx" in done.stderr and not output.exists()
    done = call("export_onnx", "--model", prototxt, "--output", output, "--outputs", "nothing")
    assert done.status == 2 and "no blob 'nothing'" in done.stderr and done.stderr.count("\n") == 1
    assert not output.exists()


def test_squeezenet_on_a_photo():
    cv2 = pytest.importorskip("cv2")
    folder = needs("real", "models", "squeezenet_v1.0_deepcomp")
    image = cv2.imread(str(needs("real", "photos", "caffe_examples", "cat.jpg")))
    net = load_net(folder / "SqueezeNet_deploy.prototxt", folder / "squeezenet_v1.0_decoded.caffemodel")
    values = cv2.resize(image, (256, 256))[14:241, 14:241].astype(np.float32) - np.float32([104, 117, 123])
    inputs = {"data": np.ascontiguousarray(values.transpose(2, 0, 1)[None])}
    model = export_onnx(net, dynamic=True)
    assert verify_onnx(net, model, inputs)["pool_final"].relative < 1e-5
    assert Session(model)(inputs)["pool_final"].argmax() == 278  # kit fox, what Caffe says


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_mtcnn(number):
    base = needs("real", "models", "mtcnn_kpzhang93") / f"det{number}"
    net = load_net(f"{base}.prototxt", f"{base}.caffemodel")
    for found in verify_onnx(net, export_onnx(net, dynamic=True)).values():
        assert found.relative < 1e-5
