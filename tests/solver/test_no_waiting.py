"""On a GPU no iteration waits for what it computes: shown on the CPU, where the same path is made to be taken."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from solver.diverging_net import DIVERGES
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from caffe_compat.errors import LayerError, SolverError
from caffe_compat.layers import looking, windows
from caffe_compat.proto import caffe_pb2, read_net
from caffe_compat.solver import SOLVERS, gradients, later, solver_class, watch
from caffe_compat.solver.later import Later, SmoothedLoss
from caffe_compat.solver.solver import Solver

ALEXNET = Path(__file__).resolve().parents[2] / "prototxt/alexnet/train_val.prototxt"
READS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__", "__contains__")
WAITS = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique", "allclose")


class Counting(TorchDispatchMode):
    """Counts what would wait for a GPU: values that decide what the program or a shape is, copies to the CPU, and
    uploads of memory that is not pinned.

    Attributes:
        found: how often each was done, and where.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        for name in READS:
            monkeypatch.setattr(Tensor, name, self._reading(name, getattr(Tensor, name)))
        tensor = torch.tensor

        def made(data: Any, *args: Any, **kwargs: Any) -> Tensor:
            if not isinstance(data, (int, float)) or kwargs.get("device"):
                self._note("torch.tensor")
            return tensor(data, *args, **kwargs)

        monkeypatch.setattr(torch, "tensor", made)
        polls: Counter[int] = Counter()
        get = Later.get

        def arrived(later: Later) -> bool:
            polls[id(later)] += 1
            return polls[id(later)] > 3

        def got(later: Later) -> list[float]:
            if polls[id(later)] <= 3:
                self._note("waiting for a number")
            polls.pop(id(later), None)
            return get(later)

        monkeypatch.setattr(Later, "arrived", property(arrived))
        monkeypatch.setattr(Later, "get", got)

    def _reading(self, name: str, method: Any) -> Any:
        def read(value: Tensor, *args: Any) -> Any:
            if not sys._getframe(1).f_code.co_filename.endswith("solver/later.py"):  # of memory that is here
                self._note(name)
            return method(value, *args)

        return read

    def _note(self, what: str) -> None:
        places, frame = [], sys._getframe(2)
        while frame is not None:
            if "/caffe_compat/" in frame.f_code.co_filename:
                places.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
            frame = frame.f_back
        self.found[f"{what} in {' < '.join(places)}"] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name in WAITS or (name.startswith("index") and _by_mask(args)):
            self._note(name)
        return func(*args, **(kwargs or {}))


def _by_mask(args: Any) -> bool:
    indices = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
    return any(isinstance(one, Tensor) and one.dtype in (torch.bool, torch.uint8) for one in indices)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU as a device that a program runs ahead of."""
    for module in (later, gradients, watch):
        monkeypatch.setattr(module, "runs_ahead", lambda device: True)
    monkeypatch.setattr("caffe_compat.solver.core.runs_ahead", lambda device: True)
    for module in (windows, looking):
        monkeypatch.setattr(module, "may_look", lambda values: False)


def _narrow(text: str, prefix: str) -> str:
    """AlexNet's feature layers with an eighth of the channels, under other names; the teacher is frozen."""
    net = caffe_pb2.NetParameter.FromString(read_net(ALEXNET).SerializeToString())
    lines = []
    frozen = prefix == "t_"
    for layer in net.layer:
        if layer.type in ("Data", "Accuracy", "SoftmaxWithLoss", "Input") or layer.name.startswith(
            ("fc", "drop", "relu6", "relu7")
        ):
            continue
        copy = caffe_pb2.LayerParameter.FromString(layer.SerializeToString())
        copy.name = prefix + layer.name
        for blobs in (copy.bottom, copy.top):
            for index, name in enumerate(list(blobs)):
                blobs[index] = text if name == "data" else prefix + name
        if copy.type == "Convolution":
            copy.convolution_param.num_output //= 8
            for param in copy.param:
                param.lr_mult = 0 if frozen else param.lr_mult
        lines.append(f"layer {{ {copy} }}")
    return "\n".join(lines)


TRANSFER = """
layer {{ name: "pairs" type: "DummyData" top: "image" top: "hha" dummy_data_param {{
  shape {{ dim: 1 dim: 3 dim: 67 dim: 67 }} shape {{ dim: 1 dim: 3 dim: 67 dim: 67 }}
  data_filler {{ type: "gaussian" std: 30 }} data_filler {{ type: "gaussian" std: 30 }} }} }}
{teacher}
{student}
layer {{ name: "adapt" type: "Convolution" bottom: "s_pool5" top: "adapt" convolution_param {{ num_output: 32
  kernel_size: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "adapt_relu" type: "ReLU" bottom: "adapt" top: "adapt" }}
layer {{ name: "drop" type: "Dropout" bottom: "adapt" top: "adapt" dropout_param {{ dropout_ratio: 0.1 }} }}
layer {{ name: "align" type: "AlignMaps" bottom: "adapt" bottom: "t_pool5" top: "one" top: "other" }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "one" bottom: "other" top: "loss" loss_weight: 0.01 }}
"""


@pytest.fixture(scope="module")
def transfer_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transfer") / "net.prototxt"
    path.write_text(TRANSFER.format(teacher=_narrow("image", "t_"), student=_narrow("hha", "s_")))
    return path


def _solver(net: Path, folder: Path, **fields: Any) -> Solver:
    options = {"base_lr": 1e-4, "lr_policy": "fixed", "random_seed": 1, "average_loss": 4, "weight_decay": 1e-4}
    options |= {"snapshot_prefix": str(folder / "s"), **fields}
    param = caffe_pb2.SolverParameter(train_net=str(net), **options)
    solver = solver_class(param)(param, [])
    solver.stop_at_nan = True
    return solver


@contextlib.contextmanager
def _counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    with monkeypatch.context() as patch:
        mode = Counting(patch)
        with mode:
            yield mode.found


@pytest.mark.parametrize(
    ("fields", "amp"),
    [
        ({"momentum": 0.9, "clip_gradients": 0.5, "iter_size": 2}, ""),
        ({"type": "Adam", "momentum": 0.9, "clip_gradients": 0.5}, "fp16"),
        ({"type": "AdaDelta", "momentum": 0.9, "delta": 1e-3}, "bf16"),
    ],
)
def test_an_alexnet_transfer_step_reads_nothing(
    transfer_net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: None, fields: Any, amp: str
) -> None:
    solver = _solver(transfer_net, tmp_path, **fields)
    solver.amp = amp
    losses: list[float] = []
    solver.on_iteration = lambda iteration, loss: losses.append(loss)
    with _counted(monkeypatch) as found:
        solver._random, start = solver._stream(), solver.iter
        for _ in range(7 if not amp else 5):
            solver.engine.clear_param_diffs()
            solver._smoothed.add(solver._forward_backward(), solver.iter - start, 4)
            solver.apply_update()
            solver.on_iteration(solver.iter, solver._smoothed.known)
    assert not found, found
    assert len(losses) == solver.iter and np.isnan(losses[:3]).all() and np.isfinite(losses[3:]).all()


def test_only_a_display_and_the_end_read(
    transfer_net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: None
) -> None:
    solver = _solver(transfer_net, tmp_path, momentum=0.9, display=3)
    with _counted(monkeypatch) as found:
        solver.step(4)
    assert any("_display:" in where for where in found)
    for where in found:
        assert "_display:" in where or ("_settle:" in where and "_forward_backward" not in where), where


def test_what_counts_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.ones(3)
    with _counted(monkeypatch) as found:
        float(value[0])
        bool(value.any())
        value[value > 0]
        value.cpu()
        value.nonzero()
        torch.tensor([1.0], device="cpu")
    assert sum(found.values()) >= 6


@pytest.mark.parametrize("rule", sorted(SOLVERS))
def test_both_paths_train_alike(transfer_net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    more = {"SGD": {"momentum": 0.9}, "Nesterov": {"momentum": 0.9}, "Adam": {"momentum": 0.9}}.get(rule, {})
    fields = {"type": rule, "clip_gradients": 0.05, "iter_size": 2, "delta": 1e-3, **more}
    found = []
    for path in ("at once", "ahead"):
        if path == "ahead":
            for name in ("later", "gradients", "watch", "core"):
                monkeypatch.setattr(f"caffe_compat.solver.{name}.runs_ahead", lambda device: True)
        solver = _solver(transfer_net, tmp_path, **fields)
        solver.step(3)
        found.append([solver.smoothed_loss, *(one.parameter.detach() for one in solver.learnables)])
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for mine, theirs in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


class Slow(Later):
    """A number that arrives when it is told to."""

    here = False

    @property
    def arrived(self) -> bool:
        return Slow.here


def test_losses_are_taken_in_when_they_arrive_or_are_asked_for() -> None:
    plain, slow = SmoothedLoss(), SmoothedLoss()
    Slow.here = False
    for number, loss in enumerate([3.0, 1.0, 4.0, 1.0, 5.0]):
        plain.add(loss, number, 3)
        slow.add(Slow(loss), number, 3)
        assert np.isnan(slow.known) and not np.isnan(plain.known)
    Slow.here = True
    slow.add(Slow(9.0), 5, 3)
    plain.add(9.0, 5, 3)
    assert slow.known == plain.known == plain.value == 5.0
    Slow.here = False
    slow.add(Slow(2.0), 6, 3)
    plain.add(2.0, 6, 3)
    assert slow.known == 5.0 and slow.value == plain.value == slow.known


def test_the_loss_of_several_passes_is_their_mean() -> None:
    losses = SmoothedLoss()
    losses.add(Later(torch.tensor(1.0), torch.tensor(2.0)), 0, 1)
    assert losses.value == 1.5 and Later(0.25).get() == [0.25]


def _diverging(folder: Path, value: float = 1.0, power: float = 1.0, rate: float = 0.01, **fields: Any) -> Solver:
    (folder / "net.prototxt").write_text(DIVERGES.format(value=value, power=power))
    return _solver(folder / "net.prototxt", folder, base_lr=rate, weight_decay=0.0, max_iter=40, **fields)


@pytest.mark.parametrize("late", [0, 3, 100])
def test_a_loss_that_is_not_finite_is_named_as_if_it_had_been_waited_for(
    tmp_path: Path, ahead: None, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """However many iterations later the note arrives."""
    asked: list[int] = []
    arrived = property(lambda self: asked.append(1) or len(asked) > late)
    monkeypatch.setattr(Later, "arrived", arrived)
    solver = _diverging(tmp_path, value=-1.0, power=0.5)
    with pytest.raises(SolverError, match=r"iteration 0: the loss is nan: layer 'middle' \(Power\) .* top 'middle'"):
        solver.step(8)
    assert solver.iter == {0: 1, 3: 2, 100: 8}[late]


def test_weights_that_diverge_are_named_and_no_snapshot_is_bad(tmp_path: Path, ahead: None) -> None:
    solver = _diverging(tmp_path, rate=1e5, snapshot=1)
    with pytest.raises(SolverError, match=r"iteration \d+: .*'fc2?' \(InnerProduct\)"):
        solver.solve()
    kept = sorted(tmp_path.glob("*.caffemodel"))
    assert kept and solver.iter > 1
    for path in kept:
        message = caffe_pb2.NetParameter.FromString(path.read_bytes())
        assert all(np.isfinite(list(blob.data)).all() for layer in message.layer for blob in layer.blobs), path


def test_the_layer_whose_gradient_broke_the_weights_is_named(tmp_path: Path, ahead: None) -> None:
    solver = _diverging(tmp_path, clip_gradients=1e9)
    solver.step(1)

    def spoil() -> None:
        if solver.iter == 2:
            solver.net.layer("fc2").blobs[0].grad[0, 0] = float("nan")

    solver.on_gradients_ready.append(spoil)
    with pytest.raises(SolverError) as caught:
        solver.step(6)
    text = str(caught.value)
    assert "iteration 3: the loss is nan" in text and "since the update before (backward, layer 'fc2'" in text


def test_a_restored_solver_forgets_what_it_saw(tmp_path: Path, ahead: None) -> None:
    solver = _diverging(tmp_path, momentum=0.9)
    solver.step(2)
    _, state = solver.snapshot()
    with torch.no_grad():
        solver.net.layer("fc2").blobs[0][0, 0] = float("inf")
    with pytest.raises(SolverError, match="iteration 2"):
        solver.step(3)
    solver.restore(state)
    solver.step(3)
    assert solver.iter == 5


LABELLED = """
layer {{ name: "in" type: "DummyData" top: "data" top: "label" dummy_data_param {{
  shape {{ dim: 4 dim: 3 }} shape {{ dim: 4 }} data_filler {{ type: "gaussian" std: 1 }}
  data_filler {{ type: "constant" value: {label} }} }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param {{ num_output: 3
  weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" {more} }}
"""


@pytest.mark.parametrize("more", ["", "loss_param { ignore_label: 2 }"])
def test_labels_are_judged_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: None, more: str
) -> None:
    (tmp_path / "net.prototxt").write_text(LABELLED.format(label=1, more=more))
    solver = _solver(tmp_path / "net.prototxt", tmp_path)
    with _counted(monkeypatch) as found:
        for _ in range(5):
            solver._forward_backward()
            solver.apply_update()
    assert not found, found
    solver.step(1)
    assert np.isfinite(solver.smoothed_loss)


@pytest.mark.parametrize("late", [0, 5])
@pytest.mark.parametrize(("label", "more"), [(3, ""), (-1, ""), (7, "loss_param { ignore_label: 2 }")])
def test_a_label_without_a_class_ends_it_before_a_snapshot(
    tmp_path: Path, ahead: None, monkeypatch: pytest.MonkeyPatch, label: int, more: str, late: int
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Later, "arrived", property(lambda self: asked.append(1) or len(asked) > late))
    (tmp_path / "net.prototxt").write_text(LABELLED.format(label=label, more=more))
    solver = _solver(tmp_path / "net.prototxt", tmp_path, snapshot=4)
    with pytest.raises(LayerError, match=f"layer 'loss' .*a label in bottom 'label' is {label}, expected 0 to 2"):
        solver.step(8)
    assert (late == 0) == (solver.iter == 0) and not list(tmp_path.glob("*.caffemodel"))


DETECTOR = """
layer {{ name: "in" type: "DummyData" top: "data" top: "rois" top: "label" top: "target" top: "inside" top: "outside"
  dummy_data_param {{ shape {{ dim: 2 dim: 3 dim: 16 dim: 16 }} shape {{ dim: 6 dim: 5 }} shape {{ dim: 6 }}
  shape {{ dim: 6 dim: 8 }} shape {{ dim: 6 dim: 8 }} shape {{ dim: 6 dim: 8 }}
  data_filler {{ type: "gaussian" std: 1 }}
  data_filler {{ type: "constant" value: {roi} }} data_filler {{ type: "constant" value: 1 }}
  data_filler {{ type: "gaussian" std: 1 }} data_filler {{ type: "constant" value: 1 }}
  data_filler {{ type: "constant" value: 1 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: 4 kernel_size: 3
  pad: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "roi" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "roi" roi_pooling_param {{ pooled_w: 2
  pooled_h: 2 spatial_scale: 1 }} }}
layer {{ name: "score" type: "InnerProduct" bottom: "roi" top: "score" inner_product_param {{ num_output: 2
  weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "box" type: "InnerProduct" bottom: "roi" top: "box" inner_product_param {{ num_output: 8
  weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }}
layer {{ name: "boxes" type: "SmoothL1Loss" bottom: "box" bottom: "target" bottom: "inside" bottom: "outside"
  top: "boxes" }}
"""


@pytest.mark.parametrize("amp", ["", "fp16"])
def test_a_step_of_a_detector_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: None, amp: str
) -> None:
    (tmp_path / "net.prototxt").write_text(DETECTOR.format(roi=1))
    solver = _solver(tmp_path / "net.prototxt", tmp_path, momentum=0.9)
    solver.amp = amp
    with _counted(monkeypatch) as found:
        for _ in range(5):
            solver._forward_backward()
            solver.apply_update()
    assert not found, found
    (tmp_path / "net.prototxt").write_text(DETECTOR.format(roi=2))
    with pytest.raises(LayerError, match="layer 'roi' .*an image index in 'rois' is 2, expected 0 to 1"):
        _solver(tmp_path / "net.prototxt", tmp_path).step(2)
