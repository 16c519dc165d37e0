"""Mixed precision: 16 bits where they do no harm, float32 weights, and scaled losses for float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.errors import SolverError, UsageError
from caffe_compat.layers.registry import registered
from caffe_compat.net import BlobNet
from caffe_compat.net.precision import Precision
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver import solver_class
from caffe_compat.solver.scaling import INITIAL, LossScale
from caffe_compat.solver.solver import Solver

NET = """
layer { name: "in" type: "Input" top: "data" top: "label" input_param {
  shape { dim: 16 dim: 1 dim: 12 dim: 12 } shape { dim: 16 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv1" top: "bn" }
layer { name: "relu1" type: "ReLU" bottom: "bn" top: "bn" }
layer { name: "norm" type: "LRN" bottom: "bn" top: "norm" lrn_param { local_size: 3 alpha: 0.1 } }
layer { name: "conv2" type: "Convolution" bottom: "norm" top: "conv2"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "pool" type: "Pooling" bottom: "conv2" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" dropout_param { dropout_ratio: 0.1 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param {
  num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" }
"""
RULES = {"SGD": {"momentum": 0.9, "base_lr": 0.02}, "Adam": {"momentum": 0.9, "base_lr": 2e-3, "delta": 1e-3}}


def _batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [16, 1, 12, 12] of noise, brighter in the quarter that the label says."""
    random = np.random.default_rng(number)
    labels = random.integers(0, 4, 16)
    pictures = random.normal(size=(16, 1, 12, 12)).astype(np.float32)
    for picture, label in zip(pictures, labels, strict=True):
        y, x = 6 * (label // 2), 6 * (label % 2)
        picture[0, y : y + 6, x : x + 6] += 0.8
    return torch.from_numpy(pictures), torch.from_numpy(labels.astype(np.float32))


def _solver(folder: Path, amp: str, rule: str = "SGD", text: str = NET, **fields: object) -> Solver:
    (folder / "net.prototxt").write_text(text)
    options = {**RULES[rule], "type": rule, **fields}
    param = caffe_pb2.SolverParameter(
        train_net=str(folder / "net.prototxt"), lr_policy="fixed", random_seed=3,
        snapshot_prefix=str(folder / f"{amp}{rule}"), **options,
    )  # fmt: skip
    solver = solver_class(param)(param, [])
    solver.amp = amp
    solver.stop_at_nan = True

    def feed() -> None:
        for name, values in zip(("data", "label"), _batch(solver.iter), strict=True):
            solver.engine.blob(name).set_data(values)

    solver.on_start.append(feed)
    return solver


def _types(solver: Solver) -> dict[str, torch.dtype]:
    return {name: solver.engine.blob(name).tensor.dtype for name in solver.engine.ids}


def _weights(solver: Solver) -> list[torch.Tensor]:
    return [one.parameter.detach().clone() for one in solver.learnables] + [h.clone() for h in solver.history]


@pytest.mark.parametrize(("amp", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_16_bits_are_where_they_belong_and_nowhere_else(tmp_path: Path, amp: str, dtype: torch.dtype) -> None:
    solver = _solver(tmp_path, amp)
    assert solver.amp == amp
    solver.step(1)
    found = _types(solver)
    narrow = {name for name, kind in found.items() if kind == dtype}
    assert narrow == {"conv1", "conv2", "pool", "fc", "fc_fc_0_split_0", "fc_fc_0_split_1"}
    assert {found[name] for name in found.keys() - narrow} == {torch.float32}
    assert all(value.dtype == torch.float32 for value in _weights(solver))
    assert all(one.parameter.grad.dtype == torch.float32 for one in solver.learnables if one.parameter.grad is not None)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_scripts_see_float32(tmp_path: Path, amp: str) -> None:
    solver = _solver(tmp_path, amp)
    solver.step(1)
    blob = solver.engine.blob("conv2")
    assert blob.data.dtype == blob.diff.dtype == np.float32 and np.abs(blob.data).max() > 0
    view = blob.data
    solver.step(1)  # now results are copied into what was handed out
    assert blob.data is not None and np.array_equal(view, blob.data) and blob.tensor.dtype == torch.float32


@pytest.mark.parametrize(("amp", "near"), [("bf16", 0.06), ("fp16", 0.02)])
def test_gradients_are_near_those_of_float32(tmp_path: Path, amp: str, near: float) -> None:
    solvers = [_solver(tmp_path, kind, iter_size=2) for kind in ("", amp)]
    for solver in solvers:
        solver.on_start[0]()
        with solver._random.use():
            for _ in range(2):
                loss = solver.engine.forward_loss()
                solver.engine.backward()
        if solver._scale is not None:
            solver._scale.unscale([one.parameter.grad for one in solver.learnables if one.parameter.grad is not None])
        assert isinstance(loss, torch.Tensor) and loss.dtype == torch.float32
    for mine, theirs in zip(solvers[1].learnables, solvers[0].learnables, strict=True):
        if theirs.parameter.grad is None or (mine.layer, mine.index) == ("conv1", 1):
            continue  # statistics; a bias that the normalisation takes away again, whose gradient is 0 but for rounding
        error = (mine.parameter.grad - theirs.parameter.grad).norm() / theirs.parameter.grad.norm()
        assert 0 < error < near, (mine.layer, mine.index, float(error))


@pytest.mark.parametrize(("amp", "rule"), [("bf16", "SGD"), ("fp16", "Adam")])
def test_a_net_learns_what_it_learns_in_float32(tmp_path: Path, amp: str, rule: str) -> None:
    scores = {}
    for kind in ("", amp):
        solver = _solver(tmp_path, kind, rule)
        found: list[float] = []
        solver.on_iteration = lambda _, loss, found=found, solver=solver: found.append(
            float(solver.engine.blob("accuracy").tensor)
        )
        solver.step(60)
        scores[kind] = np.mean(found[-30:])
    assert scores[""] > 0.85 and scores[amp] > scores[""] - 0.03, scores


@pytest.mark.parametrize(
    ("amp", "rule", "hdf5"), [("bf16", "SGD", False), ("fp16", "Adam", False), ("fp16", "SGD", True)]
)
def test_a_run_that_goes_on_ends_as_the_whole_one_bit_for_bit(tmp_path: Path, amp: str, rule: str, hdf5: bool) -> None:
    fields = {"snapshot_format": caffe_pb2.SolverParameter.HDF5} if hdf5 else {}
    whole, first, second = (_solver(tmp_path, amp, rule, **fields) for _ in range(3))
    if amp == "fp16":
        for solver in (whole, first):  # as if it had been changed
            solver._scale.set(2.0**9, 7)
    whole.step(6)
    first.step(4)
    _, state = first.snapshot()
    second.restore(state)
    second.step(2)
    for mine, theirs in zip(_weights(second), _weights(whole), strict=True):
        assert torch.equal(mine, theirs)
    if whole._scale is not None:
        assert second._scale.get() == whole._scale.get() == (2.0**9, 13)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_an_overflow_changes_nothing_but_the_scale(tmp_path: Path, rule: str) -> None:
    solver = _solver(tmp_path, "fp16", rule, weight_decay=0.1, clip_gradients=100.0)
    solver.step(3)
    solver._scale.set(2.0**60, 0)
    still = [index for index, one in enumerate(solver.learnables) if one.layer == "bn"]  # gathered forward
    before = _weights(solver)
    solver.step(1)
    assert solver.iter == 4
    for index, (mine, theirs) in enumerate(zip(_weights(solver), before, strict=True)):
        assert index in still or torch.equal(mine, theirs), index
    assert solver._scale.get() == (2.0**59, 0)
    solver._scale.set(2.0**10, 0)
    solver.step(1)
    assert not all(torch.equal(a, b) for a, b in zip(_weights(solver), before, strict=True))


def test_the_scale_grows_again() -> None:
    scale = LossScale(torch.device("cpu"))
    scale.set(8.0, 1998)
    gradients = [torch.tensor([8.0])]
    scale.unscale(gradients)
    assert gradients[0].item() == 1
    scale.advance()
    assert scale.get() == (8.0, 1999)
    scale.unscale(gradients)
    scale.advance()
    assert scale.get() == (16.0, 0)


def test_gradients_that_are_never_finite_end_it(tmp_path: Path) -> None:
    scale = LossScale(torch.device("cpu"))
    for _ in range(60):
        scale.unscale([torch.tensor([float("nan")])])
        scale.advance()
    with pytest.raises(SolverError, match="iteration 60: gradients are not finite with a loss scale of"):
        scale.tell(60)


def test_skipped_updates_are_told(tmp_path: Path, capsys) -> None:
    from caffe_compat import log

    log.to_stderr()
    scale = LossScale(torch.device("cpu"))
    scale.unscale([torch.tensor([float("inf")])])
    scale.advance()
    scale.tell(5)
    scale.tell(6)
    told = capsys.readouterr().err
    assert told.count("overflowed") == 1 and "in 1 update before iteration 5" in told
    assert f"the loss scale is {INITIAL / 2:g}" in told


SMALL = """
layer { name: "in" type: "Input" top: "data" top: "label" input_param { shape { dim: 16 dim: 1 dim: 12 dim: 12 }
  shape { dim: 16 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3
  weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "same" type: "Reshape" bottom: "fc" top: "same" reshape_param { shape { dim: 0 dim: -1 } }
  loss_weight: 1e-9 }
"""


def test_a_loss_whose_diff_is_that_of_a_bottom_is_scaled_once(tmp_path: Path) -> None:
    plain, scaled = (_solver(tmp_path, amp, text=SMALL) for amp in ("", "fp16"))
    for solver in (plain, scaled):
        solver.on_start[0]()
        solver.engine.forward_loss()
        solver.engine.backward()
    scale = scaled._scale.get()[0]
    mine, theirs = (solver.learnables[1].parameter.grad for solver in (scaled, plain))
    assert torch.allclose(mine / scale, theirs, rtol=1e-3) and float(theirs.abs().max()) > 0
    assert float(scaled.engine.blob("same").gradient.flatten()[0]) == pytest.approx(1e-9)


def test_every_layer_says_in_what_it_computes() -> None:
    halves = set()
    for name, meanings in registered().items():
        for meaning in meanings:
            assert meaning.layer.precision in ("half", "any", "single"), meaning
            halves |= {name} if meaning.layer.precision == "half" else set()
    assert halves == {
        "Convolution", "Convolution3D", "ConvolutionDepthwise", "Deconvolution", "Deconvolution3D",
        "DepthwiseConvolution", "ForeignNet", "InnerProduct", "SparseInnerProduct",
    }  # fmt: skip


def test_no_such_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="amp is 'fp8', expected bf16 or fp16"):
        _solver(tmp_path, "fp8")


def test_without_it_nothing_changes(tmp_path: Path) -> None:
    solver = _solver(tmp_path, "bf16")
    solver.amp = ""
    assert solver.amp == "" and isinstance(solver.engine, BlobNet) and solver.engine.precision is None
    solver.step(1)
    assert set(_types(solver).values()) == {torch.float32}
    assert Precision("bf16").loss_scale is None


def test_a_net_without_losses_has_nothing_to_scale(tmp_path: Path) -> None:
    solver = _solver(tmp_path, "fp16", text=SMALL.replace("loss_weight: 1e-9", ""))
    solver.step(1)
    assert solver._scale.get() == (INITIAL, 1)
