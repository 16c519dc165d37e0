"""What all layers that read data share: batch ``n`` is a function of the seed and ``n``, and nothing else."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from caffe_compat import random
from caffe_compat.batches.crew import Client, WorkerEnded, crew_of, usual_workers
from caffe_compat.batches.reader import Levels, Reader, new_array
from caffe_compat.batches.records import Record
from caffe_compat.devices import cores
from caffe_compat.distributed.same import digest
from caffe_compat.errors import DataError
from caffe_compat.layers.base import Layer, Shape
from caffe_compat.layers.data.prefetch import Prefetcher
from caffe_compat.layers.data.sending import Sent, send
from caffe_compat.layers.params import Params, Section
from caffe_compat.media import Database, Preprocessing
from caffe_compat.ranks import Turns

__all__ = ["DataLayer", "Order"]


class DataLayer(Layer):
    """A layer without bottoms whose tops are the next batch.

    A subclass sets ``self.shapes``, the shapes of the tops before the first batch, and says what batch ``n`` is, a pure
    function of ``n`` (called from several threads): with a ``reader`` and :meth:`job`, so that worker processes can
    make it, or in :meth:`read`.  All that is random in batch ``n`` must come from :meth:`random` or an :class:`Order`;
    so a net that resumes at batch ``n`` sees what the uninterrupted run saw, and any number of workers make the same.

    The batches come as float32 on the device (and in the type) that the net was moved to; to a GPU they are copied
    ahead, while it computes.

    Attributes:
        seed: of everything random here.  By default made from the seed of the random stream in use (``random_seed`` of
            a solver, else ``torch.manual_seed``), the layer's name and its phase, so that it does not depend on what
            else was drawn.
        shapes: of the tops, as of the last batch.
        reader: makes the arrays of a batch; None: only :meth:`read` does.
        samples: how many there are before the list, or database, starts again; None: nobody knows.
        turns: which batches of the list are this process's.
    """

    bottom_count = (0, 0)
    on_meta = False
    _like: Tensor  #: tells the device and the type of the tops
    labelled: ClassVar[bool] = False  #: the first top holds pictures, the others what is known of them
    onnx_reason = "it reads training data; export the deploy net instead"

    def __init__(self, params: Params, bottoms: Sequence[Shape], prefetch: int = 0, seed: int | None = None) -> None:
        super().__init__(params, bottoms)
        self.seed = default_seed(params) if seed is None else seed
        self.shapes: list[Shape] = []
        self.reader: Reader[Any] | None = None
        self._workers, self._ahead = usual_workers(), prefetch
        self._client: Client | None = None
        self._reading: Callable[[Any], tuple[np.ndarray, ...]] | None = None
        self._levels: Sequence[Levels] = ()
        self._ready = False
        self._position = 0
        self.samples: int | None = None
        self.turns = Turns()
        self._prefetcher = Prefetcher(self._read_sent)
        self.register_buffer("_like", torch.empty(0), persistent=False)

    # -- the position -----------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Number of batches that this process has consumed so far."""
        return self._position

    @property
    def waited(self) -> float:
        """Seconds for which training has waited for batches."""
        return self._prefetcher.waited

    @property
    def workers(self) -> int:
        """Processes that read batches; 0: threads of this one.

        At first what ``CAFFE_COMPAT_WORKERS`` says.  Batches are the same with any number.  A layer without a reader,
        or one that reads nothing ahead (``prefetch: 0``), uses none; layers with the same number share them.

        Raises:
            LayerError: a negative number is set.
        """
        return self._workers if self.can_use_workers else 0

    @workers.setter
    def workers(self, count: int) -> None:
        if count < 0:
            raise self.error(f"workers is {count}, expected 0 or more")
        if count != self._workers:
            self.close()
            self._workers = count

    @property
    def can_use_workers(self) -> bool:
        """Whether worker processes can read this layer's batches ahead."""
        return self.reader is not None and self._ahead > 0

    @property
    def worker_pids(self) -> list[int]:
        """The worker processes that run."""
        return [] if self._client is None else self._client.crew.pids

    def read_ahead(self, depth: int) -> None:
        """Read so many batches ahead from now on; 0: none."""
        self.close()
        self._ahead = depth

    def _depth(self) -> tuple[int, int]:
        """Batches to read ahead, and threads that do it or wait for workers."""
        if self.workers:
            return max(self._ahead, self.workers + max(2, self.workers // 2)), self.workers
        return self._ahead, cores()

    def seek(self, batches: int) -> None:
        """Go on as if this process had consumed ``batches`` batches.

        Raises:
            LayerError: a negative number.
        """
        if batches < 0:
            raise self.error(f"cannot seek to batch {batches}, expected 0 or more")
        self._position = batches

    def take_turns(self, turns: Turns) -> None:
        """Read only the batches that are this process's, of several that train or test together.

        Together they read what one process reads that makes as many passes in an iteration (``iter_size``).  Caffe
        deals out records instead, so that in one iteration the same records come in other batches, and only those of
        Data and HDF5Data.
        """
        self.close()
        self.turns = turns

    def records(self, number: int, batch_size: int) -> range:
        """Running numbers of the records of batch ``number``."""
        return range(number * batch_size, (number + 1) * batch_size)

    def random(self, number: int) -> np.random.Generator:
        """The generator for what is random within batch ``number``."""
        return np.random.default_rng(self.random_seed(number))

    def random_seed(self, number: int) -> tuple[int, int, int]:
        """Its seed."""
        return self.seed, 1, number

    # -- reading ----------------------------------------------------------------------------------------------

    def job(self, number: int) -> Any:
        """What the ``reader`` is asked for batch ``number``: small, and quick to say."""
        raise NotImplementedError

    def finish(self, number: int, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """The tops of batch ``number`` out of what the ``reader`` made."""
        return arrays

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number``, read in this process: one float32 array per top."""
        if self.reader is None:
            raise NotImplementedError
        return self.finish(number, self.reader.read(self.job(number), new_array))

    def _get_ready(self) -> None:
        """Choose who reads, before the first batch and after a :meth:`close`."""
        if not self._ready:
            self.require_memory("a batch", self.shapes)  # its job may be as long as the batch
            self._ready = True
        self._prefetcher.depth, self._prefetcher.threads = self._depth()
        if self._reading is not None or self.reader is None:
            return
        reader, self._levels = self.reader, ()
        if self._like.device.type == "cuda" and (made := reader.as_bytes()) is not None:
            reader, self._levels = made  # a quarter to move, and a GPU has time for the rest
        if self.workers:
            self._client = crew_of(self.workers).client(reader)
            self._reading = self._client.read
        elif reader is not self.reader:
            self._reading = partial(reader.read, new=new_array)

    def _read_arrays(self, number: int) -> tuple[np.ndarray, ...]:
        """Batch ``number`` by who was chosen; some pictures may be uint8, see :class:`Levels`."""
        reading = self._reading
        if reading is None:
            return self.read(number)
        job = self.job(number)
        try:
            return self.finish(number, reading(job))
        except WorkerEnded as error:
            files = "" if self.reader is None else self.reader.about(job)
            raise self.data_error(
                f"{error} while it read batch {number}{f' ({files})' if files else ''}; fewer workers take less memory"
            ) from error

    def _read_tensors(self, number: int) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(array) for array in self._read_arrays(number))

    def _read_sent(self, place: int) -> Sent:
        """This process's batch number ``place``, on its way to a GPU if that is where it is wanted."""
        device = self._like.device
        tensors = self._read_tensors(self.turns.batch(place))
        return send(tensors, device if device.type == "cuda" else None, self._levels)

    def identity(self) -> str:
        """What tells this layer's list or database from another of the same name: its size, and a hash of its file."""
        source = getattr(self, "source", "")
        return digest(source) if isinstance(source, str) and source else ""

    def wants(self) -> dict[str, Preprocessing]:
        """What a net that this layer feeds wants of pictures, by top; what is no picture is left out."""
        return {}

    def close(self) -> None:
        """Stop reading ahead and end threads and workers; the next forward pass starts them again."""
        self._prefetcher.close()
        self._client = self._reading = None
        self._ready = False

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shapes of the last batch; before the first, those that the data source announces."""
        return list(self.shapes)

    def forward(self) -> tuple[Tensor, ...]:
        """The next batch.

        Raises:
            DataError: what went wrong while the batch was read.
        """
        self._get_ready()
        batch = self._prefetcher.take(self._position).arrived()
        self._position += 1
        self.shapes = [tuple(top.shape) for top in batch]
        return tuple(top.to(self._like.device, self._like.dtype, non_blocking=True) for top in batch)

    # -- helpers for subclasses -------------------------------------------------------------------------------

    @property
    def who(self) -> str:
        """Names this layer in errors."""
        return f"layer '{self.name}' ({self.params.type})"

    def data_error(self, reason: str) -> DataError:
        """An error about the data, which names this layer."""
        return DataError(f"{self.who}: {reason}")

    def record(self, database: Database, number: int) -> Record:
        """A record for the reader: workers read it themselves where they can."""
        place = partial(database.__getitem__, number) if self._client is None else database.place(number)
        return Record(database.name(number), place)

    def batch_size(self, section: Section) -> int:
        """The field ``batch_size``, which must be positive."""
        if section.batch_size < 1:
            raise self.error(f"{section.field}.batch_size is {section.batch_size}, expected a positive number")
        return int(section.batch_size)


class Order:
    """Which of ``count`` records comes as the ``index``-th, epoch after epoch.

    Shuffled anew for every epoch (Fisher-Yates) from ``(seed, epoch)`` if ``shuffle``, else in file order.
    """

    def __init__(self, count: int, shuffle: bool, seed: int, stream: int = 0) -> None:
        self.count, self.shuffle, self._seed, self._stream = count, shuffle, seed, stream
        self._epochs: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def epoch(self, epoch: int) -> np.ndarray:
        """All record numbers in the order of that epoch."""
        if not self.shuffle:
            return np.arange(self.count)
        with self._lock:
            if epoch not in self._epochs:
                for old in [known for known in self._epochs if abs(known - epoch) > 1]:
                    del self._epochs[old]
                generator = np.random.default_rng((self._seed, 0, self._stream, epoch))
                self._epochs[epoch] = generator.permutation(self.count)
            return self._epochs[epoch]

    def __getitem__(self, index: int) -> int:
        epoch, offset = divmod(index, self.count)
        return int(self.epoch(epoch)[offset]) if self.shuffle else offset


def default_seed(params: Params) -> int:
    """A seed from that of the random stream in use, the layer's name and its phase."""
    text = f"{random.initial_seed()}/{params.name}/{params.phase}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")
