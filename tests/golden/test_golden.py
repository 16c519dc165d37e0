"""Every golden case: what BVLC Caffe computed, read, wrote and refused, against this package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from golden.runner import DATA
from golden.scripts import run

from caffe_compat.compare import nan_in

CASES = sorted(path.relative_to(DATA).with_suffix("").as_posix() for path in DATA.glob("*/*.npz"))
CHAINS = DATA.parent / "golden_chains"


def test_all_cases_are_here() -> None:
    assert len(CASES) == 1167


def test_nan_is_expected_only_where_caffe_computes_it() -> None:
    """The runner takes NaN for NaN: 0 / 0 in a window of no area, and in the gradient of Power at 0."""
    found = set()
    for path in (*DATA.glob("*/*.npz"), *CHAINS.glob("*.npz")):
        with np.load(path) as case:
            arrays = {name: case[name] for name in case.files}
        found |= {(path.stem, name) for name, array in arrays.items() if array.dtype.kind == "f" and nan_in(array)}
    assert found == {("quirk_pooling_ave_beyond", "out/out"), ("quirk_power_zero_nan", "indiff/data")}


@pytest.mark.parametrize("path", sorted(CHAINS.glob("*.npz")), ids=lambda path: path.stem)
def test_chain_on_shared_memory(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
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
