"""Which priors stand for which ground truth, and which are the hard negatives: SSD's training, without gradients.

Source: weiliu89/caffe, bbox_util.cpp (MatchBBox, FindMatches, MineHardExamples, ApplyNMS).  Where std::sort leaves the
order of equal losses open, the earlier prior comes first here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from caffe_compat.layers.box_coding import areas, overlaps

__all__ = ["IGNORED", "NONE", "Matching", "Mining", "match", "mine"]

NONE, IGNORED = -1, -2  #: of a prior: no ground truth, and not to be used at all
_LEAST = 1e-6  #: an overlap of less is none
_TOO_SMALL = 1e-5  #: boxes of less area are not selected


@dataclass(frozen=True)
class Matching:
    """How boxes and truth are matched: ``match_type``, ``overlap_threshold``, ``ignore_cross_boundary_bbox``."""

    per_prediction: bool
    threshold: float
    inside_only: bool


@dataclass(frozen=True)
class Mining:
    """Which priors train the scores.

    Attributes:
        kind: NONE, MAX_NEGATIVE or HARD_EXAMPLE.
        ratio: negatives for each positive at most; MAX_NEGATIVE.
        overlap: a negative overlaps every box by less; MAX_NEGATIVE.
        samples: of an image; HARD_EXAMPLE.
        nms, top_k: suppression before the selection, unless ``nms`` is 0.
        nms_of_priors: whether that is of the priors, not of the predicted boxes.
    """

    kind: str
    ratio: float
    overlap: float
    samples: int
    nms: float
    top_k: int
    nms_of_priors: bool


def match(boxes: Tensor, truth: Tensor, rule: Matching) -> tuple[np.ndarray, np.ndarray]:
    """For each box (Tensor[P, 4]) the row of its ground truth (Tensor[G, 4]), NONE or IGNORED, and its overlap.

    First each ground truth takes the box that it overlaps most, the best pair first; then, ``per_prediction``, each box
    that is left the ground truth that overlaps it most, from the threshold on.
    """
    found = np.full(len(boxes), NONE)
    if not len(truth):
        return found, np.zeros(len(boxes), np.float32)
    if rule.inside_only:
        found[((boxes < 0) | (boxes > 1)).any(1).numpy()] = IGNORED
    table = overlaps(boxes, truth).float().numpy()
    table = np.where((table > _LEAST) & (found != IGNORED)[:, None], table, np.float32(NONE))
    best = np.maximum(table.max(1), 0)
    left = table.copy()
    for _ in range(len(truth)):
        place, row = np.unravel_index(int(left.argmax()), left.shape)
        if left[place, row] < 0:
            break
        found[place], best[place] = row, left[place, row]
        left[place], left[:, row] = NONE, NONE
    if rule.per_prediction:
        rows = table.argmax(1)
        enough = (found == NONE) & (table.max(1) >= np.float32(rule.threshold))
        found[enough] = rows[enough]
    return found, best


def mine(
    found: np.ndarray,
    best: np.ndarray,
    losses: np.ndarray,
    boxes: Tensor | None,
    rule: Mining,
    open_to: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The matches that stay, and the places of the negatives.

    Args:
        found, best: of :func:`match`.
        losses: of each prior; the largest are selected.
        boxes: what suppression looks at; None without it.
        open_to: which may be selected (bool[P]); None: all.
    """
    hard = rule.kind == "HARD_EXAMPLE"
    eligible = np.ones(len(found), bool) if hard else (found == NONE) & (best < np.float32(rule.overlap))
    places = np.flatnonzero(eligible if open_to is None else eligible & open_to)
    most = rule.samples if hard else int(np.float32((found > NONE).sum()) * np.float32(rule.ratio))
    if boxes is not None:
        picked = places[_suppressed(boxes[places], losses[places], rule)][:most]
    else:
        picked = places[np.argsort(-losses[places], kind="stable")][:most]
    chosen = np.zeros(len(found), bool)
    chosen[picked] = True
    negatives = np.flatnonzero((found == NONE) & chosen)
    return (np.where((found > NONE) & ~chosen, NONE, found) if hard else found), negatives


def _suppressed(boxes: Tensor, losses: np.ndarray, rule: Mining) -> np.ndarray:
    """Places that stay, of the ``top_k`` largest losses, falling."""
    order = np.argsort(-losses, kind="stable")
    if rule.top_k > -1:
        order = order[: rule.top_k]
    order = order[(areas(boxes[order]) >= _TOO_SMALL).numpy()]
    kept: list[int] = []
    while len(order) and not -1 < rule.top_k <= len(kept):
        first, order = order[0], order[1:]
        kept.append(int(first))
        near = overlaps(boxes[first : first + 1], boxes[order])[0].numpy()
        order = order[~(near > np.float32(rule.nms))]
    return np.array(kept, np.int64)


def places_of(matches: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """(image, place, row of its ground truth) of all matched priors of a batch."""
    images = [np.full((found > NONE).sum(), number) for number, found in enumerate(matches)]
    places = [np.flatnonzero(found > NONE) for found in matches]
    rows = [found[found > NONE] for found in matches]
    first, second, third = (torch.from_numpy(np.concatenate(part).astype(np.int64)) for part in (images, places, rows))
    return first, second, third
