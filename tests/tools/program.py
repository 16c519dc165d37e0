"""The tools, called as programs but in this process (importing torch anew takes seconds)."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from caffe_compat.cli import run

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """Exit status and output of a program."""

    status: int
    stdout: str
    stderr: str


def tool(name: str) -> ModuleType:
    """``tools/NAME.py``."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name: str, *words: object, folder: Path | None = None) -> Done:
    """Run ``tools/NAME.py WORDS`` in a folder."""
    logger = logging.getLogger("caffe_compat")
    handlers, level = list(logger.handlers), logger.level
    out, err = io.StringIO(), io.StringIO()
    arguments, sys.argv = sys.argv, [f"{name}.py", *map(str, words)]
    try:
        with (
            contextlib.chdir(folder or os.getcwd()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                status = run(tool(name).main)
            except SystemExit as exit_:  # argparse
                status = int(exit_.code or 0)
    finally:
        sys.argv = arguments
        logger.handlers[:] = handlers
        logger.setLevel(level)
    return Done(status, out.getvalue(), err.getvalue())
