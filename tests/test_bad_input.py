"""Bad input through the tools: exit status 2, one line ``error: ...`` that names the culprit, nothing half-written."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import cv2
import h5py
import lmdb
import numpy as np
import pytest
from program import call, end, start

from caffe_compat import log
from caffe_compat.errors import LayerError, ModelFileError
from caffe_compat.memory import available_memory, human_size
from caffe_compat.net import BlobNet, load_net
from caffe_compat.net.plan import with_all_parameters
from caffe_compat.proto import caffe_pb2

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }\n'
LAYERS = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }\n'
IMAGES = """layer { name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "SOURCE" batch_size: 2 new_height: 16 new_width: 16 } }
"""
PAIRS = """layer { name: "pairs" type: "PairedImageData" top: "data" top: "other"
  paired_image_data_param { source: "SOURCE" batch_size: 2 new_height: 16 new_width: 16 } }
layer { name: "quiet" type: "Silence" bottom: "other" }
layer { name: "zero" type: "DummyData" top: "label" dummy_data_param { shape { dim: 2 } } }
"""
DATABASE = """layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "SOURCE" batch_size: 1 backend: LMDB } }
"""
SOLVER = "net: 'train.prototxt'\nbase_lr: 0.01\nlr_policy: 'fixed'\nmax_iter: 2\nsnapshot_prefix: 'out'\n"


def check(status: int, err: str, *parts: str) -> None:
    """Status 2 and one error line, the last, with all parts in it; before it only lines of the log."""
    lines = err.splitlines()
    assert status == 2, err
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], err
    for part in parts:
        assert part in lines[-1], f"{part!r} is not in: {lines[-1]}"


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Good files: images, a database, a net and its weights; the current folder."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("a.png", "b.png", "a_hha.png", "b_hha.png"):
        cv2.imwrite(name, random.integers(0, 255, (20, 24, 3), np.uint8))
    cv2.imwrite("small_hha.png", random.integers(0, 255, (10, 12, 3), np.uint8))
    Path("broken.png").write_bytes(Path("a.png").read_bytes()[:60])
    Path("list.txt").write_text("a.png 0\nb.png 1\n")
    Path("pairs.txt").write_text("a.png a_hha.png\nb.png b_hha.png\n")
    Path("deploy.prototxt").write_text(INPUT + LAYERS)
    load_net("deploy.prototxt").save("good.caffemodel")
    Path("cut.caffemodel").write_bytes(Path("good.caffemodel").read_bytes()[:-100])
    Path("other.prototxt").write_text(INPUT + LAYERS.replace("num_output: 5", "num_output: 6"))
    load_net("other.prototxt").save("other.caffemodel")
    Path("solver.prototxt").write_text(SOLVER)
    Path("train.prototxt").write_text(IMAGES.replace("SOURCE", "list.txt") + LAYERS + LOSS)
    yield tmp_path
    log._logger.handlers = [handler for handler in log._logger.handlers if type(handler).__name__ != "_BarHandler"]


def test_the_good_files_train(folder):
    status, _, err = call("train_net", "--solver", "solver.prototxt", "--gpu", -1, "--weights", "good.caffemodel")
    assert status == 0, err
    assert Path("out_iter_2.caffemodel").exists() and Path("out_iter_2.solverstate").exists()


# -- nets -----------------------------------------------------------------------------------------------------------

BAD_NETS = {
    "unknown layer type": (("Convolution", "Convolutoin"), ["layer 'conv'", "line 4", "did you mean 'Convolution'"]),
    "unknown parameter": (("kernel_size: 3", "kernel_sise: 3"), [":5:", "kernel_sise", "kernel_size"]),
    "unread parameter": (
        ("bottom: \"conv\" top: \"conv\" }", "bottom: \"conv\" top: \"conv\" lrn_param { alpha: 1 } }"),
        ["layer 'relu' (ReLU)", "lrn_param", "line 6"],
    ),
    "unknown bottom": (('bottom: "conv" top: "ip"', 'bottom: "comv" top: "ip"'), ["layer 'ip'", "'comv'", "'conv'"]),
    "shape": (("kernel_size: 3", "kernel_size: 30"), ["layer 'conv'", "line 4", "30"]),
    "syntax": (('name: "ip" type', 'name: "ip type'), [":7:"]),
    "huge": (("num_output: 4", "num_output: 2000000000"), ["layer 'conv'", "2000000000"]),
    "no memory": (("num_output: 5", "num_output: 2500000"), ["layer 'ip'", "2500000", "free"]),
}  # fmt: skip


@pytest.fixture
def little_memory(monkeypatch):
    """A machine with 1 GiB left."""
    monkeypatch.setattr("caffe_compat.layers.base.available_memory", lambda: 1 << 30)


@pytest.mark.parametrize("what", BAD_NETS)
def test_bad_nets(folder, what, little_memory):
    (old, new), parts = BAD_NETS[what]
    for name in ("train.prototxt", "deploy.prototxt"):
        text = Path(name).read_text()
        assert old in text
        Path(name).write_text(text.replace(old, new).replace(IMAGES.replace("SOURCE", "list.txt"), INPUT_LINES))
    before = files(folder)
    status, _, err = call("train_net", "--solver", "solver.prototxt", "--gpu", -1)
    check(status, err, "train.prototxt", *parts)
    status, _, err = call("export_onnx", "--model", "deploy.prototxt", "--output", "net.onnx")
    check(status, err, "deploy.prototxt", *(part for part in parts if "line" not in part and part[0] != ":"))
    assert files(folder) == before


INPUT_LINES = """layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } shape { dim: 1 } } }
"""


# -- weights --------------------------------------------------------------------------------------------------------

BAD_WEIGHTS = {
    "absent.caffemodel": ["absent.caffemodel"],
    "cut.caffemodel": ["cut.caffemodel", "byte"],
    "other.caffemodel": ["other.caffemodel", "layer 'ip'", "[6, 784]", "[5, 784]"],
    "train.prototxt": ["train.prototxt", "text file"],
    "a.png": ["a.png"],
    "empty.caffemodel": ["empty.caffemodel", "empty"],
}


@pytest.mark.parametrize("weights", BAD_WEIGHTS)
def test_bad_weights(folder, weights):
    Path("empty.caffemodel").write_bytes(b"")
    Path("surgery.json").write_text(
        json.dumps([{"prototxt": "deploy.prototxt", "model": weights, "copy_ops": {"source": ["ip"], "dest": ["ip"]}}])
    )
    before = files(folder)
    parts = BAD_WEIGHTS[weights]
    for name, *arguments in (
        ("train_net", "--solver", "solver.prototxt", "--gpu", -1, "--weights", weights),
        ("export_onnx", "--model", "deploy.prototxt", "--weights", weights, "--output", "net.onnx"),
        ("net_surgery", "--out_net_def", "deploy.prototxt", "--net_surgery_json", "surgery.json",
         "--out_net_file", "new.caffemodel"),
        ("measure_scale", "--model", "deploy.prototxt", "--weights", weights, "--blob", "conv", "--images", "list.txt",
         "--quiet"),
    ):  # fmt: skip
        if name == "measure_scale" and weights == "other.caffemodel":
            continue  # ip is above the blob and not needed
        status, _, err = call(name, *arguments)
        check(status, err, *parts)
    assert files(folder) == before


# -- data -----------------------------------------------------------------------------------------------------------

BAD_LISTS = {
    "empty": (IMAGES, "", ["bad.txt", "the list is empty"]),
    "absent image": (IMAGES, "a.png 0\nnowhere.png 1\n", ["nowhere.png"]),
    "unreadable image": (IMAGES, "a.png 0\nbroken.png 1\n", ["broken.png"]),
    "blank line": (IMAGES, "a.png 0\n\nb.png 1\n", ["bad.txt, line 2"]),
    "no pair": (PAIRS, "a.png a_hha.png\nb.png\n", ["bad.txt, line 2", "expected two"]),
    "empty pairs": (PAIRS, "\n", ["bad.txt", "the list is empty"]),
    "pair of two sizes": (PAIRS, "a.png a_hha.png\nb.png small_hha.png\n", ["small_hha.png", "b.png"]),
    "unreadable half": (PAIRS, "a.png a_hha.png\nb.png broken.png\n", ["broken.png"]),
    "absent half": (PAIRS, "a.png a_hha.png\nb.png nowhere.png\n", ["nowhere.png"]),
}


@pytest.mark.parametrize("what", BAD_LISTS)
def test_bad_lists(folder, what):
    head, text, parts = BAD_LISTS[what]
    Path("bad.txt").write_text(text)
    Path("train.prototxt").write_text(head.replace("SOURCE", "bad.txt") + LAYERS + LOSS)
    before = files(folder)
    status, _, err = call("train_net", "--solver", "solver.prototxt", "--gpu", -1)
    check(status, err, *parts)
    assert files(folder) == before


def test_a_list_that_is_not_there(folder):
    Path("train.prototxt").write_text(PAIRS.replace("SOURCE", "nowhere.txt") + LAYERS + LOSS)
    check(*call("train_net", "--solver", "solver.prototxt", "--gpu", -1)[::2], "nowhere.txt")


def write_database(name: str, value: bytes) -> None:
    with lmdb.open(name, map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        for key in range(40):
            transaction.put(b"%04d" % key, value)


@pytest.mark.parametrize("what", ["good", "record", "truncated", "no database", "image"])
def test_databases(folder, what):
    datum = caffe_pb2.Datum(channels=3, height=16, width=16, data=bytes(768), label=1).SerializeToString()
    image = caffe_pb2.Datum(encoded=True, data=Path("a.png").read_bytes()[:60], label=1).SerializeToString()
    write_database("db", {"record": datum[:-9], "image": image}.get(what, datum))
    content = Path("db/data.mdb").read_bytes()
    if what == "truncated":
        Path("db/data.mdb").write_bytes(content[: len(content) // 2])
    if what == "no database":
        Path("db/data.mdb").write_bytes(b"text" * 4096)
    Path("train.prototxt").write_text(DATABASE.replace("SOURCE", "db") + LAYERS + LOSS)
    status, _, err = call("train_net", "--solver", "solver.prototxt", "--gpu", -1)
    if what == "good":
        assert status == 0, err
    else:
        check(status, err, "db", "layer 'data'")


# -- solvers --------------------------------------------------------------------------------------------------------

BAD_SOLVERS = {
    "unknown field": (SOLVER + "base_lrr: 1", [":6:", "base_lrr", "base_lr"]),
    "wrong type": (SOLVER.replace("0.01", "'x'"), [":2:"]),
    "policy": (SOLVER.replace("fixed", "fixd"), ["lr_policy", "fixd", "fixed"]),
    "no net": (SOLVER.replace("net: 'train.prototxt'", ""), ["net"]),
    "two nets": (SOLVER + "train_net: 'x'", ["net", "train_net"]),
    "absent net": (SOLVER.replace("train.prototxt", "nowhere.prototxt"), ["nowhere.prototxt"]),
    "solver type": (SOLVER + "type: 'Adma'", ["Adma", "Adam"]),
    "two types": (SOLVER + "type: 'Adam' solver_type: ADAM", ["solver_type"]),
    "momentum": (SOLVER + "type: 'AdaGrad' momentum: 0.9", ["momentum"]),
    "test_iter": (SOLVER + "test_iter: 1", ["test_interval"]),
    "iter_size": (SOLVER + "iter_size: 0", ["iter_size"]),
    "regularization": (SOLVER + "regularization_type: 'L3'", ["L3"]),
    "folder": (SOLVER.replace("'out'", "'a.png/out'") + "snapshot: 1", ["a.png"]),
}


@pytest.mark.parametrize("what", BAD_SOLVERS)
def test_bad_solvers(folder, what):
    text, parts = BAD_SOLVERS[what]
    Path("bad_solver.prototxt").write_text(text)
    before = files(folder)
    status, _, err = call("train_net", "--solver", "bad_solver.prototxt", "--gpu", -1)
    file = [] if what == "absent net" else ["bad_solver.prototxt"]
    check(status, err, *parts, *file)
    assert files(folder) == before


def test_bad_states(folder):
    assert call("train_net", "--solver", "solver.prototxt", "--gpu", -1)[0] == 0
    state = Path("out_iter_2.solverstate").read_bytes()
    Path("cut.solverstate").write_bytes(state[:-30])
    Path("train.prototxt").write_text(Path("train.prototxt").read_text().replace("num_output: 5", "num_output: 7"))
    for name, parts in (
        ("nowhere.solverstate", ["nowhere.solverstate"]),
        ("cut.solverstate", ["cut.solverstate", "byte"]),
        ("out_iter_2.solverstate", ["out_iter_2.solverstate", "history blob", "layer 'ip'"]),
        ("a.png", ["a.png"]),
    ):
        status, _, err = call("train_net", "--solver", "solver.prototxt", "--gpu", -1, "--snapshot", name)
        check(status, err, *parts)


# -- the other tools ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, parts",
    [
        ("{", ["surgery.json", "JSON"]),
        ("[]", ["surgery.json"]),
        ('[{"prototxt": "deploy.prototxt"}]', ["surgery.json", "entry 0"]),
        (
            '[{"prototxt": "deploy.prototxt", "model": "good.caffemodel",'
            ' "copy_ops": {"source": ["conw"], "dest": ["conv"]}}]',
            ["good.caffemodel", "conw", "conv"],
        ),
        (
            '[{"prototxt": "deploy.prototxt", "model": "good.caffemodel",'
            ' "copy_ops": {"source": ["conv"], "dest": ["ip"]}}]',
            ["deploy.prototxt", "'conv'", "'ip'", "[4, 3, 3, 3]"],
        ),
    ],
)
def test_bad_surgery(folder, text, parts):
    Path("surgery.json").write_text(text)
    before = files(folder)
    arguments = ["--out_net_def", "deploy.prototxt", "--net_surgery_json", "surgery.json", "--out_net_file", "n.h5"]
    check(*call("net_surgery", *arguments)[::2], *parts)
    assert files(folder) == before


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--outputs", "fc9"], ["fc9"]),
        (["--shape", "data=1,x"], ["--shape"]),
        (["--shape", "date=1,3,16,16"], ["date"]),
        (["--shape", "data=1,3,2,2"], ["layer 'ip'", "line 6"]),
        (["--opset", "3"], ["opset"]),
        (["--dynamic", "depth"], ["depth"]),
    ],
)
def test_bad_exports(folder, arguments, parts):
    before = files(folder)
    check(*call("export_onnx", "--model", "deploy.prototxt", "--output", "net.onnx", *arguments)[::2], *parts)
    assert files(folder) == before


def test_output_that_cannot_be_written(folder):
    Path("surgery.json").write_text(
        '[{"prototxt": "deploy.prototxt", "model": "good.caffemodel", "copy_ops": {"source": [], "dest": []}}]'
    )
    check(*call("export_onnx", "--model", "deploy.prototxt", "--output", "a.png/net.onnx")[::2], "a.png")
    arguments = ["--net_surgery_json", "surgery.json", "--out_net_file", "a.png/new.caffemodel"]
    check(*call("net_surgery", "--out_net_def", "deploy.prototxt", *arguments)[::2], "a.png")


@pytest.mark.parametrize(
    "change, parts",
    [
        (["--teacher", "nowhere.prototxt"], ["nowhere.prototxt"]),
        (["--layer", "pool9"], ["pool9", "deploy.prototxt"]),
        (["--loss-weight", "much"], ["--loss-weight"]),
        (["--student", "a.png"], ["a.png"]),
        (
            ["--teacher-weights", "cut.caffemodel", "--source", "pairs.txt", "--val-source", "pairs.txt"],
            ["cut.caffemodel"],
        ),
    ],
)
def test_bad_transfers(folder, change, parts):
    good = ["--teacher", "deploy.prototxt", "--student", "deploy.prototxt", "--layer", "conv", "--output", "new"]
    if change[0] in good:
        good[good.index(change[0]) + 1] = change[1]
        change = change[2:]
    check(*call("make_transfer", *good, *change)[::2], *parts)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["a.png", "-o", "h.png"], ["--camera"]),
        (["nowhere.png", "-o", "h.png", "--camera", "30,30,12,9"], ["nowhere.png"]),
        (["broken.png", "-o", "h.png", "--camera", "30,30,12,9", "--units-per-metre", "1000"], ["broken.png"]),
        (["a.png", "-o", "h.png", "--camera", "kinect9", "--units-per-metre", "1000"], ["kinect9"]),
        (["--list", "nowhere.txt", "-o", "h", "--camera", "30,30,12,9"], ["nowhere.txt"]),
        (["--index", "list.txt", "-o", "h"], ["list.txt"]),
    ],
)
def test_bad_depth(folder, arguments, parts):
    before = files(folder)
    status, out, err = call("make_hha", *arguments, "--quiet")
    assert (status, files(folder)) == (2, before), out + err
    check(status, err, *parts)


def test_bad_measures(folder):
    good = {"--model": "deploy.prototxt", "--weights": "good.caffemodel", "--blob": "conv", "--images": "list.txt"}
    Path("empty.txt").write_text("")
    Path("bad.txt").write_text("broken.png 0\n")
    for change, parts in (
        ({"--blob": "cnv"}, ["cnv", "conv", "deploy.prototxt"]),
        ({"--images": "empty.txt"}, ["empty.txt"]),
        ({"--images": "bad.txt"}, ["broken.png"]),
        ({"--reference-model": "deploy.prototxt"}, ["--reference-weights"]),
    ):
        arguments = [word for pair in {**good, **change}.items() for word in pair]
        check(*call("measure_scale", *arguments, "--quiet")[::2], *parts)


def test_weights_of_another_net(folder):
    """A file of which no layer fits leaves the net untrained, which no number shows."""
    Path("foreign.prototxt").write_text(INPUT + LAYERS.replace('name: "', 'name: "foreign_'))
    load_net("foreign.prototxt").save("foreign.caffemodel")
    operation = {"prototxt": "deploy.prototxt", "model": "foreign.caffemodel"}
    Path("surgery.json").write_text(json.dumps([{**operation, "copy_ops": {"source": ["ip"], "dest": ["ip"]}}]))
    before = files(folder)
    given = ("--model", "deploy.prototxt", "--weights", "foreign.caffemodel")
    for name, *arguments in (
        ("export_onnx", *given, "--output", "net.onnx"),
        ("verify", *given, "--onnx"),
        ("measure_scale", *given, "--blob", "conv", "--images", "list.txt", "--quiet"),
        ("net_surgery", "--out_net_def", "deploy.prototxt", "--net_surgery_json", "surgery.json",
         "--out_net_file", "new.caffemodel"),
    ):  # fmt: skip
        status, _, err = call(name, *arguments)
        check(status, err, "foreign.caffemodel", "no layer of this file fits", "'foreign_ip'", "the net has 'conv'")
    assert files(folder) == before


# -- as real processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, arguments, parts",
    [
        ("train_net", ["--solver", "nowhere.prototxt"], ["nowhere.prototxt"]),
        (
            "export_onnx",
            ["--model", "deploy.prototxt", "--weights", "cut.caffemodel", "--output", "n.onnx"],
            ["cut.caffemodel"],
        ),
        ("verify", ["--model", "deploy.prototxt", "--npz", "nowhere.npz"], ["nowhere.npz"]),
    ],
)
def test_processes(folder, name, arguments, parts):
    before = files(folder)
    done = end(start(name, *arguments, PATH="/usr/bin:/bin"))
    check(done.status, done.stderr, *parts)
    assert "Traceback" not in done.stderr and files(folder) == before


# -- HDF5 weights whose numbers are not there -------------------------------------------------------------------------


def hdf5_layer(what: str) -> None:
    with h5py.File("w.h5", "w") as file:
        layer = file.create_group("data/ip")
        if what == "huge":
            layer.create_dataset("0", (2**31 - 1,), "f4", chunks=(1 << 20,))
        elif what == "beyond memory":
            layer.create_dataset("0", (20, 2**20), "f4", chunks=(20, 2**20), compression="gzip")
            layer["0"][...] = 0
        elif what == "virtual":
            layout = h5py.VirtualLayout((5, 784), "f4")
            layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (5, 784))
            layer.create_virtual_dataset("0", layout)
        else:
            layer["0"], layer["1"] = np.ones((5, 784), np.float32), np.ones(5, np.float32)
            layer.attrs["note"] = "a text, which HDF5 keeps in a global heap, as virtual datasets do"


@pytest.mark.parametrize("what", ["huge", "beyond memory", "virtual", "good"])
def test_hdf5_weights(folder, what, monkeypatch):
    monkeypatch.setattr("caffe_compat.proto.hdf5_file.available_memory", lambda: 1 << 26)
    hdf5_layer(what)
    net = load_net("deploy.prototxt")
    if what == "good":
        net.copy_from("w.h5")
        assert bool((net.layer("ip").blob(0) == 1).all())
        return
    reason = {"huge": "not stored", "beyond memory": "80 MiB", "virtual": "virtual dataset"}[what]
    with pytest.raises(ModelFileError, match=f"w.h5: .*{reason}"):
        net.copy_from("w.h5")


def test_memory_that_is_left():
    left = available_memory()
    assert 0 < left < 2**50
    assert human_size(8 << 30) == "8 GiB" and human_size(100) == "100 bytes"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_out_of_memory_names_the_layer(folder):
    Path("big.prototxt").write_text(
        INPUT.replace("dim: 16 dim: 16", "dim: 1500 dim: 1500")
        + 'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"'
        + " convolution_param { num_output: 1 kernel_size: 11 } }"
    )
    engine = BlobNet(load_net("big.prototxt", phase="TRAIN"), reference_arithmetic=True)
    (conv,) = (node for node in engine.net.nodes if node.type == "Convolution")
    assert not conv.needs_backward  # no loss: nothing is unfolded
    engine.net.plan = with_all_parameters(engine.net.plan)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), hard))
    try:
        assert available_memory() <= 1 << 30
        with pytest.raises(LayerError, match=r"big.prototxt: layer 'conv' \(Convolution\): ran out of memory"):
            engine.forward()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
