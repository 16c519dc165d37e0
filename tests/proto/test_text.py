"""Prototxt text: what Caffe's C++ parser accepts and refuses, and what errors say."""

import math

import pytest

from caffe_compat.errors import PrototxtError
from caffe_compat.proto import caffe_pb2, text


def layer(source):
    return text.parse(source, caffe_pb2.LayerParameter, "net.prototxt")


ACCEPTED = [
    ("name: 'x'", "name", "x"),
    ("name: \"a\" 'b'", "name", "ab"),
    ('name: "a" # comment { "\n', "name", "a"),
    ('name:"a"type:"b"', "type", "b"),
    ('name: "a", type: "b"; top: "c"', "top", ["c"]),
    ("relu_param: { negative_slope: .5 }", "relu_param.negative_slope", 0.5),
    ("relu_param < negative_slope: 1. >", "relu_param.negative_slope", 1.0),
    ("input_param { shape { dim: [1,3,2,2] } }", "input_param.shape.0.dim", [1, 3, 2, 2]),
    ("input_param { shape { dim: 1 dim: 3 } }", "input_param.shape.0.dim", [1, 3]),
    ("input_param { shape { dim: 1dim: 3 } }", "input_param.shape.0.dim", [1, 3]),
    ("include: [{ phase: TEST }, { phase: 0 }]", "include.1.phase", 0),
    ("pooling_param { pool: AVE }", "pooling_param.pool", 1),
    ("pooling_param { pool: 1 }", "pooling_param.pool", 1),
    ("phase: 0", "phase", 0),
    *[(f"data_param {{ mirror: {word} }}", "data_param.mirror", True) for word in ("true", "True", "t", "1")],
    *[(f"data_param {{ mirror: {word} }}", "data_param.mirror", False) for word in ("false", "False", "f", "0")],
    ("relu_param { negative_slope: 1e-4 }", "relu_param.negative_slope", pytest.approx(1e-4)),
    ("relu_param { negative_slope: 0.5f }", "relu_param.negative_slope", 0.5),
    ("relu_param { negative_slope: -inf }", "relu_param.negative_slope", -math.inf),
    ("relu_param { negative_slope: -1 }", "relu_param.negative_slope", -1.0),
    ("relu_param { negative_slope: - 1 }", "relu_param.negative_slope", -1.0),
    ("relu_param { negative_slope: - # why not\n 1 }", "relu_param.negative_slope", -1.0),
    ("data_param { batch_size: 0x10 }", "data_param.batch_size", 16),
    ("data_param { batch_size: 010 }", "data_param.batch_size", 8),
    ('name:\t"a"\r\ntype: "b"\r\n', "type", "b"),
    (r'name: "\n\x41\101"', "name", "\nAA"),
    ('name: "größe"', "name", "größe"),
    ("", "name", ""),
    ("clip_param { min: 0 max: 1 }", "clip_param.max", 1.0),
    ("roi_pooling_param { pooled_h: 7 }", "roi_pooling_param.pooled_h", 7),
    ("scale_param { scale: 2 }", "scale_param.scale", 2.0),
    ("dropout_param { scale_train: false }", "dropout_param.scale_train", False),
    ("upsample_param { width: 3 height: 4 }", "upsample_param.height", 4),
]


@pytest.mark.parametrize(("source", "path", "expected"), ACCEPTED)
def test_accepted(source, path, expected):
    value = layer(source)
    for part in path.split("."):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    assert (list(value) if isinstance(expected, list) else value) == expected


REFUSED = [
    ("name: 'x' // no", 1, 11, "'//' comments"),
    ("data_param { batch_size: 1,, mirror: true }", 1, 28, "Expected identifier"),
    ('pooling_param { pool: "MAX" }', 1, 23, "did you mean 'MAX'"),
    ("pooling_param { pool: max }", 1, 23, "did you mean 'MAX'"),
    ("pooling_param { pool: MEDIAN }", 1, 23, "MAX, AVE, STOCHASTIC"),
    ("pooling_param { pool: 7 }", 1, 23, "no value with number 7"),
    ("phase: train", 1, 8, "did you mean 'TRAIN'"),
    ("type: CONVOLUTION", 1, 7, "quotes"),
    ("name: abc", 1, 7, "quotes"),
    ("data_param { mirror: TRUE }", 1, None, "true"),
    ("data_param { mirror: yes }", 1, None, "true"),
    ("data_param { batch_size: 10.0 }", 1, 26, "integer"),
    ("data_param { batch_size: -1 }", 1, None, "out of range"),
    ("data_param { batch_size: 1_000 }", 1, None, "_000"),
    ("data_param { batch_size: 09 }", 1, 26, "malformed number"),
    ("relu_param { negative_slope: +1 }", 1, 30, "'+'"),
    ("frobnicate: 1", 1, 1, "LayerParameter has no field named 'frobnicate'"),
    ("pooling_param {\n  kernal_size: 2\n}", 2, 3, "did you mean 'kernel_size'"),
    ("negative_slope: 1", 1, 1, "it belongs into relu_param"),
    ("Name: 'x'", 1, 1, "did you mean 'name'"),
    ("name: 'a' name: 'b'", 1, None, '"name"'),
    ("relu_param {} relu_param {}", 1, None, '"relu_param"'),
    ("\ufeffname: 'x'", 1, 1, "byte order mark"),
    ('name: "a\nb"', 1, 7, "ending quote"),
    (r'name: "C:\data"', 1, 10, "escape"),
    ("relu_param {", 1, None, "Expected"),
    ("relu_param }", 1, 12, "Expected"),
    ("clip_param { min: 1 }", None, None, "clip_param.max"),
    ("relu_param 5", 1, 12, "Expected"),
    ("name 'x'", 1, 6, "Expected"),
    ("dim: 1e", 1, 6, "malformed number"),
]


@pytest.mark.parametrize(("source", "line", "column", "words"), REFUSED)
def test_refused(source, line, column, words):
    with pytest.raises(PrototxtError) as caught:
        layer(source)
    assert caught.value.file == "net.prototxt"
    assert caught.value.line == line
    if column is not None:
        assert caught.value.column == column
    assert words in str(caught.value)


def test_missing_required_names_the_line_of_the_layer():
    with pytest.raises(PrototxtError, match=r"^n:3: .*clip_param.min"):
        text.parse("layer { }\n\nlayer { clip_param { max: 1 } }", caffe_pb2.NetParameter, "n")


def test_v1_type_in_quotes():
    with pytest.raises(PrototxtError, match="RELU"):
        text.parse('layers { type: "RELU" }', caffe_pb2.NetParameter)


def test_format_is_debug_string():
    net = text.parse(
        'layer { name: "\\303\\251\\"" relu_param { negative_slope: 0.1 } phase: TEST }'
        "layer { relu_param { negative_slope: 1 } power_param { scale: 1e-08 power: 16777217 shift: 0.333333343 } "
        'propagate_down: true }\nname: "n"',
        caffe_pb2.NetParameter,
    )
    assert text.format(net) == (
        'name: "n"\n'
        'layer {\n  name: "\\303\\251\\""\n  phase: TEST\n  relu_param {\n    negative_slope: 0.1\n  }\n}\n'
        "layer {\n  propagate_down: true\n  power_param {\n    power: 16777216\n    scale: 1e-08\n"
        "    shift: 0.33333334\n  }\n  relu_param {\n    negative_slope: 1\n  }\n}\n"
    )
    assert text.parse(text.format(net), caffe_pb2.NetParameter) == net


def test_layer_lines():
    source = 'name: "layer { # no"\nlayer { name: "a" }\n# layer {\nlayer\n{\n  top: "layer"\n} layer: <\n>\n'
    assert text.layer_lines(source) == [2, 4, 7]
    assert text.layer_lines("layer: [ { name: 'a' },\n{ include [ {} ] } ]\nlayer {}") == [1, 2, 3]
    assert text.layer_lines("input_shape { dim: 1 }\nlayers { layer { } }\nlayers { }") == [2, 3]
