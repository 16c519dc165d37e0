"""A loss or a weight that is not finite ends training, with the layer that made it; Caffe goes on."""

import pytest
import torch
from solver.diverging_net import DIVERGES

from caffe_compat.errors import SolverError
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver import solver_class


def make(folder, value=1.0, power=1.0, rate=0.01, **fields):
    (folder / "net.prototxt").write_text(DIVERGES.format(value=value, power=power))
    param = caffe_pb2.SolverParameter(
        net=str(folder / "net.prototxt"), base_lr=rate, lr_policy="fixed", max_iter=40, random_seed=1,
        snapshot_prefix=str(folder / "s"), **fields,
    )  # fmt: skip
    solver = solver_class(param)(param, [])
    solver.stop_at_nan = True
    return solver


def test_the_layer_that_made_it_forward_is_named(tmp_path):
    with pytest.raises(SolverError, match=r"iteration 0: the loss is nan: layer 'middle' \(Power\) .* top 'middle'"):
        make(tmp_path, value=-1.0, power=0.5).solve()


def test_weights_that_diverge_are_named_with_the_backward_pass_that_did_it(tmp_path):
    solver = make(tmp_path, rate=1e5, snapshot=1)
    with pytest.raises(SolverError, match=r"iteration \d+: .*'fc2?' \(InnerProduct\)") as caught:
        solver.solve()
    assert solver.iter > 1, caught.value
    kept = sorted(tmp_path.glob("*.caffemodel"))
    assert kept
    for path in kept:  # whatever was written is finite
        message = caffe_pb2.NetParameter.FromString(path.read_bytes())
        for layer in message.layer:
            assert all(torch.isfinite(torch.tensor(list(blob.data))).all() for blob in layer.blobs), path


def test_a_finite_loss_of_weights_that_just_overflowed_writes_no_snapshot(tmp_path):
    solver = make(tmp_path)
    solver.step(1)
    with torch.no_grad():
        solver.net.layer("fc2").blob(0)[0, 0] = float("inf")
    with pytest.raises(SolverError, match=r"iteration 1: blob 0 of layer 'fc2' .*nothing is written"):
        solver.snapshot()
    assert not list(tmp_path.glob("*.caffemodel"))


def test_caffe_goes_on(tmp_path):
    solver = make(tmp_path, value=-1.0, power=0.5)
    solver.stop_at_nan = False
    solver.solve()
    assert solver.iter == 40 and solver.smoothed_loss != solver.smoothed_loss


DEAD = """
layer {{ name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {{
  shape {{ dim: 4 dim: 3 }} shape {{ dim: 4 dim: 2 }} data_filler {{ type: "constant" value: 1 }}
  data_filler {{ type: "constant" value: 1 }} }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param {{
  num_output: 2 weight_filler {{ type: "constant" value: {weight} }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "fc" top: "fc" }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "y" top: "loss" }}
layer {{ name: "dead" type: "DeadUnits" bottom: "fc" top: "dead" include {{ phase: TEST }} }}
"""


@pytest.mark.parametrize("stop", [True, False])
def test_a_test_that_finds_all_units_dead_ends_training(tmp_path, stop):
    def solver(weight):
        (tmp_path / "net.prototxt").write_text(DEAD.format(weight=weight))
        param = caffe_pb2.SolverParameter(
            net=str(tmp_path / "net.prototxt"), base_lr=0.01, lr_policy="fixed", max_iter=2, test_iter=[2],
            test_interval=1, snapshot_after_train=False,
        )  # fmt: skip
        made = solver_class(param)(param, [])
        made.stop_at_nan = stop
        return made

    solver(1).solve()
    if not stop:
        solver(-1).solve()  # Caffe goes on
        return
    with pytest.raises(
        SolverError, match=r"iteration 0: layer 'dead' \(DeadUnits\): all 2 units that it watches are zero"
    ):
        solver(-1).solve()
