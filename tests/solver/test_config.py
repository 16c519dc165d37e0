import pytest

from caffe_compat.description.net import Dialect
from caffe_compat.errors import NetError, UsageError
from caffe_compat.proto import caffe_pb2, parse_text
from caffe_compat.solver import solver_class
from caffe_compat.solver.config import solver_nets

NET = """{
  layers { name: "d" type: DUMMY_DATA top: "x" top: "y" include { phase: TRAIN }
           dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 3 } } }
  layers { name: "t" type: DUMMY_DATA top: "x" top: "y" include { phase: TEST }
           dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 3 } } }
  layers { name: "l" type: EUCLIDEAN_LOSS bottom: "x" bottom: "y" top: "loss" }
}"""


@pytest.mark.parametrize(
    ("train", "test"), [("net_param", None), ("net_param", "test_net_param"), ("train_net_param", "test_net_param")]
)
def test_an_inline_net_of_an_old_format_is_upgraded(train, test):
    text = f"{train} {NET} test_iter: 1 test_interval: 1 " + (f"{test} {NET}" if test else "")
    param = parse_text(text, caffe_pb2.SolverParameter)
    before = param.SerializeToString()
    nets = solver_nets(param)
    assert [(layer.name, layer.type) for layer in nets.train.describe().layers] == [
        ("d", "DummyData"),
        ("l", "EuclideanLoss"),
    ]
    assert [(layer.name, layer.type) for layer in nets.tests[0].describe().layers] == [
        ("t", "DummyData"),
        ("l", "EuclideanLoss"),
    ]
    assert param.SerializeToString() == before


def test_an_inline_net_that_mixes_formats_is_refused():
    param = parse_text("net_param { layer { name: 'a' } layers { name: 'b' } }", caffe_pb2.SolverParameter)
    with pytest.raises(NetError, match="<net in the solver>: the net has both 'layer' .* and 'layers'"):
        solver_nets(param).train.describe()


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("net_param { name: 'hollow' }", "TRAIN"),
        ("net_param { layer { name: 'a' include { stage: 'x' } } }", "TRAIN"),
        (f"train_net_param {NET} test_net_param {{ name: 'hollow' }} test_iter: 1 test_interval: 1", "TEST"),
    ],
)
def test_a_net_without_layers_is_refused(text, phase):
    param = parse_text(text + " base_lr: 0.1 lr_policy: 'fixed'", caffe_pb2.SolverParameter)
    with pytest.raises(NetError, match=rf"^<net in the solver>: net '(hollow)?' has no layers in phase {phase}$"):
        solver_class(param)(param)


def test_a_dialect_that_the_solver_names_is_that_of_its_nets():
    text = f'net_param {NET} test_iter: 1 test_interval: 1 dialect: "segnet"'
    nets = solver_nets(parse_text(text, caffe_pb2.SolverParameter))
    for net in (nets.train, *nets.tests):
        assert {layer.dialect for layer in net.describe().layers} == {Dialect("segnet", given=True)}
    param = parse_text(f'net_param {NET} dialect: "segnot"', caffe_pb2.SolverParameter)
    with pytest.raises(UsageError, match="dialect is 'segnot', expected one of"):
        solver_nets(param).train.describe()
