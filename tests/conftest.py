"""Where tests find material that is not part of the repository."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program import log_as_before
from sources import nodes_of

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a shell without job control: the programs that tests start would inherit this, and
    # Ctrl-C would never reach them.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = (".caffemodel", ".solverstate", ".h5", ".npz", ".onnx", ".jsonl", ".lock")
"""Endings of what training and exports write."""


def shared_path(*parts: str) -> Path:
    """A path in the folder of real models and frames: ``$CAFFE_COMPAT_SHARED`` or ``../shared``."""
    base = Path(os.environ.get("CAFFE_COMPAT_SHARED", ROOT.parent / "shared"))
    return base.joinpath(*parts)


def needs(*parts: str) -> Path:
    """The same, skipping the test where it is absent."""
    path = shared_path(*parts)
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return path


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(autouse=True, scope="module")
def _log_as_before_the_file() -> Iterator[None]:
    """The same for commands that a fixture of a whole file runs, before any test of it."""
    with log_as_before():
        yield


@pytest.fixture(autouse=True, scope="module")
def _sources_go_with_the_file() -> Iterator[None]:
    """Syntax trees of the whole package are many objects, which slow down all that comes after."""
    yield
    nodes_of.cache_clear()


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command that a test runs in this process shows the log on standard error; the next test finds it as it was."""
    with log_as_before():
        yield


@pytest.fixture(autouse=True)
def _checkout_as_before() -> Iterator[None]:
    """What a test writes goes into a folder of its own: a solver without ``snapshot_prefix``, as Caffe, writes
    ``_iter_N.caffemodel`` wherever it stands."""
    before = set(os.listdir(ROOT))
    yield
    left = [name for name in set(os.listdir(ROOT)) - before if name.endswith(WRITTEN)]
    assert not left, f"the test wrote {', '.join(left)} into {ROOT}"


@pytest.fixture(autouse=True, scope="session")
def _no_power_cut() -> Iterator[None]:
    """What a test writes need not outlive a power cut: nobody waits for the disk, thousands of times.  That the package
    does, and when, is what ``faulty_disk`` counts; programs that tests start wait for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_seeds_for_absent_gpus() -> Iterator[None]:
    """``torch.manual_seed`` notes for each kind of accelerator, and where it was called, in case it is used later: 2 ms
    below pytest's frames, some ten thousand times."""
    with pytest.MonkeyPatch.context() as patch:
        if not torch.accelerator.is_available():
            patch.setattr(torch, "manual_seed", torch.default_generator.manual_seed)
        yield


@pytest.fixture(autouse=True, scope="session")
def _nan_equals_nothing() -> Iterator[None]:
    """NumPy's assertions take NaN for equal to NaN, so that a result of nothing but NaN passes against itself; here NaN
    equals nothing, as in torch's, unless ``equal_nan=True`` says that it is expected."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.testing, "assert_allclose", partial(np.testing.assert_allclose, equal_nan=False))
        patch.setattr(np.testing, "assert_array_equal", partial(_assert_equal, np.testing.assert_array_equal))
        yield


def _assert_equal(original: Callable[..., None], actual: Any, desired: Any, *arguments: Any, **options: Any) -> None:
    expected = options.pop("equal_nan", False)
    original(actual, desired, *arguments, **options)
    values = np.asarray(actual)
    if not expected and values.dtype.kind in "fc":
        assert not np.isnan(values).any(), f"{np.isnan(values).sum()} of {values.size} values are NaN"
