"""Data layers that read no data set themselves: something that knows the images feeds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np

from caffe_compat.layers.base import Shape
from caffe_compat.layers.data.prefetch import Prefetcher
from caffe_compat.layers.data.source import DataLayer
from caffe_compat.layers.params import Params

__all__ = ["BatchSource", "FedData"]


class BatchSource(Protocol):
    """Where batches come from."""

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``, a pure function: an array for each top, all float32."""
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
        self.close()
        self._source, self._prefetcher = source, Prefetcher(self._read_sent, ahead)

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``.

        Raises:
            LayerError: no source was given.
        """
        if self._source is None:
            raise self.error(f"has no images: it is fed by {self.feeders}")
        return self._source.read(number)
