"""What public scripts and layers do, each checked on BVLC Caffe."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import caffe_compat.pycaffe as caffe
from caffe_compat.commands.caffe_actions import CaffeOptions
from caffe_compat.commands.caffe_actions import caffe as run_caffe

LAYERS = """
import caffe, numpy as np
class FwdDiff(caffe.Layer):
    def setup(self, b, t): pass
    def reshape(self, b, t): t[0].reshape(1)
    def forward(self, b, t):
        b[0].diff[...] = b[0].data - b[1].data
        t[0].data[...] = 0.5 * np.sum(b[0].diff ** 2)
    def backward(self, t, p, b): pass
class Own(caffe.Layer):
    def setup(self, b, t):
        self.blobs.add_blob(3)
        self.blobs[0].data[...] = [1, 2, 3]
    def reshape(self, b, t): t[0].reshape(*b[0].data.shape)
    def forward(self, b, t): t[0].data[...] = b[0].data * self.blobs[0].data
    def backward(self, t, p, b):
        self.blobs[0].diff[...] = (t[0].diff * b[0].data).sum(0)
        b[0].diff[...] = t[0].diff * self.blobs[0].data
"""
FORWARD_DIFF = """force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "own" type: "Python" bottom: "x" top: "o" python_param { module: "script_layers" layer: "Own" } }
layer { name: "l" type: "Python" bottom: "o" bottom: "y" top: "l" loss_weight: 1
  python_param { module: "script_layers" layer: "FwdDiff" } propagate_down: true propagate_down: false }
"""
TRAINED = """
layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 }
  data_filler { value: 1 } data_filler { value: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 1 weight_filler { type: "constant" value: 0.1 } } }
layer { name: "l" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "l" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 snapshot_prefix: "p"
snapshot_after_train: false test_iter: 1 test_interval: 1"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.prototxt").write_text(text)


def test_a_diff_lives_until_somebody_writes_it(folder: Path) -> None:
    """Loss layers that compute the gradient in forward; parameters whose gradient backward sets."""
    (folder / "script_layers.py").write_text(LAYERS)
    write(folder, net=FORWARD_DIFF)
    net = caffe.Net("net.prototxt", caffe.TRAIN)
    random = np.random.RandomState(0)
    net.blobs["x"].data[...] = random.randn(2, 3)
    net.blobs["y"].data[...] = random.randn(2, 3)
    for _ in range(2):
        net.forward()
        net.backward()
        expected = [[0.81396, 0.95167, 3.03943], [1.83029, 3.59107, -4.38611]]
        np.testing.assert_allclose(net.blobs["o"].diff, expected, atol=1e-5)
        np.testing.assert_allclose(net.params["own"][0].diff, [5.53737, 7.08735, 7.26125], atol=1e-5)


def test_hooks_run_in_the_solver_for_every_layer(folder: Path) -> None:
    write(folder, net=TRAINED, solver=SOLVER)
    solver = caffe.SGDSolver("solver.prototxt")
    seen: list[object] = []
    solver.net.after_backward(seen.append)
    solver.test_nets[0].before_forward(lambda number: seen.append(f"t{number}"))
    solver.step(1)
    assert seen == ["t0", "t1", "t2", 2, 1, 0]

    def freeze(number: int) -> None:
        if solver.net._layer_names[number] == "ip":
            solver.net.params["ip"][0].diff[...] = 0

    solver.net.after_backward(freeze)
    weights = solver.net.params["ip"][0].data.copy()
    solver.step(1)
    assert (solver.net.params["ip"][0].data == weights).all()


def test_parameters_can_be_reshaped(folder: Path) -> None:
    write(folder, net=TRAINED)
    net = caffe.Net("net.prototxt", caffe.TEST)
    blob = net.params["ip"][0]
    blob.data[...] = [[1, 2, 3]]
    blob.reshape(3, 1, 1)
    assert blob.data.ravel().tolist() == [1, 2, 3] and blob.diff.shape == (3, 1, 1)
    blob.reshape(2, 3)
    assert blob.data.shape == (2, 3)
    blob.data[...] = 4
    net.save("saved.caffemodel")
    message = caffe.proto.caffe_pb2.NetParameter.FromString((folder / "saved.caffemodel").read_bytes())
    saved = next(layer for layer in message.layer if layer.name == "ip")
    assert list(saved.blobs[0].shape.dim) == [2, 3] and set(saved.blobs[0].data) == {4.0}


def test_the_extension_module_has_the_names_of_bvlc() -> None:
    caffe.install()
    module = importlib.import_module("caffe._caffe")
    names = (
        "Net Layer Blob Solver SGDSolver BlobVec RawBlobVec StringVec IntVec set_mode_cpu get_solver layer_type_list"
    )
    assert all(hasattr(module, name) for name in names.split())
    assert importlib.import_module("caffe") is caffe
    assert importlib.import_module("caffe.proto.caffe_pb2").NetParameter is caffe.proto.caffe_pb2.NetParameter
    assert caffe.__spec__ is not None and caffe.__spec__.name == "caffe_compat.pycaffe"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("caffe.no_such_part")


def test_the_null_device_is_no_weights(folder: Path) -> None:
    write(folder, net=TRAINED)
    assert run_caffe("test", CaffeOptions(model="net.prototxt", weights="/dev/null", iterations=2)) == 0
    net = caffe.Net("net.prototxt", "/dev/null", caffe.TEST)
    net.copy_from("/dev/null")


def test_the_functions_that_scripts_wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("n.prototxt").write_text('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }')
    private = importlib.import_module("caffe_compat.pycaffe.pycaffe")
    net = caffe.Net("n.prototxt", caffe.TEST)
    assert caffe._caffe.Net is private.Net is caffe.Net
    assert caffe.pycaffe is private
    assert list(private._Net_forward(net, x=np.ones((2, 3)))) == ["x"]
    assert private._Net_inputs.fget(net) == private._Net_outputs.fget(net) == ["x"]
    assert [batch["x"].shape for batch in private._Net_batch(net, {"x": np.ones((3, 3))})] == [(2, 3), (2, 3)]
    names = ("backward", "forward_all", "forward_backward_all", "set_input_arrays", "blob_loss_weights")
    assert all(hasattr(private, f"_Net_{name}") for name in names)
