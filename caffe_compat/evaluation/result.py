"""What an evaluation says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

__all__ = ["FALSE", "IGNORED", "TRUE", "Evaluation", "Matches", "SplitMeans", "VideoEvaluation"]

TRUE, FALSE, IGNORED = 1, 0, -1
"""What a detection is: the first to find its object; a wrong or second one; neither, by a difficult object or in a
crowd."""


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """What every detection of every image was taken for; arrays of one length, one entry a detection.

    Args:
        image: int64, position of the image in the order of ``process``.
        label: int64, position in the evaluation's classes.
        row: int64, which of the image's detections of that class.
        score: float32.
        overlap: float64, with the object of its class that it overlaps most; 0 where there is none.
        truth: int64, which of the image's objects that is; -1: none of its class.
        verdict: int8: :data:`TRUE`, :data:`FALSE` or :data:`IGNORED`.
    """

    image: np.ndarray
    label: np.ndarray
    row: np.ndarray
    score: np.ndarray
    overlap: np.ndarray
    truth: np.ndarray
    verdict: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class VideoEvaluation:
    """How good the tubes are that detections of frames link to; see :mod:`.tubes`.

    Args:
        classes: names, without the background.
        thresholds: of the mean overlap over a clip, from which on a tube is right.
        area: float64 [thresholds, C], under each class's curve; NaN where there are no clips of it, or no wrong tubes.
        mean: float64 [thresholds], of these over the classes that have one.
        area_of_mean: float64 [thresholds], under the mean of the classes' curves: what ActionTubes reports.
        curves: of each threshold false rate and true rate of the mean curve.
        class_curves: of each threshold those of each class.
        clips: int64 [C], to be found.
        tubes: int64 [C], that count.
        gaps: int64 [C], clips of any class in which a frame has no box of this class, so that nothing can be linked.
    """

    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    area: np.ndarray
    mean: np.ndarray
    area_of_mean: np.ndarray
    curves: tuple[tuple[np.ndarray, np.ndarray], ...]
    class_curves: tuple[tuple[tuple[np.ndarray, np.ndarray], ...], ...]
    clips: np.ndarray
    tubes: np.ndarray
    gaps: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """How good detections are, by class.

    Args:
        metric: the rule's name.
        classes: names, without the background.
        ap: float64 [C], average precision, 0 to 1; NaN for a class without ground truth.
        precision, recall, scores: of each class float64 [n]: the curve, and the score down to which detections count
            at each of its points.  NaN recall where there is no ground truth.
        ground_truth: int64 [C], objects to be found (without difficult ones and crowds).
        detections: int64 [C], boxes that were looked at.
        mean: of ``ap`` over the classes with ground truth; in parity with the branch over all, so NaN if one has none.
        images: how many.
        threshold: of the overlap; 0: averaged over several, as COCO does.
        summary: more figures by name, such as COCO's.
        matches: each detection's verdict, if the rule makes one.
        video: of the tubes, if the rule links some.
    """

    metric: str
    classes: tuple[str, ...]
    ap: np.ndarray
    precision: tuple[np.ndarray, ...]
    recall: tuple[np.ndarray, ...]
    scores: tuple[np.ndarray, ...]
    ground_truth: np.ndarray
    detections: np.ndarray
    mean: float
    images: int
    threshold: float
    summary: Mapping[str, float] = dataclasses.field(default_factory=dict)
    matches: Matches | None = None
    video: VideoEvaluation | None = None

    @property
    def without_truth(self) -> tuple[str, ...]:
        """Classes that no object of the images belongs to: no average precision can be said of them."""
        return tuple(name for name, count in zip(self.classes, self.ground_truth, strict=True) if count == 0)


@dataclasses.dataclass(frozen=True, eq=False)
class SplitMeans:
    """Evaluations by one rule, one a split.

    Args:
        names: of the splits.
        classes: names, without the background.
        metric: the rule.
        threshold: of the overlap; None: averaged over several.
        ap: float64 [S, C], 0 to 1; NaN for a class without ground truth in the split.
        means: float64 [S], of each split, as it was evaluated.
        video: float64 [S, K], the area under the mean curve of tubes, where all splits have one; else [S, 0].
        thresholds: of ``video``.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    metric: str
    threshold: float | None
    ap: np.ndarray
    means: np.ndarray
    video: np.ndarray
    thresholds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the splits' means: the figure of the papers.  NaN where a split has none."""
        return float(self.means.mean())

    @property
    def class_means(self) -> np.ndarray:
        """float64 [C], over the splits that have ground truth of the class; NaN where none has."""
        known = ~np.isnan(self.ap)
        total = np.where(known, self.ap, 0).sum(0)
        found = np.full(len(self.classes), np.nan)
        return np.asarray(np.divide(total, known.sum(0), out=found, where=known.any(0)))
