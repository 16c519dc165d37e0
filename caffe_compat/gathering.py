"""Processes that each do a share of one work, and put what they found together: by small files that all see.

Every process of ``torchrun`` (:mod:`caffe_compat.ranks`) makes a :class:`Gathering` with the same names of all that is
to be done, does its share, and hands over what it found.  Rank 0 gets all of it, in the order of the ranks, and writes
what is written once.

The files lie in a folder beside the result, ``RESULT.ranks``, so that processes of several machines need nothing but
the disk that the result is on.  Each process holds a lock on ``K.lock`` while it lives, and writes ``K.here`` (which
run it belongs to, and where it runs) and ``K.part0`` (what it found, or why it failed).  A process of this machine that
ends without its part is noticed at once, by its lock; one of another machine after a minute, by its file, which it
touches every second.  What a killed run has left is told apart by a word that rank 0 draws anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

from caffe_compat.documents import read_json
from caffe_compat.errors import CaffeCompatError, MissingFileError, UsageError
from caffe_compat.files import write_file
from caffe_compat.locks import hold, is_held
from caffe_compat.ranks import Ranks

__all__ = ["Gathering", "Stopped", "ToldElsewhere"]

PATIENCE = 600.0
"""Seconds that a process waits for another one to start."""
LINGER = 10.0
"""Seconds that rank 0 stays after an error until all others have started, who would wait for it otherwise."""
SILENCE = 60.0
"""Seconds without a sign from a process of another machine, after which it counts as dead."""
BEAT = 1.0
"""Seconds between signs, and between looks of rank 0 after the others while it is at work."""
LOOK = 0.05
"""Seconds between looks for files."""
_AGAIN = "nothing was put together; the same command goes on from what is done"
_BLOCK = 256  #: names that a checksum stands for


class Stopped(KeyboardInterrupt):
    """Rank 0 is to stop: another process has failed or died, or torchrun says so (SIGTERM).

    No error that something on the way may take for its own: it ends the run as Ctrl-C does.

    Attributes:
        status: that the process ends with.
    """

    status = 2


class ToldElsewhere(SystemExit):
    """Ends this process without a word: rank 0 tells what is wrong."""


class Gathering:
    """One process's side of it; a context manager.  With one process it does nothing.

    Args:
        result: file or folder that the work is for; the folder of the processes is ``RESULT.ranks``.
        ranks: which process this is.
        names: of all that is to be done, by all processes, in order.
        what: they are, for messages: ``frames``.
        shares: into how many of what they can be divided, where not each name is a share.

    An error that ends the block on another rank is told by rank 0, which stops at once, and only there.

    Raises:
        UsageError: there are more processes than shares, on rank 0.
        ToldElsewhere: the same on the others; their status is 0, or torchrun might end rank 0 before it has told it.
    """

    def __init__(
        self,
        result: str | os.PathLike[str],
        ranks: Ranks,
        names: Sequence[str],
        what: str,
        shares: tuple[int, str] | None = None,
    ) -> None:
        place = Path(result)
        self.folder = place.with_name(f"{place.name}.ranks")
        self.ranks, self.what = ranks, what
        self._blocks = _checksums(names) if ranks.several else []
        self._names = names
        self._run = ""
        self._gathered = 0
        self._busy = False  # with its share, so that the others are watched
        self._trouble = ""
        self._stack = contextlib.ExitStack()
        most, of_what = shares or (len(names), what)
        if ranks.several and most < ranks.world:
            if not ranks.is_first:
                raise ToldElsewhere(0)
            raise UsageError(f"there are more processes ({ranks.world}) than {of_what} ({most})")

    def __enter__(self) -> Self:
        if self.ranks.several:
            with contextlib.ExitStack() as stack:
                self._come(stack)
                self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not self.ranks.several:
            return
        self._busy = False
        try:
            if error is not None and not self.ranks.is_first:
                self._fail(error)
            elif isinstance(error, Exception):
                self._let_come()
        finally:
            if self.ranks.is_first:
                shutil.rmtree(self.folder, ignore_errors=True)
            self._stack.close()

    def gather(self, part: Any) -> list[Any] | None:
        """Hand over what this process found; on rank 0 wait for the others.  All processes call it equally often.

        Args:
            part: what JSON can hold.

        Returns:
            On rank 0 the parts of all, in the order of the ranks; None on the others.

        Raises:
            CaffeCompatError: another process has failed or died, on rank 0; or rank 0 has.
        """
        if not self.ranks.several:
            return [part]
        self._busy = False
        if self.ranks.is_first:
            found = [part, *(self._wait(rank) for rank in range(1, self.ranks.world))]
        else:
            self._post({"part": part})
            found = None
        self._gathered += 1
        self._busy = True
        return found

    # -- coming and going ----------------------------------------------------------------------------------------

    def _come(self, stack: contextlib.ExitStack) -> None:
        """Show the others that this process is here, and find the run of rank 0."""
        here = self._path(self.ranks.rank, "here")
        if self.ranks.is_first:
            here.unlink(missing_ok=True)  # of a run that was killed: nobody is to take it for this one
        self._hold(stack)
        told: dict[str, Any] = {"host": platform.node()}
        if self.ranks.is_first:
            self._run = secrets.token_hex(8)
            told |= {"names": len(self._names), "blocks": self._blocks}
            stack.enter_context(self._ended_by_sigterm())
        else:
            first = self._find_first()
            self._run = first["run"]
        write_file(here, json.dumps({"run": self._run, **told}))
        stack.enter_context(self._beating(here))
        if not self.ranks.is_first and (problem := self._difference(first)):
            self._fail(CaffeCompatError(problem))
        self._busy = True

    def _hold(self, stack: contextlib.ExitStack) -> None:
        """Hold this process's lock; those who look whether it is held have it for a moment."""
        doing, instead = f"doing the part of {self.ranks}", "give this run another place for its results"
        for left in reversed(range(20)):
            try:
                stack.enter_context(hold(self._path(self.ranks.rank, "lock"), doing, instead, CaffeCompatError))
                return
            except CaffeCompatError:
                if not left:
                    raise
                time.sleep(LOOK)

    def _find_first(self) -> dict[str, Any]:
        """Wait for rank 0; what it says of its run."""
        first, begin = _Other(self, 0), time.monotonic()
        while True:
            told = first.told()
            if told is not None and first.lives():
                return told
            if time.monotonic() - begin > PATIENCE:
                raise CaffeCompatError(
                    f"{self.ranks}: rank 0 has not come within {PATIENCE:g} s; all {self.ranks.world} processes must "
                    f"run at the same time and see one folder {self.folder.parent}"
                )
            time.sleep(LOOK)

    def _difference(self, told: dict[str, Any]) -> str:
        """Why what this process has to do is not what rank 0 has; empty: it is."""
        count, blocks = told.get("names"), list(told.get("blocks") or ())
        if count == len(self._names) and blocks == self._blocks:
            return ""
        same = 0
        while same < min(len(self._blocks), len(blocks)) and self._blocks[same] == blocks[same]:
            same += 1
        near = self._names[same * _BLOCK : same * _BLOCK + 1]
        where = f"; they differ from number {same * _BLOCK} on, here '{near[0]}'" if near else ""
        return f"sees {len(self._names)} {self.what}, rank 0 sees {count}: expected the same in all processes{where}"

    # -- parts ---------------------------------------------------------------------------------------------------

    def _post(self, content: dict[str, Any]) -> None:
        first = _Other(self, 0)
        if first.told() is not None and first.lives():
            path = self._path(self.ranks.rank, f"part{self._gathered}")
            write_file(path, json.dumps({"run": self._run, **content}, default=float))
        elif "error" not in content:  # an error of this process's own is told anyway
            raise CaffeCompatError(
                f"{self.ranks}: rank 0 has ended before it took this part; the same command goes on from what is done"
            )

    def _fail(self, error: BaseException) -> None:
        """Let rank 0 tell an error that ends this process, and leave after it.

        Raises:
            ToldElsewhere: it has; if it is not there to do so, the error goes its own way.
        """
        text = str(error) if isinstance(error, CaffeCompatError) else f"{type(error).__name__}: {error}"
        self._post({"error": text})
        if not isinstance(error, CaffeCompatError):
            return
        first, begin = _Other(self, 0), time.monotonic()
        while time.monotonic() - begin < PATIENCE:
            if first.told() is None:
                raise ToldElsewhere(2) from error
            if not first.lives():
                return
            time.sleep(LOOK)

    def _let_come(self) -> None:
        """After an error of rank 0 let those that are just starting see that there was a run, which has ended."""
        others = [_Other(self, rank) for rank in range(1, self.ranks.world)]
        begin = time.monotonic()
        while any(other.told() is None for other in others) and time.monotonic() - begin < LINGER:
            time.sleep(LOOK)

    def _wait(self, rank: int) -> Any:
        other, begin = _Other(self, rank), time.monotonic()
        while True:
            part, trouble = self._look(rank, other)
            if part is not None:
                return part["part"]
            if not trouble and other.told() is None and time.monotonic() - begin > PATIENCE:
                trouble = f"rank {rank} of {self.ranks.world} has not come within {PATIENCE:g} s"
            if trouble:
                raise CaffeCompatError(f"{trouble}; {_AGAIN}")
            time.sleep(LOOK)

    def _look(self, rank: int, other: _Other) -> tuple[dict[str, Any] | None, str]:
        """The part of another process, or what is wrong with it; neither: it is at work, or has not come."""
        who = f"rank {rank} of {self.ranks.world}"
        died = other.told() is not None and not other.lives()  # looked at before the part: it posts, then it ends
        part = _read(self._path(rank, f"part{self._gathered}"), {"run": self._run})
        if part is not None and "error" in part:
            return None, f"{who}: {part['error']}"
        return part, f"{who} has died (killed? out of memory?)" if died and part is None else ""

    # -- meanwhile -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _beating(self, path: Path) -> Iterator[None]:
        """During the block touch a file every few seconds; rank 0 looks after the others too, while it is busy."""
        over, main = threading.Event(), threading.current_thread()
        watched = range(1, self.ranks.world) if self.ranks.is_first and main is threading.main_thread() else ()
        others = {rank: _Other(self, rank) for rank in watched}

        def beat() -> None:
            while not over.wait(BEAT):
                with contextlib.suppress(OSError):  # removed by rank 0: the run is over
                    os.utime(path)
                for rank, other in others.items():
                    _, trouble = self._look(rank, other) if self._busy else (None, "")
                    if trouble and self._busy:
                        self._trouble = trouble
                        signal.pthread_kill(main.ident or 0, signal.SIGTERM)
                        return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextlib.contextmanager
    def _ended_by_sigterm(self) -> Iterator[None]:
        """During the block SIGTERM ends the run in order and with a message, where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self._trouble and not self._busy:
                return  # it is told anyway
            why = f"stopped by SIGTERM, as torchrun does when one of its {self.ranks.world} processes has died"
            raise Stopped(f"error: {self._trouble or why}; {_AGAIN}")

        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _path(self, rank: int, kind: str) -> Path:
        return self.folder / f"{rank}.{kind}"


class _Other:
    """Another process, as its files show it."""

    def __init__(self, gathering: Gathering, rank: int) -> None:
        self._here, self._lock = gathering._path(rank, "here"), gathering._path(rank, "lock")
        self._run = {"run": gathering._run} if gathering._run else {}
        self._stamp, self._seen = 0, time.monotonic()
        self._moved = False

    def told(self) -> dict[str, Any] | None:
        """What it says of itself; None: it has not come to this run, or has left it."""
        return _read(self._here, self._run)

    def lives(self) -> bool:
        """Whether it is there still: on this machine by its lock, elsewhere by whether its file is touched."""
        told = self.told()
        held = is_held(self._lock) if told is not None and told.get("host") == platform.node() else None
        if held is not None:
            return held
        with contextlib.suppress(OSError):
            stamp = self._here.stat().st_mtime_ns
            self._moved = self._moved or bool(self._stamp and stamp != self._stamp)
            if stamp != self._stamp:
                self._stamp, self._seen = stamp, time.monotonic()
        return (self._moved or bool(self._run)) and time.monotonic() - self._seen < SILENCE


def _read(path: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """A JSON object of a run, that has these fields; None: there is none, or another."""
    try:
        told = read_json(path)
    except MissingFileError:
        return None
    fits = isinstance(told, dict) and "run" in told and all(told.get(key) == value for key, value in wanted.items())
    return told if fits else None


def _checksums(names: Sequence[str]) -> list[str]:
    found = []
    for start in range(0, len(names), _BLOCK):
        text = "\n".join(names[start : start + _BLOCK])
        found.append(hashlib.sha1(text.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest())
    return found
