"""The ready-made thermal recipe on the pairs of colour and thermal frames that it is for."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, needs

from caffe_compat.commands import make_pairs
from caffe_compat.media import read_pair_list
from caffe_compat.proto import read_solver
from caffe_compat.solver import Solver, solver_class

RECIPE = "prototxt/transfer/squeezenet_to_alexnet_thermal"
FRAMES = "real/thermal/roadscene"
TEACHER = ("real/models", "squeezenet_v1.0_deepcomp", "squeezenet_v1.0_decoded.caffemodel")


def recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Solver:
    """Its solver on the lists that make_pairs writes, with tests of two pairs."""
    visible, infrared, weights = needs(FRAMES, "visible"), needs(FRAMES, "infrared"), needs(*TEACHER)
    monkeypatch.chdir(folder)
    shutil.copytree(ROOT / RECIPE, RECIPE)
    assert make_pairs.main(["--folders", str(visible), str(infrared), "--output", "output/thermal"]) == 0
    param = read_solver(f"{RECIPE}/solver.prototxt")
    param.test_iter[:] = [2]
    param.snapshot = 0
    return solver_class(param)(param, [str(weights)])


def test_its_first_iterations_bring_the_student_nearer_to_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = recipe(tmp_path, monkeypatch)  # looks at the heads of all frames, which differ in size
    counts = [len(read_pair_list(f"output/thermal/{name}_pairs.txt")) for name in ("train", "val")]
    assert counts == [177, 44]
    losses: list[float] = []
    solver.on_iteration = lambda iteration, loss: losses.append(loss)
    (before,) = solver.test_all()
    solver.param.test_interval = 1000
    solver.param.test_initialization = False
    solver.step(3)
    for node in solver.test_nets[0].nodes:
        node.layer.seek(0)  # the same two pairs again
    (after,) = solver.test_all()
    assert all(map(math.isfinite, losses)) and len(losses) == 3
    assert after["explained_variance_pool8"] > before["explained_variance_pool8"]
    assert after["loss_pool8"] < before["loss_pool8"]
    assert after["dead_units_pool8"] < 0.05
