"""Detectors that find their regions themselves: Faster R-CNN and R-FCN.

Source: ``lib/fast_rcnn/test.py`` of rbgirshick/py-faster-rcnn, and of soeaver/py-RFCN-priv for boxes that all classes
share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caffe_compat.config import Config
from caffe_compat.deploy.feed import Runner, picture_inputs
from caffe_compat.detection.boxes import bbox_transform_inv, clip_boxes
from caffe_compat.detection.inference import ask
from caffe_compat.errors import NetError, UsageError
from caffe_compat.media import short_side_factor

__all__ = ["INFO", "ProposingDetector", "Scene", "proposes"]

INFO, REGIONS = "im_info", "rois"
EXTENT = 1.0
"""Added to widths and heights of regions before they are moved."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What such a net is fed for one picture.

    Attributes:
        blobs: float32 by input.
        size: height and width of the picture.
        factor: how many times it was enlarged.
    """

    blobs: Mapping[str, np.ndarray]
    size: tuple[int, int]
    factor: float


def proposes(runner: Runner) -> bool:
    """Whether a net takes the size of its picture, and no regions."""
    return INFO in runner.inputs and REGIONS not in runner.inputs


class ProposingDetector:
    """A net, or an exported model, with the inputs ``data`` and ``im_info`` that gives ``rois``.

    Args:
        runner: the net or the model.
        labels: number of classes with the background; None: as many as the net has scores.
        config: TEST.SCALES, TEST.MAX_SIZE, TEST.SVM, TEST.BBOX_REG and PIXEL_MEANS are read.
        blobs: of scores and of deltas; None: ``cls_prob`` (``cls_score`` with TEST.SVM) and ``bbox_pred``.

    Attributes:
        labels: number of classes with the background.

    Raises:
        NetError: inputs or outputs are missing, or have other sizes.
        UsageError: more than one scale.
    """

    def __init__(
        self,
        runner: Runner,
        labels: int | None,
        config: Config,
        blobs: tuple[str | None, str | None] = (None, None),
    ) -> None:
        self.runner, self.config = runner, config
        scores = blobs[0] or ("cls_score" if config.test.svm else "cls_prob")
        self.names = (REGIONS, scores, *([blobs[1] or "bbox_pred"] if config.test.bbox_reg else []))
        pictures = picture_inputs(runner)
        if len(pictures) != 1 or sorted(runner.inputs) != sorted([*pictures, INFO]):
            raise NetError(
                f"the net takes the inputs {', '.join(runner.inputs)}; a detector that finds its regions itself takes "
                f"a picture and {INFO}"
            )
        self.picture = pictures[0]
        for name in self.names:
            if name not in runner.outputs:
                raise NetError(
                    f"the net gives no '{name}'; expected {', '.join(self.names)} (export_onnx --outputs "
                    f"{' '.join(self.names)})"
                )
        if len(config.test.scales) > 1:
            raise UsageError(f"TEST.SCALES has {len(config.test.scales)} scales, the net takes one at a time")
        self.info = _numbers(runner.inputs[INFO].shape[1:]) or 3
        if self.info < 3:
            raise NetError(f"the input '{INFO}' has {self.info} numbers, expected 3 or more")
        have = _numbers(runner.outputs[self.names[1]].shape[1:])
        if labels is not None and have is not None and have != labels:
            raise NetError(
                f"blob '{self.names[1]}' has {have} numbers for a region, expected {labels}: one for each of "
                f"{labels - 1} classes and the background"
            )
        if labels is None and have is None:
            raise NetError(f"it is not known how many classes '{self.names[1]}' has")
        self.labels = labels or have or 0

    def ask(self, image: np.ndarray) -> Scene:
        """What the net is fed for a picture, uint8 [H, W, 3].

        ``im_info`` is height and width of the blob, and how many times the picture was enlarged; where it has more than
        three numbers, as PVANET's, the factor for both sides, and zeros.
        """
        height, width = image.shape[:2]
        test = self.config.test
        data = ask([image], np.zeros((0, 4)), self.config).blobs["data"]
        factor = short_side_factor(height, width, test.scales[0], test.max_size)
        info = [*map(float, data.shape[2:]), factor, factor][: self.info]
        blob = np.array([info + [0.0] * (self.info - len(info))], np.float32)
        return Scene({self.picture: data, INFO: blob}, (height, width), factor)

    def __call__(self, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        """Scores float32 [R, L] of regions and labels, and boxes float64 [R, 4 L] in pixels of the picture.

        Raises:
            NetError: numbers that are not finite, or as many as fit neither one box a region nor one a class.
        """
        found = self.runner(scene.blobs, list(self.names))
        for name in self.names:
            bad = int(found[name].size - np.isfinite(found[name]).sum())
            if bad:
                raise NetError(f"{bad} of {found[name].size} numbers in blob '{name}' are NaN or infinite")
        boxes = np.asarray(found[REGIONS]).reshape(-1, 5)[:, 1:] / scene.factor
        if not len(boxes):  # nothing is large enough
            return np.zeros((0, self.labels), np.float32), np.zeros((0, 4 * self.labels))
        scores, *others = (np.asarray(found[name]).reshape(len(boxes), -1) for name in self.names[1:])
        sizes = [self.labels, *(4 * self.labels for _ in others)]
        deltas = others[0] if others else np.zeros((len(boxes), 4 * self.labels), scores.dtype)
        if deltas.shape[1] == 8:  # of the background and any object
            deltas = np.tile(deltas[:, 4:], (1, self.labels))
        for name, array, wanted in zip(self.names[1:], (scores, deltas), sizes, strict=False):
            if array.shape[1] != wanted:
                raise NetError(f"blob '{name}' has {array.shape[1]} numbers for a region, expected {wanted}")
        if not others:
            return scores, np.tile(boxes.astype(np.float64), (1, self.labels))
        return scores, clip_boxes(bbox_transform_inv(boxes, deltas, EXTENT), scene.size)


def _numbers(shape: Sequence[object]) -> int | None:
    """How many numbers a shape has; None: an axis is open."""
    sizes = [size for size in shape if isinstance(size, int)]
    return int(np.prod(sizes)) if len(sizes) == len(shape) else None
