"""``convert_mnist`` and ``convert_cifar10``: databases of the small pictures that Caffe's first examples train on.

Source: BVLC Caffe 1.0, ``examples/mnist/convert_mnist_data.cpp`` and ``examples/cifar10/convert_cifar_data.cpp``
(behaviour only): keys, order of the pixels and names of the databases are theirs.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from caffe_compat.errors import DataError
from caffe_compat.files import open_existing
from caffe_compat.media import create_database
from caffe_compat.proto import caffe_pb2

__all__ = ["convert_cifar10", "convert_mnist", "read_cifar10", "read_idx"]

CIFAR_SHAPE = (3, 32, 32)
BATCHES = 5


def read_idx(path: str, rank: int) -> np.ndarray:
    """An array of bytes in the IDX format of MNIST, compressed or not.

    Args:
        rank: axes that are expected: 3 for images, 1 for labels.

    Raises:
        MissingFileError: there is no such file.
        DataError: another format, or a file that is too short or too long.
    """
    with open_existing(path, "MNIST") as stream:
        content = stream.read()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: damaged gzip file: {error}") from error
    start = 4 * (rank + 1)
    magic = 0x0800 + rank
    if len(content) < start or struct.unpack(">I", content[:4])[0] != magic:
        what = "images" if rank == 3 else "labels"
        raise DataError(f"{path}: does not begin with {magic}, expected MNIST's {what}")
    shape = struct.unpack(f">{rank}I", content[4:start])
    values = np.frombuffer(content, np.uint8, offset=start)
    size = int(np.prod(shape, dtype=np.uint64))
    if values.size != size:
        raise DataError(f"{path}: {values.size} bytes of values, expected {size} of {' x '.join(map(str, shape))}")
    return values.reshape(shape)


def convert_mnist(images: str, labels: str, database: str, backend: str = "lmdb") -> int:
    """Write a database of grey images, under the keys 00000000, 00000001, ...

    Returns:
        How many there are.

    Raises:
        DataError: a file that is not MNIST's, or not as many labels as images.
        UsageError: there is something of the database's name already.
    """
    pictures, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pictures) != len(classes):
        raise DataError(f"{images} has {len(pictures)} images, {labels} has {len(classes)} labels")
    return _write(database, backend, pictures[:, None], classes, "%08d")


def read_cifar10(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 3, 32, 32] (red, green, blue) and labels uint8 [N] of one binary file of CIFAR-10.

    Raises:
        MissingFileError: there is no such file.
        DataError: its length is not that of whole records, or a label is over 9.
    """
    with open_existing(path, "CIFAR-10's binary version") as stream:
        content = stream.read()
    size = 1 + int(np.prod(CIFAR_SHAPE))
    if not content or len(content) % size:
        raise DataError(f"{path}: {len(content)} bytes, expected records of {size}")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    if (largest := int(records[:, 0].max())) > 9:
        raise DataError(f"{path}: a label is {largest}, expected 0 to 9")
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE), records[:, 0]


def convert_cifar10(folder: str, output: str, backend: str = "lmdb") -> list[tuple[str, int]]:
    """Write the databases for training and for tests, under keys of five digits.

    Returns:
        Path of each and how many images it has.

    Raises:
        MissingFileError, DataError: a file of the set is missing or damaged.
        UsageError: there is something of a database's name already.
    """
    sets = {
        "train": [str(Path(folder, f"data_batch_{number}.bin")) for number in range(1, BATCHES + 1)],
        "test": [str(Path(folder, "test_batch.bin"))],
    }
    read = {name: [read_cifar10(path) for path in paths] for name, paths in sets.items()}
    Path(output).mkdir(parents=True, exist_ok=True)
    written = []
    for name, parts in read.items():
        path = str(Path(output, f"cifar10_{name}_{backend}"))
        images, labels = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        written.append((path, _write(path, backend, images, labels, "%05d")))
    return written


def _write(database: str, backend: str, images: np.ndarray, labels: Iterable[int], key: str) -> int:
    with create_database(database, backend) as writer:
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            channels, height, width = image.shape
            datum = caffe_pb2.Datum(
                channels=channels, height=height, width=width, data=image.tobytes(), label=int(label)
            )
            writer.put((key % index).encode(), datum.SerializeToString())
    return len(images)
