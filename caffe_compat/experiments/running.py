"""Runs stages: each command a process of its own, several stages at once, what is finished skipped.

A stage's folder holds ``stage.json``, the declaration that it was made from, ``done.json``, how many of its commands
have ended well and how long they took, and ``stage.log``, what they said.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from types import FrameType
from typing import IO, Protocol

from caffe_compat.errors import CaffeCompatError, DataError, UsageError
from caffe_compat.experiments.stages import Stage, in_order, longest_first
from caffe_compat.files import append_part, write_file
from caffe_compat.locks import hold
from caffe_compat.resources import package_path
from caffe_compat.stamps import check_stamp, read_stamp, write_stamp

__all__ = ["Outcome", "Process", "Runner", "launch", "last_line", "make_folder", "seconds_of"]

ON_GPU = ("make_transfer", "match_norms", "test_net", "train_net")
"""Commands that take ``--gpu``."""
POLL = 0.2
"""Seconds between looks at the processes."""
GRACE = 2
"""Signals after which processes are killed."""
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)


class Process(Protocol):
    """What is used of a process."""

    pid: int

    def poll(self) -> int | None:
        """The exit status; None: it runs."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""


Launch = Callable[[Sequence[str], IO[bytes]], Process]
"""Starts a command, given its words and the file that gets what it says."""


@dataclass
class Outcome:
    """What became of the stages.

    Attributes:
        failed: by name of the stage: why it is not finished.
        stopped_by: number of the signal that stopped the run, or 0.
    """

    failed: dict[str, str] = field(default_factory=dict)
    stopped_by: int = 0


@dataclass
class _Running:
    stage: Stage
    lock: contextlib.ExitStack
    seconds: list[float]
    process: Process | None = None
    since: float = 0.0


class Runner:
    """Runs stages.

    Args:
        jobs: stages at once, at most.
        gpu: for commands that take ``--gpu``; None: what they choose.
        tell: gets a line for everything that begins, ends or fails.
        watch: is called again and again with the stages that run, and the number of those that are finished.
        start: starts a command.
    """

    def __init__(
        self,
        jobs: int = 1,
        gpu: int | None = None,
        tell: Callable[[str], None] = lambda line: None,
        watch: Callable[[Sequence[Stage], int], None] = lambda stages, done: None,
        start: Launch | None = None,
    ) -> None:
        if jobs < 1:
            raise UsageError(f"--jobs is {jobs}, expected 1 or more")
        self.jobs, self.gpu, self._tell, self._watch = jobs, gpu, tell, watch
        self._start = start or (lambda words, log: launch(words, log, jobs))
        self._running: list[_Running] = []
        self._outcome = Outcome()
        self._signals: list[int] = []
        self._sent = 0
        self._done: set[str] = set()

    def run(self, stages: Sequence[Stage]) -> Outcome:
        """Run stages and all that they depend on.

        A stage that fails keeps those that depend on it from running, but no others.

        Raises:
            DataError: a folder of another declaration.
            WriteError: a folder or a stamp cannot be written.
        """
        every = in_order(stages)
        if self.jobs > 1:
            every = longest_first(every)
        self._done = {stage.name for stage in every if finished(stage)}
        waiting = [stage for stage in every if stage.name not in self._done]
        self._outcome = Outcome()
        with _catching(self._signals), contextlib.ExitStack() as stack:
            stack.callback(self._abandon)
            while (waiting and not self._signals) or self._running:
                waiting = self._begin(waiting)
                self._advance()
                self._watch([running.stage for running in self._running], len(self._done))
                if self._running:
                    time.sleep(POLL)
        self._outcome.stopped_by = self._signals[0] if self._signals else 0
        return self._outcome

    def _begin(self, waiting: list[Stage]) -> list[Stage]:
        """Start what can be; returns what still waits."""
        left = []
        for stage in waiting:
            broken = [before for before in stage.after if before.name in self._outcome.failed]
            if broken:
                self._outcome.failed[stage.name] = self._outcome.failed[broken[0].name]
            elif (
                self._signals
                or len(self._running) >= self.jobs
                or not all(before.name in self._done for before in stage.after)
            ):
                left.append(stage)
            else:
                self._open(stage)
        return left

    def _open(self, stage: Stage) -> None:
        """Make a stage's folder, or take up an unfinished one, and start its next command."""
        missing = [need for need in stage.needs if not Path(need.path).exists()]
        if missing:
            self._fail(stage, f"{missing[0].path} is missing; it comes from {missing[0].comes_from}")
            return
        folder = Path(stage.folder)
        stamp = folder / "stage.json"
        found = read_stamp(stamp)
        if found is not None or (folder / "done.json").exists():
            check_stamp(str(folder), found, stage.declaration, "remove it to make it anew")
        lock = contextlib.ExitStack()
        lock.enter_context(hold(folder / "stage.lock", f"running {folder}", "choose another --output", UsageError))
        if found is None:
            make_folder(stage)
        done = (read_stamp(folder / "done.json") or {}).get("seconds", [])
        self._tell(f"{'going on with' if done or found else 'making'} {folder}")
        running = _Running(stage, lock, list(done))
        self._running.append(running)
        self._next(running)

    def _next(self, running: _Running) -> None:
        """Start a stage's next command, or close it."""
        stage, number = running.stage, len(running.seconds)
        if number == len(stage.commands):
            self._done.add(stage.name)
            self._close(running)
            return
        try:
            words = self._resolved(stage, stage.commands[number])
        except CaffeCompatError as error:
            self._fail(stage, str(error))
            self._close(running)
            return
        self._tell("$ " + " ".join(words))
        log = Path(stage.folder) / "stage.log"
        with append_part(log, log.stat().st_size if log.exists() else 0) as stream:
            stream.write(f"$ {' '.join(words)}\n".encode())
            stream.flush()
            running.process, running.since = self._start(words, stream), time.monotonic()

    def _resolved(self, stage: Stage, words: Sequence[str]) -> list[str]:
        """A command's words as they are run."""
        found = [stage.filled(word) for word in words]
        for index, word in enumerate(found):
            if "*" in word:
                fits = sorted(glob(word))
                if len(fits) != 1:
                    raise DataError(f"{word}: {len(fits)} files are so called, expected one")
                found[index] = fits[0]
        if self.gpu is not None and found[0] in ON_GPU:
            found[1:1] = ["--gpu", str(self.gpu)]
        return found

    def _advance(self) -> None:
        """Look at the processes; what ended well goes on with its next command."""
        for number in self._signals[self._sent :]:
            self._sent += 1
            self._forward(signal.SIGKILL if self._sent > GRACE else number)
        for running in list(self._running):
            status = None if running.process is None else running.process.poll()
            if status is None:
                continue
            running.process = None
            if status == 0:
                running.seconds.append(round(time.monotonic() - running.since, 2))
                write_stamp(Path(running.stage.folder) / "done.json", {"seconds": running.seconds})
                if self._signals and len(running.seconds) < len(running.stage.commands):
                    self._fail(running.stage, "stopped")
                    self._close(running)
                else:
                    self._next(running)
                continue
            stopped = bool(self._signals) or status in STOPPED
            log = f"{running.stage.folder}/stage.log"
            why = "stopped" if stopped else f"{last_line(log) or 'it said nothing'} (status {status}; see {log})"
            self._fail(running.stage, why)
            self._close(running)

    def _fail(self, stage: Stage, why: str) -> None:
        self._outcome.failed[stage.name] = why
        self._tell(f"not finished: {stage.folder}: {why}")

    def _close(self, running: _Running) -> None:
        self._running.remove(running)
        running.lock.close()

    def _forward(self, number: int) -> None:
        """Hand a signal to all that runs."""
        for running in self._running:
            if running.process is not None:
                running.process.send_signal(number)

    def _abandon(self) -> None:
        """What still runs when an error ends the run is ended too."""
        self._forward(signal.SIGTERM)
        for running in list(self._running):
            self._close(running)


def make_folder(stage: Stage) -> None:
    """Write a stage's texts into its folder, and then what it is made from.

    Raises:
        WriteError: a file cannot be written.
    """
    folder = Path(stage.folder)
    for name, text in stage.files.items():
        write_file(folder / name, stage.filled(text))
    write_stamp(folder / "stage.json", stage.declaration)


def finished(stage: Stage) -> bool:
    """Whether all commands of a stage have ended well.

    Raises:
        DataError: its folder is of another declaration, or does not say of which.
    """
    folder = Path(stage.folder)
    done = read_stamp(folder / "done.json")
    if done is None or len(done.get("seconds", [])) < len(stage.commands):
        return False
    check_stamp(str(folder), read_stamp(folder / "stage.json"), stage.declaration, "remove it to make it anew")
    return True


def seconds_of(stage: Stage) -> float:
    """How long the commands of a stage took, as far as they ended well."""
    done = read_stamp(Path(stage.folder) / "done.json") or {}
    return float(sum(done.get("seconds", [])))


def last_line(log: str | os.PathLike[str], details: bool = True) -> str:
    """The last line of a log that says something; empty if there is none.

    Args:
        details: whether indented messages count, as the outputs of a net that follow its loss.
    """
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, os.path.getsize(log) - 4096))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in text.replace("\r", "\n").split("\n") if details or "]     " not in line]
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class _Group:
    """A process with all that it starts."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self.pid = process, process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def launch(words: Sequence[str], log: IO[bytes], jobs: int = 1) -> Process:
    """Start a command of this package as a process group of its own, so that Ctrl-C reaches it through us only.

    Args:
        words: the command's.
        log: gets what it says.
        jobs: processes that share this machine; each gets its part of the cores, if nobody has said otherwise.
    """
    paths = [str(package_path()), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    if jobs > 1:
        settings.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    return _Group(
        subprocess.Popen(
            [sys.executable, "-m", "caffe_compat", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=settings,
            start_new_session=True,
        )
    )


@contextlib.contextmanager
def _catching(signals: list[int]) -> Iterator[None]:
    """Note Ctrl-C and SIGTERM during the block instead of ending."""

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
