"""A session is loud about whatever is wrong, and copies nothing that it need not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from gpu import DEVICE, needs_gpu, same
from onnx import TensorProto, helper, numpy_helper
from onnx_nets import conv, ip, layer, make_net, source

from caffe_compat.deploy import Session
from caffe_compat.errors import CaffeCompatError, DataError, ExportError, MissingFileError, ModelFileError, UsageError
from caffe_compat.onnx import export_onnx, save_onnx

TEXT = source("data", 2, 3, 6, 6) + conv("c", "data", "c") + layer("ReLU", "r", "c", "c") + ip("f", "c", "f")
DETECTOR = (
    source("data", 1, 3, 12, 12)
    + source("rois", 4, 5)
    + conv("c", "data", "c")
    + layer("ROIPooling", "p", "c rois", "p", "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 1 }")
    + ip("f", "p", "f")
)
FUSED = DETECTOR + (
    source("data_1", 1, 3, 12, 12)
    + conv("c_1", "data_1", "c_1")
    + layer("ROIPooling", "p_1", "c_1 rois", "p_1", "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 1 }")
    + ip("f_1", "p_1", "f_1")
    + layer("Eltwise", "e", "f f_1", "e")
)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def relu(dims: tuple[int | str, ...] = ("n", 4), kind: int = TensorProto.FLOAT, opset: int = 17) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, kind, list(dims)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


# -- what it says of itself -----------------------------------------------------------------------------------------


def test_what_a_session_says_of_itself(tmp_path: Path):
    model = export_onnx(make_net('name: "small" ' + TEXT), tmp_path / "n.onnx", metadata={"by": "us"})
    session = Session(tmp_path / "n.onnx", threads=1)
    assert str(session.inputs["data"]) == "data (batch x 3 x 6 x 6, float32)"
    assert session.inputs["data"].shape == ("batch", 3, 6, 6) and session.inputs["data"].open_axes == (0,)
    assert session.outputs["f"].shape == ("batch", 5) and session.outputs["f"].kind == "float32"
    assert (session.input_names, session.output_names) == (["data"], ["f"])
    assert session.net == "small" and session.metadata["by"] == "us" and session.providers == ["CPUExecutionProvider"]
    assert Session(model.SerializeToString()).net == "small"


def test_torch_is_not_imported(tmp_path: Path):
    export_onnx(make_net(TEXT), tmp_path / "n.onnx")
    code = (
        "import sys, numpy; from caffe_compat.deploy import Session\n"
        f"session = Session({str(tmp_path / 'n.onnx')!r}); session.warm_up({{'data': (2, 3, 6, 6)}})\n"
        "assert session({'data': numpy.ones((2, 3, 6, 6), 'f')})['f'].shape == (2, 5)\n"
        "print([name for name in ('torch', 'onnx', 'cv2', 'google.protobuf') if name in sys.modules])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# -- what it computes -----------------------------------------------------------------------------------------------


def test_arrays_tensors_and_lists_give_the_same():
    net = make_net(TEXT)
    session = Session(export_onnx(net))
    values = images(2, 3, 6, 6)
    expected = net(data=torch.from_numpy(values))["f"].detach().numpy()
    found = session({"data": values})["f"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    tensor = session({"data": torch.from_numpy(values)})["f"]
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), found)
    np.testing.assert_array_equal(session({"data": values.tolist()})["f"], found)
    fresh = torch.from_numpy(values).requires_grad_()
    np.testing.assert_array_equal(session({"data": fresh})["f"].numpy(), found)


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_memory_that_is_not_contiguous(make):
    session = Session(export_onnx(make_net(TEXT)))
    wide = images(2, 3, 6, 12)
    for odd in (wide[..., ::2], wide[..., :6], images(6, 6, 3, 2).T):
        straight = session({"data": np.ascontiguousarray(odd)})["f"]
        np.testing.assert_array_equal(np.asarray(session({"data": make(odd)})["f"]), straight)
    backwards = wide[..., 5::-1]
    np.testing.assert_array_equal(session({"data": backwards})["f"], session({"data": backwards.copy()})["f"])


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_results_go_where_they_are_told(make):
    session = Session(export_onnx(make_net(TEXT), outputs=["c", "f"]))
    values = make(images(3, 3, 6, 6))
    every = session({"data": values})
    assert list(session({"data": values}, ["f"])) == ["f"]
    place = make(np.full((3, 5), 7, np.float32))
    found = session({"data": values}, {"f": place})
    assert list(found) == ["f"] and found["f"] is place
    np.testing.assert_array_equal(np.asarray(place), np.asarray(every["f"]))


def test_an_input_is_read_where_it_is():
    """A tensor that is changed between runs of the same binding gives other results: nothing was copied on the way."""
    from caffe_compat.deploy.tensors import bound_tensors, input_buffers

    session = Session(export_onnx(make_net(TEXT)))
    values = torch.from_numpy(images(2, 3, 6, 6))
    buffers = input_buffers({"data": values}, session.inputs, session.place)
    assert buffers["data"].address == values.data_ptr()
    result = torch.empty(2, 5)
    assert bound_tensors({"f": result}, session.outputs, session.place)["f"].address == result.data_ptr()


def test_no_regions_and_no_images():
    session = Session(export_onnx(make_net(DETECTOR), dynamic=True))
    for make in (np.asarray, torch.from_numpy):
        feed = {"data": make(images(1, 3, 12, 12)), "rois": make(np.zeros((0, 5), np.float32))}
        assert tuple(session(feed)["f"].shape) == (0, 5)


def test_threads_share_a_session():
    session = Session(export_onnx(make_net(TEXT)))
    inputs = [torch.from_numpy(images(2, 3, 6, 6)) * k for k in range(4)]
    expected = [session({"data": value})["f"] for value in inputs]
    wrong = []

    def work(k: int) -> None:
        for _ in range(50):
            if not torch.equal(session({"data": inputs[k]})["f"], expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_warm_up():
    session = Session(export_onnx(make_net(TEXT)))
    session.warm_up({"data": (4, 3, 6, 6)})
    Session(export_onnx(make_net(TEXT), dynamic=False)).warm_up()
    with pytest.raises(UsageError, match=r"data \(batch x 3 x 6 x 6, float32\) has open sizes, give warm_up its shape"):
        session.warm_up()
    with pytest.raises(UsageError, match="axis 1 .channel. is 4, expected 3"):
        session.warm_up({"data": (4, 4, 6, 6)})
    with pytest.raises(UsageError, match="there is no 'date' .did you mean 'data'"):
        session.warm_up({"date": (4, 3, 6, 6)})
    with pytest.raises(UsageError, match="is no shape"):
        session.warm_up({"data": (-1, 3, 6, 6)})


# -- what it refuses at run time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"date": images(1, 3, 6, 6)}, r"takes the inputs data .*there is no 'date' \(did you mean 'data'\?\)"),
        ({}, "takes the inputs data .batch x 3 x 6 x 6, float32.; data is missing"),
        ({"data": images(1, 3, 6, 6), "x": images(1)}, "there is no 'x'"),
        ({"data": images(1, 3, 6, 5)}, r"shape \[1, 3, 6, 5\]: axis 3 \(width\) is 5, expected 6"),
        ({"data": images(1, 6, 6, 3)}, r"axis 1 \(channel\) is 6, expected 3"),
        ({"data": images(3, 6, 6)}, r"shape \[3, 6, 6\], expected 4 axes: the model takes data \(batch x 3 x 6 x 6"),
        ({"data": images(1, 3, 6, 6).astype(np.uint8)}, "is uint8, the model takes float32; pictures need their pre"),
        ({"data": images(1, 3, 6, 6).astype(np.float64)}, r"is float64, the model takes float32; if rounding"),
        ({"data": images(1, 3, 6, 6).astype(">f4")}, "is float32 of another byte order"),
        ({"data": torch.zeros(1, 3, 6, 6, dtype=torch.uint8)}, "is uint8, the model takes float32; pictures"),
        ({"data": torch.zeros(1, 3, 6, 6).double()}, "is float64, the model takes float32; if rounding"),
        ({"data": torch.zeros(1, 3, 6, 6).bfloat16()}, "is bfloat16, the model takes float32"),
        ({"data": torch.zeros(1, 3, 6, 7)}, r"axis 3 \(width\) is 7, expected 6"),
        ({"data": [[1.0], [2.0, 3.0]]}, "is no array of float32"),
        ({"data": "a.png"}, "is str.*, the model takes"),
        ({"data": None}, "is object, the model takes"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit(inputs, message):
    session = Session(export_onnx(make_net(TEXT)))
    with pytest.raises(UsageError, match=message) as caught:
        session(inputs)
    assert "\n" not in str(caught.value)


def test_arrays_and_tensors_are_not_mixed():
    session = Session(export_onnx(make_net(DETECTOR)))
    feed = {"data": images(1, 3, 12, 12), "rois": torch.zeros(4, 5)}
    with pytest.raises(UsageError, match="mixed, expected one kind"):
        session(feed)
    with pytest.raises(UsageError, match="mixed, expected one kind"):
        session({"data": images(1, 3, 12, 12), "rois": np.zeros((4, 5), "f")}, {"f": torch.zeros(4, 5)})


def test_sizes_of_one_name_agree():
    net = make_net(source("a", 2, 3) + source("b", 2, 3) + layer("Eltwise", "e", "a b", "e"))
    session = Session(export_onnx(net))
    with pytest.raises(UsageError, match=r"'b' has the shape \[3, 3\]: axis 0 is 3, but 'batch' is 2 in 'a'"):
        session({"a": images(2, 3), "b": images(3, 3)})


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize(
    ("index", "refused"), [(0, ""), (0.9, ""), (1, "1"), (-1, "-1"), (float("nan"), "nan"), (1e30, r"1e\+30")]
)
def test_regions_of_images_that_are_not_there(make, index, refused):
    """Indices are cut towards zero, as in Caffe; a kernel on a GPU would read beyond the batch."""
    session = Session(export_onnx(make_net(DETECTOR)))
    rois = np.tile(np.array([0, 0, 0, 5, 5], np.float32), (4, 1))
    rois[2, 0] = index
    feed = {"data": make(images(1, 3, 12, 12)), "rois": make(rois)}
    if not refused:
        assert tuple(session(feed)["f"].shape) == (4, 5)
        return
    with pytest.raises(DataError, match=rf"'rois': a region has the image index {refused}, expected 0 to 0: 'data'"):
        session(feed)


def test_regions_that_two_pictures_share():
    session = Session(export_onnx(make_net(FUSED)))
    feed = {"data": images(1, 3, 12, 12), "data_1": images(1, 3, 12, 12), "rois": np.full((4, 5), 2, np.float32)}
    with pytest.raises(DataError, match="image index 2, expected 0 to 0"):
        session(feed)


def test_without_the_fact_the_kernel_refuses_regions(capfd):
    model = export_onnx(make_net(DETECTOR))
    del model.metadata_props[:]
    session = Session(model)
    with pytest.raises(ExportError, match="cannot run the model on inputs of shapes .*roi_batch_id"):
        session({"data": images(1, 3, 12, 12), "rois": np.full((4, 5), 2, np.float32)})
    assert capfd.readouterr() == ("", "")  # said once, by us


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_numbers_that_are_none(make):
    values = images(1, 3, 6, 6)
    values[0, 1, 2, 3:5] = np.nan, np.inf
    model = export_onnx(make_net(TEXT))
    Session(model)({"data": make(values)})
    with pytest.raises(DataError, match="input 'data': 2 of 108 numbers are NaN or infinite"):
        Session(model, check_finite=True)({"data": make(values)})


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_results_that_do_not_fit(make):
    session = Session(export_onnx(make_net(TEXT)))
    feed = {"data": make(images(2, 3, 6, 6))}
    with pytest.raises(UsageError, match="output 'f' is float64, the model gives float32"):
        session(feed, {"f": make(np.zeros((2, 5)))})
    with pytest.raises(UsageError, match=r"output 'f' has the shape \[2, 6\]: axis 1 is 6, expected 5"):
        session(feed, {"f": make(np.zeros((2, 6), "f"))})
    with pytest.raises(UsageError, match="not contiguous"):
        session(feed, {"f": make(np.zeros((5, 2), "f").T)})
    with pytest.raises(ExportError, match="cannot run the model on inputs of shapes"):
        session(feed, {"f": make(np.zeros((3, 5), "f"))})  # the batch is ONNX Runtime's to know
    with pytest.raises(UsageError, match=r"no output 'fc' \(did you mean 'f'\?\); it gives f \(batch x 5"):
        session(feed, ["fc"])
    for nothing in ([], {}):
        with pytest.raises(UsageError, match="no output is asked for"):
            session(feed, nothing)
    with pytest.raises(UsageError, match="expected a list of names"):
        session(feed, "f")


# -- what it refuses to open ------------------------------------------------------------------------------------------


def test_files_that_are_no_model(tmp_path: Path):
    whole = export_onnx(make_net(TEXT)).SerializeToString()
    for name, content in (("none", b""), ("text", b"nothing at all"), ("cut", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match=rf"{name}: is no ONNX model, or not all of one"):
            Session(tmp_path / name)
    with pytest.raises(MissingFileError, match="it is a folder"):
        Session(tmp_path)
    with pytest.raises(MissingFileError, match="ONNX model"):
        Session(tmp_path / "absent.onnx")
    with pytest.raises(UsageError, match="the model is int, expected a file, its bytes or an onnx.ModelProto"):
        Session(3)


def test_damaged_models(tmp_path: Path):
    """Whatever byte is another, what comes is a session or one of our errors."""
    whole = export_onnx(make_net(TEXT)).SerializeToString()
    random = np.random.default_rng(0)
    outcomes = {"none": 0}
    for _ in range(150):
        content = bytearray(whole)
        for at in random.integers(0, len(whole), random.integers(1, 4)):
            content[at] = random.integers(0, 256)
        try:
            session = Session(bytes(content))
            session({name: np.zeros((1, 3, 6, 6), np.float32) for name in session.inputs})
            outcomes["none"] += 1
        except CaffeCompatError as error:
            outcomes[type(error).__name__] = outcomes.get(type(error).__name__, 0) + 1
            assert "\n" not in str(error)
    assert outcomes["none"] and outcomes["ModelFileError"]


def test_metadata_that_is_no_text():
    content = export_onnx(make_net(TEXT), metadata={"a": "UNIQUE"}).SerializeToString()
    with pytest.raises(ModelFileError, match="the model: is damaged: a name or its metadata are not text"):
        Session(content.replace(b"UNIQUE", b"UN\xff\xffUE"))


def test_weights_that_are_not_there(tmp_path: Path):
    save_onnx(export_onnx(make_net(TEXT.replace("num_output: 5", "num_output: 500"))), tmp_path / "n.onnx", True)
    data = tmp_path / "n.onnx.data"
    content = data.read_bytes()
    data.write_bytes(content[:1000])
    with pytest.raises(ModelFileError, match=r"n\.onnx: the file with its weights is shorter"):
        Session(tmp_path / "n.onnx")
    data.unlink()
    with pytest.raises(MissingFileError, match=r"weights of .*n\.onnx, expected beside it"):
        Session(tmp_path / "n.onnx")


@pytest.mark.parametrize(("field", "message"), [("opset", "has opset 99"), ("ir", "has IR version 99")])
def test_models_of_the_future(field, message):
    model = relu(opset=99 if field == "opset" else 17)
    if field == "ir":
        model.ir_version = 99
    with pytest.raises(ExportError, match=rf"the model: {message}, which ONNX Runtime .* does not know: export with"):
        Session(model)


def test_operators_that_are_none():
    model = relu()
    model.graph.node[0].op_type = "Really"
    with pytest.raises(ExportError, match="refuses the model: .*No Op registered for Really"):
        Session(model)


def test_other_element_types_are_named():
    session = Session(relu(kind=TensorProto.DOUBLE))
    assert session({"x": np.array([[-1.0, 2, 3, 4]])})["y"].tolist() == [[0, 2, 3, 4]]
    with pytest.raises(UsageError, match="is float32, the model takes float64$"):
        session({"x": np.zeros((1, 4), np.float32)})


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", "cpu:1", "", "meta", "cuda:99999"])
def test_devices_that_are_none(device):
    with pytest.raises(UsageError, match=f"device is '{device}', expected cpu or cuda"):
        Session(relu(), device)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_that_are_none(threads):
    with pytest.raises(UsageError, match="threads is .*, expected 1 or more"):
        Session(relu(), threads=threads)


def test_threads_follow_torch():
    from caffe_compat.deploy.providers import default_threads

    assert default_threads() == torch.get_num_threads()


def test_cuda_graphs_need_cuda():
    with pytest.raises(UsageError, match="cuda_graph is asked for on the CPU"):
        Session(relu(), cuda_graph=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt"])
def test_a_gpu_is_never_replaced_silently(device, capfd):
    """Neither where the provider is not built in, nor where it does not start; and nothing is printed beside it."""
    with pytest.raises(UsageError, match="ExecutionProvider (was asked for|did not start).*onnxruntime-gpu") as caught:
        Session(relu(), device)
    assert "\n" not in str(caught.value) and "EP Error" not in capfd.readouterr().out


def test_both_packages_are_a_trap(monkeypatch):
    from caffe_compat.deploy import providers

    monkeypatch.setattr(providers, "_installed", lambda name: True)
    assert "both installed and overwrite each other" in providers.install_hint()
    monkeypatch.setattr(providers, "_installed", lambda name: name == "onnxruntime")
    assert "in place of onnxruntime" in providers.install_hint()
    monkeypatch.setattr(providers, "_installed", lambda name: name == "onnxruntime-gpu")
    for version, cuda in (("1.20.1", 12), ("1.26.0", 12), ("1.27.0", 13), ("1.31.1", 13), ("2.0", 13)):
        monkeypatch.setattr(onnxruntime, "__version__", version)
        assert f"CUDA {cuda} and cuDNN 9" in providers.install_hint()


def test_options_of_providers(monkeypatch):
    from caffe_compat.deploy.providers import PROVIDERS, Place, options_of

    cuda, place = PROVIDERS["cuda"], Place("cuda", 1)
    monkeypatch.delenv("CAFFE_COMPAT_TF32", raising=False)
    given = {"cudnn_conv_algo_search": "HEURISTIC", "enable_cuda_graph": True, "gpu_mem_limit": 1 << 30}
    assert options_of(cuda, place, given, True) == (
        cuda,
        {
            "device_id": "1",
            "use_tf32": "0",
            "cudnn_conv_algo_search": "HEURISTIC",
            "enable_cuda_graph": "1",
            "gpu_mem_limit": "1073741824",
        },
    )
    assert options_of(cuda, place, {"trt_fp16_enable": True}, False)[1] == {"device_id": "1", "use_tf32": "0"}
    monkeypatch.setenv("CAFFE_COMPAT_TF32", "1")
    assert options_of(cuda, place, {}, True)[1]["use_tf32"] == "1"
    assert options_of(PROVIDERS["cpu"], place, {}, False) == (PROVIDERS["cpu"], {})


# -- on a GPU ---------------------------------------------------------------------------------------------------------


@needs_gpu
def test_tensors_stay_on_the_gpu():
    net = make_net(TEXT)
    session = Session(export_onnx(net), device="cuda")
    session.warm_up({"data": (3, 3, 6, 6)})
    values = torch.from_numpy(images(3, 3, 6, 6)).to(DEVICE)
    expected = net(data=values.cpu())["f"].detach()
    result = session({"data": values})["f"]
    assert result.device == DEVICE
    same("f", result, expected)
    place = torch.zeros(3, 5, device=DEVICE)
    assert session({"data": values}, {"f": place})["f"] is place
    same("f", place, expected)
    same("f", session({"data": values.cpu()})["f"], expected)  # read from the CPU, the result is on the GPU
    same("f", session({"data": values.cpu().numpy()})["f"], expected)


@needs_gpu
def test_inputs_that_a_stream_still_makes():
    net = make_net(TEXT)
    session = Session(export_onnx(net), device="cuda")
    stream = torch.cuda.Stream()
    values = torch.from_numpy(images(3, 3, 6, 6)).to(DEVICE)
    with torch.cuda.stream(stream):
        for _ in range(20):
            torch.cuda._sleep(2_000_000)
            late = values * 1
            found = session({"data": late})["f"]
            same("f", found, net(data=values.cpu())["f"].detach())


@needs_gpu
def test_graphs_are_recorded_for_shapes_that_were_warmed_up():
    net = make_net(TEXT)
    session = Session(export_onnx(net), device="cuda", cuda_graph=True)
    for batch in (2, 3):
        session.warm_up({"data": (batch, 3, 6, 6)})
    for batch in (3, 2, 4, 2, 3):  # 4 runs without a graph
        values = torch.from_numpy(images(batch, 3, 6, 6)).to(DEVICE)
        expected = net(data=values.cpu())["f"].detach()
        kept = session({"data": values})["f"]
        session({"data": values * 2})
        same("f", kept, expected)  # a later run does not write into an earlier result
        same("f", session({"data": values}, {"f": torch.zeros(batch, 5, device=DEVICE)})["f"], expected)
        same("f", session({"data": values.cpu().numpy()})["f"], expected)


@needs_gpu
def test_regions_on_the_cpu_cannot_be_recorded():
    with pytest.raises(UsageError, match="--roi gpu"):
        Session(export_onnx(make_net(DETECTOR)), device="cuda", cuda_graph=True)


def test_facts_that_are_nonsense_are_passed_over():
    model = relu()
    for text in ("{", "[1]", '{"x": 3}', '{"x": "z"}', "[" * 100_000):
        del model.metadata_props[:]
        model.metadata_props.add(key="caffe_rois", value=text)
        assert Session(model)({"x": np.ones((1, 4), np.float32)})["y"].shape == (1, 4)


def test_weights_are_the_models_own():
    """An initializer is no input."""
    model = relu()
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 4), np.float32), "x"))
    assert Session(model).input_names == []
    assert Session(model)({})["y"].tolist() == [[1, 1, 1, 1]]
