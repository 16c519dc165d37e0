"""Files that Caffe and its users wrote: golden cases and published models (skipped where these are absent)."""

import json
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.errors import CaffeCompatError
from caffe_compat.proto import caffe_pb2, hdf5, read, state, text, upgrade, weights

SHARED = Path(__file__).resolve().parents[3] / "shared"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test material is not here")


def test_golden_texts():
    count = 0
    for path in sorted(SHARED.glob("golden/*/*.npz")):
        with np.load(path) as case:
            if json.loads(str(case["case"]))["kind"] not in ("net", "solver", "save"):
                continue
            for key, message in (("prototxt", caffe_pb2.NetParameter), ("solver", caffe_pb2.SolverParameter)):
                if key not in case:
                    continue
                source = str(case[key])
                parsed = text.parse(source, message, path.name)
                assert text.parse(text.format(parsed), message) == parsed, path
                count += 1
                if key == "prototxt":
                    assert len(text.layer_lines(source)) == len(parsed.layer) + len(parsed.layers), path
                    assert upgrade.upgrade_net(parsed).problems == [], path
    assert count > 1000


@pytest.mark.parametrize("name", ["text_*", "v0_*", "v1_*", "v2_*", "layer_and_layers", "solver_type_and_enum"])
def test_golden_refusals(name, tmp_path):
    for path in sorted(SHARED.glob(f"golden/errors/{name}.npz")):
        with np.load(path) as case:
            spec = json.loads(str(case["case"]))
            bad = tmp_path / "bad.prototxt"
            bad.write_text(str(case["bad.prototxt"]))
        with pytest.raises(CaffeCompatError) as caught:
            (read.read_solver if name.startswith("solver") else read.read_net)(bad)
        assert any(words.lower() in str(caught.value).lower() for words in spec["expect_any"])


def test_published_prototxts():
    paths = sorted(SHARED.glob("real/models/**/*.prototxt"))
    assert len(paths) > 20
    for path in paths:
        if "solver" in path.name:
            assert read.read_solver(path).max_iter > 0
        else:
            net, lines = read.read_net_text(path)
            assert len(lines) == len(net.layer)


@pytest.mark.parametrize("folder", ["golden/files/src", "golden/solvers/src", "real/models"])
def test_weights_agree_with_protobuf(folder):
    paths = sorted(SHARED.glob(f"{folder}/**/*.caffemodel"))
    assert len(paths) > 5
    for path in paths:
        net = upgrade.upgrade_net(read.read_message_binary(path, caffe_pb2.NetParameter)).net
        model = weights.scan(path)
        assert [(layer.name, layer.type) for layer in model.layers] == [(layer.name, layer.type) for layer in net.layer]
        for layer, wanted in zip(model.layers, net.layer, strict=True):
            assert len(layer.blobs) == len(wanted.blobs)
            for blob, proto in zip(layer.blobs, wanted.blobs, strict=True):
                numbers = np.asarray(proto.double_data or proto.data, np.float32)
                np.testing.assert_array_equal(blob.read().ravel(), numbers)
                if not blob.legacy:
                    assert blob.shape == tuple(proto.shape.dim)


@pytest.mark.parametrize("name", ["golden/files/src/saved_by_caffe", "real/models/lenet_mnist/lenet_iter_10000"])
def test_written_byte_for_byte_as_caffe(name, tmp_path):
    path = SHARED / f"{name}.caffemodel"
    net = read.read_message_binary(path, caffe_pb2.NetParameter)
    model = weights.scan(path)
    layers = [(proto, [b.read() for b in got.blobs]) for proto, got in zip(net.layer, model.layers, strict=True)]
    if any(blob.has_diff for layer in model.layers for blob in layer.blobs):
        layers = [(*pair, [b.diff() for b in got.blobs]) for pair, got in zip(layers, model.layers, strict=True)]
    weights.write(tmp_path / "x.caffemodel", net.name, layers)
    assert (tmp_path / "x.caffemodel").read_bytes() == path.read_bytes()


def test_states(tmp_path):
    paths = sorted(SHARED.glob("golden/solvers/src/*.solverstate"))
    assert paths
    for path in paths:
        stored = state.read_state(path)
        state.write_state(tmp_path / "s", stored)
        assert (tmp_path / "s").read_bytes() == path.read_bytes()
        twin = hdf5.read_state_hdf5(f"{path}.h5")
        assert (twin.iter, twin.current_step) == (stored.iter, stored.current_step)
        for one, other in zip(stored.history, twin.history, strict=True):
            assert one.shape == other.shape


def test_hdf5_weights_hold_what_the_binary_ones_hold():
    folder = SHARED / "golden/files/src"
    binary = {
        layer.name: [b.read() for b in layer.blobs] for layer in weights.scan(folder / "current.caffemodel").layers
    }
    for layer in hdf5.read_hdf5(folder / "current.caffemodel.h5"):
        assert len(layer.blobs) == len(binary.get(layer.name, []))
        for index, array in layer.blobs.items():
            np.testing.assert_array_equal(array, binary[layer.name][index])
