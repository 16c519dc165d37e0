"""pycaffe's solvers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycaffe import nets

import caffe_compat.pycaffe as caffe


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nets.write(nets.MLP)
    nets.write(nets.SOLVER, "solver.prototxt")


def feed(solver: caffe.SGDSolver) -> None:
    solver.net.blobs["data"].data[...] = np.random.RandomState(0).randn(4, 3)
    solver.net.blobs["label"].data[...] = [0, 1, 1, 0]


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_six_solvers_learn(kind: str) -> None:
    text = "momentum: 0.9" if kind in ("SGD", "Nesterov", "AdaDelta", "Adam") else "rms_decay: 0.9"
    if kind == "AdaGrad":
        text = ""
    nets.write(f'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 9 {text} type: "{kind}"', "k.prototxt")
    solver = caffe.get_solver("k.prototxt")
    assert type(solver) is getattr(caffe, f"{kind}Solver")
    feed(solver)
    solver.step(1)
    first = float(solver.net.blobs["loss"].data)
    solver.step(8)
    assert solver.iter == 9 and float(solver.net.blobs["loss"].data) < first


def test_rates_and_parameters_are_shown() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    assert solver.lr == pytest.approx(0.1) and solver.param.max_iter == 4
    solver.param.base_lr = 0.2
    assert solver.lr == pytest.approx(0.2)
    feed(solver)
    solver.solve()
    assert solver.iter == 4 and solver.lr == pytest.approx(0.05)


def test_apply_update_takes_what_the_script_wrote() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    blob = solver.net.params["ip"][0]
    blob.data[...] = 0
    blob.diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(blob.data, -0.1, rtol=1e-6)
    assert solver.iter == 1


def test_callbacks_and_test_nets() -> None:
    solver, seen = caffe.SGDSolver("solver.prototxt"), []
    solver.add_callback(lambda: seen.append("start"), lambda: seen.append("ready"))
    feed(solver)
    solver.step(2)
    assert seen == ["start", "ready"] * 2
    assert len(solver.test_nets) == 1


def test_a_test_net_has_weights_of_its_own_until_the_first_test() -> None:
    for name, value in (("net.prototxt", 0.1), ("other.prototxt", 0.7)):
        nets.write(nets.MLP.replace('type: "xavier"', f'type: "constant" value: {value}', 1), name)
    caffe.Net("other.prototxt", caffe.TRAIN).save("other.caffemodel")
    nets.write(nets.SOLVER.replace("test_interval: 100", "test_interval: 3"), "late.prototxt")
    solver = caffe.SGDSolver("late.prototxt")
    feed(solver)

    def weights() -> tuple[float, float]:
        return tuple(net.params["ip"][0].data[0, 0] for net in (solver.net, solver.test_nets[0]))

    assert weights() == pytest.approx((0.1, 0.1))
    solver.test_nets[0].copy_from("other.caffemodel")
    assert weights() == pytest.approx((0.1, 0.7))
    solver.step(1)
    trained, tested = weights()
    assert trained != pytest.approx(0.1, abs=1e-6) and tested == pytest.approx(0.7)
    solver.step(3)  # tests before the fourth
    assert weights()[0] == weights()[1] != trained
    assert np.shares_memory(solver.test_nets[0].params["ip"][0].data, solver.net.params["ip"][0].data)


def test_snapshot_and_restore_go_on_alike() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    feed(solver)
    solver.step(2)
    solver.snapshot()
    solver.step(2)
    again = caffe.SGDSolver("solver.prototxt")
    feed(again)
    again.restore("s_iter_2.solverstate")
    again.step(2)
    assert np.array_equal(again.net.params["ip"][0].data, solver.net.params["ip"][0].data)
    third = caffe.SGDSolver("solver.prototxt")
    feed(third)
    third.solve("s_iter_2.solverstate")
    assert third.iter == 4


def test_share_weights() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    net = caffe.Net("net.prototxt", caffe.TEST)
    solver.share_weights(net)
    solver.net.params["ip"][0].data[...] = 5
    assert (net.params["ip"][0].data == 5).all()


def test_training_copies_nothing_that_nobody_looks_at() -> None:
    solver = caffe.SGDSolver("solver.prototxt")
    feed(solver)
    solver.step(1)
    assert not solver.net.engine.blob("ip2").exposed
    parameter = solver.net.params["ip"][0].data
    solver.step(1)
    assert np.shares_memory(parameter, solver.net.module.layer("ip").blobs[0].detach().numpy())
