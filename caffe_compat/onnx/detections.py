"""How far detections in low precision are from those in float32.

Which boxes stay hangs on single numbers: near a threshold, or where two boxes overlap and have nearly the same score,
the last bit decides, and the number of rows and their order are others.  So rows are paired before they are compared.
"""

from __future__ import annotations

import numpy as np

from caffe_compat.compare import Difference

__all__ = ["are_rows", "rows_difference"]

_PARTNER = 0.5  #: the least overlap (intersection over union) of two boxes that stand for the same thing


def are_rows(values: np.ndarray) -> bool:
    """Whether these are SSD's rows, 1 x 1 x K x 7: image, label, score and corners."""
    if values.ndim != 4 or values.shape[:2] != (1, 1) or values.shape[3] != 7:
        return False
    numbers, scores = values[0, 0, :, :2], values[0, 0, :, 2]
    return bool((numbers == np.round(numbers)).all() and (numbers >= -1).all() and (scores <= 1).all())


def rows_difference(got: np.ndarray, expected: np.ndarray) -> Difference:
    """The larger of two errors.

    One is the largest difference of the scores of a pair.  The other is the mean of 1 - overlap over all rows of both,
    weighed by their scores; of a row without a partner in the same image, with the same label and half of the area in
    common, it is 1.
    """
    mine, theirs = (rows.reshape(-1, 7).astype(np.float64) for rows in (got, expected))
    mine, theirs = mine[mine[:, 1] >= 0], theirs[theirs[:, 1] >= 0]
    shapes = (got.shape,)
    if not np.isfinite(mine).all():
        return Difference(np.inf, np.inf, shapes, "rows hold NaN or infinity")
    overlaps = _overlaps(theirs, mine)
    free = np.ones(len(mine), bool)
    missing, worst = float(theirs[:, 2].sum() + mine[:, 2].sum()), 0.0
    total = missing
    for row in np.argsort(-theirs[:, 2], kind="stable"):
        left = np.where(free, overlaps[row], 0)
        best = int(left.argmax()) if len(left) else -1
        if best < 0 or left[best] < _PARTNER:
            continue
        free[best] = False
        missing -= left[best] * (theirs[row, 2] + mine[best, 2])
        worst = max(worst, abs(theirs[row, 2] - mine[best, 2]))
    error = max(worst, missing / total if total > 0 else 0.0)
    return Difference(error, error, shapes)


def _overlaps(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs [N, M]; 0 between images and labels."""
    first, second = one[:, None], two[None]
    low, high = np.maximum(first[..., 3:5], second[..., 3:5]), np.minimum(first[..., 5:], second[..., 5:])
    shared = (high - low).clip(0).prod(2)
    areas = [(rows[..., 5:] - rows[..., 3:5]).clip(0).prod(2) for rows in (first, second)]
    union = areas[0] + areas[1] - shared
    same = (first[..., :2] == second[..., :2]).all(2)
    equal = (first[..., 3:] == second[..., 3:]).all(2)  # also without any area
    found = np.where(equal, 1.0, np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
    return np.where(same, found, 0.0)
