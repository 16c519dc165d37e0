"""Actions in clips: average precision of the boxes of frames, and the tubes that they link to."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError
from caffe_compat.evaluation.average import AveragePrecision
from caffe_compat.evaluation.checks import object_labels
from caffe_compat.evaluation.result import Evaluation, VideoEvaluation
from caffe_compat.evaluation.tubes import link_boxes, mean_roc, roc, tube_overlap

__all__ = ["TUBE_THRESHOLDS", "ActionAverage"]

TUBE_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Of the mean overlap over a clip: those of ActionTubes' figures."""
_TUBES = 3
"""Of a class in a clip these best count."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Frame:
    """A frame of a clip: who acts in it (float [4]), and what was found, class by class."""

    name: str
    box: np.ndarray
    detections: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class _Linked:
    """A tube: of which class, in a clip of which class, its score, its overlap with the one who acts, the clip."""

    label: int
    truth: int
    score: float
    overlap: float
    clip: int


class ActionAverage:
    """Frame AP as in "Finding Action Tubes", and the area under the ROC curve of its released script.

    Frame AP: the detections of a class over all frames by falling score; one is right if its overlap with the frame's
    box reaches the threshold, the frame's action is the class, and none before found that box.  Frames of other actions
    are there to be wrong in.  The average precision is the area under the whole curve.

    Tubes: of each class and clip the three best (:func:`~.tubes.link_boxes`).  A tube is right if the clip is of the
    class, none better found it, and its overlap with the box of who acts, averaged over the frames, reaches a
    threshold.  Clips are taken in alphabetic order, as the script does, for tubes of the same score.

    Args:
        classes: the actions.
        parity: for frames see :class:`~.average.AveragePrecision`; and a class without clips makes the means over
            classes NaN.
        threshold: of the overlap in frames.

    Raises:
        UsageError: a threshold not above 0 and up to 1.
    """

    def __init__(self, classes: Sequence[str], *, parity: bool = False, threshold: float = 0.5) -> None:
        self.classes, self.parity = tuple(classes), parity
        self._average = AveragePrecision(classes, "voc", parity=parity, threshold=threshold)
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._average.reset()
        self._clips: dict[str, list[_Frame]] = {}
        self._labels: dict[str, int] = {}

    def process(self, record: FrameRecord, detections: Sequence[np.ndarray]) -> None:
        """Take one frame.

        Args:
            record: with one object, and its clip as ``scene``; of a clip the names are in the order of time.
            detections: of each class float32 [n, 5]: x1 y1 x2 y2 score, after suppression of what overlaps.

        Raises:
            DataError: what :class:`~.average.AveragePrecision` refuses; not one object; no clip; a clip of two actions.
        """
        self._average.process(record, detections)
        labels = object_labels(record, self.classes)
        if record.boxes is None or len(labels) != 1:
            raise DataError(f"image {record.name}: shows {len(labels)} objects, expected the one who acts")
        if not record.scene:
            raise DataError(f"image {record.name}: does not say of which clip it is")
        first = self._labels.setdefault(record.scene, int(labels[0]))
        if first != labels[0]:
            shown = f"{self.classes[labels[0]]}, another frame of clip {record.scene} {self.classes[first]}"
            raise DataError(f"image {record.name}: shows {shown}; expected one action a clip")
        frame = _Frame(record.name, record.boxes[0], tuple(detections))
        self._clips.setdefault(record.scene, []).append(frame)

    def evaluate(self, threshold: float | None = None) -> Evaluation:
        """What the frames so far amount to; ``summary`` has the area under the mean curve at each threshold.

        Args:
            threshold: of the overlap in frames, if another than the evaluator's.
        """
        found, video = self._average.evaluate(threshold), self._video()
        summary = {
            f"video AUC from {least:g}": float(area)
            for least, area in zip(video.thresholds, video.area_of_mean, strict=True)
        }
        return dataclasses.replace(found, metric="action", summary=summary, video=video)

    def _video(self) -> VideoEvaluation:
        count = len(self.classes)
        linked, gaps = self._link()
        wanted = np.bincount(list(self._labels.values()), minlength=count)
        tubes = np.bincount([tube.label for tube in linked], minlength=count)
        area, means, curves, class_curves = [], [], [], []
        for threshold in TUBE_THRESHOLDS:
            of_class = [_judge([tube for tube in linked if tube.label == c], threshold) for c in range(count)]
            found = [roc(*of_class[c], int(wanted[c])) for c in range(count)]
            area.append([one[2] for one in found])
            counted = [one[:2] for one in found if self.parity or not np.isnan(one[2])]
            mean = mean_roc(counted)
            complete = not (self.parity and np.isnan(area[-1]).any())
            means.append(mean[2] if complete else float("nan"))
            curves.append(mean[:2])
            class_curves.append(tuple(one[:2] for one in found))
        areas = np.array(area, np.float64).reshape(len(TUBE_THRESHOLDS), count)
        return VideoEvaluation(
            classes=self.classes,
            thresholds=TUBE_THRESHOLDS,
            area=areas,
            mean=np.array([_mean(row, self.parity) for row in areas]),
            area_of_mean=np.array(means),
            curves=tuple(curves),
            class_curves=tuple(class_curves),
            clips=wanted,
            tubes=tubes,
            gaps=np.array([gaps[c] for c in range(count)], np.int64),
        )

    def _link(self) -> tuple[list[_Linked], Counter[int]]:
        """The tubes of all clips; and for each class the clips in which nothing can be linked."""
        linked, gaps = [], Counter[int]()
        names = sorted(self._clips)
        for number, name in enumerate(tqdm(names, desc="tubes", unit="clip", disable=None, leave=False)):
            frames = sorted(self._clips[name], key=lambda frame: frame.name)
            truth = np.stack([frame.box for frame in frames])
            for c in range(len(self.classes)):
                boxes = [frame.detections[c] for frame in frames]
                gaps[c] += not all(map(len, boxes))
                for tube in link_boxes(boxes, _TUBES):
                    overlap = tube_overlap(boxes, tube, truth)
                    linked.append(_Linked(c, self._labels[name], tube.score, overlap, number))
        return linked, gaps


def _judge(tubes: Sequence[_Linked], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores float64 [n] of a class's tubes, clip by clip and by falling score, and which are right, bool [n]."""
    found: set[int] = set()
    right = np.zeros(len(tubes), bool)
    for row, tube in enumerate(tubes):
        if tube.truth == tube.label and tube.overlap >= threshold and tube.clip not in found:
            found.add(tube.clip)
            right[row] = True
    return np.array([tube.score for tube in tubes], np.float64), right


def _mean(areas: np.ndarray, parity: bool) -> float:
    counted = areas if parity else areas[~np.isnan(areas)]
    return float(counted.mean()) if len(counted) else float("nan")
