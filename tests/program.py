"""The one way to run a tool in tests: in this process (importing torch anew takes seconds), or as a program."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from waiting import LIMIT

from caffe_compat.cli import run
from caffe_compat.commands import main_of

ROOT = Path(__file__).resolve().parents[1]


SAME_BITS = {"OMP_NUM_THREADS": str(torch.get_num_threads())}


class Done(NamedTuple):
    """Exit status and output of a program."""

    status: int
    stdout: str
    stderr: str


@contextlib.contextmanager
def log_as_before() -> Iterator[None]:
    """After the block the package's log goes where it went before, as far as it did before."""
    logger = logging.getLogger("caffe_compat")
    handlers, level = list(logger.handlers), logger.level
    try:
        yield
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def call(name: str, *words: object, folder: Path | None = None) -> Done:
    """Run a command in a folder as its file in ``tools/`` does, but in this process."""
    out, err = io.StringIO(), io.StringIO()
    arguments, sys.argv = sys.argv, [f"{name}.py", *map(str, words)]
    try:
        with (
            log_as_before(),
            contextlib.chdir(folder or os.getcwd()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                status = run(main_of(name))
            except SystemExit as exit_:  # argparse
                status = int(exit_.code or 0)
    finally:
        sys.argv = arguments
    return Done(status, out.getvalue(), err.getvalue())


def start(name: str, *words: object, folder: Path | None = None, **settings: str) -> subprocess.Popen[str]:
    """Start the file of a tool as a program of its own, one thread wide, with a process group of its own.

    Args:
        folder: where it runs.
        settings: environment variables; with ``SAME_BITS`` it is as many threads wide as this process, since the
            number of threads decides how sums are rounded.
    """
    (path,) = (path for part in ("tools", "data") if (path := ROOT / part / f"{name}.py").exists())
    return subprocess.Popen(
        [sys.executable, str(path), *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> Done:
    """Wait for a program."""
    out, err = process.communicate(timeout=LIMIT)
    return Done(process.returncode, out, err)
