"""Every golden case: what BVLC Caffe computed, read, wrote and refused, against this package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from golden.runner import DATA
from golden.scripts import run

CASES = sorted(path.relative_to(DATA).with_suffix("").as_posix() for path in DATA.glob("*/*.npz"))
CHAINS = DATA.parent / "golden_chains"


def test_all_cases_are_here() -> None:
    assert len(CASES) == 1167


@pytest.mark.parametrize("path", sorted(CHAINS.glob("*.npz")), ids=lambda path: path.stem)
def test_chain_on_shared_memory(path: Path, tmp_path: Path) -> None:
    differences = run(path, tmp_path)
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN_MODULE", "caffe_compat.pycaffe")  # the Python layers of the cases import it
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    try:
        differences = run(DATA / f"{name}.npz", tmp_path)
    finally:
        for module in set(sys.modules) - before:
            if str(getattr(sys.modules[module], "__file__", None)).startswith(str(tmp_path)):
                del sys.modules[module]
    assert not differences, "\n".join(differences)
