"""Weights files, states and mean files: round trips, old formats, and every way of being malformed."""

import os
import threading

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from caffe_compat import load_net
from caffe_compat.errors import MissingFileError, ModelFileError, WeightsError
from caffe_compat.proto import blob as blob_module
from caffe_compat.proto import caffe_pb2, state, weights

W = np.arange(24, dtype=np.float32).reshape(4, 3, 2) / 7
B = np.array([1.5, -2.0, np.inf, 3e-39], np.float32)


def record(tag, body):
    """A length-delimited field with a tag below 16 or (as a number) below 2048."""
    return weights.varint(tag << 3 | 2) + weights.varint(len(body)) + body


TWO_ZEROS = record(5, bytes(8))


def blob_bytes(shape=b"\x0a\x01\x02", data=TWO_ZEROS):
    return record(7, shape) + data


def net_bytes(*blobs, name=b"L"):
    return record(100, record(1, name) + record(2, b"ReLU") + b"".join(record(7, blob) for blob in blobs))


@pytest.fixture
def scanned(tmp_path):
    def scan(raw):
        path = tmp_path / "m.caffemodel"
        path.write_bytes(raw)
        return weights.scan(path)

    return scan


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.caffemodel"
    layers = [
        (caffe_pb2.LayerParameter(name="c", type="Convolution", phase=1), [W, B], [W + 1, B]),
        (caffe_pb2.LayerParameter(name="s", type="Split"), []),
        (caffe_pb2.LayerParameter(name="bn", type="BatchNorm"), [np.float32(5).reshape(()), np.zeros((0, 3), "f4")]),
    ]
    weights.write(path, "näme", layers)
    return path


def test_round_trip(small):
    model = weights.scan(small)
    assert (model.name, [(layer.name, layer.type) for layer in model.layers]) == (
        "näme",
        [("c", "Convolution"), ("s", "Split"), ("bn", "BatchNorm")],
    )
    first, second = model.layers[0].blobs
    assert (first.shape, first.legacy, first.count, first.has_diff) == ((4, 3, 2), False, 24, True)
    np.testing.assert_array_equal(first.read(), W)
    np.testing.assert_array_equal(first.diff(), W + 1)
    np.testing.assert_array_equal(second.read(), B)
    scalar, empty = model.layers[2].blobs
    assert (scalar.shape, float(scalar.read()), empty.read().shape) == ((), 5.0, (0, 3))
    with pytest.raises(ModelFileError, match="layer 'bn' blob 0 holds no diff"):
        scalar.diff()


def test_written_as_protobuf_would(small):
    net = caffe_pb2.NetParameter.FromString(small.read_bytes())
    assert net.SerializeToString() == small.read_bytes()
    assert list(net.layer[0].blobs[0].shape.dim) == [4, 3, 2]
    assert not net.layer[0].blobs[0].HasField("num")


def test_read_into(small):
    blob = weights.scan(small).layers[0].blobs[0]
    target = np.zeros((1, 12, 2), np.float32)
    blob_module.read_all([(blob, target)])
    np.testing.assert_array_equal(target.ravel(), W.ravel())
    for wrong in (np.zeros(23, "f4"), np.zeros(24, "f8"), np.zeros((48,), "f4")[::2]):
        with pytest.raises(WeightsError, match="layer 'c' blob 0"):
            blob_module.read_all([(blob, wrong)])


def test_truncated_at_every_byte(small, scanned):
    raw = small.read_bytes()
    whole = [name for name in range(len(raw)) if _parses(raw[:name])]
    for length in range(len(raw)):
        if length and length in whole:
            assert len(scanned(raw[:length]).layers) < 3
        else:
            with pytest.raises(ModelFileError, match="m.caffemodel"):
                scanned(raw[:length])


def _parses(raw):
    try:
        return caffe_pb2.NetParameter.FromString(raw) is not None
    except DecodeError:
        return False


def test_every_flipped_byte_is_read_or_refused(small, scanned):
    raw = bytearray(small.read_bytes())
    for index in range(len(raw)):
        for flip in (0x01, 0x80):
            raw[index] ^= flip
            try:
                for layer in scanned(bytes(raw)).layers:
                    for blob in layer.blobs:
                        assert blob.read().size == blob.count <= 64
            except ModelFileError as error:
                assert "m.caffemodel: " in str(error)
            raw[index] ^= flip


NEGATIVE = b"\xff" * 9 + b"\x01"
MALFORMED = {
    "length of a layer": (b"\xa2\x06\xff\x7f", "field 100 claims 16383 bytes, but only 0 are left"),
    "length beyond 63 bits": (b"\xa2\x06" + NEGATIVE, "claims 18446744073709551615 bytes"),
    "length of a blob": (record(100, b"\x3a\x10\x00"), "field 7 claims 16 bytes, but only 1"),
    "length of data": (net_bytes(b"\x2a\x7f1234"), r"layer 0 'L', blob 0\): field 5 claims 127"),
    "data not a multiple of 4": (net_bytes(record(5, b"12345")), "multiple of 4"),
    "fewer numbers": (net_bytes(blob_bytes(data=record(5, bytes(4)))), r"shape \(2,\) needs 2 numbers, 1 are stored"),
    "more numbers": (net_bytes(blob_bytes(data=record(5, bytes(12)))), "needs 2 numbers, 3"),
    "no numbers": (net_bytes(blob_bytes(data=b"")), "needs 2 numbers, 0"),
    "fewer diffs": (net_bytes(blob_bytes() + record(6, bytes(4))), "needs 2 diff numbers, 1"),
    "blob without anything": (net_bytes(b""), "needs 1 numbers, 0"),
    "negative axis": (net_bytes(blob_bytes(b"\x0a\x0a" + NEGATIVE)), "negative axis"),
    "negative legacy axis": (net_bytes(b"\x08" + NEGATIVE), "negative axis"),
    "huge axis": (net_bytes(blob_bytes(record(1, b"\xff\xff\xff\xff\xff\x7f"))), "more than 2147483647 elements"),
    "huge product": (net_bytes(blob_bytes(record(1, b"\x80\x80\x04" * 4))), "more than 2147483647 elements"),
    "huge axis times zero": (net_bytes(blob_bytes(record(1, b"\x00\xff\xff\xff\xff\xff\x7f"), b"")), "more than"),
    "too many axes": (net_bytes(blob_bytes(record(1, b"\x01" * 33))), "more than 32 axes"),
    "too many unpacked axes": (net_bytes(blob_bytes(b"\x08\x01" * 33)), "more than 32 axes"),
    "shape as a number": (net_bytes(b"\x38\x01"), "field 7 has wire type 0, expected 2"),
    "data as a number": (net_bytes(b"\x28\x01"), "field 5 has wire type 0, expected 5"),
    "legacy dims as bytes": (net_bytes(b"\x0a\x00"), "field 1 has wire type 2, expected 0"),
    "layer as a number": (b"\xa0\x06\x01", "field 100 has wire type 0, expected 2"),
    "wire type 6": (b"\x0e", "wire type 6"),
    "wire type 7": (record(100, b"\x0f"), "wire type 7"),
    "field number 0": (b"\x02\x00", "field number 0"),
    "endless number": (b"\x78" + b"\xff" * 11, "more than 10 bytes"),
    "truncated number": (b"\x78\xff", "truncated in a number"),
    "group without end": (b"\x7b\x08\x01", "group 15 does not end"),
    "end without group": (b"\x7c", "wire type 4"),
    "group with wrong end": (b"\x7b\x74", "does not match"),
    "deep groups": (b"\x7b" * 5000, "nested deeper than 100"),
    "long name": (record(1, b"x" * 70000), "a name of 70000 bytes"),
    "both formats": (record(2, b"") + record(100, b""), "both 'layer' and 'layers'"),
    "empty": (b"", "the file is empty"),
    "text": (b"name: 'x'\nlayer { }", "looks like a text file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "this is an HDF5 file"),
    "numpy": (b"\x93NUMPY\x01\x00", "NumPy"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
}


@pytest.mark.parametrize(("raw", "words"), MALFORMED.values(), ids=MALFORMED)
def test_malformed(scanned, raw, words):
    with pytest.raises(ModelFileError, match=words) as caught:
        for layer in scanned(raw).layers:
            for blob in layer.blobs:
                blob.check()
    assert "m.caffemodel: " in str(caught.value)


@pytest.mark.parametrize(
    "use", [lambda b: b.read(), lambda b: b.diff(), lambda b: blob_module.read_all([(b, np.zeros(2, "f4"))])]
)
def test_a_blob_that_disagrees_with_its_shape_is_refused_when_it_is_used(scanned, use):
    model = scanned(net_bytes(blob_bytes(data=b"")) + net_bytes(blob_bytes(data=TWO_ZEROS), name=b"ok"))
    bad, good = (layer.blobs[0] for layer in model.layers)
    good.check()
    check_values(good, [0, 0])
    with pytest.raises(ModelFileError, match=r"m\.caffemodel: byte \d+ \(layer 0 'L', blob 0\): shape \(2,\) needs 2"):
        use(bad)


def raw_blob(kind, values, field=12, dims=b"\x0a\x01\x03"):
    return record(7, dims) + bytes([(field - 2) << 3, kind]) + record(field, values.tobytes())


@pytest.mark.parametrize(("kind", "dtype"), [(0, "<f8"), (1, "<f4"), (2, "<f2")])
def test_raw_numbers_as_nvcaffe_writes_them(scanned, kind, dtype):
    values, diffs = np.array([1.5, -2, 0.25], dtype), np.array([4, 5, 6.5], dtype)
    blob = raw_blob(kind, values) + bytes([11 << 3, kind]) + record(13, diffs.tobytes())
    found = scanned(net_bytes(blob)).layers[0].blobs[0]
    check_values(found, values)
    np.testing.assert_array_equal(found.diff(), diffs.astype("f4"))
    backwards = record(12, values.tobytes()) + b"\x50" + bytes([kind]) + record(7, b"\x0a\x01\x03")
    check_values(scanned(net_bytes(backwards)).layers[0].blobs[0], values)


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (raw_blob(3, np.zeros(3, "<i4")), "raw numbers of NVCaffe's type 3, expected 0"),
        (raw_blob(2, np.zeros(2, "<f2")), "needs 3 numbers, 2 are stored"),
        (raw_blob(2, np.zeros(3, "u1")), "not a multiple of 2"),
    ],
)
def test_raw_numbers_that_cannot_be_read(scanned, blob, words):
    with pytest.raises(ModelFileError, match=words):
        scanned(net_bytes(blob)).layers[0].blobs[0].check()


def check_values(blob, expected):
    np.testing.assert_array_equal(blob.read(), np.asarray(expected, np.float32).reshape(blob.shape))


def test_encodings_of_numbers(scanned):
    values = np.arange(5, dtype="<f4") + 0.5
    unpacked = b"".join(b"\x2d" + value.tobytes() for value in values)
    five = b"\x0a\x01\x05"
    cases = [
        record(5, values.tobytes()),
        record(5, values[:2].tobytes()) + record(5, b"") + record(5, values[2:].tobytes()),
        unpacked,
        unpacked[:10] + record(5, values[2:4].tobytes()) + b"\x78\x01" + unpacked[20:],
        b"".join(b"\xad\x00" + value.tobytes() for value in values),  # tag with a needless byte
        record(8, values.astype("<f8").tobytes()),
        b"".join(b"\x41" + value.tobytes() for value in values.astype("<f8")),
        record(5, bytes(20)) + record(8, values.astype("<f8").tobytes()),  # double_data wins
        record(5, values.tobytes()) + record(8, b""),
    ]
    for data in cases:
        check_values(scanned(net_bytes(blob_bytes(five, data))).layers[0].blobs[0], values)


def test_many_unpacked_numbers(scanned):
    values = np.random.default_rng(0).standard_normal(300_000).astype("<f4")
    records = np.empty(values.size, [("tag", "u1"), ("value", "<f4")])
    records["tag"], records["value"] = 0x2D, values
    shape = record(1, weights.varint(values.size))
    check_values(scanned(net_bytes(blob_bytes(shape, records.tobytes()))).layers[0].blobs[0], values)


def test_shapes(scanned):
    def shape_of(raw):
        blob = scanned(net_bytes(raw)).layers[0].blobs[0]
        return blob.shape, blob.legacy

    numbers = record(5, bytes(24))
    assert shape_of(record(7, b"\x08\x02\x08\x03") + numbers) == ((2, 3), False)
    assert shape_of(record(7, b"\x0a\x01\x02") + record(7, b"\x0a\x01\x03") + numbers) == ((2, 3), False)
    assert shape_of(b"\x08\x01\x10\x01\x18\x02\x20\x03" + numbers) == ((1, 1, 2, 3), True)
    assert shape_of(b"\x08\x01\x10\x01\x18\x02\x20\x03" + record(7, b"\x0a\x01\x06") + numbers) == ((1, 1, 2, 3), True)
    assert shape_of(b"\x08\x05") == ((5, 0, 0, 0), True)
    assert shape_of(record(5, bytes(4))) == ((), False)


def test_old_formats(scanned):
    blob = caffe_pb2.BlobProto(num=1, channels=1, height=1, width=2, data=[3, 4])
    v1 = caffe_pb2.NetParameter(name="v1", input=["x"], input_dim=[1, 2, 3, 4])
    v1.layers.add(name="a", type=21, blobs=[blob], bottom=["x"])
    v1.layers.add().layer.CopyFrom(caffe_pb2.V0LayerParameter(name="b", type="innerproduct", blobs=[blob, blob]))
    model = scanned(v1.SerializeToString())
    assert [(layer.name, layer.type, len(layer.blobs)) for layer in model.layers] == [
        ("a", "SoftmaxWithLoss", 1),
        ("b", "InnerProduct", 2),
    ]
    assert model.layers[1].blobs[1].legacy
    check_values(model.layers[1].blobs[1], [3, 4])


def test_unknown_fields_are_skipped(scanned):
    extra = b"\x7b\x08\x01\x7b\x7c\x7c" + b"\x79" + bytes(8) + b"\x7d" + bytes(4) + record(999, b"zz") + b"\x78\x05"
    raw = extra + record(100, extra + record(1, b"L") + record(7, extra + blob_bytes()) + record(137, b"\xff\xff"))
    layer = scanned(raw).layers[0]
    assert (layer.name, layer.blobs[0].shape) == ("L", (2,))


def test_a_name_that_is_not_utf8(scanned):
    assert scanned(net_bytes(name=b"a\xff")).layers[0].name == "a\\xff"


def test_file_that_changes_after_the_scan(small):
    blob = weights.scan(small).layers[0].blobs[0]
    small.write_bytes(small.read_bytes()[:40])
    with pytest.raises(ModelFileError, match="changed since it was scanned"):
        blob.read()
    small.unlink()
    with pytest.raises(MissingFileError):
        blob.read()


def test_write_refuses_and_leaves_nothing(tmp_path):
    layer = caffe_pb2.LayerParameter(name="c")
    for arrays, diffs, words in [
        ([W], [W, B], "1 arrays, but 2 diffs"),
        ([W], [B], "blob 0: shape"),
        ([np.zeros((1,) * 33, "f4")], None, "32 axes"),
    ]:
        with pytest.raises(ModelFileError, match=words):
            weights.write(tmp_path / "x.caffemodel", "n", [(layer, arrays, diffs)])
    assert os.listdir(tmp_path) == []


def test_mean_files(tmp_path):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(caffe_pb2.BlobProto(num=1, channels=3, height=1, width=2, data=range(6)).SerializeToString())
    assert weights.read_blob_proto(path).shape == (1, 3, 1, 2)
    proto = caffe_pb2.BlobProto(data=range(6))
    proto.shape.dim.extend([3, 1, 2])
    path.write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(weights.read_blob_proto(path), np.arange(6, dtype="f4").reshape(3, 1, 2))
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="empty"):
        weights.read_blob_proto(path)
    path.write_text("shape { dim: 3 }")
    with pytest.raises(ModelFileError, match="text file"):
        weights.read_blob_proto(path)


def test_is_hdf5(tmp_path, small):
    assert not weights.is_hdf5(small)
    (tmp_path / "x").write_bytes(b"\x89HDF\r\n\x1a\n...")
    assert weights.is_hdf5(tmp_path / "x")


def test_state(tmp_path):
    path = tmp_path / "s.solverstate"
    state.write_state(path, state.SolverState(7, "a/b.caffemodel", 2, [W, B]))
    message = caffe_pb2.SolverState.FromString(path.read_bytes())
    assert message.SerializeToString() == path.read_bytes()
    back = state.read_state(path)
    assert (back.iter, back.learned_net, back.current_step) == (7, "a/b.caffemodel", 2)
    for got, wanted in zip(back.history, [W, B], strict=True):
        np.testing.assert_array_equal(got, wanted)
    raw = path.read_bytes()
    for raw_bad, words in [
        (raw[:-20], "claims"),
        (b"\x08" + NEGATIVE, "iter is negative"),
        (record(3, blob_bytes(data=b"")), "history blob 0"),
        (record(1, b""), "expected 0"),
        (b"", "empty"),
        (b"iter: 5", "text file"),
    ]:
        path.write_bytes(raw_bad)
        with pytest.raises(ModelFileError, match=words):
            state.read_state(path)
    with pytest.raises(ModelFileError, match="current_step"):
        state.write_state(path, state.SolverState(1, "", -1))


def test_several_threads_read_all_blobs(tmp_path, monkeypatch):
    monkeypatch.setattr(blob_module, "PART", 64)
    monkeypatch.setattr(blob_module, "cores", lambda: 3)
    threads = set()
    read = blob_module._read_segment
    barrier = threading.Barrier(3)

    def spy(*args):
        if threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            barrier.wait(60)
        read(*args)

    monkeypatch.setattr(blob_module, "_read_segment", spy)
    arrays = [np.arange(1000, dtype="f4"), np.arange(7, dtype="f4") + 5000]
    path = tmp_path / "m.caffemodel"
    double = record(7, b"\x0a\x02\x90\x03") + record(8, np.arange(400.0).tobytes())
    weights.write(path, "n", [(caffe_pb2.LayerParameter(name="a", type="ReLU"), arrays)])
    path.write_bytes(path.read_bytes() + net_bytes(double))
    blobs = [blob for layer in weights.scan(path).layers for blob in layer.blobs]
    out = [np.full(blob.shape, -1, "f4") for blob in blobs]
    blob_module.read_all(list(zip(blobs, out, strict=True)))
    for got, expected in zip(out, [*arrays, np.arange(400, dtype="f4")], strict=True):
        np.testing.assert_array_equal(got, expected)
    assert len(threads) == 3


def test_an_error_in_a_thread_is_told_and_ends_all(tmp_path, monkeypatch):
    monkeypatch.setattr(blob_module, "PART", 64)
    monkeypatch.setattr(blob_module, "cores", lambda: 2)
    path = tmp_path / "m.caffemodel"
    weights.write(path, "n", [(caffe_pb2.LayerParameter(name="a", type="ReLU"), [np.zeros(1000, "f4")])])
    blob = weights.scan(path).layers[0].blobs[0]
    parts = []

    def fail(stream, segment, out, name):
        parts.append(segment)
        raise ModelFileError(f"{name}: the file ends early")

    monkeypatch.setattr(blob_module, "_read_segment", fail)
    before = threading.active_count()
    with pytest.raises(ModelFileError, match="ends early"):
        blob.read()
    assert threading.active_count() == before and len(parts) <= 2


def test_of_blobs_that_share_memory_the_last_one_counts(tmp_path):
    prototxt = tmp_path / "n.prototxt"
    layer = (
        'layer {{ name: "{}" type: "InnerProduct" bottom: "d" top: "{}" param {{ name: "w" }} '
        "inner_product_param {{ num_output: 2 bias_term: false }} }}\n"
    )
    prototxt.write_text(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 3 } } }\n'
        + layer.format("a", "a")
        + layer.format("b", "b")
    )
    path = tmp_path / "w.caffemodel"
    blobs = [np.full((2, 3), value, "f4") for value in (1, 2)]
    for order in (("a", "b"), ("b", "a")):
        weights.write(
            path,
            "n",
            [
                (caffe_pb2.LayerParameter(name=name, type="InnerProduct"), [blob])
                for name, blob in zip(order, blobs, strict=True)
            ],
        )
        assert (load_net(prototxt, path).layer("a").blobs[0] == 2).all()
