"""Every solver draws from a stream of its own."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe_compat.pycaffe as caffe
from caffe_compat.proto import caffe_pb2, parse_text
from caffe_compat.solver import Solver, solver_class

SOLVER = """
net_param {
  layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 4 dim: 2 dim: 6 dim: 6 }
    shape { dim: 4 dim: 3 } data_filler { type: "gaussian" } data_filler { type: "uniform" } } }
  layer { name: "pool" type: "Pooling" bottom: "x" top: "pool"
    pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 } }
  layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
    inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
  layer { name: "drop" type: "Dropout" bottom: "ip" top: "ip" }
  layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }
}
base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 max_iter: 20 test_iter: 2 test_interval: 3
"""


def make(seed: int) -> Solver:
    param = parse_text(SOLVER, caffe_pb2.SolverParameter)
    param.random_seed = seed
    return solver_class(param)(param)


def weights(solver: Solver) -> np.ndarray:
    return solver.net.layer("ip").blobs[0].detach().numpy().copy()


def test_two_threads_do_not_disturb_each_other() -> None:
    alone = []
    for seed in (1, 2, -1):
        torch.manual_seed(0)
        solver = make(seed)
        solver.step(8)
        alone.append(weights(solver))
    turn = threading.Barrier(2, timeout=120)
    found: dict[int, np.ndarray] = {}

    def train(seed: int) -> None:
        solver = make(seed)
        solver.on_start.append(turn.wait)  # iteration by iteration, side by side
        solver.step(8)
        found[seed] = weights(solver)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(found[1], alone[0]) and np.array_equal(found[2], alone[1])
    assert not np.array_equal(alone[0], alone[1]) and not np.array_equal(alone[0], alone[2])


def test_training_leaves_torchs_generator_alone() -> None:
    solver = make(1)
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    solver.step(2)
    assert torch.rand(3).equal(expected)


def test_a_seed_is_for_passes_by_hand_too() -> None:
    def outputs(seed: int) -> np.ndarray:
        engine = make(seed).engine
        engine.forward()
        return engine.blobs[engine.net.nodes[-1].bottom_ids[0]].tensor.numpy().copy()

    assert np.array_equal(outputs(1), outputs(1)) and not np.array_equal(outputs(1), outputs(2))
    torch.manual_seed(4)
    state = torch.get_rng_state()
    thread = threading.Thread(target=outputs, args=(1,))
    thread.start()
    thread.join()
    assert torch.get_rng_state().equal(state)  # another thread has a stream of its own


def test_without_a_seed_no_two_solvers_are_alike_but_the_callers_seed_repeats_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.prototxt").write_text(SOLVER)

    def run() -> list[np.ndarray]:
        made = [caffe.SGDSolver("s.prototxt") for _ in range(2)]
        for solver in made:
            solver.step(3)
        caffe.set_random_seed(9)
        made[0].step(3)
        return [solver.net.params["ip"][0].data.copy() for solver in made]

    caffe.set_random_seed(5)
    first = run()
    caffe.set_random_seed(5)
    again = run()
    caffe.set_random_seed(6)
    other = run()
    assert not np.array_equal(*first)
    for one, same, differs in zip(first, again, other, strict=True):
        assert np.array_equal(one, same) and not np.array_equal(one, differs)


def test_a_seed_given_later_counts_from_the_next_step_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.prototxt").write_text(SOLVER.replace('"xavier"', '"constant" value: 0.1'))
    found = []
    for _ in range(2):
        solver = caffe.SGDSolver("s.prototxt")
        caffe.set_random_seed(3)
        solver.step(3)
        found.append(solver.net.params["ip"][0].data.copy())
    assert np.array_equal(*found)


def test_backward_without_forward_meets_the_mask_of_the_last_forward() -> None:
    engine = make(1).engine
    with torch.no_grad():
        engine.net.layer("ip").blobs[0].fill_(1.0)
    engine.forward()
    last = engine.net.nodes[-1]
    number = next(i for i, node in enumerate(engine.net.nodes) if node.name == "drop")
    for _ in range(3):  # keep_graph is off: each pass but the first computes the layer again
        engine.blobs[last.bottom_ids[0]].gradient.fill_(1.0)
        engine.blob("ip").gradient.fill_(1.0)
        engine.backward_layer(number)
        gradient = engine.blobs[engine.net.nodes[number].bottom_ids[0]].gradient.clone()
        if _ == 0:
            first = gradient
        assert gradient.equal(first)
    assert set(first.unique().tolist()) == {0.0, 2.0}
