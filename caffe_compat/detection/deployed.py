"""A detector that was exported, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.config import Config
from caffe_compat.deploy import Session
from caffe_compat.detection.inference import Answer, Question, input_names
from caffe_compat.errors import NetError, UsageError
from caffe_compat.media import Preprocessing

__all__ = ["DeployedDetector", "detector_options", "modality_key"]


class DeployedDetector:
    """Answers for images as :class:`~caffe_compat.detection.inference.Detector` does.

    Args:
        session: of a model with inputs ``data`` (``data_1``, ...) and ``rois`` (``rois_1``, ...).
        labels: number of classes with the background.
        config: TEST.SVM and TEST.BBOX_REG are read.
        blobs: of scores and of deltas; None: ``cls_prob`` (``cls_score`` with TEST.SVM) and ``bbox_pred``.

    Raises:
        NetError: inputs or outputs are missing, or have other sizes.
    """

    def __init__(
        self, session: Session, labels: int, config: Config, blobs: tuple[str | None, str | None] = (None, None)
    ) -> None:
        self.session, self.labels = session, labels
        self.several = "rois_1" in session.inputs
        self.scores = blobs[0] or ("cls_score" if config.test.svm else "cls_prob")
        self.deltas = (blobs[1] or "bbox_pred") if config.test.bbox_reg else None
        self.modalities = sum(len(value.shape) == 4 for value in session.inputs.values())
        expected = input_names(self.modalities, self.several)
        if sorted(session.inputs) != sorted(expected):
            raise NetError(
                f"the model takes the inputs {', '.join(session.inputs)}; a detector takes {', '.join(expected)}"
            )
        self._check(self.scores, labels)
        if self.deltas is not None:
            self._check(self.deltas, 4 * labels)

    def __call__(self, question: Question) -> Answer:
        """Run the model.

        Raises:
            NetError: scores or deltas that are not finite; names the blob.
            CaffeCompatError: as the session.
        """
        count = len(question.first)
        wanted = [self.scores] + ([self.deltas] if self.deltas is not None else [])
        found = self.session(question.blobs, wanted)
        for name in wanted:
            bad = int(found[name].size - np.isfinite(found[name]).sum())
            if bad:
                raise NetError(f"{bad} of {found[name].size} numbers in blob '{name}' are NaN or infinite")
        scores, *deltas = (np.asarray(found[name], np.float32).reshape(count, -1) for name in wanted)
        return scores, deltas[0] if deltas else None

    def _check(self, name: str, count: int) -> None:
        if name not in self.session.outputs:
            raise NetError(f"the model has no output '{name}', it gives {', '.join(self.session.outputs)}")
        sizes = self.session.outputs[name].shape[1:]
        have = int(np.prod([size for size in sizes if isinstance(size, int)]))
        if all(isinstance(size, int) for size in sizes) and have != count:
            raise NetError(
                f"output '{name}' has {have} numbers for a region, expected {count}: {count // self.labels} for each "
                f"of {self.labels - 1} classes and the background"
            )


def detector_options(wanted: Sequence[Preprocessing]) -> list[str]:
    """The scales and the mean that a model carries, as ``KEY VALUE`` pairs of the fast-rcnn tools' options.

    Args:
        wanted: of its pictures, in their order.

    Raises:
        UsageError: a detector that these tools cannot feed: another order of channels, no mean of channels, a crop.
    """
    first = wanted[0]
    for one in wanted:
        if len(one.mean or ()) != 3 or one.scale != 1 or one.crop or one.order != [0, 1, 2]:
            raise UsageError(
                "a detector is fed pictures in the order of the file less one mean for each of 3 channels, not cut; "
                f"the model wants {one}"
            )
    means = tuple(tuple(map(float, one.mean or ())) for one in wanted)
    found = ["PIXEL_MEANS", str(means[0])]
    found += ["MODALITY_MEANS", str(means)] if len(set(means)) > 1 else []
    sides = tuple((one.short_side,) for one in wanted)
    if all(side for (side,) in sides):
        found += ["TEST.SCALES", str(sides[0])]
        found += ["TEST.MODALITY_SCALES", str(sides)] if len(set(sides)) > 1 else []
        found += ["TEST.MAX_SIZE", str(first.longest_side)] if first.longest_side else []
    return found


def modality_key(wanted: Preprocessing) -> str:
    """What the proposer calls pictures of a modality."""
    return "images" if wanted.modality == "color" else wanted.modality
