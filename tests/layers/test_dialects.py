"""Two meanings of one type name: the parameters of a layer tell which is meant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from one_layer import one_net

from caffe_compat.description import describe_net
from caffe_compat.errors import LayerError, NetError, UsageError
from caffe_compat.layers import NeuronLayer, register, registered
from caffe_compat.layers import registry as layer_registry
from caffe_compat.layers.params import Params
from caffe_compat.layers.scaling import ConstantScale, Scale
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2, parse_text


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    kept = {name: list(meanings) for name, meanings in layer_registry._registry.items()}
    yield
    layer_registry._registry.clear()
    layer_registry._registry.update(kept)


class Plain(NeuronLayer):
    caffe_type = "Twofold"

    def __init__(self, params: Params, bottoms: list[tuple[int, ...]]) -> None:
        super().__init__(params, bottoms)
        params.section("power_param").ignore("power")


class Shifted(Plain):
    pass


def shifted(params: Params) -> bool:
    return params.section("power_param").has("shift")


def _built(body: str) -> type:
    return type(one_net("Twofold", body, [(2, 3)], ["y"], "TEST").layer("under_test"))


def test_scale_has_several_meanings() -> None:
    found = [(meaning.layer, meaning.dialect) for meaning in registered()["Scale"]]
    assert found[:2] == [(Scale, ""), (ConstantScale, "caffe-sds")]
    assert [dialect for _, dialect in found[2:]] == ["normface"]
    for body, kind in (("scale_param { scale: 3 }", ConstantScale), ("scale_param { bias_term: true }", Scale)):
        assert type(one_net("Scale", body, [(2, 3)], ["y"], "TEST").layer("under_test")) is kind


def test_a_parameter_of_the_other_meaning_is_an_error() -> None:
    with pytest.raises(LayerError, match="scale_param.bias_term means nothing"):
        one_net("Scale", "scale_param { scale: 3 bias_term: true }", [(2, 3)], ["y"], "TEST")


def test_the_condition_decides_and_reads_nothing_for_the_layer() -> None:
    register(Plain)
    register(when=shifted, dialect="fork")(Shifted)
    assert _built("") is Plain and _built("power_param { power: 2 }") is Plain
    with pytest.raises(LayerError, match="power_param.shift means nothing"):
        _built("power_param { shift: 2 }")  # the condition has read it, the layer has not


def test_conditions_that_fit_twice_or_never_are_errors() -> None:
    register(when=shifted, dialect="one")(Plain)
    with pytest.raises(LayerError, match=r"fit no meaning of the type \(one\)"):
        _built("")
    register(when=shifted, dialect="two")(Shifted)
    with pytest.raises(LayerError, match=r"fit 2 meanings of the type \(one, two\)"):
        _built("power_param { shift: 2 }")


def test_one_meaning_without_condition() -> None:
    register(Plain)
    with pytest.raises(NetError, match="registered already"):
        register(Shifted)


def test_a_given_dialect_decides_before_the_condition() -> None:
    register(Plain)
    register(when=shifted, dialect="segnet")(Shifted)
    net = parse_text(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 } } }'
        'layer { name: "t" type: "Twofold" bottom: "d" top: "t" }',
        caffe_pb2.NetParameter,
    )
    kinds = {name: type(Net(describe_net(net, dialect=name)).layer("t")) for name in ("", "segnet", "ssd")}
    assert kinds == {"": Plain, "segnet": Shifted, "ssd": Plain}
    with pytest.raises(UsageError, match="dialect is 'segnett'"):
        describe_net(net, dialect="segnett")


def test_a_marked_meaning_needs_its_field_in_a_given_dialect_too() -> None:
    register(Plain)
    register(when=shifted, dialect="segnet", marked=True)(Shifted)
    layers = [
        f'layer {{ name: "{name}" type: "Twofold" bottom: "d" top: "{name}" {body} }}'
        for name, body in (("plain", ""), ("shifted", "power_param { shift: 2 }"))
    ]
    text = 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 } } }' + "".join(layers)
    for dialect in ("", "segnet"):
        plain, shift = describe_net(parse_text(text, caffe_pb2.NetParameter), dialect=dialect).layers[-2:]
        assert layer_registry.layer_class(Params(plain)) is Plain
        assert layer_registry.layer_class(Params(shift)) is Shifted


def test_the_rest_of_the_net_decides_where_conditions_do_not_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    register(when=shifted, dialect="segnet")(Plain)
    register(when=shifted, dialect="ssd")(Shifted)
    net = parse_text(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 } } permute_param { } }'
        'layer { name: "t" type: "Twofold" bottom: "d" top: "t" }',
        caffe_pb2.NetParameter,
    )
    description = describe_net(net)
    assert layer_registry.layer_class(Params(description.layers[1])) is Shifted
    assert "layer 't' (Twofold): read as in ssd" in caplog.text


@pytest.mark.parametrize(
    ("kind", "bottoms", "tops", "dialect"),
    [
        ("Eltwise", [(2, 3)], ["a"], "flownet"),
        ("InnerProduct", [(2, 3), (4, 3), (4,)], ["a"], "normface"),
        ("SmoothL1Loss", [(2, 3)] * 4, ["a", "b"], "cascade"),
        ("SmoothL1Loss", [(2, 3)] * 3, ["a", "b"], "rfcn"),
        ("SoftmaxWithLoss", [(2, 3), (2,)], ["a", "b", "c"], "rfcn"),
    ],
)
def test_numbers_of_blobs_that_only_a_fork_takes(
    kind: str, bottoms: list[tuple[int, ...]], tops: list[str], dialect: str
) -> None:
    """Caffe's refusal stands unless the net speaks the fork."""
    body = " ".join(f"loss_weight: {int(not index)}" for index in range(len(tops))) if len(tops) > 1 else ""
    one_net(kind, body, bottoms, tops, dialect=dialect)
    with pytest.raises(LayerError, match="the prototxt gives"):
        one_net(kind, body, bottoms, tops)
