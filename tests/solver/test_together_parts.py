"""The parts of training together that need no second process: shares of tests, united scores, averaging, refusals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_compat.distributed.group import Group
from caffe_compat.errors import SolverError
from caffe_compat.net import BlobNet, Net, load_net
from caffe_compat.proto import caffe_pb2, parse_text
from caffe_compat.ranks import Ranks, Turns
from caffe_compat.solver import Solver, averaging, solver_class
from caffe_compat.solver.joining import join
from caffe_compat.solver.scores import Scores
from caffe_compat.solver.test_shares import TestShare


class Threads(Group):
    """A group whose processes are threads of this one."""

    def __init__(self, rank: int, world: int, meeting: threading.Barrier, desk: dict[int, object]) -> None:
        super().__init__(Ranks(rank, world, rank))
        self.meeting, self.desk = meeting, desk

    def gather(self, data: bytes) -> list[bytes]:
        return [bytes(found) for found in self._all(data)]  # type: ignore[arg-type]

    def same(self, value):  # type: ignore[no-untyped-def]
        return self._all(value)[0]

    def highest(self, number: int) -> int:
        return max(int(found) for found in self._all(number))  # type: ignore[call-overload]

    def total(self, values: np.ndarray) -> np.ndarray:
        return np.sum(self._all(np.array(values, np.float64)), axis=0)

    def share_out(self, tensors) -> None:  # type: ignore[no-untyped-def]
        for mine, first in zip(tensors, self._all([one.detach().clone() for one in tensors])[0], strict=True):
            mine.detach().copy_(first)

    def start_sum(self, flat: Tensor) -> Callable[[], None]:
        total = torch.stack(self._all(flat.clone())).sum(0)

        def wait() -> None:
            flat.copy_(total)

        return wait

    def _all(self, value: object) -> list:  # type: ignore[type-arg]
        self.desk[self.ranks.rank] = value
        self.meeting.wait()
        found = [self.desk[rank] for rank in range(self.ranks.world)]
        self.meeting.wait()
        return found


def together(world: int, work: Callable[[Group], object]) -> list[object]:
    """What ``work`` gives in each of so many threads."""
    meeting, desk, found = threading.Barrier(world, timeout=120), dict[int, object](), dict[int, object]()

    def run(rank: int) -> None:
        try:
            found[rank] = work(Threads(rank, world, meeting, desk))
        except BaseException as error:  # told below
            found[rank] = error
            meeting.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for value in found.values():
        if isinstance(value, BaseException) and not isinstance(value, threading.BrokenBarrierError):
            raise value
    return [found[rank] for rank in range(world)]


def net_of(tmp_path: Path, text: str, phase: str = "TEST") -> Net:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return load_net(path, phase=phase)


DATA = """layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 2 dim: 3 }
  shape { dim: 2 dim: 3 } data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
"""
SCORE = 'layer { name: "ev" type: "ExplainedVariance" bottom: "x" bottom: "t" top: "ev" }'
LSTM = """layer { name: "x" type: "DummyData" top: "x" top: "c" dummy_data_param { shape { dim: 2 dim: 1 dim: 3 }
  shape { dim: 2 dim: 1 } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "c" top: "y"
  recurrent_param { num_output: 2 weight_filler { type: "xavier" } } }
"""


def test_shares(tmp_path: Path) -> None:
    whole = net_of(tmp_path, DATA + SCORE).nodes
    shares = [TestShare.of(whole, 5, Ranks(rank, 3)) for rank in range(3)]
    assert [(share.rounds, share.own, share.divided) for share in shares] == [(2, 2, True), (2, 2, True), (2, 1, True)]
    assert [share.turns for share in shares] == [Turns(rank, 3, 5) for rank in range(3)]
    lstm = net_of(tmp_path, LSTM).nodes  # each batch goes on where the one before it ended
    shares = [TestShare.of(lstm, 5, Ranks(rank, 3)) for rank in range(3)]
    assert [(share.rounds, share.own, share.divided) for share in shares] == [
        (5, 5, False),
        (5, 0, False),
        (5, 0, False),
    ]
    assert TestShare.of(lstm, 5, Ranks()) == TestShare(5, 5, Turns(0, 1, 5), True)


@pytest.mark.parametrize("world", [2, 3, 7])
def test_united_scores_are_those_of_one_process(tmp_path: Path, world: int) -> None:
    """ExplainedVariance over all batches, the mean of another output, the mean loss; some ranks may have no batch."""
    text = (
        DATA
        + SCORE
        + """
layer { name: "loss" type: "EuclideanLoss" bottom: "x" bottom: "t" top: "loss" }
layer { name: "dead" type: "DeadUnits" bottom: "x" top: "dead" }
layer { name: "out" type: "Power" bottom: "t" top: "out" }"""
    )
    nets = [net_of(tmp_path, text) for _ in range(world + 1)]
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((2, 2, 3)).astype(np.float32) - 1.5 for _ in range(5)]

    def run(net: Net, group: Group) -> Scores:
        engine, turns = BlobNet(net), group.ranks.turns(len(batches))
        scores = Scores(engine)
        for place in range(turns.own()):
            number = turns.batch(place)
            engine.blob("x").set_data(torch.from_numpy(batches[number][0]))
            engine.blob("t").set_data(torch.from_numpy(batches[number][1]))
            scores.add(engine.forward(1), number)
        scores.unite(group, True)
        return scores

    one = run(nets[world], Group())
    for scores in together(world, lambda group: run(nets[group.ranks.rank], group)):
        assert isinstance(scores, Scores)
        assert list(scores.named()) == list(one.named())
        assert scores.loss() == one.loss()
        for name, value in one.named().items():
            np.testing.assert_allclose(scores.named()[name], value, rtol=1e-6, err_msg=name)
    assert 0 < one.named()["dead"] < 1


@pytest.mark.parametrize("world", [2, 3])
def test_united_average_precision_is_that_of_all_rows_in_order(tmp_path: Path, world: int) -> None:
    """Rows of DetectionEvaluate; equal scores stand in the order of the batches."""
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 4 dim: 5 } } }'
    text += 'layer { name: "rows" type: "Power" bottom: "x" top: "rows" }'
    nets = [net_of(tmp_path, text) for _ in range(world + 1)]
    rng = np.random.default_rng(1)
    batches = []
    for number in range(5):
        hits = rng.integers(0, 2, 3 + number)
        found = [[number, 1, rng.choice([0.25, 0.5]), hit, 1 - hit] for hit in hits]
        batches.append(np.array([[-1, 1, 4, -1, -1], *found], np.float32)[None, None])

    def run(net: Net, group: Group) -> float:
        engine, turns = BlobNet(net), group.ranks.turns(len(batches))
        scores = Scores(engine, "Integral")
        for place in range(turns.own()):
            number = turns.batch(place)
            engine.blob("x").reshape(*batches[number].shape)
            engine.blob("x").set_data(torch.from_numpy(batches[number]))
            scores.add(engine.forward(), number)
        scores.unite(group, True)
        return float(scores.named()["rows"])

    one = run(nets[world], Group())
    assert 0 < one < 1
    assert together(world, lambda group: run(nets[group.ranks.rank], group)) == [one] * world


SOLVER = """
net_param {
  layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 4 dim: 3 }
    shape { dim: 4 dim: 2 } data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
  layer { name: "one" type: "InnerProduct" bottom: "x" top: "one" param { name: "w" } param { name: "b" }
    inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
  layer { name: "two" type: "InnerProduct" bottom: "one" top: "two" param { name: "w" } param { name: "b" }
    inner_product_param { num_output: 3 } }
  layer { name: "still" type: "InnerProduct" bottom: "two" top: "still" param { lr_mult: 0 } param { lr_mult: 0 }
    inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
  layer { name: "drop" type: "Dropout" bottom: "still" top: "still" }
  layer { name: "last" type: "InnerProduct" bottom: "still" top: "last"
    inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "last" bottom: "t" top: "loss" }
}
base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 max_iter: 6 random_seed: 4
"""


def make(size: int, **more: object) -> Solver:
    param = parse_text(SOLVER, caffe_pb2.SolverParameter)
    param.iter_size = size
    for name, value in more.items():
        setattr(param, name, value)
    return solver_class(param)(param)


@pytest.mark.parametrize("bucket", [1, 40, 1 << 20])
def test_buckets_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch, bucket: int) -> None:
    """Shared weights are sent once both layers have added to them; weights at rest are not sent; draws are those of
    one process's passes."""
    monkeypatch.setattr(averaging, "BUCKET", bucket)
    one = make(6)
    one.step(6)

    def train(group: Group) -> Solver:
        solver = make(2)
        join(solver, group)
        solver.step(6)
        return solver

    found = together(3, train)
    assert isinstance(found[0], Solver) and found[0].averaging is not None
    sent = [parameter for part in found[0].averaging._buckets for parameter in part.parameters]
    names = {id(parameter): name for name, parameter in found[0].net.named_parameters()}
    assert sorted(names[id(parameter)] for parameter in sent) == ["last.bias", "last.weight", "one.bias", "one.weight"]
    for solver in found:
        assert isinstance(solver, Solver)
        for mine, theirs in zip(solver.learnables, one.learnables, strict=True):
            torch.testing.assert_close(mine.parameter, theirs.parameter, rtol=1e-5, atol=1e-6)
        assert all(
            a.parameter.equal(b.parameter) for a, b in zip(solver.learnables, found[0].learnables, strict=True)
        )  # of all processes bit by bit


def test_gradients_that_somebody_replaced_are_averaged_too() -> None:
    def train(group: Group) -> list[Tensor]:
        solver = make(1)
        join(solver, group)
        seen: list[Tensor] = []

        def look() -> None:
            parameter = solver.net.layer("last").blobs[0]
            seen.append(parameter.grad.clone())
            parameter.grad = parameter.grad * 0 if len(seen) == 1 else None

        solver.on_gradients_ready.append(look)
        solver.step(3)
        return seen

    first, second = together(2, train)
    assert isinstance(first, list) and isinstance(second, list)
    assert all(one.equal(other) and bool(one.any()) for one, other in zip(first, second, strict=True))


def test_joining_is_refused_without_a_seed() -> None:
    with pytest.raises(SolverError, match="random_seed is not set, but 2 processes need the same order"):
        together(2, lambda group: join(make(1, random_seed=-1), group))
