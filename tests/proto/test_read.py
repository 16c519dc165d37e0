from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat import load_net
from caffe_compat.errors import CaffeCompatError, ModelFileError, PrototxtError, printable
from caffe_compat.proto import caffe_pb2, read_net, weights

FOREIGN = Path(__file__).resolve().parents[1] / "data" / "foreign"


def read(tmp_path, raw):
    path = tmp_path / "n.prototxt"
    path.write_bytes(raw)
    return read_net(path)


def test_half_precision_weights_of_nvcaffe():
    net = load_net(FOREIGN / "det1.prototxt", FOREIGN / "det1_half.caffemodel")
    weight, bias = net.layer("conv1").blobs
    raw = (FOREIGN / "det1_half.caffemodel").read_bytes()
    at = raw.index(bytes.fromhex("3b3583332f34"))
    np.testing.assert_array_equal(
        weight.detach().numpy().ravel(), np.frombuffer(raw[at : at + 540], "<f2").astype("f4")
    )
    assert weight.shape == (10, 3, 3, 3) and bias.shape == (10,)
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())


def test_comments_and_strings_that_are_not_utf8(tmp_path):
    assert load_net(FOREIGN / "gbk_comment.prototxt").input_names == ["data"]
    assert read(tmp_path, b"# \xff\nname: 'a\xb5\xc4\xff' # \xb5\xc4").name == r"a\xb5\xc4\xff"
    for raw, words in (
        (b"name: 'a'\n \xff", "n.prototxt:2:2: byte 0xff is not UTF-8 text"),
        (b"name: '\\\xff'", "invalid escape sequence"),
        (b"\0\xff", "is it a binary file"),
    ):
        with pytest.raises(PrototxtError, match=words):
            read(tmp_path, raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"input_dim: " + b"9" * 5000, "Couldn't parse integer: 999"),
        (b"input_dim: 0x" + b"9" * 5000, ":12: "),
        (b"input_dim: " + b"9" * 30, "out of range: 9{30}$"),
        (b"layer { " * 20000, "no field named 'layer'"),
        (b"input_shape: " + b"[" * 20000, 'Expected "{"'),
        (b"layers { layer { layer { " * 20000, "no field named 'layer'"),
    ],
)
def test_huge_numbers_and_deep_nesting_are_short_errors(tmp_path, raw, words):
    with pytest.raises(PrototxtError, match=words) as raised:
        read(tmp_path, raw)
    assert len(str(raised.value)) < 500


def test_names_in_messages_cannot_steer_a_terminal(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text(r'layer { name: "a\033]0;\007\033[2J" type: "Nope" top: "\302\233\342\200\256ü 的" }')
    with pytest.raises(CaffeCompatError) as raised:
        load_net(path)
    assert r"layer 'a\x1b]0;\x07\x1b[2J' (Nope)" in str(raised.value)
    assert printable("\x9b\u202e\udcffü 的\\x1b") == r"\x9b\u202e\udcffü 的\x1b"
    assert printable("a\tb\nc\r") == "a\tb\nc\\r"


def test_a_blob_without_numbers_matters_only_to_a_net_that_wants_it(tmp_path):
    net = tmp_path / "n.prototxt"
    net.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }'
        'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 '
        "bias_term: false } }"
    )
    message = caffe_pb2.NetParameter()
    for name in ("fc", "fp16"):
        message.layer.add(name=name, type="InnerProduct").blobs.add().shape.dim.extend([2, 3])
    message.layer[0].blobs[0].data.extend(range(6))
    path = tmp_path / "w.caffemodel"
    path.write_bytes(message.SerializeToString())
    result = load_net(net, path)(data=torch.ones(1, 3))["fc"]
    assert result.tolist() == [[3, 12]]
    with pytest.raises(ModelFileError, match="layer 1 'fp16', blob 0"):
        weights.scan(path).layers[1].blobs[0].read()
    message.layer[1].name = "fc"
    path.write_bytes(message.SerializeToString())
    with pytest.raises(ModelFileError, match="layer 1 'fc', blob 0"):
        load_net(net, path)


def test_unknown_fields_of_a_blob_are_named(tmp_path):
    """Numbers may be where a fork put them: 32 is no field of a BlobProto that is known here."""
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(b"\x3a\x03\x0a\x01\x04" + b"\x82\x02\x08" + bytes(8))  # shape [4], field 32 of 8 bytes
    with pytest.raises(ModelFileError, match=r"needs 4 numbers, 0 are stored; .* numbers unknown here: 32"):
        weights.read_blob_proto(path)
