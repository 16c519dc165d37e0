"""COCO's average precision of masks, computed by faster-coco-eval, as that of boxes is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import mask as coco_mask

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError
from caffe_compat.evaluation.coco import MOST, CocoAverage
from caffe_compat.segmentation.truth import object_masks

__all__ = ["CocoMaskAverage"]


class CocoMaskAverage(CocoAverage):
    """:class:`~caffe_compat.evaluation.coco.CocoAverage` with overlaps of masks, and the areas of masks.

    Args:
        classes: names, without the background.
        threshold: only this one, instead of the ten.
    """

    metric = "coco masks"
    overlap_of = "segm"

    def process(self, record: FrameRecord, detections: Sequence[np.ndarray], masks: np.ndarray | None = None) -> None:
        """Take one image.

        Args:
            record: with its objects and their masks.
            detections: of each class float32 [n, 5]: x1 y1 x2 y2 score.
            masks: bool [N, H, W], of all detections, class by class; must be given.

        Raises:
            DataError: as :meth:`CocoAverage.process`; no masks, or masks of other numbers or sizes.
        """
        truth = object_masks(record, hidden=True)
        count = sum(map(len, detections))
        if masks is None or masks.dtype != bool or masks.shape != (count, *truth.shape[1:]):
            got = "none" if masks is None else f"{masks.dtype} of shape {masks.shape}"
            raise DataError(f"image {record.name}: masks of detections are {got}, expected bool {count} x H x W")
        truths, founds = len(self._truth), len(self._found)
        super().process(record, detections)
        self._sizes[self._names[record.name]] = truth.shape[1], truth.shape[2]
        starts = np.cumsum([0, *map(len, detections)])
        order = [  # as there: the best of each class
            start + np.argsort(-found[:, 4], kind="stable")[: MOST[-1]]
            for start, found in zip(starts, detections, strict=False)
        ]
        chosen = masks[np.concatenate([np.zeros(0, np.int64), *order])]
        for entries, pixels in ((self._truth[truths:], truth), (self._found[founds:], chosen)):
            for entry, runs in zip(entries, _runs(pixels), strict=True):
                entry["segmentation"] = runs
        for entry, mask in zip(self._found[founds:], chosen, strict=True):
            entry["area"] = float(mask.sum())


def _runs(masks: np.ndarray) -> list[dict[str, Any]]:
    """Masks as COCO's run lengths."""
    if not len(masks):
        return []
    runs: list[dict[str, Any]] = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    return runs
