"""One linear SVM against the rest, trained on hard negatives that are added a few at a time.

Source: ``tools/train_svms.py`` of fast-rcnn, whose numbers are R-CNN's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from caffe_compat.errors import DataError, UsageError

__all__ = ["ClassSvm", "Fit", "SvmOptions", "require_solver"]


@dataclass(frozen=True)
class SvmOptions:
    """The branch's numbers.

    Args:
        c: weight of the hinge loss.
        bias: the feature that is appended; large, so that the offset is hardly regularised.
        positive_weight: how much more an object counts than a negative.
        target_norm: mean length that features are scaled to.
        scale_images: images that this is measured on.
        negative_iou: a region that overlaps objects of the class less than this is a negative.
        hard: ... and a hard one if its score is above this.
        evict: negatives below this are forgotten after a fit.
        retrain: a class is fitted again when more negatives than this were added.
    """

    c: float = 0.001
    bias: float = 10.0
    positive_weight: float = 2.0
    target_norm: float = 20.0
    scale_images: int = 100
    negative_iou: float = 0.3
    hard: float = -1.0001
    evict: float = -1.1
    retrain: int = 2000


@dataclass(frozen=True, eq=False)
class Fit:
    """One fit of a class.

    Args:
        weights: float32 [D], for features as they are.
        bias: the offset.
        positives, negatives: how many examples.
        loss: the objective: hinge losses, weighted, and half the squared length of weights and offset.
        converged: whether the solver came to its end.
    """

    weights: np.ndarray
    bias: float
    positives: int
    negatives: int
    loss: float
    converged: bool


class ClassSvm:
    """The SVM of one class.

    Args:
        name: of the class.
        scale: factor on features.
        options: the numbers.
        seed: of the solver, which visits examples in random order.

    Attributes:
        fits: all of them, in order.
    """

    def __init__(self, name: str, scale: float, options: SvmOptions, seed: int) -> None:
        self.name, self.scale, self.options = name, scale, options
        self.fits: list[Fit] = []
        self._solver = require_solver()(
            C=options.c,
            class_weight={1: options.positive_weight, -1: 1},
            intercept_scaling=options.bias,
            penalty="l2",
            loss="hinge",
            dual=True,
            random_state=seed,
        )
        self._positives: list[np.ndarray] = []
        self._negatives: list[tuple[np.ndarray, np.ndarray]] = []
        self._added = 0

    @property
    def positives(self) -> int:
        """Objects so far."""
        return sum(map(len, self._positives))

    def add_positives(self, features: np.ndarray) -> None:
        """Objects of the class: float32 [N, D]."""
        self._positives.append(features)

    def add_negatives(self, features: np.ndarray, rows: np.ndarray) -> bool:
        """Regions of one image, and which of them are hard negatives; whether it is time for a fit.

        Where most of them are, they are not copied: at first all are, for all classes.
        """
        if len(rows):
            few = 2 * len(rows) < len(features)
            self._negatives.append((features[rows], np.arange(len(rows))) if few else (features, rows))
            self._added += len(rows)
        return self._added > self.options.retrain

    def fit(self) -> Fit:
        """Fit to all examples, then forget the easy negatives, unless all are easy.

        Raises:
            DataError: there are no positives, or no negatives.
        """
        self._added = 0
        negatives = _gathered(self._negatives)
        if not self._positives or not len(negatives):
            what = "no region that is none" if self._positives else "no object"
            raise DataError(f"class '{self.name}': {what} to train on")
        positives = np.concatenate(self._positives)
        values = np.concatenate([positives, negatives]) * np.float32(self.scale)
        signs = np.concatenate([np.ones(len(positives)), -np.ones(len(negatives))])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*converge")  # told by Fit.converged
            self._solver.fit(values, signs)
        weights, bias = self._solver.coef_[0], float(self._solver.intercept_[0])
        scores = values @ weights + bias
        losses = np.maximum(0, 1 - signs * scores)
        each = np.where(signs > 0, self.options.positive_weight, 1) * losses
        loss = float(self.options.c * each.sum() + 0.5 * (weights @ weights + bias**2))
        hard = np.flatnonzero(scores[len(positives) :] >= self.options.evict)
        kept = negatives[hard] if len(hard) else negatives
        self._negatives = [(kept, np.arange(len(kept)))]
        ready = (weights * self.scale).astype(np.float32)
        converged = bool(np.max(self._solver.n_iter_) < self._solver.max_iter)
        self.fits.append(Fit(ready, bias, len(positives), len(negatives), loss, converged))
        return self.fits[-1]


def _gathered(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.concatenate([features[rows] for features, rows in parts]) if parts else np.zeros((0, 0), np.float32)


def require_solver() -> Any:
    """scikit-learn's ``LinearSVC``, which is liblinear.

    Raises:
        UsageError: scikit-learn is not there.
    """
    try:
        return import_module("sklearn.svm").LinearSVC
    except ImportError as error:
        raise UsageError("training SVMs needs scikit-learn: pip install 'caffe_compat[svm]'") from error
