"""Names of forks: who owns them, what is accepted without effect, what several meanings do."""

from __future__ import annotations

import re

import pytest
import torch

from caffe_compat.errors import LayerError, NetError, PrototxtError, UsageError
from caffe_compat.net import load_net
from caffe_compat.proto import caffe_pb2, format_text, parse_text, upgrade_net, upgrade_solver
from caffe_compat.proto.forks import DIALECTS, check_dialect, guess_dialect, origin, owned_by, owners
from caffe_compat.proto.forks_accepted import ACCEPTED
from caffe_compat.proto.schema import CLASSES

INPUT = 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 6 } } }\n'


def _net(text: str) -> object:
    return parse_text(text, caffe_pb2.NetParameter)


def _pooling(fields: str) -> str:
    return f'{INPUT}layer {{ name: "p" type: "Pooling" bottom: "d" top: "p" pooling_param {{ {fields} }} }}\n'


def test_every_accepted_field_is_in_the_schema() -> None:
    for line in ACCEPTED.replace("\n    ", " ").splitlines():
        if line.startswith("  "):
            message, *names = line.split()
            assert set(names) <= set(CLASSES[message].DESCRIPTOR.fields_by_name), message


def test_owners() -> None:
    assert owners("type", "CenterLoss")[0] == "ydwen/caffe-face"
    assert owners("LayerParameter", "permute_param")[0] == "weiliu89/caffe"
    assert owners("type", "Convolution") == [] == owners("LayerParameter", "no_such_param")
    assert owned_by("type", "FloatReader") == (
        " (BVLC Caffe has none; it is of the fork lmb-freiburg/flownet2 and not supported here)"
    )
    assert re.search(r"and \d+ more", owned_by("type", "SmoothL1Loss"))


@pytest.mark.parametrize(("value", "size"), [("false", 2), ("true", 3)])
def test_ceil_mode_is_round_mode_said_otherwise(tmp_path, value, size) -> None:
    text = _pooling(f"kernel_size: 3 stride: 2 ceil_mode: {value}")
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    assert load_net(path)(d=torch.zeros(1, 2, 6, 6))["p"].shape == (1, 2, size, size)
    pooling = upgrade_net(_net(text)).net.layer[1].pooling_param
    assert not pooling.HasField("ceil_mode")
    # number 13 of a written file is round_mode: FLOOR is 1 where the fork's ceil_mode: true would be 1
    assert b"\x68" + (b"\x01" if value == "false" else b"\x00") in pooling.SerializeToString()


def test_ceil_mode_and_round_mode_must_agree() -> None:
    assert upgrade_net(_net(_pooling("kernel_size: 3 ceil_mode: false round_mode: FLOOR")))
    with pytest.raises(NetError, match=r"layer 'p' \(Pooling\): pooling_param has ceil_mode: false and round_mode: CE"):
        upgrade_net(_net(_pooling("kernel_size: 3 ceil_mode: false round_mode: CEIL")))


def test_ceil_mode_of_an_old_layer() -> None:
    text = 'layers { name: "p" type: POOLING bottom: "d" top: "p" pooling_param { kernel_size: 3 ceil_mode: false } }'
    assert upgrade_net(_net(text)).net.layer[0].pooling_param.round_mode == 1


def test_what_changes_no_result_is_dropped_and_named_once(caplog) -> None:
    text = (
        f'engine: "MKL2017" default_forward_type: FLOAT16\n{INPUT}'
        'layer { name: "c" type: "Convolution" bottom: "d" top: "c" forward_type: FLOAT16\n'
        "  convolution_param { num_output: 2 kernel_size: 1 engine: MKLDNN cudnn_convolution_algo_seeker: GET }\n"
        "  quantization_param { bw_layer_in: 8 scale_in: 3.5 } }\n"
        'layer { name: "k" type: "Concat" bottom: "c" top: "k" forward_type: FLOAT\n'
        "  concat_param { engine: MKL2017 } }\n"
    )
    upgraded = upgrade_net(_net(text)).net
    (record,) = caplog.records
    for name in ("engine (intel/caffe)", "forward_type (NVIDIA/caffe)", "quantization_param (intel/caffe)"):
        assert record.getMessage().count(name) >= 1, name
    assert record.getMessage().count(" forward_type (NVIDIA/caffe)") == 1
    assert not re.search("forward|quantization|seeker|MKL2017", format_text(upgraded))


def test_what_changes_results_is_not_accepted() -> None:
    with pytest.raises(PrototxtError, match=r"no field named 'compile_net_state' \(BVLC Caffe has none; .*intel/caffe"):
        _net("compile_net_state { bn_scale_remove: true }")
    with pytest.raises(PrototxtError, match="no field named 'momentum_policy'"):
        parse_text('momentum_policy: "opt"', caffe_pb2.SolverParameter)


def test_solver_fields_without_effect(caplog) -> None:
    solver = parse_text('engine: "CAFFE" solver_data_type: FLOAT16 net: "n"', caffe_pb2.SolverParameter)
    upgrade_solver(solver)
    assert "solver_data_type (NVIDIA/caffe)" in caplog.text and format_text(solver) == 'net: "n"\n'


def test_all_unknown_fields_at_once_with_lines() -> None:
    text = (
        'name: "n"\nlayer {\n  name: "a"\n  focal_loss_param { alpha: 2 kernel_siz: 1 }\n}\n'
        "layer: < pooling_param {\n kernel_siz: 3 } >\nlayer { focal_loss_param < gamma: 2 > namee: 3 }\n"
    )
    with pytest.raises(PrototxtError) as caught:
        parse_text(text, caffe_pb2.NetParameter, "f")
    assert str(caught.value) == (
        "f:4:3: 4 unknown fields: LayerParameter has no field named 'focal_loss_param' (BVLC Caffe has none; it is of "
        "the forks soeaver/py-RFCN-priv and happynear/caffe-windows and not supported here): lines 4, 8; "
        "PoolingParameter has no field named 'kernel_siz' (did you mean 'kernel_size'?): line 7; "
        "LayerParameter has no field named 'namee' (did you mean 'name'?): line 8"
    )


def test_many_unknown_fields_are_counted() -> None:
    text = "".join(f"layer {{ zzq{index % 30}_param {{ }} }}\n" for index in range(300))
    with pytest.raises(
        PrototxtError, match=r"300 unknown fields: .*lines 1, 31, 61, 91, 121, 5 more; .*; 10 more names"
    ):
        parse_text(text, caffe_pb2.NetParameter)


def test_an_enum_value_of_a_fork() -> None:
    with pytest.raises(PrototxtError, match=r"no value STOCHASTIC_SUM.*yjxiong/caffe"):
        _net("layer { eltwise_param { operation: STOCHASTIC_SUM } }")


def test_an_unknown_type_names_its_fork(tmp_path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(f'{INPUT}layer {{ name: "c" type: "FloatReader" bottom: "d" top: "c" }}\n')
    with pytest.raises(LayerError, match="unknown layer type 'FloatReader'.*of the fork lmb-freiburg/flownet2"):
        load_net(path)


def test_all_unknown_types_are_told_at_once(tmp_path) -> None:
    layers = "".join(
        f'layer {{ name: "l{index}" type: "{kind}" bottom: "d" top: "t{index}" }}\n'
        for index, kind in enumerate(["FloatReader", "ReLU", "Convolutoin", *["FloatReader"] * 3, "Xyzzy"])
    )
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT + layers)
    with pytest.raises(LayerError) as caught:
        load_net(path)
    assert str(caught.value) == (
        f"{path}: layer 'l0' (FloatReader): 3 unknown layer types: 'FloatReader' (BVLC Caffe has none; it is of the "
        "fork lmb-freiburg/flownet2 and not supported here): layers 'l0' (line 2), 'l3' (line 5), 'l4' (line 6) and 1 "
        "more; 'Convolutoin' (did you mean 'Convolution'?): layer 'l2' (line 4); 'Xyzzy': layer 'l6' (line 8)"
    )


def test_dialects() -> None:
    assert {"ssd", "segnet", "rfcn", "nvidia", "intel", "yolo"} <= set(DIALECTS)
    assert check_dialect("") == "" and check_dialect("ssd") == "ssd"
    with pytest.raises(UsageError, match="dialect is 'sdd', expected one of ssd, "):
        check_dialect("sdd")


def test_the_dialect_of_a_net_is_that_of_most_names() -> None:
    assert guess_dialect(_net(INPUT)) == ""
    ssd = 'layer { type: "Permute" permute_param { order: 0 } }'
    assert guess_dialect(_net(ssd)) == "ssd"
    assert guess_dialect(_net(ssd + 'layer { type: "Upsample" }')) == "ssd"  # Upsample is of two
    assert guess_dialect(_net('layer { type: "Permute" } layer { type: "DenseImageData" }')) == ""


def test_origins() -> None:
    assert origin("Convolution") == "BVLC Caffe 1.0" and origin("PriorBox") == "weiliu89/caffe"
    assert [origin("Upsample", dialect) for dialect in ("", "segnet", "yolo")] == [
        "caffe-sds",
        "alexgkendall/caffe-segnet",
        "eric612/MobileNet-YOLO",
    ]
    assert origin("Scale", "caffe-sds") == "caffe-sds" and origin("NoSuchLayer") == ""
    assert origin("BatchNorm", "intel") == "intel/caffe" and origin("BatchNorm", "nvidia") == "NVIDIA/caffe"
    assert origin("Convolution", "synopsys").endswith("/synopsys-caffe")
    assert origin("Python", "faster-rcnn: ProposalLayer") == "rbgirshick/py-faster-rcnn"


def test_old_nets_with_types_of_forks(tmp_path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "d" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 3 '
        'layers { name: "b" type: BN bottom: "d" top: "b" bn_param { scale_filler { value: 2 } bn_mode: INFERENCE } } '
        'layers { name: "c" type: CROP bottom: "b" bottom: "d" top: "c" }'
    )
    net = load_net(path)
    assert [node.description.type for node in net.nodes if node.description.type in ("BN", "Crop")] == ["BN", "Crop"]
    assert net.layer("b").blob(0).flatten().tolist() == [2, 2]


def test_what_a_fork_only_tells_or_saves_is_read_without_effect(caplog) -> None:
    net = _net("richness: 7 mem_param { optimize_train: false }")
    upgraded = upgrade_net(net, "f").net
    assert not upgraded.HasField("richness") and not upgraded.HasField("mem_param")
    assert "richness (yjxiong/caffe)" in caplog.text and "mem_param (yjxiong/caffe)" in caplog.text
