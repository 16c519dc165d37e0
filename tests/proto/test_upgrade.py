"""Old nets and solvers brought to the current format, and files read with line numbers."""

import pytest

from caffe_compat.errors import MissingFileError, ModelFileError, NetError, PrototxtError, SolverError
from caffe_compat.proto import caffe_pb2, read, text, upgrade

V1_TO_V2 = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "BNLL": "BNLL",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
    "WINDOW_DATA": "WindowData",
}


def upgraded(source):
    return upgrade.upgrade_net(text.parse(source, caffe_pb2.NetParameter), "net.prototxt")


def same(net, source):
    return text.format(net) == text.format(text.parse(source, caffe_pb2.NetParameter))


@pytest.mark.parametrize(("old", "new"), V1_TO_V2.items())
def test_v1_type(old, new):
    assert upgraded(f"layers {{ type: {old} }}").net.layer[0].type == new


def test_every_v1_type_has_a_name():
    assert [number for number, name in upgrade.V1_TYPES.items() if not name] == [caffe_pb2.V1LayerParameter.NONE]
    assert len(upgrade.V1_TYPES) == 65
    assert len(set(upgrade.V1_TYPES.values())) == 64  # C3D's VOXEL_SOFTMAX is SOFTMAX


def test_v1_layer():
    net = upgraded(
        """layers { name: "c" type: CONVOLUTION bottom: "x" top: "y" blobs_lr: 1 blobs_lr: 2 weight_decay: 3
        param: "w" blob_share_mode: PERMISSIVE convolution_param { num_output: 2 kernel_size: 3 }
        include { phase: TRAIN } loss_weight: 4 }"""
    ).net
    assert same(
        net,
        """layer { name: "c" type: "Convolution" bottom: "x" top: "y" loss_weight: 4
        param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 3 } param { lr_mult: 2 }
        include { phase: TRAIN } convolution_param { num_output: 2 kernel_size: 3 } }""",
    )


def test_v1_data_transform_moves_for_v1_only():
    fields = 'data_param { source: "s" scale: 0.5 mean_file: "m" crop_size: 3 mirror: true }'
    net = upgraded(f"layers {{ type: DATA {fields} transform_param {{ scale: 9 }} }}").net
    moved = 'transform_param { scale: 0.5 mean_file: "m" crop_size: 3 mirror: true } data_param { source: "s" }'
    assert same(net, f'layer {{ type: "Data" {moved} }}')
    assert upgraded(f'layer {{ type: "Data" {fields} }}').net.layer[0].data_param.crop_size == 3


V0_NET = """name: "old" force_backward: true input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4
layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "x" top: "xp" }
layers { layer { name: "c" type: "conv" num_output: 5 kernelsize: 3 stride: 2 group: 1 biasterm: false
  weight_filler { type: "xavier" } blobs_lr: 1 weight_decay: 0 } bottom: "xp" top: "c" }
layers { layer { name: "p" type: "pool" kernelsize: 3 pool: AVE } bottom: "c" top: "p" }
layers { layer { name: "ip" type: "innerproduct" num_output: 7 } bottom: "p" top: "ip" }
layers { layer { name: "n" type: "lrn" local_size: 3 alpha: 2 } bottom: "ip" top: "n" }
"""


def test_v0_net():
    result = upgraded(V0_NET)
    assert result.problems == []
    assert result.origins == [None, 1, 2, 3, 4]
    assert same(
        result.net,
        """name: "old" force_backward: true
        layer { name: "input" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { lr_mult: 1 decay_mult: 0 }
          convolution_param { num_output: 5 bias_term: false pad: 2 kernel_size: 3 group: 1 stride: 2
            weight_filler { type: "xavier" } } }
        layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE kernel_size: 3 } }
        layer { name: "ip" type: "InnerProduct" bottom: "p" top: "ip" inner_product_param { num_output: 7 } }
        layer { name: "n" type: "LRN" bottom: "ip" top: "n" lrn_param { local_size: 3 alpha: 2 } }""",
    )


def test_v0_data_fields():
    net = upgraded(
        """layers { layer { name: "d" type: "images" source: "s" batchsize: 3 cropsize: 4 meanfile: "m" mirror: true
        scale: 2 rand_skip: 5 shuffle_images: true new_height: 6 new_width: 7 } top: "d" }
        layers { layer { name: "w" type: "window_data" source: "s" det_fg_threshold: 0.6 det_crop_mode: "square" } }"""
    ).net
    assert same(
        net,
        """layer { name: "d" type: "ImageData" top: "d"
        transform_param { scale: 2 mirror: true crop_size: 4 mean_file: "m" }
        image_data_param { source: "s" batch_size: 3 rand_skip: 5 shuffle: true new_height: 6 new_width: 7 } }
        layer { name: "w" type: "WindowData"
        window_data_param { source: "s" fg_threshold: 0.6 crop_mode: "square" } }""",
    )


def test_v0_field_without_meaning_is_a_problem_not_an_error():
    result = upgraded('layers { layer { name: "r" type: "relu" kernelsize: 3 } }')
    assert result.problems == ["layer 'r' (relu): V0 field 'kernelsize' has no meaning for this type"]


BAD_NETS = [
    ("layer { name: 'a' } layers { name: 'b' }", "both 'layer' (e.g. 'a') and 'layers' (e.g. 'b')"),
    ("layer { name: 'a' } layers { layer { name: 'b' } }", "both 'layer'"),
    ("layers { layer { name: 'a' type: 'convolution' } }", "layer 'a': unknown V0 layer type 'convolution'"),
    ("layers { layer { name: 'a' type: 'relu' } bottom: 'q' }", "layer 'a' (relu): unknown bottom 'q'"),
    (
        "input: 'x' layers { layer { name: 'p' type: 'padding' } bottom: 'x' top: 'y' }"
        "layers { layer { name: 'a' type: 'relu' } bottom: 'y' }",
        "layer 'a' (relu): padding layer 'p'",
    ),
    (
        "input: 'x' layers { layer { name: 'p' type: 'padding' } bottom: 'x' top: 'y' }"
        "layers { layer { name: 'a' type: 'conv' } bottom: 'y' bottom: 'x' }",
        "exactly one bottom",
    ),
    (
        "input: 'x' layers { layer { name: 'p' type: 'padding' } bottom: 'x' top: 'y' top: 'z' }"
        "layers { layer { name: 'a' type: 'conv' } bottom: 'y' }",
        "one bottom and one top",
    ),
    ("input: 'x' input: 'y' input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4", "input 'y' needs four input_dim"),
    ("input: 'x' input: 'y' input_shape { dim: 1 }", "input 'y' is number 2"),
]


@pytest.mark.parametrize(("source", "words"), BAD_NETS)
def test_bad_net(source, words):
    with pytest.raises(NetError) as caught:
        upgraded(source)
    assert str(caught.value).startswith("net.prototxt: ")
    assert words in str(caught.value)


def test_inputs():
    net = upgraded("input: 'a' input: 'b' input_shape { dim: 1 } input_shape { } input_dim: 3 layer { name: 'l' }").net
    expected = "layer { name: 'input' type: 'Input' top: 'a' top: 'b' input_param { shape { dim: 1 } shape { } } }"
    assert same(net, expected + "layer { name: 'l' }")
    assert same(upgraded("input: 'a' layer { bottom: 'a' }").net, "layer { bottom: 'a' }")


def test_batch_norm():
    specs = "param { lr_mult: 1 } param { name: 'x' } param { decay_mult: 2 }"
    layer = upgraded(f"layer {{ type: 'BatchNorm' {specs} }}").net.layer[0]
    assert [(p.lr_mult, p.decay_mult, p.name) for p in layer.param] == [(0, 0, ""), (0, 0, "x"), (0, 0, "")]
    two = upgraded("layer { type: 'BatchNorm' param { lr_mult: 1 } param { } }").net.layer[0]
    assert two.param[0].lr_mult == 1


def test_the_argument_is_left_alone():
    net = text.parse(V0_NET, caffe_pb2.NetParameter)
    before = net.SerializeToString()
    upgrade.upgrade_net(net)
    assert net.SerializeToString() == before


@pytest.mark.parametrize(("number", "name"), upgrade.SOLVER_TYPES.items())
def test_solver_type(number, name):
    solver = caffe_pb2.SolverParameter(solver_type=number)
    upgrade.upgrade_solver(solver)
    assert (solver.type, solver.HasField("solver_type"), solver.HasField("snapshot_prefix")) == (name, False, False)


def test_solver_type_twice():
    with pytest.raises(SolverError, match="solver_type"):
        upgrade.upgrade_solver(caffe_pb2.SolverParameter(solver_type=0, type="SGD"))


def test_snapshot_prefix(tmp_path):
    path = tmp_path / "my.solver.prototxt"
    folder = tmp_path / "snaps"
    folder.mkdir()
    for line, expected in [
        ("", tmp_path / "my.solver"),
        (f"snapshot_prefix: '{folder}'", folder / "my.solver"),
        ("snapshot_prefix: 'there/x'", "there/x"),
    ]:
        path.write_text(line)
        assert read.read_solver(path).snapshot_prefix == str(expected)


def test_read_net_lines(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(V0_NET)
    net, lines = read.read_net_text(path)
    assert [layer.name for layer in net.layer] == ["input", "c", "p", "ip", "n"]
    assert lines == [None, 3, 5, 6, 7]
    assert read.read_net(path) == net


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingFileError, match="Could not open file"):
        read.read_net(tmp_path / "none.prototxt")
    path = tmp_path / "bad"
    path.write_bytes(b"name: 'a'\n\xff\x00")
    with pytest.raises(PrototxtError, match=r"bad:2: .*not UTF-8 text \(is it a binary file\?\)"):
        read.read_net(path)
    path.write_text("name: 'a'\nlayer { nme: 'b' }")
    with pytest.raises(PrototxtError, match=r"bad:2:9: .*did you mean 'name'"):
        read.read_net(path)
    with pytest.raises(ModelFileError, match="bad: not a binary Datum"):
        read.read_message_binary(path, caffe_pb2.Datum)
    path.write_bytes(caffe_pb2.Datum(label=3).SerializeToString())
    assert read.read_message_binary(path, caffe_pb2.Datum).label == 3


@pytest.mark.parametrize(("holes", "dilation"), [("hole: 2", [2]), ("hole_h: 2 hole_w: 3", [2, 3])])
def test_holes_are_dilations(holes, dilation):
    source = f"layers {{ name: 'c' type: CONVOLUTION convolution_param {{ num_output: 1 kernel_size: 3 {holes} }} }}"
    (layer,) = upgrade.upgrade_net(text.parse(source, caffe_pb2.NetParameter)).net.layer
    assert layer.convolution_param == caffe_pb2.ConvolutionParameter(num_output=1, kernel_size=[3], dilation=dilation)


@pytest.mark.parametrize("holes", ["hole: 2 hole_h: 2 hole_w: 2", "hole_h: 2", "hole: 2 dilation: 3"])
def test_holes_that_contradict(holes):
    source = f"layer {{ name: 'c' type: 'Convolution' convolution_param {{ num_output: 1 {holes} }} }}"
    with pytest.raises(NetError, match=r"layer 'c' \(Convolution\): convolution_param has .*hole"):
        upgrade.upgrade_net(text.parse(source, caffe_pb2.NetParameter))


CONV = "convolution_param { num_output: 1 kernel_size: 1 %s }"


def _conv(name, bottoms, top, more="", rest=""):
    ends = " ".join(f"bottom: '{bottom}'" for bottom in bottoms)
    return f"layer {{ name: '{name}' type: 'Convolution' {ends} top: '{top}' {rest} {CONV % more} }} "


def test_layers_that_intel_computes_with_another_one():
    """What its compiler makes of a convolution, a sum and a ReLU for TEST (TestCompileNetConvEltReluFusionMKLDNN)."""
    rule = "include { phase: TEST }"
    compiled = upgraded(
        _conv("c1", ["data"], "c1", "relu: true negative_slope: 0.1", rule)
        + _conv("c2", ["data"], "c2")
        + _conv("c3", ["c1", "c2"], "relu", "relu: true fusion_type: SUM_FUSION")
        + "layer { name: 'f' type: 'InnerProduct' bottom: 'relu' top: 'f' inner_product_param { relu: true } }"
        + "layer { name: 'b' type: 'BatchNorm' bottom: 'f' top: 'b' batch_norm_param { relu: true } }"
    )
    assert same(
        compiled.net,
        _conv("c1", ["data"], "c1", "", rule)
        + "layer { name: 'c1/relu' type: 'ReLU' bottom: 'c1' top: 'c1' include { phase: TEST }"
        + " relu_param { negative_slope: 0.1 } } "
        + _conv("c2", ["data"], "c2")
        + _conv("c3", ["c1"], "c3/own")
        + "layer { name: 'c3/eltwise' type: 'Eltwise' bottom: 'c3/own' bottom: 'c2' top: 'relu' }"
        + "layer { name: 'c3/relu' type: 'ReLU' bottom: 'relu' top: 'relu' }"
        + "layer { name: 'f' type: 'InnerProduct' bottom: 'relu' top: 'f' inner_product_param { } }"
        + "layer { name: 'f/relu' type: 'ReLU' bottom: 'f' top: 'f' }"
        + "layer { name: 'b' type: 'BatchNorm' bottom: 'f' top: 'b' batch_norm_param { } }"
        + "layer { name: 'b/relu' type: 'ReLU' bottom: 'b' top: 'b' }",
    )
    assert compiled.origins == [0, None, 1, 2, None, None, 3, None, 4, None]


def test_a_relu_that_intel_leaves_for_training_is_taken_once():
    relu = "layer { name: 'r' type: 'ReLU' bottom: 'c' top: 'c' relu_param { %s } }"
    compiled = upgraded(_conv("c", ["data"], "c", "relu: true") + relu % "fuse: true")
    assert same(compiled.net, _conv("c", ["data"], "c") + relu % "")
    with pytest.raises(NetError, match=r"layer 'r' \(ReLU\): relu_param.fuse is true, but no layer"):
        upgraded(_conv("c", ["data"], "c") + relu % "fuse: true")


def test_a_sum_of_other_weights_is_refused():
    with pytest.raises(
        NetError, match=r"layer 'c' \(Convolution\): convolution_param.coeff is \[1.0, 2.0\], expected 1"
    ):
        upgraded(_conv("c", ["data", "x"], "c", "fusion_type: SUM_FUSION coeff: 1 coeff: 2"))
    plain = upgraded(_conv("c", ["data", "x"], "c", "relu: false coeff: 1"))
    assert same(plain.net, _conv("c", ["data", "x"], "c"))
