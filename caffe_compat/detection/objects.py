"""The objects that a detector sees in one picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from caffe_compat.config import Config
from caffe_compat.detection.inference import Answer, Question, answer, ask
from caffe_compat.detection.nms import nms

__all__ = ["Found", "find_objects", "name_objects"]


@dataclasses.dataclass(frozen=True)
class Found:
    """An object.

    Args:
        name: of its class.
        score: how sure that is.
        box: x1 y1 x2 y2 in pixels from 0, last pixel included.
    """

    name: str
    score: float
    box: tuple[float, float, float, float]


def find_objects(
    detector: Callable[[Question], Answer],
    images: Sequence[np.ndarray],
    boxes: np.ndarray,
    classes: Sequence[str],
    config: Config,
) -> list[Found]:
    """All boxes of all classes that suppression leaves, the surest first.

    Args:
        detector: a :class:`~caffe_compat.detection.inference.Detector`.
        images: uint8 [H, W, 3], one of each modality.
        boxes: [N, 4], proposals.
        classes: names, without the background.
        config: TEST is read.
    """
    question = ask(images, boxes, config, getattr(detector, "several", False))
    return name_objects(*answer(question, detector(question), config), classes, config)


def name_objects(scores: np.ndarray, moved: np.ndarray, classes: Sequence[str], config: Config) -> list[Found]:
    """What suppression leaves of all boxes of all classes, the surest first.

    Args:
        scores: [N, L] of each label, of which 0 is the background.
        moved: [N, 4 L], the box for each label.
        classes: names, without the background.
        config: TEST.NMS and PARITY are read.
    """
    found = []
    for label, name in enumerate(classes, start=1):
        dets = np.hstack((moved[:, 4 * label : 4 * label + 4], scores[:, label : label + 1])).astype(np.float32)
        for x1, y1, x2, y2, score in dets[nms(dets, config.test.nms, config.parity)].tolist():
            found.append(Found(name, score, (x1, y1, x2, y2)))
    return sorted(found, key=lambda one: -one.score)
