"""Mixed precision in several processes: gradients are averaged while they are scaled, then judged by all alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed.test_training_together import alone, assert_alike, make, solver, together

from caffe_compat.proto.state import read_state


@pytest.mark.parametrize("amp", [pytest.param("bf16", marks=pytest.mark.slow), "fp16"])
def test_two_processes_are_one_of_twice_the_iter_size(tmp_path: Path, amp: str) -> None:
    folder = make(tmp_path / "mixed")
    alone(folder, solver(folder, "one", iter_size=2, clip_gradients=4.0), "--amp", amp)
    together(folder, 2, solver(folder, "two", clip_gradients=2.0), "--amp", amp)
    assert_alike(folder, "one", "two", 8)
    states = [read_state(folder / "out" / f"{name}_iter_8.solverstate") for name in ("one", "two")]
    assert states[0].loss_scale == states[1].loss_scale and (states[0].loss_scale is None) == (amp == "bf16")
    if amp == "bf16":
        return
    (folder / "out" / "two_iter_8.solverstate").unlink()
    together(folder, 2, "two.prototxt", "--resume", "--amp", amp)
    assert_alike(folder, "one", "two", 8)
