"""The branch's own figures, and that every array of them is compared exactly once."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from golden_fork.run import SUITES

FOLDER = Path(__file__).resolve().parents[1] / "data" / "golden_fork" / "detection"
MODULES = [name for name in SUITES["detection"] if find_spec(f"golden_fork.{name}")]


@pytest.fixture(scope="module")
def checked() -> dict[str, list[tuple[str, str]]]:
    return {name: list(import_module(f"golden_fork.{name}").check(FOLDER)) for name in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_arrays_agree(checked: dict[str, list[tuple[str, str]]], module: str) -> None:
    wrong = [f"{name}: {problem}" for name, problem in checked[module] if problem]
    assert checked[module] and not wrong, "\n".join(wrong)


def test_what_the_branch_did_differs_from_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison would see it if the switch did nothing."""
    module = import_module("golden_fork.detection_training")
    config = module.parity_config
    monkeypatch.setattr(module, "parity_config", lambda arrays: dataclasses.replace(config(arrays), parity=False))
    wrong = {name.rsplit("/", 1)[0] for name, problem in module.check(FOLDER) if problem}
    assert {"batch_1/9", "batch_2/9"} <= wrong and not [name for name in wrong if re.match(r"train/\d+$", name)]


def test_every_array_is_compared_once(checked: dict[str, list[tuple[str, str]]]) -> None:
    there = Counter(name for file in ("fastrcnn.npz", "trace/trace.npz") for name in np.load(FOLDER / file).files)
    done = Counter(name for results in checked.values() for name, _ in results)
    assert not done - there, f"not in the files, or more often than there: {sorted(done - there)[:10]}"
    if set(MODULES) == set(SUITES["detection"]):
        assert not there - done, f"compared by nobody: {sorted(there - done)[:10]}"
