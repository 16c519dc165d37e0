"""Data layers that read no data set themselves: something that knows the images feeds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from caffe_compat.batches.reader import Reader
from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.source import DataLayer
from caffe_compat.layers.params import Params

__all__ = ["BatchSource", "FedData", "JobSource"]


class BatchSource(Protocol):
    """Where batches come from."""

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``, a pure function: an array for each top, all float32."""
        ...


@runtime_checkable
class JobSource(Protocol):
    """A source that worker processes can read: ``read(n)`` is ``finish(n, reader(who).read(job(n), new_array))``."""

    def reader(self, who: str) -> Reader[Any]:
        """What makes the large arrays; ``who`` names the layer, or is empty."""
        ...

    def job(self, number: int) -> Any:
        """What the reader is asked for batch ``number``."""
        ...

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """The batch, out of what the reader made."""
        ...


S = TypeVar("S", bound=BatchSource)


class FedData(DataLayer, Generic[S]):
    """Batches of the source that is given to :meth:`feed`; before that there are none."""

    caffe_type = "Python"
    on_meta = False
    feeders: ClassVar[str]  #: who calls :meth:`feed`, for the error if nobody did

    def __init__(self, params: Params, bottoms: Sequence[Shape]) -> None:
        super().__init__(params, bottoms)
        self._source: S | None = None

    def check_source(self, source: S) -> None:
        """Refuse a source that does not fit ``param_str`` and the tops.

        Raises:
            LayerError: it does not fit.
        """
        raise NotImplementedError

    def require_same(self, name: str, own: int, theirs: int) -> None:
        """Refuse a source with another number than ``param_str``.

        Raises:
            LayerError: the numbers differ.
        """
        if own != theirs:
            raise self.error(f"{name} is {own} in param_str, the images have {theirs}")

    def feed(self, source: S, ahead: int = 0) -> None:
        """Take batches from ``source`` from now on.

        Args:
            ahead: how many are made while the last one is in use.

        Raises:
            LayerError: the source does not fit, see :meth:`check_source`.
        """
        self.check_source(source)
        self.read_ahead(ahead)
        self._source = source
        if isinstance(source, JobSource):
            self.reader = source.reader(self.who)
        else:
            self.reader = None

    def job(self, number: int) -> Any:
        """As :meth:`DataLayer.job`."""
        return self._jobs().job(number)

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """As :meth:`DataLayer.finish`."""
        return self.formed(self._jobs().finish(number, arrays))

    def _jobs(self) -> JobSource:
        if not isinstance(self._source, JobSource):
            raise self.error("is fed by something that worker processes cannot read")
        return self._source

    def formed(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """What the source gives, in the shapes of the tops."""
        return arrays

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``, read in this process.

        Raises:
            LayerError: no source was given.
        """
        if self._source is None:
            raise self.error(f"has no images: it is fed by {self.feeders}")
        return self.formed(self._source.read(number))
