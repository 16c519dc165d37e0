"""What makes the arrays of a batch: a reader, and what it is asked for, a job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from caffe_compat.errors import CaffeCompatError, DataError

__all__ = ["Bytes", "Job", "Levels", "New", "Reader", "new_array", "shown"]

Job = TypeVar("Job")
_SHOWN = 3


class Levels(NamedTuple):
    """What is still to be done with pictures that come as uint8: ``(pixel - mean) * scale`` in float32.

    Args:
        mean: float32, of each channel, of all (1), or nothing (0).
    """

    mean: np.ndarray
    scale: np.float32


class Bytes(NamedTuple):
    """A reader of pictures as uint8, and what is still to be done with each of its first arrays."""

    reader: Reader[Any]
    levels: tuple[Levels, ...]


class New(Protocol):
    """Gives memory for an array, whose values are not set."""

    def __call__(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> np.ndarray: ...


def new_array(shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> np.ndarray:
    """An array in memory of this process."""
    return np.empty(shape, dtype)


class Reader(Generic[Job]):
    """Makes batches.  It is pickled, and so are jobs, if worker processes read.

    A batch is a function of the job and nothing else: what is random in it comes from seeds in the job.  So it is the
    same in every process, and resumes at any batch.

    Attributes:
        who: names the layer in errors.
    """

    who: str

    def read(self, job: Job, new: New) -> tuple[np.ndarray, ...]:
        """The arrays of a batch; called from several threads.

        Args:
            new: where the large ones are to lie: workers write them into memory that they share with the parent.

        Raises:
            CaffeCompatError: a file cannot be used; names it and the layer.
        """
        raise NotImplementedError

    def as_bytes(self) -> Bytes | None:
        """The same that leaves the last step to who gets the arrays, which is less to move; None: it cannot.

        Pictures of it may be uint8: they lack ``(pixel - mean) * scale``, of the levels beside it.
        """
        return None

    def about(self, job: Job) -> str:
        """The files of a job, for the error if reading it ends a process."""
        return ""

    def one_of(self, count: int) -> Reader[Any]:
        """The same for one of ``count`` worker processes, which share what memory there is."""
        return self

    def error(self, reason: str) -> DataError:
        """An error about the data, which names the layer."""
        return DataError(f"{self.who}: {reason}")

    @contextlib.contextmanager
    def naming(self, what: str = "") -> Iterator[None]:
        """Let errors of the block name the layer, and ``what`` they are about."""
        try:
            yield
        except CaffeCompatError as error:
            raise self.error(f"{what}: {error}" if what else str(error)) from error


def shown(names: Iterable[str]) -> str:
    """Some of the names."""
    found = list(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
