"""Weights and solver states in Caffe's HDF5 layout."""

import os
import zlib

import numpy as np
import pytest

from caffe_compat.errors import MissingFileError, ModelFileError
from caffe_compat.net.weights import blobs_in
from caffe_compat.proto import hdf5, state

h5py = pytest.importorskip("h5py")

W = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.caffemodel.h5"


def test_round_trip(path):
    layers = [("ip", {0: W, 1: W[0]}), ("a_split", {}), ("shares", {1: W + 1})]
    hdf5.write_hdf5(path, layers, [("ip", {0: -W})])
    back = list(hdf5.read_hdf5(path))
    assert [(layer.name, list(layer.blobs), list(layer.diffs)) for layer in back] == [
        ("a_split", [], []),
        ("ip", [0, 1], [0]),
        ("shares", [1], []),
    ]
    np.testing.assert_array_equal(back[1].blobs[0], W)
    np.testing.assert_array_equal(back[1].diffs[0], -W)
    with h5py.File(path) as file:
        assert file["data/ip/0"].dtype == np.float32
        assert list(file["data"]) == ["a_split", "ip", "shares"]


def test_more_than_ten_blobs_keep_their_order(path):
    hdf5.write_hdf5(path, [("x", {index: W * index for index in range(12)})])
    (layer,) = hdf5.read_hdf5(path)
    assert [float(array[0, 1]) for array in layer.blobs.values()] == list(range(12))


def test_doubles(path):
    with h5py.File(path, "w") as file:
        file["data/x/0"] = W.astype(np.float64)
    (layer,) = hdf5.read_hdf5(path)
    assert layer.blobs[0].dtype == np.float32
    np.testing.assert_array_equal(layer.blobs[0], W)


@pytest.mark.parametrize(("names", "words"), [(["a/b"], "'a/b' is not"), (["a", "a"], "twice"), ([""], "not a name")])
def test_names_that_the_format_cannot_hold(tmp_path, names, words):
    with pytest.raises(ModelFileError, match=words):
        hdf5.write_hdf5(tmp_path / "x.h5", [(name, {}) for name in names])
    assert os.listdir(tmp_path) == []


def _no_data(file):
    file["other"] = W


def _data_is_a_dataset(file):
    file["data"] = W


def _layer_is_a_dataset(file):
    file["data/x"] = W


def _bad_index(file):
    file["data/x/first"] = W


def _integers(file):
    file["data/x/0"] = np.arange(3)


def _text(file):
    file["data/x/0"] = "text"


def _soft_link(file):
    file["data/x/1"] = W
    file["data/x/0"] = h5py.SoftLink("/data/x/1")


def _external_link(file):
    file.create_group("data/x")["0"] = h5py.ExternalLink("/etc/hostname", "/x")


def _external_storage(file):
    file.create_dataset("data/x/0", (3,), "f4", external=[("/etc/hostname", 0, 12)])


def _not_stored(file):
    file.create_dataset("data/x/0", (1 << 28,), "f4")


def _huge(file):
    file.create_dataset("data/x/0", (1 << 20, 1 << 20), "f4", chunks=(1, 1))


def _large_chunk(file):
    data = file.create_dataset("data/x/0", (9,), "f4", chunks=(1 << 21,), maxshape=(None,), compression="gzip")
    data.id.write_direct_chunk((0,), zlib.compress(np.arange(1 << 21, dtype="f4").tobytes(), 1))


def _dense(file):
    data = file.create_dataset("data/x/0", (1 << 25,), "f4", chunks=(1 << 25,), compression="gzip")
    data.id.write_direct_chunk((0,), bytes(100_000))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            _large_chunk,
            "/data/x/0: its 36 bytes of numbers lie in a chunk of 8 MiB; .*--no-limits .CAFFE_COMPAT_NO_LIMIT",
        ),
        (_dense, "/data/x/0: its 128 MiB of numbers are compressed to 97.66 KiB"),
        (_no_data, "/data is missing"),
        (_data_is_a_dataset, "/data is not a group"),
        (_layer_is_a_dataset, "/data/x is not a group"),
        (_bad_index, "/data/x/first: blobs must be named"),
        (_integers, "/data/x/0 holds int64"),
        (_text, "/data/x/0 holds object"),
        (_soft_link, "/data/x/0 is a link"),
        (_external_link, "/data/x/0 is a link"),
        (_external_storage, "another file"),
        (_not_stored, "not stored"),
        (_huge, "beyond 32 axes or 2147483647"),
    ],
)
def test_malformed(path, damage, words):
    with h5py.File(path, "w") as file:
        damage(file)
    with pytest.raises(ModelFileError, match=words) as caught:
        list(hdf5.read_hdf5(path))
    assert str(path) in str(caught.value)


def test_limits_can_be_lifted(path, monkeypatch):
    with h5py.File(path, "w") as file:
        _large_chunk(file)
    monkeypatch.setenv("CAFFE_COMPAT_NO_LIMITS", "1")
    assert next(iter(hdf5.read_hdf5(path))).blobs[0].tolist() == list(range(9))


def test_chunks_of_any_usual_size_are_read(path):
    with h5py.File(path, "w") as file:
        zeros = np.zeros((4096, 4096), "f4")
        file.create_dataset("data/x/0", data=zeros, chunks=True, compression="gzip", compression_opts=9)
        file.create_dataset("data/x/1", data=W, chunks=(1024, 1024), maxshape=(None, None))
    blobs = next(iter(hdf5.read_hdf5(path))).blobs
    assert not blobs[0].any() and (blobs[1] == W).all()


def test_names_are_found_without_reading_numbers(path, monkeypatch):
    hdf5.write_hdf5(path, [("b", {0: W, 1: W}), ("a", {1: W}), ("none", {})])
    monkeypatch.setattr(h5py.Dataset, "read_direct", lambda *_: pytest.fail("reads"))
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("reads"))
    with hdf5.open_weights(path) as layers:
        assert [(layer.name, layer.indices) for layer in layers] == [("a", (1,)), ("b", (0, 1)), ("none", ())]
    assert blobs_in([path]) == {"a": {1}, "b": {0, 1}, "none": set()}


def test_truncated(path):
    hdf5.write_hdf5(path, [("x", {0: W})])
    raw = path.read_bytes()
    for length in range(0, len(raw), 97):
        path.write_bytes(raw[:length])
        with pytest.raises(ModelFileError, match="not a usable HDF5 file"):
            list(hdf5.read_hdf5(path))
    path.unlink()
    with pytest.raises(MissingFileError):
        list(hdf5.read_hdf5(path))


def test_state(path):
    hdf5.write_state_hdf5(path, state.SolverState(9, "snap/ä.caffemodel.h5", 3, [W, W[0]]))
    back = hdf5.read_state_hdf5(path)
    assert (back.iter, back.learned_net, back.current_step) == (9, "snap/ä.caffemodel.h5", 3)
    np.testing.assert_array_equal(back.history[1], W[0])
    with h5py.File(path) as file:
        kind = file["learned_net"].id.get_type()
        assert (kind.get_strpad(), kind.get_size()) == (h5py.h5t.STR_NULLTERM, len("snap/ä.caffemodel.h5".encode()) + 1)
        assert (file["iter"].shape, file["iter"].dtype) == ((1,), np.int32)


def _gap(file):
    file["history/5"] = W


def _negative(file):
    del file["iter"]
    file["iter"] = np.array([-4], "i4")


def _two(file):
    del file["iter"]
    file["iter"] = np.array([1, 2], "i4")


def _name_is_a_number(file):
    del file["learned_net"]
    file["learned_net"] = 5


def _no_history(file):
    del file["history"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_gap, r"/history holds \[0, 5\]"),
        (_negative, "/iter is -4"),
        (_two, "/iter must be one integer"),
        (_name_is_a_number, "/learned_net is not a string"),
        (_no_history, "/history is missing"),
    ],
)
def test_malformed_state(path, damage, words):
    hdf5.write_state_hdf5(path, state.SolverState(9, "x", 3, [W]))
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(ModelFileError, match=words):
        hdf5.read_state_hdf5(path)
