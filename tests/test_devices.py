"""Devices, as users say them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

import pytest
import torch

from caffe_compat.commands import COMMANDS
from caffe_compat.devices import TF32, choose, several
from caffe_compat.errors import UsageError

CPU = torch.device("cpu")
RUN_NETS = (
    "train_net",
    "export_onnx",
    "verify",
    "measure_scale",
    "make_transfer",
    "net_surgery",
    "make_hha",
    "caffe",
    "train_svms",
)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def tf32() -> Iterator[None]:
    """torch's settings, put back after the test."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("two")
def test_spellings() -> None:
    assert all(choose(cpu) == CPU for cpu in (None, -1, "", "-1", "cpu"))
    assert all(choose(first) == torch.device("cuda", 0) for first in (0, "0", "cuda", "cuda:0"))
    assert choose(1) == choose("cuda:1") == torch.device("cuda", 1)
    assert [device.index for device in several("0,1")] == [device.index for device in several("all")] == [0, 1]
    assert several("") == []


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("wanted", [2, -2, "cuda:2", "tpu", "1.5", "cuda:", "9" * 5000, "\u0661"])
def test_what_there_is_not(wanted: int | str) -> None:
    with pytest.raises(UsageError, match="--gpu"):
        choose(wanted)


@pytest.mark.usefixtures("two", "tf32")
@pytest.mark.parametrize(("setting", "allowed"), [(None, False), ("0", False), ("1", True)])
@pytest.mark.parametrize("ask", [lambda: choose(1), lambda: several("0"), lambda: several("all")])
def test_a_gpu_computes_in_float32_unless_tf32_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, allowed: bool, ask: Callable[[], object]
) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not allowed
    monkeypatch.delenv(TF32, raising=False)
    if setting is not None:
        monkeypatch.setenv(TF32, setting)
    choose("cpu")
    assert torch.backends.cudnn.allow_tf32 is not allowed
    ask()
    assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is allowed


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("text", ["2", "0,x", "-1", "0,", "ALL"])
def test_lists_of_what_there_is_not(text: str) -> None:
    with pytest.raises(UsageError, match="--gpu"):
        several(text)


@pytest.mark.usefixtures("none")
def test_without_cuda() -> None:
    assert choose(None) == choose(-1) == CPU and several("") == []
    for ask in (lambda: choose(0), lambda: choose("cuda"), lambda: several("0"), lambda: several("all")):
        with pytest.raises(UsageError, match="no CUDA device on this machine"):
            ask()


@pytest.mark.parametrize("name", RUN_NETS)
def test_tools_that_run_nets_have_the_flag(name: str) -> None:
    assert name in COMMANDS
    parser = import_module(f"caffe_compat.commands.{name}").make_parser()
    assert any("--gpu" in action.option_strings for action in parser._actions)
