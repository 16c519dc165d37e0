"""A group of processes over torch.distributed.

Numbers that decide what happens next (signals, scores, what a file holds) go over gloo, from host to host, so that no
GPU is waited for; gradients go over NCCL where the nets are on GPUs.  A process that dies closes its connections: the
others find out in the exchange that ends every iteration, at the latest.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

from caffe_compat.distributed.group import Group
from caffe_compat.errors import CaffeCompatError, SolverError, UsageError, in_file, one_line
from caffe_compat.ranks import Ranks, ToldElsewhere

__all__ = ["TIMEOUT", "Several", "join"]

T = TypeVar("T")

TIMEOUT = "CAFFE_COMPAT_TIMEOUT"
"""Environment variable: seconds that a process waits for the others; by default 1800."""

ROLL_CALL = 5.0
"""Seconds in which processes that live must have answered."""


class LostError(SolverError):
    """Other processes are not there any more; names them."""


@contextlib.contextmanager
def join(ranks: Ranks) -> Iterator[Group]:
    """The processes that torchrun, or a user by hand, has started with this one; alone where there are no others.

    Raises:
        UsageError: MASTER_ADDR or MASTER_PORT is missing, or the others cannot be found there.
    """
    if not ranks.several:
        yield Group(ranks)
        return
    group = Several(ranks)
    try:
        yield group
    finally:
        group.close()


class Several(Group):
    """Processes that found each other at MASTER_ADDR and MASTER_PORT.

    Args:
        ranks: which of them this is.

    Raises:
        UsageError: there is no such place, or the others are not there.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(ranks)
        limit = timedelta(seconds=_seconds())
        store = _meet(ranks, limit)
        self._store = PrefixStore("caffe_compat", store)
        self._store.set(f"who/{ranks.rank}", f"process {os.getpid()} on {socket.gethostname()}")
        self._gradients: Any = None
        self._waits = 0
        try:
            dist.init_process_group(
                "gloo",
                store=PrefixStore("control", store),
                rank=ranks.rank,
                world_size=ranks.world,
                timeout=limit,
            )
        except RuntimeError as error:
            raise self._lost(error) from error
        self._device = torch.device("cpu")

    def use(self, device: torch.device) -> None:
        """Let gradients be summed between devices of this kind from now on.

        Raises:
            SolverError: some processes are on GPUs and some are not.
        """
        with self.together():
            kinds = [kind.decode() for kind in self.gather(device.type.encode())]
            if len(set(kinds)) > 1:
                named = ", ".join(f"rank {rank} on {kind}" for rank, kind in enumerate(kinds))
                raise SolverError(f"all processes train on GPUs, or all on CPUs; here {named}")
        self._device = device
        if device.type == "cuda":
            torch.cuda.set_device(device)
            if dist.is_nccl_available():
                self._gradients = dist.new_group(backend="nccl", timeout=timedelta(seconds=_seconds()))

    def close(self) -> None:
        """Leave the group; the others' exchanges with this process fail from now on."""
        self._gradients = None
        if dist.is_initialized():
            dist.destroy_process_group()

    # -- exchanges --------------------------------------------------------------------------------------------

    def gather(self, data: bytes) -> list[bytes]:
        """What every process gives, by rank."""
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.ranks.world)]
        self._call(lambda: dist.all_gather(sizes, torch.tensor([len(data)])))
        most = max(int(size) for size in sizes)
        if not most:
            return [b""] * self.ranks.world
        own = torch.zeros(most, dtype=torch.uint8)
        own[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else own[:0]
        found = [torch.empty_like(own) for _ in range(self.ranks.world)]
        self._call(lambda: dist.all_gather(found, own))
        return [part.numpy().tobytes()[: int(size)] for part, size in zip(found, sizes, strict=True)]

    def same(self, value: T) -> T:
        """What rank 0 gives: anything that JSON holds."""
        text = json.dumps(value).encode() if self.ranks.is_first else b""
        held: T = json.loads(self.gather(text)[0])
        return held

    def highest(self, number: int) -> int:
        """The largest of all numbers."""
        held = torch.tensor([number], dtype=torch.int64)
        self._call(lambda: dist.all_reduce(held, dist.ReduceOp.MAX))
        return int(held)

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of float64 arrays of one shape."""
        held = torch.from_numpy(np.array(values, np.float64))
        self._call(lambda: dist.all_reduce(held))
        return held.numpy()

    def share_out(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the values that these tensors have in rank 0."""
        for tensor in tensors:
            whole = tensor.detach()
            held = whole.contiguous()
            self._call(lambda held=held: dist.broadcast(held, 0, group=self._gradients))  # type: ignore[misc]
            if held is not whole:
                whole.copy_(held)

    def start_sum(self, flat: Tensor) -> Callable[[], None]:
        """Begin to add up a tensor over all processes, in place; the function that is returned waits for the sum."""
        work = self._call(lambda: dist.all_reduce(flat, group=self._gradients, async_op=True))
        return lambda: self._call(work.wait) and None

    def _call(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise self._lost(error) from error

    # -- ends -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def together(self, patient: bool = False) -> Iterator[None]:
        """As :meth:`Group.together`."""
        own: CaffeCompatError | None = None
        try:
            yield
        except CaffeCompatError as error:
            own = error
        if patient:
            self._wait_for_all()
        said = [text.decode() for text in self.gather(b"" if own is None else one_line(own, 1000).encode())]
        failed = {rank: text for rank, text in enumerate(said) if text}
        if not failed:
            return
        if not self.ranks.is_first:
            raise ToldElsewhere from own
        if own is not None:
            raise own
        first = next(iter(failed.values()))
        alike = [rank for rank, text in failed.items() if text == first]
        raise SolverError(f"{_named(alike, self.ranks.world)}: {first}")

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """As :meth:`Group.watched`."""
        try:
            yield
        except LostError:
            raise
        except CaffeCompatError as error:
            with contextlib.suppress(RuntimeError):  # the store is gone: nobody is left to be told
                self._store.set(f"ended/{self.ranks.rank}", one_line(error, 1000))
                if self.ranks.is_first:
                    self._store.set("told", "")
                elif self._is_told():
                    raise ToldElsewhere from error
            with in_file("" if self.ranks.is_first else f"{self.ranks}"):
                raise

    def _wait_for_all(self) -> None:
        """Wait until every process has come here as often as this one, or is known to have ended."""
        self._waits += 1
        self._store.set(f"came/{self._waits}/{self.ranks.rank}", "")
        for rank in range(self.ranks.world):
            while not self._has(f"came/{self._waits}/{rank}") and not self._state(rank)[1]:
                time.sleep(0.2)

    def _lost(self, error: RuntimeError) -> BaseException:
        """What to raise after an exchange failed: in the first rank that lives an error that names those that do not.

        Leaving the group closes the connections of this process, so that those that wait for it find out too.
        """
        said = _first_line(error)
        traceback.clear_frames(error.__traceback__)  # which hold the connections
        self._leave()
        try:
            dead = self._roll_call()
        except RuntimeError:
            return LostError(
                f"{self.ranks}: lost the place where the processes met, which is in the process that started them, or "
                f"in rank 0: that one has ended ({said})"
            )
        if not dead:
            return LostError(f"{self.ranks}: lost the connection to other processes: {said}")
        if self.ranks.rank != min(set(range(self.ranks.world)) - set(dead)) or (0 in dead and self._has("told")):
            return ToldElsewhere()
        self._store.set("told", "")
        return LostError("; ".join(f"rank {rank} of {self.ranks.world} {how}" for rank, how in dead.items()))

    def _leave(self) -> None:
        """Close all connections, whoever waits for what."""
        if self._gradients is not None:
            with contextlib.suppress(RuntimeError):
                self._gradients.abort()  # or NCCL waits for sums that will never be there
        self.close()
        gc.collect()

    def _is_told(self) -> bool:
        """Whether rank 0, or who finds out that this process ends, tells why; leaves the group, so that they do."""
        self._leave()
        start = time.monotonic()
        while not self._has("told"):
            if time.monotonic() - start > 2 * ROLL_CALL:
                return False
            time.sleep(0.05)
        return True

    def _has(self, key: str) -> bool:
        found: bool = self._store.check([key])
        return found

    def _roll_call(self) -> dict[int, str]:
        """Processes that do not answer, and how they ended."""
        self._store.set(f"here/{self.ranks.rank}", "")
        start = time.monotonic()
        while True:
            states = {rank: self._state(rank) for rank in range(self.ranks.world)}
            dead = {rank: how for rank, (how, _) in states.items() if how}
            if (dead and all(sure for _, sure in states.values())) or time.monotonic() - start > ROLL_CALL:
                return dead
            time.sleep(0.05)

    def _state(self, rank: int) -> tuple[str, bool]:
        """How a process ended ("": it lives), and whether that is sure: it has answered, or is seen to be no more."""
        if self._has(f"ended/{rank}"):
            return f"ended: {self._store.get(f'ended/{rank}').decode()}", True
        if self._has(f"here/{rank}"):
            return "", True
        who = self._store.get(f"who/{rank}").decode() if self._has(f"who/{rank}") else "never seen"
        ended = _has_ended(who)
        return "" if ended is False else f"({who}) has ended without a word", bool(ended)


def _seconds() -> float:
    """How long to wait for others.

    Raises:
        UsageError: the variable holds no positive number.
    """
    text = os.environ.get(TIMEOUT, "") or "1800"
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e8:
        raise UsageError(f"the environment has {TIMEOUT}={text}, expected seconds, a positive number")
    return value


def _meet(ranks: Ranks, limit: timedelta) -> Any:
    """What all processes read and write: a server at MASTER_ADDR, of torchrun or of rank 0."""
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise UsageError(
                f"there are {ranks.world} processes (WORLD_SIZE), but {name} is not set: start them with torchrun"
            )
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, _, _ = next(rendezvous(f"env://?rank={ranks.rank}&world_size={ranks.world}", timeout=limit))
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{ranks}: cannot meet the others at {where}: {_first_line(error)}") from error
    return store


def _has_ended(who: str) -> bool | None:
    """Whether a process, named as :class:`Several` names it, is no more; None: nobody knows, as of other machines."""
    words = who.split()
    if len(words) != 4 or words[3] != socket.gethostname():
        return None
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    try:
        with open(f"/proc/{int(words[1])}/stat", "rb") as stream:
            return stream.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")  # ended, and not waited for yet
    except OSError:
        return None


def _named(ranks: Sequence[int], world: int) -> str:
    if len(ranks) == 1:
        return str(Ranks(ranks[0], world))
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]} of {world}"


def _first_line(error: BaseException) -> str:
    """What torch says, without the C++ stack below it."""
    return next(iter(str(error).splitlines()), type(error).__name__).strip()
