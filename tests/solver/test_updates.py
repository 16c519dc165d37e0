"""The six rules in blocks: bit for bit what one parameter after the other gives."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from caffe_compat.proto import caffe_pb2
from caffe_compat.solver import SOLVERS, updates
from caffe_compat.solver.gradients import clip
from caffe_compat.solver.updates import Part, blocks, update

SHAPES = [(70_001,), (3, 5), (1,), (17,), (4, 3, 3, 3), (300, 301), (0,)]
FIELDS = {"momentum": 0.9, "momentum2": 0.99, "rms_decay": 0.95, "delta": 1e-3, "weight_decay": 0.01}


def _sgd(p, g: Tensor, h: list[Tensor], rate: float, t: int) -> None:
    h[0].mul_(p.momentum).add_(g, alpha=rate)
    g.copy_(h[0])


def _nesterov(p, g: Tensor, h: list[Tensor], rate: float, t: int) -> None:
    before = h[0].clone()
    h[0].mul_(p.momentum).add_(g, alpha=rate)
    g.copy_(before.mul_(-p.momentum).add_(h[0], alpha=1 + p.momentum))


def _adagrad(p, g: Tensor, h: list[Tensor], rate: float, t: int) -> None:
    h[0].addcmul_(g, g)
    g.div_(h[0].sqrt().add_(p.delta)).mul_(rate)


def _rmsprop(p, g: Tensor, h: list[Tensor], rate: float, t: int) -> None:
    h[0].mul_(p.rms_decay).addcmul_(g, g, value=1 - p.rms_decay)
    g.div_(h[0].sqrt().add_(p.delta)).mul_(rate)


def _adadelta(p, g: Tensor, h: list[Tensor], rate: float, t: int) -> None:
    h[0].mul_(p.momentum).addcmul_(g, g, value=1 - p.momentum)
    g.mul_(((h[1] + p.delta) / (h[0] + p.delta)).sqrt_())
    h[1].mul_(p.momentum).addcmul_(g, g, value=1 - p.momentum)
    g.mul_(rate)


def _adam(p, g: Tensor, h: list[Tensor], rate: float, t: int) -> None:
    h[0].mul_(p.momentum).add_(g, alpha=1 - p.momentum)
    h[1].mul_(p.momentum2).addcmul_(g, g, value=1 - p.momentum2)
    correction = math.sqrt(1 - p.momentum2**t) / (1 - p.momentum**t)
    g.copy_(h[0]).div_(h[1].sqrt().add_(p.delta)).mul_(rate * correction)


SLOW: dict[str, Callable[..., None]] = {
    "SGD": _sgd, "Nesterov": _nesterov, "AdaGrad": _adagrad, "RMSProp": _rmsprop, "AdaDelta": _adadelta, "Adam": _adam
}  # fmt: skip


def _part(count: int, seed: int = 0) -> Part:
    random = torch.Generator().manual_seed(seed)

    def draw() -> list[Tensor]:
        return [torch.randn(shape, generator=random) for shape in SHAPES]

    histories = tuple([value.abs_() for value in draw()] for _ in range(count))
    rates, decays = [0.1, 0.2, 0.1, 0.0, 0.1, 0.2, 0.1], [1.0, 0.0, 1.0, 1.0, 2.0, 1.0, 1.0]
    return Part(draw(), draw(), histories, rates, decays)


def _everything(part: Part) -> list[Tensor]:
    return [*part.parameters, *part.gradients, *(value for history in part.histories for value in history)]


class _Rule:
    """A rule without a net."""

    def __init__(self, kind: str, param) -> None:
        self.param, self.iter = param, 6
        self.compute_updates = SOLVERS[kind].compute_updates.__get__(self)


@pytest.mark.parametrize("regularization", ["L2", "L1"])
@pytest.mark.parametrize("kind", sorted(SOLVERS))
def test_bit_for_bit_what_one_parameter_after_the_other_gives(kind: str, regularization: str) -> None:
    param = caffe_pb2.SolverParameter(regularization_type=regularization, iter_size=3, **FIELDS)
    count = SOLVERS[kind].histories
    got, wanted = _part(count), _part(count)
    update(_Rule(kind, param).compute_updates, got, param)
    for index, (parameter, gradient) in enumerate(zip(wanted.parameters, wanted.gradients, strict=True)):
        gradient.mul_(1 / 3)
        if wanted.decays[index]:
            term = parameter if regularization == "L2" else parameter.sign()
            gradient.add_(term, alpha=param.weight_decay * wanted.decays[index])
        SLOW[kind](param, gradient, [history[index] for history in wanted.histories], wanted.rates[index], 7)
        parameter.sub_(gradient)
    assert any(not torch.equal(a, b) for a, b in zip(got.parameters, _part(count).parameters, strict=True))
    for mine, theirs in zip(_everything(got), _everything(wanted), strict=True):
        assert torch.equal(mine, theirs), (mine.shape, (mine - theirs).abs().max())


def test_blocks_hold_every_number_once_and_are_no_larger_than_asked() -> None:
    part = _part(2)
    for value in _everything(part):
        value.zero_()
    sizes = []
    for block in blocks(part, 1000):
        sizes.append(sum(gradient.numel() for gradient in block.gradients))
        assert len(block.rates) == len(block.decays) == len(block.gradients)
        for value in _everything(block):
            value.add_(1)
    assert max(sizes) <= 1000 and sum(sizes) == sum(math.prod(shape) for shape in SHAPES)
    assert len(sizes) <= 2 * sum(sizes) / 1000  # and are not much smaller
    assert all(bool((value == 1).all()) for value in _everything(part))


def test_a_tensor_that_is_not_in_one_row_stays_whole() -> None:
    part = _part(1)
    part.parameters[5] = part.parameters[5].t().contiguous().t()
    shapes = [tuple(one.shape) for block in blocks(part, 1000) for one in block.gradients]
    assert (300, 301) in shapes and (1000,) in shapes


def test_nothing_to_move() -> None:
    assert list(blocks(Part([], [], ([],), [], []))) == []


@pytest.mark.parametrize("kind", sorted(SOLVERS))
def test_what_a_rule_needs_besides_is_as_large_as_a_block(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for value in result if isinstance(result, (list, tuple)) else [result]:
                if isinstance(value, Tensor) and not func.is_view and not func.__name__.split(".")[0].endswith("_"):
                    made.append(value.untyped_storage().nbytes() // 4)
            return result

    monkeypatch.setattr(updates, "_usual", lambda device: 1 << 12)
    param = caffe_pb2.SolverParameter(**FIELDS)
    part = _part(SOLVERS[kind].histories)
    with Watch():
        update(_Rule(kind, param).compute_updates, part, param)
    assert max(made, default=0) <= 1 << 12


@pytest.mark.parametrize("limit", [0.5, 1e6, 0.0, -1.0])
def test_clipping_is_by_the_norm_of_all(limit: float) -> None:
    got, wanted = _part(1).gradients, _part(1).gradients
    clip(got, limit)
    norm = float(torch.stack([value.norm() for value in wanted]).norm())
    for value in wanted:
        value.mul_(limit / norm if 0 <= limit < norm else 1)
    assert norm > 0.5
    for mine, theirs in zip(got, wanted, strict=True):
        assert torch.equal(mine, theirs)
