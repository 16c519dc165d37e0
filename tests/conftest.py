"""Where tests find material that is not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
