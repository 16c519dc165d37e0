"""Every golden case that runs a net, again with its nets on a GPU, against the numbers of BVLC Caffe on a CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from golden.runner import DATA
from golden.scripts import run
from gpu import cases, needs_gpu, on_gpu

SLACK = 1e-4
"""How far a value may be off, as a share of the largest of its array, where a case does not allow more."""

NOT_THERE = {
    "io/": "caffe.io computes with NumPy",
}
"""Prefixes of cases that have nothing to do on a GPU, and why."""

NEAR_TIES = {
    "nets/full_fork_train_hha": "roundings decide which of two values is a maximum; the forward pass counts",
}
"""Cases whose gradients go another way with any other arithmetic than Caffe's own (on the CPU with oneDNN's too)."""

FOLDERS = {path.stem: path for path in (*DATA.glob("*/*.npz"), *(DATA.parent / "golden_chains").glob("*.npz"))}
NAMES = sorted(f"{path.parent.name}/{name}" for name, path in FOLDERS.items())


@needs_gpu
@pytest.mark.parametrize("name", cases([name for name in NAMES if not name.startswith(tuple(NOT_THERE))]))
def test_case_on_gpu(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN_MODULE", "caffe_compat.pycaffe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    try:
        with on_gpu():
            differences = run(FOLDERS[name.partition("/")[2]], tmp_path, SLACK)
    finally:
        for module in set(sys.modules) - before:
            if str(getattr(sys.modules[module], "__file__", None)).startswith(str(tmp_path)):
                del sys.modules[module]
    if name in NEAR_TIES:
        differences = [line for line in differences if not line.startswith(("sampleparamdiff", "samplediff"))]
    assert not differences, "\n".join(differences)
