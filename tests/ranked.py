"""Several processes of one command, as torchrun starts them, without importing torch anew for each.

They are forked off a server that has imported it already, which costs a few hundredths of a second a process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import uuid
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from program import ROOT, Done
from torch.distributed import TCPStore
from waiting import LIMIT

import caffe_compat.commands.training  # what the server imports for all
import caffe_compat.distributed.several  # noqa: F401
from caffe_compat.cli import run
from caffe_compat.commands import main_of

__all__ = ["Running", "run_ranks", "start_ranks"]

_CONTEXT = multiprocessing.get_context("forkserver")


class Running:
    """Processes that were started; ``store`` is where they meet."""

    def __init__(self, processes: Sequence[BaseProcess], outputs: Sequence[tuple[Path, Path]], store: TCPStore) -> None:
        self.processes, self.outputs, self.store = processes, outputs, store

    def alive(self) -> bool:
        """Whether all run."""
        return all(process.exitcode is None for process in self.processes)

    def end(self) -> list[Done]:
        """Wait for all."""
        found = []
        for process, (out, err) in zip(self.processes, self.outputs, strict=True):
            process.join(LIMIT)
            assert process.exitcode is not None, f"it hangs: {err.read_text()}"
            found.append(Done(process.exitcode, out.read_text(), err.read_text()))
        return found


def start_ranks(world: int, name: str, *words: object, folders: Sequence[Path] | Path, **settings: str) -> Running:
    """Start a command as every rank of ``world``.

    Args:
        folders: where they run: one for all, or one for each.
        settings: environment variables.
    """
    forkserver.set_forkserver_preload(["ranked"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))  # for the server
    try:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        where = [folders] * world if isinstance(folders, Path) else list(folders)
        processes, outputs = [], []
        for rank, folder in enumerate(where):
            own = {**meeting, **settings, "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
            stem = folder / f"{uuid.uuid4().hex}.rank{rank}"
            files = (Path(f"{stem}.out"), Path(f"{stem}.err"))
            process = _CONTEXT.Process(target=_rank, args=(name, [*map(str, words)], own, folder, files), daemon=True)
            process.start()
            processes.append(process)
            outputs.append(files)
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return Running(processes, outputs, store)


def run_ranks(world: int, name: str, *words: object, folders: Sequence[Path] | Path, **settings: str) -> list[Done]:
    """Run a command as every rank of ``world``; what each said, by rank."""
    return start_ranks(world, name, *words, folders=folders, **settings).end()


def _rank(name: str, words: Sequence[str], own: dict[str, str], folder: Path, files: tuple[Path, Path]) -> None:
    """The life of one process."""
    torch.set_num_threads(1)
    os.environ.update(own)
    sys.path.append(str(folder))  # a module of the test's own
    os.chdir(folder)
    for descriptor, path in enumerate(files, 1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.argv = [f"{name}.py", *words]
    raise SystemExit(run(main_of(name)))
