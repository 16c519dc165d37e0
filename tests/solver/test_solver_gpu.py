"""Training on a GPU: what it does on the CPU, within rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gpu import DEVICE, needs_gpu, same
from solver import noise_pairs
from solver.diverging_net import DIVERGES

from caffe_compat.errors import SolverError
from caffe_compat.proto import caffe_pb2
from caffe_compat.solver import SOLVERS, load_solver
from caffe_compat.solver.gradients import Clipping, clip
from caffe_compat.solver.rules import solver_class
from caffe_compat.solver.solver import Solver

pytestmark = needs_gpu
CPU = torch.device("cpu")
NET = """
name: "pairs"
layer {{ name: "pairs" type: "PairedImageData" top: "data" top: "hha"
  paired_image_data_param {{ source: "{folder}/pairs.txt" batch_size: 2 crop_height: 24 crop_width: 20
    shuffle: true mirror: true mean_value: 100 mean_value: 110 mean_value: 120 scale: 0.01 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" param {{ lr_mult: 0 }} param {{ lr_mult: 0 }}
  convolution_param {{ num_output: 6 kernel_size: 3 stride: 2 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "da_conv" type: "Convolution" bottom: "hha" top: "da_conv" param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
  convolution_param {{ num_output: 8 kernel_size: 3 stride: 2 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "da_relu" type: "ReLU" bottom: "da_conv" top: "da_conv" }}
layer {{ name: "da_norm" type: "LRN" bottom: "da_conv" top: "da_norm" }}
layer {{ name: "adapt" type: "Convolution" bottom: "da_norm" top: "adapt"
  convolution_param {{ num_output: 6 kernel_size: 1 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "adapt" bottom: "conv" top: "loss" loss_weight: 0.01 }}
layer {{ name: "ev" type: "ExplainedVariance" bottom: "adapt" bottom: "conv" top: "ev" include {{ phase: TEST }} }}
layer {{ name: "dead" type: "DeadUnits" bottom: "da_conv" top: "dead" include {{ phase: TEST }} }}
"""
SOLVER = """
net: "{folder}/net.prototxt" test_iter: 2 test_interval: 8 base_lr: {rate} lr_policy: "multistep" gamma: 0.5
stepvalue: 9 stepvalue: 15 weight_decay: 0.0005 max_iter: 20 snapshot: 0 random_seed: 7 {more}
"""
RATES = {"SGD": 0.01, "Nesterov": 0.01, "AdaGrad": 0.01, "RMSProp": 0.001, "AdaDelta": 1.0, "Adam": 0.001}
MORE = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.95",
    "AdaDelta": "momentum: 0.95 delta: 1e-3",
    "Adam": "momentum: 0.9 momentum2: 0.999 delta: 1e-3",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return noise_pairs.write(tmp_path, NET, 6, (30, 28))


def _solver(folder: Path, rule: str, device: torch.device, name: str = "s", more: str = "") -> Solver:
    path = folder / f"{name}.prototxt"
    text = SOLVER.format(folder=folder, rate=RATES[rule], more=f'type: "{rule}" {MORE[rule]} {more}')
    path.write_text(f'{text} snapshot_prefix: "{folder}/{name}"')
    return load_solver(path, device=device)


def _state(solver: Solver) -> list[torch.Tensor]:
    return [*(learnable.parameter for learnable in solver.learnables), *solver.history]


@pytest.mark.parametrize("more", ["", "iter_size: 3 clip_gradients: 0.02"])
@pytest.mark.parametrize("rule", sorted(SOLVERS))
def test_twenty_iterations_end_where_they_do_on_the_cpu(folder: Path, rule: str, more: str) -> None:
    losses: dict[str, list[float]] = {"cpu": [], "cuda": []}
    solvers = {}
    for device in (CPU, DEVICE):
        solver = solvers[device.type] = _solver(folder, rule, device, device.type, more)
        solver.on_iteration = lambda *_, of=solver, kept=losses[device.type]: kept.append(of.smoothed_loss)
        solver.step(20)
    assert all(value.device == DEVICE for value in _state(solvers["cuda"]))
    same("losses", losses["cuda"], losses["cpu"], 1e-3)
    assert losses["cpu"][-1] < losses["cpu"][0]
    for index, (got, wanted) in enumerate(zip(*map(_state, (solvers["cuda"], solvers["cpu"])), strict=True)):
        same(f"parameter or history {index}", got, wanted, 2e-3)
    found, known = (solvers[kind].test_all()[0] for kind in ("cuda", "cpu"))
    same("explained variance", found["ev"], known["ev"], 1e-3)
    same("dead units", found["dead"], known["dead"])


def test_a_run_that_goes_on_ends_as_the_whole_one(folder: Path) -> None:
    whole = _solver(folder, "Adam", DEVICE, "whole")
    whole.solve()
    first = _solver(folder, "Adam", DEVICE, "parts")
    first.step(7)
    _, state = first.snapshot()
    second = _solver(folder, "Adam", DEVICE, "parts")
    second.solve(state)
    assert second.iter == 20 and all(value.device == DEVICE for value in _state(second))
    for index, (got, wanted) in enumerate(zip(_state(second), _state(whole), strict=True)):
        same(f"parameter or history {index}", got, wanted)


def test_a_snapshot_of_the_gpu_goes_on_on_the_cpu(folder: Path) -> None:
    first = _solver(folder, "SGD", DEVICE, "parts")
    first.step(6)
    _, state = first.snapshot()
    second = _solver(folder, "SGD", CPU, "parts")
    second.restore(state)
    for got, wanted in zip(_state(second), _state(first), strict=True):
        assert np.array_equal(got.detach().numpy(), wanted.detach().cpu().numpy())
    second.step(1)


def test_a_solver_moves_to_the_gpu_and_back(folder: Path) -> None:
    solver, stays = _solver(folder, "SGD", CPU, "moves"), _solver(folder, "SGD", CPU, "stays")
    for device in (DEVICE, CPU):
        solver.to(device)
        solver.step(4)
        stays.step(4)
    for index, (got, wanted) in enumerate(zip(_state(solver), _state(stays), strict=True)):
        same(f"parameter or history {index}", got, wanted, 1e-3)


@pytest.mark.parametrize("amp", ["", "bf16", "fp16"])
@pytest.mark.parametrize("rule", sorted(SOLVERS))
def test_no_iteration_waits_for_the_gpu(folder: Path, rule: str, amp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    solver = _solver(folder, rule, DEVICE, more="clip_gradients: 0.02 iter_size: 2")
    solver.stop_at_nan, solver.amp = True, amp
    waits: list[str] = []

    def begin() -> None:
        torch.cuda.set_sync_debug_mode("error")
        for owner, name in ((torch.cuda.Event, "synchronize"), (torch.cuda, "synchronize")):
            monkeypatch.setattr(owner, name, lambda *_, name=name: waits.append(name))

    def end(*_: object) -> None:
        torch.cuda.set_sync_debug_mode("default")
        monkeypatch.undo()

    solver.on_start.append(begin)
    solver.on_iteration = end
    try:
        solver.step(6)
    finally:
        end()
    assert solver.iter == 6 and not waits


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_trains_as_it_does_on_the_cpu(folder: Path, amp: str) -> None:
    losses = {}
    for device in (CPU, DEVICE):
        solver = _solver(folder, "SGD", device, device.type)
        solver.amp = amp
        solver.step(10)
        losses[device.type] = solver.smoothed_loss
        assert all(value.dtype == torch.float32 for value in _state(solver))
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.03)


def test_an_overflow_of_float16_changes_nothing(folder: Path) -> None:
    solver = _solver(folder, "Adam", DEVICE)
    solver.amp = "fp16"
    solver.step(2)
    solver._scale.set(2.0**60, 0)
    before = [value.detach().clone() for value in _state(solver)]
    solver.step(1)
    assert all(torch.equal(a, b) for a, b in zip(_state(solver), before, strict=True))
    assert solver._scale.get()[0] == 2.0**59


@pytest.mark.parametrize(("limit", "wanted"), [(0.0, [0, 0]), (5.0, [3, 4]), (2.5, [1.5, 2]), (-1.0, [3, 4])])
@pytest.mark.parametrize("values", [[3.0, 4.0], [0.0, 0.0], [float("nan"), 4.0], [float("inf"), 4.0]])
def test_clipping_as_on_the_cpu(values: list[float], limit: float, wanted: list[float]) -> None:
    gradients = [torch.tensor([value]) for value in values]
    on_gpu = [gradient.to(DEVICE) for gradient in gradients]
    clip(gradients, limit)
    Clipping().apply(on_gpu, limit, keep=True)
    same("gradients", torch.cat(on_gpu), torch.cat(gradients))
    assert values != [3.0, 4.0] or torch.cat(gradients).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("value", "power", "rate", "message"),
    [
        (-1.0, 0.5, 0.01, r"iteration 0: the loss is nan: layer 'middle' \(Power\) .* top 'middle'"),
        (1.0, 1.0, 1e5, r"iteration \d+: .*'fc2?' \(InnerProduct\)"),
    ],
)
def test_a_number_that_is_not_finite_ends_it(
    tmp_path: Path, value: float, power: float, rate: float, message: str
) -> None:
    (tmp_path / "net.prototxt").write_text(DIVERGES.format(value=value, power=power))
    param = caffe_pb2.SolverParameter(
        net=str(tmp_path / "net.prototxt"), base_lr=rate, lr_policy="fixed", max_iter=40, random_seed=1,
        snapshot_prefix=str(tmp_path / "s"), snapshot=1,
    )  # fmt: skip
    solver = solver_class(param)(param, [], DEVICE)
    solver.stop_at_nan = True
    with pytest.raises(SolverError, match=message):
        solver.solve()
    for path in tmp_path.glob("*.caffemodel"):
        for layer in caffe_pb2.NetParameter.FromString(path.read_bytes()).layer:
            assert all(np.isfinite(list(blob.data)).all() for blob in layer.blobs), path
