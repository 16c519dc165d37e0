"""Batches of pictures with a label each, wherever a picture and its label come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from caffe_compat.batches.reader import Bytes, Job, New, Reader
from caffe_compat.batches.transform import Transform

__all__ = ["Loaded", "PictureReader"]

Item = TypeVar("Item")


class Loaded(NamedTuple):
    """A picture and its label.

    Args:
        picture: uint8 (height, width) or (height, width, channels).
        planes: (channels, height, width) of any type, instead; None: the picture counts.
        shape: of what the transformation makes of it.
    """

    picture: np.ndarray
    planes: np.ndarray | None
    shape: tuple[int, ...]
    label: int


@dataclasses.dataclass(frozen=True, eq=False)
class PictureReader(Reader[Job], Generic[Job, Item]):
    """Pictures (batch, channels, height, width) in BGR, and labels (batch).

    Args:
        dtype: of pictures.
    """

    who: str
    transform: Transform
    dtype: npt.DTypeLike = dataclasses.field(default=np.float32, kw_only=True)

    def batch(self, job: Job) -> tuple[Sequence[int], Sequence[Item]]:
        """The seed of what is random in a batch, and what its pictures are made from."""
        raise NotImplementedError

    def load(self, item: Item) -> Loaded:
        """A picture, decoded.

        Raises:
            CaffeCompatError: it cannot be used; names it and the layer.
        """
        raise NotImplementedError

    def unlike(self, item: Item, shape: Sequence[int], first: Sequence[int]) -> str:
        """What to say of a picture of another shape than the first of its batch."""
        raise NotImplementedError

    def as_bytes(self) -> Bytes | None:
        """As :meth:`Reader.as_bytes`; batches with pictures of other numbers come as float32, finished."""
        levels = self.transform.levels
        return None if levels is None else Bytes(dataclasses.replace(self, dtype=np.uint8), (levels,))

    def read(self, job: Job, new: New) -> tuple[np.ndarray, ...]:
        """As :meth:`Reader.read`: pictures and labels."""
        seed, items = self.batch(job)
        random = np.random.default_rng(seed)
        data: np.ndarray | None = None
        labels = new((len(items),))
        for number, item in enumerate(items):
            loaded = self.load(item)
            if self.dtype != np.float32 and loaded.planes is not None and loaded.planes.dtype != np.uint8:
                return dataclasses.replace(self, dtype=np.float32).read(job, new)
            if data is None:
                data = new((len(items), *loaded.shape), self.dtype)
            if data.shape[1:] != loaded.shape:
                raise self.error(self.unlike(item, loaded.shape, data.shape[1:]))
            if loaded.planes is None:
                self.transform.picture(loaded.picture, data[number], random)
            else:
                self.transform(loaded.planes, data[number], random)
            labels[number] = loaded.label
        assert data is not None
        return data, labels
