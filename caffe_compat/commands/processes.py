"""Trainings of several processes: starting them, the device of each, and what all must see alike."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from caffe_compat.datasets import ImageDatabase
from caffe_compat.devices import several
from caffe_compat.distributed.launch import launch
from caffe_compat.distributed.same import digest
from caffe_compat.errors import UsageError
from caffe_compat.proto import text
from caffe_compat.ranks import here
from caffe_compat.resources import package_path
from caffe_compat.solver import snapshots
from caffe_compat.version import __version__

__all__ = ["launched", "seen"]


def launched(command: str, words: Sequence[str], gpu: str, processes: int | None) -> int | None:
    """Start the processes that a command line asks for, and wait for them.

    Args:
        command, words: the command and its arguments.
        gpu, processes: what these arguments say with ``--gpu`` and ``--processes``.

    Returns:
        Their status; None where this process is to train by itself: it is the only one, or one of them.

    Raises:
        UsageError: a device that does not exist, or another number of them than of processes.
    """
    if processes is not None and processes < 1:
        raise UsageError(f"--processes is {processes}, expected 1 or more")
    if here().several:
        if processes not in (None, here().world):
            raise UsageError(f"--processes is {processes}, but torchrun has started {here().world}")
        return None
    named = len(several(gpu)) if gpu == "all" or "," in gpu else 0
    if named and processes not in (None, named):
        raise UsageError(f"--processes is {processes}, but --gpu {gpu} names {named} devices")
    count = processes or named
    if count < 2:
        return None
    paths = [str(package_path()), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    return launch([sys.executable, "-m", "caffe_compat", command, *words], count)


def seen(
    param: Any, weights: Sequence[str], snapshot: str | None, imdb: ImageDatabase | None
) -> Iterator[tuple[str, str]]:
    """What must be the same in all processes of a training, by the words that name it: files and versions.

    Args:
        param: the ``SolverParameter``, with what the command line changes in it.
        weights: files to start from.
    """
    yield "version of caffe_compat", __version__
    yield "version of torch", torch.__version__
    yield "version of Python", platform.python_version()
    yield "solver", hashlib.sha256(text.format(param).encode()).hexdigest()[:12]
    nets = [name for name in (param.net, param.train_net, *param.test_net) if name]
    state = [] if snapshot is None else [snapshot, snapshots.read(snapshot).learned_net]
    for name in (*nets, *weights, *filter(None, state)):
        yield f"file {name}", digest(name)
    if imdb is not None:
        whole = hashlib.sha256()
        for record in imdb.records:
            whole.update(f"{record.name}/{record.size}/{record.classes}".encode())
            whole.update(b"" if record.boxes is None else record.boxes.tobytes())
        yield f"database {imdb.name}", f"{len(imdb.records)} images, {whole.hexdigest()[:12]}"
