"""The benchmark of a detector's training."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_compat.commands.measurements import peers
from caffe_compat.commands.measurements.timing import alternate
from caffe_compat.config import Config, TrainConfig
from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.detection.checks import region_layers
from caffe_compat.detection.training import DetectorRun, detector_solver
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2
from caffe_compat.resources import prototxt

__all__ = ["database", "detector"]

HEIGHT, WIDTH, IMAGES, OBJECTS, PROPOSALS, LABELS = 480, 640, 8, 8, 2000, 20
CLASSES = tuple(f"class {k}" for k in range(1, LABELS))


def detector(rounds: int) -> Iterator[tuple[str, float, float, float, str]]:
    """One iteration of training AlexNet on pictures in files, against a hand-written loop on data in memory."""
    with tempfile.TemporaryDirectory() as folder:
        imdb = database(Path(folder))
        train = TrainConfig(scales=(HEIGHT,), bg_thresh_lo=0.0, bbox_pred_param_names=("da_bbox_pred",))
        param = caffe_pb2.SolverParameter(
            train_net=str(prototxt() / "detection" / "alexnet_hha" / "train.prototxt"),
            base_lr=1e-4,
            lr_policy="fixed",
            momentum=0.9,
            weight_decay=5e-4,
            random_seed=1,
            snapshot_prefix=str(Path(folder) / "bench"),
        )
        solver = detector_solver(param, DetectorRun(imdb, Config(train=train)))
        layer = region_layers(solver.net)[0]
        batch = [torch.from_numpy(array) for array in layer.read(0)]
        times = alternate(lambda: solver.step(1), _hand_written(solver.net, batch), rounds)
        start, waited = time.perf_counter(), layer.waited
        solver.step(2 * rounds)
        seconds, waited = time.perf_counter() - start, layer.waited - waited
        layer.close()
    yield f"Fast R-CNN iteration, 2 x {HEIGHT} x {WIDTH}, {len(batch[1])} regions", *times, "<= 1.10"
    yield f"of {2 * rounds} iterations, waiting for pictures", waited, seconds, waited / seconds, "<= 0.02"


def database(folder: Path, images: int = IMAGES) -> ImageDatabase:
    """Drawn pictures; proposals about objects, and anywhere."""
    rng = np.random.default_rng(0)
    records, proposals = [], {}
    for number in range(images):
        path = folder / f"{number}.png"
        picture = cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), (WIDTH, HEIGHT))
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        boxes = _boxes(rng, OBJECTS)
        near = boxes[np.arange(PROPOSALS // 4) % OBJECTS] + rng.integers(-8, 9, (PROPOSALS // 4, 4))
        near = near.clip(0, [WIDTH - 2, HEIGHT - 2, WIDTH - 1, HEIGHT - 1])
        name = f"img_{number}"
        proposals[name] = np.concatenate([near, _boxes(rng, PROPOSALS - len(near))]).astype(np.float32)
        labels = tuple(CLASSES[k] for k in rng.integers(0, len(CLASSES), OBJECTS))
        records.append(FrameRecord(name, {"hha": str(path)}, size=(HEIGHT, WIDTH), boxes=boxes, classes=labels))
    return ImageDatabase("bench", CLASSES, ("hha",), records, lambda record: proposals[record.name])


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.integers(0, (WIDTH - 200, HEIGHT - 200), (count, 2))
    return np.concatenate([corners, corners + rng.integers(40, 199, (count, 2))], 1).astype(np.float32)


def _hand_written(net: Net, batch: list[Tensor]) -> Callable[[], None]:
    model = peers.AlexNetDetector(LABELS)
    peers.copy_weights(net, model)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "lr": 1e-4, "weight_decay": 5e-4},
        {"params": [p for p in model.parameters() if p.dim() == 1], "lr": 2e-4, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=1e-4, momentum=0.9)
    data, rois, labels, targets, weights = batch

    def step() -> None:
        optimizer.zero_grad()
        scores, deltas = model(data, rois)
        moved = F.smooth_l1_loss(weights * deltas, weights * targets, reduction="sum") / len(rois)
        loss = 0.5 * F.cross_entropy(scores, labels.long()) + 0.5 * moved
        loss.backward()
        optimizer.step()
        loss.item()

    return step
