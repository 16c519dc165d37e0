"""Batches that worker processes read: the same as without, in order, and no process outlives its use."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from data_files import datum, image, write_images, write_lmdb
from one_layer import one_layer
from torch import Tensor
from waiting import LIMIT

from caffe_compat.batches.crew import Crew, crew_of, parse_workers
from caffe_compat.batches.slots import can_share
from caffe_compat.errors import DataError, LayerError, MissingFileError, UsageError
from caffe_compat.layers.data import DataLayer

pytestmark = pytest.mark.skipif(not can_share(), reason="only Linux has what workers need")

Batch = tuple[Tensor, ...]


@pytest.fixture(scope="module")
def crews() -> Iterator[list[Crew]]:
    """Workers that stay for all tests of this file: layers with as many share them."""
    held = [crew_of(1), crew_of(3)]
    yield held
    for crew in held:
        crew.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    write_images(path, 5, 9, 12)
    write_lmdb(path / "lmdb", [datum(number) for number in range(5)])
    boxes = np.array([[0, 0, 11, 8], [1, 1, 9, 7], [2, 0, 8, 8]], np.float32)
    np.save(path / "boxes.npy", boxes)
    return path


def layer(kind: str, folder: Path, text: str = "", crop: str = "crop_size: 4") -> DataLayer:
    """A layer that shuffles, mirrors and crops, its seed given."""
    list_, pairs = f'source: "{folder}/list.txt" batch_size: 3', f'source: "{folder}/pairs.txt" batch_size: 3'
    transform = f"transform_param {{ mirror: true {crop} mean_value: 3.5 scale: 0.3 }}"
    bodies = {
        "ImageData": f"image_data_param {{ {list_} shuffle: true {text} }} {transform}",
        "Data": f'data_param {{ source: "{folder}/lmdb" backend: LMDB batch_size: 3 shuffle: true {text} }} {transform}',
        "PairedImageData": f"paired_image_data_param {{ {pairs} shuffle: true mirror: true crop_height: 4 "
        f"crop_width: 5 mean_value: 3 scale: 0.5 negate_x_channel: 2 seed: 4 {text} }}",
    }
    torch.manual_seed(7)
    made = one_layer(kind, bodies[kind], tops=("a", "b"), phase="TRAIN")
    assert isinstance(made, DataLayer)
    return made


def batches(data: DataLayer, count: int) -> list[Batch]:
    return [tuple(top.clone() for top in data()) for _ in range(count)]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("kind", ["ImageData", "Data", "PairedImageData"])
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_those_of_one_process(crews: list[Crew], folder: Path, kind: str, workers: int) -> None:
    expected = batches(layer(kind, folder), 9)
    assert not same(expected[:4], expected[4:8])
    data = layer(kind, folder)
    data.workers = workers
    assert same(batches(data, 9), expected)
    assert data.position == 9 and data.waited > 0 and len(crew_of(workers).pids) > 0
    data.seek(4)
    assert same(batches(data, 3), expected[4:7])
    data.close()
    assert same(batches(data, 2), expected[7:])
