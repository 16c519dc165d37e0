"""The benchmark of an update of hypercolumns: 20 images with 5 boxes each, by the time that the nets alone take."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import RoIPool

from caffe_compat.commands.measurements import peers
from caffe_compat.commands.measurements.detector import CLASSES, HEIGHT, WIDTH, database
from caffe_compat.config import Config, SdsConfig
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.layers.data import HypercolumnData
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2
from caffe_compat.resources import prototxt
from caffe_compat.segmentation.sampling import box_batches
from caffe_compat.solver import SGDSolver

__all__ = ["sds_training"]

GRID, CELLS, SIDE, UPDATE = 5, 25, 50, 20


class _Hypercolumns(nn.Module):
    """CaffeNet's trunk as it is, and classifiers on pool2, conv4 and fc7."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        features = peers.alexnet_features(5, 1)
        self.first, self.middle, self.last = features[:7], features[7:12], features[12:14]
        self.pool = RoIPool((6, 6), 1.0)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(9216, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        )  # fmt: skip
        self.pool2, self.conv4 = nn.Conv2d(256, CELLS * classes, 3, 1, 1), nn.Conv2d(384, CELLS * classes, 1)
        self.fc7 = nn.Linear(4096, CELLS * classes)
        at = torch.arange(GRID)
        place = ((torch.arange(SIDE) + 0.5) * GRID / SIDE - 0.5).clamp(0, GRID - 1)
        near = (1 - (place[:, None] - at).abs()).clamp(min=0)
        self.register_buffer("weights", torch.einsum("yi,xj->ijyx", near, near).reshape(CELLS, SIDE, SIDE))

    def forward(self, image: Tensor, boxes: Tensor, cells: Tensor, category: int) -> Tensor:
        """Probabilities [N, S, S] of boxes of one class; only the classifiers learn."""
        with torch.no_grad():
            pool2 = self.first(image)
            conv4 = self.middle(pool2)
            fc7 = self.head(self.pool(self.last(conv4), cells))
        rows = slice(CELLS * category, CELLS * category + CELLS)
        maps = [self.pool2(pool2 * 0.0074)[:, rows], self.conv4(conv4 * 0.0909)[:, rows]]
        at = (torch.arange(SIDE) + 0.5) / SIDE
        low, high = boxes[:, 2:4, None], boxes[:, 4:6, None]
        x, y = (2 * (low + (high - low) * at) - 1).unbind(1)
        grid = torch.stack([x[:, None].expand(-1, SIDE, -1), y[:, :, None].expand(-1, -1, SIDE)], -1)
        crops = [
            F.grid_sample(one.expand(len(boxes), -1, -1, -1), grid, padding_mode="border", align_corners=False)
            for one in maps
        ]
        scores = crops[0] + crops[1] + self.fc7(fc7)[:, rows, None, None]
        found: Tensor = (scores.sigmoid() * self.weights).sum(1)
        return found


def sds_training(rounds: int) -> Iterator[tuple[str, float, float, float, str]]:
    """Updates of AlexNet's hypercolumns on pictures in files, against a hand-written loop on data in memory."""
    rounds = min(rounds, 3)
    with tempfile.TemporaryDirectory() as folder:
        imdb = _with_masks(database(Path(folder)))
        config = Config(sds=SdsConfig(target_size=HEIGHT))
        solver = _solver(Path(folder))
        layer = next(node.layer for node in solver.net.nodes if isinstance(node.layer, HypercolumnData))
        layer.feed(box_batches(imdb, replace(layer.settings, max_size=HEIGHT), config), 2)
        step = _hand_written(solver.net, [torch.from_numpy(blob) for blob in layer.read(0)])
        step()
        solver.step(1)
        times = np.array([[_seconds(lambda: solver.step(1)), _seconds(step)] for _ in range(rounds)])
        layer.close()
    clock, processor = times[:, :, 0], times[:, :, 1]
    label = f"update of hypercolumns, {UPDATE} x {HEIGHT} x {WIDTH} with 5 boxes"
    for what, found in ((label, clock), ("  by the processor's time", processor)):
        mine, theirs = np.median(found, axis=0).tolist()
        yield what, mine, theirs, float(np.median(found[:, 0] / found[:, 1])), "<= 1.10"


def _seconds(function: Callable[[], object]) -> tuple[float, float]:
    """On the clock, and of the processor."""
    start = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def _with_masks(imdb: ImageDatabase) -> ImageDatabase:
    """The same in colour, with most of each box as its object's pixels."""
    records = []
    for record in imdb.records:
        boxes = np.asarray(record.boxes, np.int64)
        masks = np.zeros((len(boxes), HEIGHT, WIDTH), np.bool_)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.tolist(), strict=True):
            mask[y1 + (y2 - y1) // 8 : y2, x1 + (x2 - x1) // 8 : x2] = True
        records.append(replace(record, paths={"images": record.paths["hha"]}, masks=partial(np.copy, masks)))
    return ImageDatabase(imdb.name, imdb.classes, ("images",), records, imdb.proposals)


def _solver(folder: Path) -> SGDSolver:
    param = caffe_pb2.SolverParameter(
        train_net=str(prototxt() / "sds" / "alexnet_rgb" / "train.prototxt"),
        base_lr=1e-4,
        lr_policy="fixed",
        momentum=0.9,
        weight_decay=1e-3,
        iter_size=UPDATE,
        random_seed=1,
        snapshot_prefix=str(folder / "bench"),
    )
    solver = SGDSolver(param)
    for node in solver.net.nodes:
        for blob in node.layer.blobs:
            blob.data.normal_(0, 0.01)
    return solver


def _hand_written(net: Net, batch: list[Tensor]) -> Callable[[], None]:
    model = _Hypercolumns(len(CLASSES))
    peers.copy_weights(net, model)
    heads = [model.pool2, model.conv4, model.fc7]
    groups = [{"params": [one.weight for one in heads], "lr": 1e-4, "weight_decay": 1e-3}]
    groups += [{"params": [one.bias for one in heads], "lr": 2e-4, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=1e-4, momentum=0.9)
    image, boxes, cells, category, labels, weights = batch
    boxes, cells, labels, weights = boxes.flatten(1), cells.flatten(1), labels[:, 0], weights.flatten()

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(UPDATE):
            found = model(image, boxes, cells, int(category.flatten()[0]))
            pixels = F.binary_cross_entropy(found.clamp(1e-7, 1 - 1e-7), labels, reduction="none").sum((1, 2))
            ((pixels * weights).sum() / len(boxes) / UPDATE).backward()
        optimizer.step()

    return step
