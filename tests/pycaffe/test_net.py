"""pycaffe's Net and Blob."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pycaffe import nets

import caffe_compat.pycaffe as caffe
from caffe_compat.errors import CaffeCompatError, NetError, UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mlp(phase: int = caffe.TRAIN) -> caffe.Net:
    caffe.set_random_seed(3)
    net = caffe.Net(nets.write(nets.MLP), phase)
    net.blobs["data"].data[...] = np.random.RandomState(0).randn(4, 3)
    if phase == caffe.TRAIN:
        net.blobs["label"].data[...] = [0, 1, 1, 0]
    return net


def test_constructors_agree() -> None:
    mlp(caffe.TEST).save("w.caffemodel")
    built = [
        caffe.Net("net.prototxt", "w.caffemodel", caffe.TEST),
        caffe.Net("net.prototxt", caffe.TEST, weights="w.caffemodel"),
        caffe.Net(network_file="net.prototxt", phase=caffe.TEST, weights="w.caffemodel", level=0, stages=None),
        caffe.Net("net.prototxt", caffe.TEST, 0, ["s"], Path("w.caffemodel")),
    ]
    for net in built[1:]:
        assert np.array_equal(net.params["ip"][0].data, built[0].params["ip"][0].data)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("net.prototxt",), {}),
        (("net.prototxt", 0, "w.caffemodel"), {}),
        (("net.prototxt", "w.caffemodel"), {}),
        (("net.prototxt", 7), {}),
        (("net.prototxt", 0), {"stages": "train"}),
        (("net.prototxt", 0), {"phase": 0}),
        (("net.prototxt", 0), {"wieghts": "w.caffemodel"}),
        (("net.prototxt", 0), {"weights": 3}),
    ],
)
def test_wrong_constructor_arguments(args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    nets.write(nets.MLP)
    with pytest.raises(TypeError):
        caffe.Net(*args, **kwargs)


def test_missing_file_is_a_runtime_error_as_in_caffe() -> None:
    with pytest.raises(RuntimeError, match="Could not open file nowhere.prototxt"):
        caffe.Net("nowhere.prototxt", caffe.TEST)


def test_structure() -> None:
    net = mlp()
    assert list(net.blobs) == ["data", "label", "ip", "ip2", "loss"]
    assert (net.inputs, net.outputs) == (["data", "label"], ["loss"])
    assert list(net.params) == ["ip", "ip2"]
    assert [layer.type for layer in net.layers] == [net.layer_dict[name].type for name in net._layer_names]
    assert dict(net.top_names)["relu"] == ["ip"] and dict(net.bottom_names)["loss"] == ["ip2", "label"]
    assert net.blob_loss_weights["loss"] == 1
    ip = net.params["ip"]
    assert len(ip) == 2 and [list(blob.shape) for blob in ip] == [[5, 3], [5]]
    assert (ip[1].num, ip[1].channels, ip[0].count) == (5, 1, 15)
    assert net.layers[1].blobs[0].data is not None
    with pytest.raises(NetError, match="layer 'ip'"):
        ip.add_blob(1)


def test_views_are_live_and_writable() -> None:
    net = mlp()
    loss, weights = net.blobs["loss"].data, net.params["ip2"][0].data
    assert loss.shape == () and net.blobs["loss"].shape == ()
    first = float(net.forward()["loss"])
    assert loss == first
    weights *= 2
    assert float(net.forward()["loss"]) != first
    assert np.shares_memory(weights, net.module.layer("ip2").blobs[0].detach().numpy())


def test_gradients_accumulate_until_cleared() -> None:
    net = mlp()
    net.forward()
    net.backward()
    once = net.params["ip"][0].diff.copy()
    net.forward()
    net.backward()
    np.testing.assert_allclose(net.params["ip"][0].diff, 2 * once, rtol=1e-6)
    view = net.params["ip"][0].diff
    net.clear_param_diffs()
    assert not view.any() and once.any()


def test_loss_weight_is_the_loss_diff() -> None:
    net = mlp()
    net.blobs["loss"].diff[...] = 3
    assert net._forward(0, len(net.layers) - 1) == pytest.approx(3 * float(net.blobs["loss"].data))


def test_parts_return_and_run_what_was_asked_for() -> None:
    net = mlp()
    net.forward()
    net.blobs["ip"].data[...] = 1
    result = net.forward(start="ip2", end="ip2", blobs=["data"])
    assert set(result) == {"ip2", "data"}
    weights, bias = (blob.data for blob in net.params["ip2"])
    np.testing.assert_allclose(result["ip2"], np.tile(weights.sum(axis=1) + bias, (4, 1)), rtol=1e-5)
    net.blobs["ip2"].diff[...] = 1
    back = net.backward(start="ip2", end="ip2", diffs=["data"])
    assert set(back) == {"ip", "data"}
    np.testing.assert_allclose(back["ip"], np.tile(weights.sum(axis=0), (4, 1)), rtol=1e-5)


def test_backward_needs_no_forward() -> None:
    net = mlp()
    net.blobs["ip2"].diff[...] = 1
    before = net.blobs["ip2"].data.copy()
    back = net.backward(start="ip2", end="ip2")["ip"]
    np.testing.assert_allclose(back, np.tile(net.params["ip2"][0].data.sum(axis=0), (4, 1)), rtol=1e-5)
    assert np.array_equal(net.blobs["ip2"].data, before)


def test_keyword_inputs_are_checked() -> None:
    net = mlp(caffe.TEST)
    data, label = np.ones((4, 3)), np.zeros(4)
    assert set(net.forward(data=data, label=label)) == {"label", "prob"}
    with pytest.raises(UsageError, match="expected exactly"):
        net.forward(data=data)
    with pytest.raises(UsageError, match="batch size"):
        net.forward(data=data[:2], label=label)
    with pytest.raises(NetError, match="did you mean 'ip2'"):
        net.forward(end="ip22")
    with pytest.raises(NetError, match="no blob 'x'"):
        net.forward(blobs=["x"])


def test_forward_all_and_backward_all_pad_the_last_batch() -> None:
    net = mlp(caffe.TEST)
    data, label = np.random.RandomState(1).randn(6, 3).astype(np.float32), np.zeros(6, np.float32)
    every = net.forward_all(blobs=["ip2"], data=data, label=label)
    assert every["ip2"].shape == (6, 2) and every["prob"].shape == (6, 2)
    np.testing.assert_allclose(every["prob"][4:], net.forward(data=data[2:], label=label[2:])["prob"][2:], rtol=1e-5)
    top = np.random.RandomState(2).randn(6, 2).astype(np.float32)
    outs, grads = net.forward_backward_all(data=data, label=label, prob=top)
    assert outs["prob"].shape == (6, 2) and grads["data"].shape == (6, 3)
    with pytest.raises(UsageError, match="no input arrays"):
        net.forward_all()


def test_reshape_propagates() -> None:
    net = mlp(caffe.TEST)
    net.blobs["data"].reshape(7, 3)
    net.reshape()
    assert net.blobs["prob"].data.shape == (7, 2)
    net.blobs["data"].reshape(2, 3)
    assert net.forward()["prob"].shape == (2, 2)


def test_weights_travel() -> None:
    net = mlp()
    net.save("w.caffemodel")
    net.save_hdf5("w.caffemodel.h5")
    for name in ("w.caffemodel", "w.caffemodel.h5"):
        other = caffe.Net("net.prototxt", caffe.TEST)
        other.copy_from(name)
        assert np.array_equal(other.params["ip"][0].data, net.params["ip"][0].data)
    third = caffe.Net("net.prototxt", caffe.TEST)
    third.load_hdf5("w.caffemodel.h5")
    with pytest.raises(CaffeCompatError, match="w.caffemodel: is no HDF5 file"):
        third.load_hdf5("w.caffemodel")
    third.share_with(net)
    net.params["ip"][0].data[...] = 9
    assert (third.params["ip"][0].data == 9).all()


def test_hooks_see_layer_numbers() -> None:
    net, seen = mlp(), []
    net.before_forward(lambda number: seen.append(("before", number)))
    net.after_forward(lambda number: seen.append(("after", number)))
    net.before_backward(lambda number: seen.append(("down", number)))
    net.after_backward(lambda number: seen.append(("done", number)))
    net.forward(start="ip", end="relu")
    net.backward(start="relu", end="ip")
    assert seen[:4] == [("before", 1), ("after", 1), ("before", 2), ("after", 2)]
    assert seen[4:] == [("down", 2), ("done", 2), ("down", 1), ("done", 1)]


def test_memory_data() -> None:
    text = """layer { name: "d" type: "MemoryData" top: "x" top: "y"
      memory_data_param { batch_size: 2 channels: 1 height: 1 width: 3 } }"""
    net = caffe.Net(nets.write(text), caffe.TEST)
    net.set_input_arrays(np.arange(12, dtype=np.float32).reshape(4, 1, 1, 3), np.arange(4, dtype=np.float32))
    net.forward()
    assert net.forward()["x"].ravel().tolist() == [6, 7, 8, 9, 10, 11]
    with pytest.raises(NetError, match="MemoryData layer as the first"):
        mlp().set_input_arrays(np.zeros((4, 1, 1, 3), np.float32), np.zeros(4, np.float32))


def test_blobs_of_five_axes_have_no_legacy_names() -> None:
    net = mlp(caffe.TEST)
    net.blobs["data"].reshape(1, 2, 3, 4, 5)
    with pytest.raises(NetError, match="at most 4 axes"):
        _ = net.blobs["data"].width


def test_arithmetic_is_an_option_and_leaves_torch_alone() -> None:
    assert mlp().engine.reference_arithmetic
    caffe.set_arithmetic("fast")
    try:
        assert not mlp().engine.reference_arithmetic
    finally:
        caffe.set_arithmetic("gemm")
    before = torch.backends.mkldnn.enabled
    net = mlp()
    net.forward()
    net.backward()
    assert torch.backends.mkldnn.enabled == before
    with pytest.raises(UsageError, match="'gemm' or 'fast'"):
        caffe.set_arithmetic("slow")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said() -> None:
    for ask in (caffe.set_mode_gpu, lambda: caffe.set_device(0)):
        with pytest.raises(CaffeCompatError, match="no CUDA device on this machine"):
            ask()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_net_follows_the_mode() -> None:
    net = mlp()
    expected = float(net.forward()["loss"])
    net.backward()
    diff = net.params["ip"][0].diff.copy()
    caffe.set_mode_gpu()
    try:
        net.clear_param_diffs()
        assert float(net.forward()["loss"]) == pytest.approx(expected, rel=1e-5)
        net.backward()
        np.testing.assert_allclose(net.params["ip"][0].diff, diff, rtol=1e-3, atol=1e-6)
        net.params["ip2"][0].data[...] = 0
        net.params["ip2"][1].data[...] = 0
        assert float(net.forward()["loss"]) == pytest.approx(np.log(2), rel=1e-5)
    finally:
        caffe.set_mode_cpu()
    assert float(net.forward()["loss"]) == pytest.approx(np.log(2), rel=1e-5)
