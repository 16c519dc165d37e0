"""Regression targets of regions, and the means and standard deviations that normalise them.

Source: ``roi_data_layer/roidb.py`` of the ``distillation`` branch.  Targets are float32 and statistics float64, and
computed in the branch's order, so that they agree with it in the last digit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from caffe_compat.config import Config
from caffe_compat.detection.boxes import bbox_transform
from caffe_compat.detection.roidb import RoiImage
from caffe_compat.evaluation.overlaps import box_overlaps

__all__ = ["LEAST_STD", "TargetStatistics", "normalised", "raw_targets", "target_statistics"]

LEAST_STD = 1e-6
"""Standard deviations are at least this: the branch divides by 0 where all examples of a class agree (or by NaN)."""


@dataclasses.dataclass(frozen=True, eq=False)
class TargetStatistics:
    """What targets are normalised by.

    Args:
        means, stds: float64 [C, 4], of dx, dy, dw, dh for each label; label 0 is the background, which has no targets.
        counts: int64 [C], examples of each label.
    """

    means: np.ndarray
    stds: np.ndarray
    counts: np.ndarray


def raw_targets(image: RoiImage, config: Config, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Targets of the regions of an image that teach regression: those that overlap an object by TRAIN.BBOX_THRESH.

    Each is to become the object that it overlaps most, of any class.

    Args:
        rows: regions that are asked for; None: all.

    Returns:
        int32 [N], label that is learned from, 0 for those that teach nothing; float32 [N, 4], 0 there.
    """
    wanted = np.arange(len(image.boxes)) if rows is None else rows
    labels, targets = np.zeros(len(wanted), np.int32), np.zeros((len(wanted), 4), np.float32)
    objects = np.flatnonzero((image.gt_classes > 0) & (image.max_overlaps == 1))  # not the crowds
    examples = np.flatnonzero(image.max_overlaps[wanted] >= config.train.bbox_thresh)
    if not len(objects) or not len(examples):
        return labels, targets
    boxes, gt = image.boxes[wanted[examples]], image.boxes[objects]
    nearest = box_overlaps(boxes, gt).argmax(1)
    labels[examples] = image.max_classes[wanted[examples]]
    targets[examples] = bbox_transform(boxes, gt[nearest], config.eps)
    return labels, targets


def target_statistics(images: Iterable[RoiImage], classes: int, config: Config) -> TargetStatistics:
    """Mean and standard deviation of the targets of each class.

    A class without examples has the standard deviation 1, another at least :data:`LEAST_STD`.

    Args:
        images: all, with the mirror images.
        classes: number of labels, with the background.
    """
    counts = np.zeros(classes, np.int64)
    sums, squares = np.zeros((classes, 4)), np.zeros((classes, 4))
    for image in images:
        labels, targets = raw_targets(image, config)
        for label in np.unique(labels[labels > 0]):
            found = targets[labels == label]
            counts[label] += len(found)
            sums[label] += found.sum(0)
            squares[label] += (found**2).sum(0)
    weights = counts[:, None] + config.eps
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.where(counts[:, None] > 0, sums / weights, 0)
        variances = np.where(counts[:, None] > 0, squares / weights - means**2, 1)
    stds = np.maximum(np.sqrt(np.maximum(variances, 0)), LEAST_STD)
    return TargetStatistics(means, stds, counts)


def normalised(labels: np.ndarray, targets: np.ndarray, statistics: TargetStatistics) -> np.ndarray:
    """Targets less the mean of their class, in its standard deviations.

    Args:
        labels: int [N]; rows of label 0 stay as they are.
        targets: float32 [N, 4].

    Returns:
        float32 [N, 4].
    """
    centred = (targets - statistics.means[labels]).astype(np.float32)
    scaled = (centred / statistics.stds[labels]).astype(np.float32)
    return np.where(labels[:, None] > 0, scaled, targets)
