"""Events for TensorBoard: which curves there are, and that nothing happens where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from program import call
from solver.test_metrics import NET, SOLVER

from caffe_compat.solver.tensorboard import Events, events_path, scalars

TRAIN = {"phase": "train", "iteration": 20, "loss": 0.5, "lr": 0.1, "outputs": {"loss_cls": 0.25, "many": [1.0, 2.0]}}
TEST = {"phase": "test", "iteration": 20, "net": 1, "loss": float("nan"), "scores": {"accuracy": 0.75}}


def test_records_become_curves_without_what_is_not_finite_or_no_number() -> None:
    assert dict(scalars(TRAIN)) == {"train/loss": 0.5, "train/lr": 0.1, "train/loss_cls": 0.25}
    assert dict(scalars(TEST)) == {"test_1/accuracy": 0.75}
    raw = {"loss": np.array(0.75), "loss_bbox": np.array([0.125], "f4")}
    assert dict(scalars({**TRAIN, "outputs": raw})) == {"train/loss": 0.5, "train/lr": 0.1, "train/loss_bbox": 0.125}
    assert dict(scalars({**TEST, "net": 0, "loss": 2})) == {"test/loss": 2.0, "test/accuracy": 0.75}


def test_without_tensorboard_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffe_compat.solver.tensorboard.find_spec", lambda name: None)
    Events(events_path(str(tmp_path / "x")), 0).append(TRAIN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("off", [False, True])
def test_it_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: bool) -> None:
    """A writer that is there is used, or not."""
    written: list[str] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int | None = None) -> None:
            self.folder = folder

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append(name)

        def flush(self) -> None:
            """Nothing is kept."""

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.solver.tensorboard.find_spec", lambda name: object())
    monkeypatch.setattr(
        "caffe_compat.solver.tensorboard.import_module", lambda name: SimpleNamespace(SummaryWriter=Writer)
    )
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "s.prototxt").write_text(SOLVER)
    words = ["--solver", "s.prototxt", *(["--no-tensorboard"] if off else [])]
    assert call("train_net", *words).status == 0
    assert (tmp_path / "run_metrics.jsonl").exists()
    assert bool(written) is not off and ("train/loss" in written) is not off


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="TensorBoard is not installed")
def test_events_can_be_read_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = events_path(str(tmp_path / "x"))
    events = Events(folder, 0)
    events.append(TRAIN)
    events.append({**TRAIN, "iteration": 40, "loss": 0.125})
    found = EventAccumulator(str(folder)).Reload()
    assert [(one.step, one.value) for one in found.Scalars("train/loss")] == [(20, 0.5), (40, 0.125)]
