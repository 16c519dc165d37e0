"""COCO's average precision, computed by faster-coco-eval (COCO's own code in C++, with the same numbers).

pycocotools would do too, but takes a Python call for every image, class and range of areas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError
from caffe_compat.evaluation.checks import check_detections, check_threshold, object_labels
from caffe_compat.evaluation.result import Evaluation

__all__ = ["CocoAverage"]

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""To the last bit COCO's own."""
AREAS = ("all", "small", "medium", "large")
"""Up to 32 x 32, up to 96 x 96, and larger pixels."""
MOST = (1, 10, 100)
"""Detections of a class in an image that count."""
_BEYOND = 1e11
"""An area beyond every range: COCO then looks at neither the object nor what finds it."""


class CocoAverage:
    """COCO's rule: a detection takes the free object of its class that it overlaps most.

    Average precision is averaged over ten thresholds, 0.5 to 0.95, and read at 101 recalls.  Crowds are COCO's;
    difficult objects, which COCO does not know, are neither wanted nor punished.  At most 100 detections of a class
    count in an image.  An object's area is what the record says, else that of its mask, else of its box.

    Args:
        classes: names, without the background.
        threshold: only this one, instead of the ten.

    Raises:
        UsageError: a threshold not above 0 and up to 1.
    """

    metric = "coco"
    overlap_of = "bbox"  #: what overlaps are of, in COCO's words

    def __init__(self, classes: Sequence[str], threshold: float | None = None) -> None:
        self.classes = tuple(classes)
        self.thresholds = THRESHOLDS if threshold is None else (check_threshold(threshold),)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._names: dict[str, int] = {}
        self._sizes: dict[int, tuple[int, int]] = {}  # height and width, where overlaps are of masks
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []
        self._counts = np.zeros((2, len(self.classes)), np.int64)

    def process(self, record: FrameRecord, detections: Sequence[np.ndarray]) -> None:
        """Take one image; see :meth:`AveragePrecision.process`.

        Raises:
            DataError: as there.
        """
        if record.name in self._names:
            raise DataError(f"image {record.name}: was evaluated before, expected each image once")
        check_detections(record, self.classes, detections)
        labels = object_labels(record, self.classes)
        number = len(self._names) + 1
        self._names[record.name] = number
        self._truth += self._objects(record, number, labels)
        self._counts[1] += [len(found) for found in detections]
        for label, found in enumerate(detections):
            best = found[np.argsort(-found[:, 4], kind="stable")[: MOST[-1]]]
            self._found += (
                {"image_id": number, "category_id": label + 1, "bbox": box, "area": box[2] * box[3], "score": score}
                for box, score in zip(_sided(best), best[:, 4].tolist(), strict=True)
            )

    def evaluate(self) -> Evaluation:
        """What the images so far amount to; ``summary`` holds COCO's twelve figures."""
        precision, recall, scores, points = self._accumulate()
        ap = np.array([_mean(precision[:, :, k, 0, -1]) for k in range(len(self.classes))], np.float64)
        truths = self._counts[0]
        return Evaluation(
            metric=self.metric,
            classes=self.classes,
            ap=ap,
            precision=tuple(precision[0, :, k, 0, -1] if truths[k] else np.zeros(0) for k in range(len(ap))),
            recall=tuple(points if truths[k] else np.zeros(0) for k in range(len(ap))),
            scores=tuple(scores[0, :, k, 0, -1] if truths[k] else np.zeros(0) for k in range(len(ap))),
            ground_truth=truths.copy(),
            detections=self._counts[1].copy(),
            mean=float(np.mean(ap[truths > 0])) if (truths > 0).any() else float("nan"),
            images=len(self._names),
            threshold=self.thresholds[0] if len(self.thresholds) == 1 else 0.0,
            summary=_summary(precision, recall, self.thresholds),
        )

    def _objects(self, record: FrameRecord, image: int, labels: np.ndarray) -> Iterator[dict[str, Any]]:
        if record.boxes is None or not len(labels):
            return
        crowd = np.zeros(len(labels), bool) if record.crowd is None else record.crowd
        difficult = np.zeros(len(labels), bool) if record.difficult is None else record.difficult
        boxes = _sided(record.boxes)
        if record.areas is not None:
            areas = record.areas.tolist()
        elif record.masks is None:
            areas = [width * height for _, _, width, height in boxes]
        else:
            areas = record.masks().sum((1, 2), dtype=np.float64).tolist()
        np.add.at(self._counts[0], labels[~(crowd | difficult)], 1)
        for k, label in enumerate(labels.tolist()):
            yield {
                "image_id": image,
                "category_id": label + 1,
                "bbox": boxes[k],
                "area": _BEYOND if difficult[k] else areas[k],
                "iscrowd": int(crowd[k]),
            }

    def _accumulate(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """COCO's arrays: precision [T, R, C, areas, most], recall [T, C, areas, most], scores as precision; and [R]."""
        points = np.linspace(0.0, 1.0, 101)
        shape = (len(self.thresholds), len(points), len(self.classes), len(AREAS), len(MOST))
        if not self._truth or not self.classes:
            return np.full(shape, -1.0), np.full(shape[:1] + shape[2:], -1.0), np.full(shape, -1.0), points
        sizes = [self._sizes.get(number, (0, 0)) for number in self._names.values()]
        images = [
            {"id": number, "height": height, "width": width}
            for number, (height, width) in zip(self._names.values(), sizes, strict=True)
        ]
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(self.classes)]
        truth = [{**one, "id": k + 1} for k, one in enumerate(self._truth)]
        found = [{**one, "id": k + 1, "iscrowd": 0} for k, one in enumerate(self._found)]
        sets = [COCO({"images": images, "categories": categories, "annotations": rows}) for rows in (truth, found)]
        run = COCOeval_faster(*sets, iouType=self.overlap_of)
        run.params.iouThrs, run.params.recThrs = np.array(self.thresholds), points
        run.params.maxDets = list(MOST)
        run.evaluate()
        run.accumulate()
        precision, recall, scores = (np.asarray(run.eval[name]) for name in ("precision", "recall", "scores"))
        return precision, recall, scores, points


def _sided(boxes: np.ndarray) -> list[list[float]]:
    """Boxes as COCO writes them: left, top, width, height."""
    sided = boxes[:, :4].astype(np.float64)
    sided[:, 2:] += 1 - sided[:, :2]
    rows: list[list[float]] = sided.tolist()
    return rows


def _mean(values: np.ndarray) -> float:
    """Of what COCO could say, which is not -1."""
    said = values[values > -1]
    return float(said.mean()) if said.size else float("nan")


def _summary(precision: np.ndarray, recall: np.ndarray, thresholds: Sequence[float]) -> dict[str, float]:
    found = {"AP": _mean(precision[:, :, :, 0, -1])}
    for k, threshold in enumerate(thresholds):
        if round(100 * threshold) in (50, 75):
            found[f"AP{round(100 * threshold)}"] = _mean(precision[k, :, :, 0, -1])
    found |= {f"AP{name}": _mean(precision[:, :, :, k, -1]) for k, name in enumerate(AREAS) if k}
    found |= {f"AR{most}": _mean(recall[:, :, 0, k]) for k, most in enumerate(MOST)}
    return found | {f"AR{name}": _mean(recall[:, :, k, -1]) for k, name in enumerate(AREAS) if k}
