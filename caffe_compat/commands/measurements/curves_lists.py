"""What longer lists cost: of images, pairs, frames, regions, results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from caffe_compat.commands.measurements.curve import Curve
from caffe_compat.config import Config
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.index import index_records
from caffe_compat.datasets.proposal_file import ProposalFile, read_proposal_file, write_proposal_file
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.roidb import build_roidb
from caffe_compat.evaluation.average import AveragePrecision
from caffe_compat.frames.report import Report
from caffe_compat.layers.data.source import Order
from caffe_compat.media import read_image_list, read_pair_list, write_image_list
from caffe_compat.media.lists import read_first_paths

__all__ = ["list_curves"]

LINES = (1000, 10_000, 100_000, 1_000_000, 10_000_000)
IMAGES = (100, 1000, 10_000, 100_000)


def list_curves() -> Iterator[Curve]:
    """Reading lists, their orders; records, regions, proposals and results of more images."""
    measured: list[tuple[str, str, tuple[int, ...], Callable[[int, Path], Callable[[], object]]]] = [
        ("reading a list of labelled images", "lines", LINES, _images),
        ("reading a list of pairs", "lines", LINES, _pairs),
        ("reading the first paths of a list", "lines", LINES, _paths),
        ("writing a list of labelled images", "lines", LINES, _writing),
        ("a shuffled order of an epoch", "lines", LINES, _shuffling),
        ("a report of frames", "lines", LINES, _reporting),
        ("an index of frames", "images", IMAGES, _index),
        ("a roidb with 100 proposals an image", "images", IMAGES, _roidb),
        ("reading proposals, 100 an image", "images", IMAGES, _proposals),
        ("evaluating 20 detections an image", "images", IMAGES, _evaluating),
    ]
    for label, unit, sizes, prepare in measured:
        yield Curve("list length", label, unit, sizes, prepare)


def _name(number: int) -> str:
    return f"n{number % 1000:04d}/image_{number:08d}.jpg"


def _images(lines: int, folder: Path) -> Callable[[], object]:
    path = folder / "list.txt"
    write_image_list(path, ((_name(number), number % 1000) for number in range(lines)))
    return lambda: read_image_list(path, "root/")


def _pairs(lines: int, folder: Path) -> Callable[[], object]:
    path = folder / "pairs.txt"
    with path.open("w", encoding="ascii") as stream:
        stream.writelines(f"color/{_name(number)} hha/{_name(number)}\n" for number in range(lines))
    return lambda: read_pair_list(path)


def _paths(lines: int, folder: Path) -> Callable[[], object]:
    _pairs(lines, folder)
    return lambda: read_first_paths(folder / "pairs.txt")


def _writing(lines: int, folder: Path) -> Callable[[], object]:
    entries = [(_name(number), number % 1000) for number in range(lines)]
    return lambda: write_image_list(folder / "list.txt", entries)


def _shuffling(lines: int, folder: Path) -> Callable[[], object]:
    del folder

    def run() -> object:
        order = Order(lines, shuffle=True, seed=1)
        return [order[index] for index in range(1000)]

    return run


def _reporting(lines: int, folder: Path) -> Callable[[], object]:
    """Most frames are there, some fail, each for a reason of its own or one of few; some are warned of."""
    del folder
    written = [_name(number) for number in range(lines)]
    failed = [(name, f"{name}: {f'is {number} bytes' if number % 2 else 'is empty'}")
              for number, name in enumerate(written[::10])]  # fmt: skip
    warned = [(name, f"{name}: the mean is {number}") for number, name in enumerate(written[::20])]
    return lambda: Report(written, [], failed, warned).lines()


def _index(images: int, folder: Path) -> Callable[[], object]:
    path = folder / "index.json"
    entry = {"K_fx_fy_cx_cy": [525, 525, 319.5, 239.5], "depth_units_per_metre": 1000, "scene": "kitchen"}
    entries = [{"color": f"c/{number}.png", "depth": f"d/{number}.png", **entry} for number in range(images)]
    path.write_text(json.dumps(entries), encoding="ascii")
    return lambda: index_records(path)


def _boxes(count: int, seed: int = 0) -> np.ndarray:
    start = np.random.default_rng(seed).uniform(0, 400, (count, 2))
    return np.concatenate([start, start + 100], 1).astype(np.float32)


def _records(images: int) -> list[FrameRecord]:
    boxes = _boxes(3)
    return [
        FrameRecord(f"{number:08d}", {"images": f"{number:08d}.jpg"}, size=(600, 800), boxes=boxes, classes=("a",) * 3)
        for number in range(images)
    ]


def _roidb(images: int, folder: Path) -> Callable[[], object]:
    del folder
    found = _boxes(100, 1)
    imdb = ImageDatabase("measured", ("a",), ("images",), _records(images), lambda record: found)
    return lambda: build_roidb(imdb, Config())


def _proposals(images: int, folder: Path) -> Callable[[], object]:
    path, found = folder / "proposals.npz", _boxes(100, 1)
    write_proposal_file(path, ProposalFile([f"{number:08d}" for number in range(images)], [found] * images))
    return lambda: read_proposal_file(path)


def _evaluating(images: int, folder: Path) -> Callable[[], object]:
    del folder
    records, random = _records(images), np.random.default_rng(2)
    found = [np.column_stack([_boxes(20, number), random.uniform(0, 1, 20)]).astype(np.float32) for number in range(9)]

    def run() -> object:
        evaluator = AveragePrecision(("a",), "voc")
        for number, record in enumerate(records):
            evaluator.process(record, [found[number % 9]])
        return evaluator.evaluate()

    return run
