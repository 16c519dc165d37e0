"""Two GPUs over NCCL train as one with twice the iter_size does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distributed.small_pairs import assert_alike, make, solver
from program import end, start

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_two_gpus(tmp_path: Path, rule: str) -> None:
    folder = make(tmp_path / "pairs")
    done = end(start("train_net", "--gpu", 0, "--solver", solver(folder, "one", rule, iter_size=2), folder=folder))
    assert done.status == 0, done.stderr
    done = end(start("train_net", "--gpu", "0,1", "--solver", solver(folder, "two", rule), folder=folder))
    assert done.status == 0, done.stderr
    assert_alike(folder, "one", "two", rest=1e-3)


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    folder = make(tmp_path / "pairs")
    file = solver(folder, "few")
    done = end(start("train_net", "--gpu", "all", "--processes", torch.cuda.device_count() + 1, "--solver", file))
    assert done.status == 2 and len(done.stderr.splitlines()) == 1
