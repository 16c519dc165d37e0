"""Evaluations as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_compat.evaluation.result import Evaluation, VideoEvaluation

__all__ = ["absent_classes", "branch_text", "percent", "table"]


def branch_text(classes: Sequence[str], ap: np.ndarray, mean: float) -> str:
    """The distillation branch's ``eval.txt``: a line for each class, average precision in percent, and their mean."""
    return "".join(
        f"{name:<20s}:{100 * value:10.6f}\n" for name, value in zip([*classes, "mean"], [*ap, mean], strict=True)
    )


def table(evaluation: Evaluation) -> str:
    """What a terminal shows: objects, detections and average precision of each class, in percent."""
    width = max(len(name) for name in (*evaluation.classes, "class", "mean"))
    rows = [f"{'class':<{width}}  {'objects':>8}  {'detections':>10}  {'AP':>6}"]
    for name, truths, found, ap in zip(
        evaluation.classes, evaluation.ground_truth, evaluation.detections, evaluation.ap, strict=True
    ):
        rows.append(f"{name:<{width}}  {truths:>8d}  {found:>10d}  {percent(ap)}")
    total = (int(evaluation.ground_truth.sum()), int(evaluation.detections.sum()))
    rows.append(f"{'mean':<{width}}  {total[0]:>8d}  {total[1]:>10d}  {percent(evaluation.mean)}")
    rows.append(f"{evaluation.metric} rule, {_overlap(evaluation)}, {evaluation.images} images")
    if evaluation.video is None:
        rows += [f"{name} {100 * value:.1f}" for name, value in evaluation.summary.items() if not np.isnan(value)]
    rows += absent_classes(evaluation)
    if evaluation.video is not None:
        rows += _video_rows(evaluation.video)
    return "\n".join(rows)


def _video_rows(video: VideoEvaluation) -> list[str]:
    """Clips, tubes and the area under the curve of each class at each threshold, in percent (60 is the most)."""
    width = max(len(name) for name in (*video.classes, "mean of classes"))
    heads = "".join(f"  from {least:g}" for least in video.thresholds)
    rows = [f"{'video AUC':<{width}}  {'clips':>6}  {'tubes':>6}{heads}"]
    for c, name in enumerate(video.classes):
        areas = "".join(f"  {percent(value, 8)}" for value in video.area[:, c])
        rows.append(f"{name:<{width}}  {video.clips[c]:>6d}  {video.tubes[c]:>6d}{areas}")
    totals = f"  {int(video.clips.sum()):>6d}  {int(video.tubes.sum()):>6d}"
    for name, values in (("mean of classes", video.mean), ("mean curve", video.area_of_mean)):
        rows.append(f"{name:<{width}}{totals}" + "".join(f"  {percent(value, 8)}" for value in values))
    gaps = int(video.gaps.sum())
    if gaps:
        pairs = int(video.clips.sum()) * len(video.classes)
        rows.append(
            f"no tube for {gaps} of {pairs} pairs of class and clip: a frame has no box of the class (a larger "
            "TEST.MAX_PER_SET_F keeps more)"
        )
    return rows


def absent_classes(evaluation: Evaluation) -> list[str]:
    """A line that names the classes without an object and says what that does to the mean; none where all have one."""
    if not evaluation.without_truth:
        return []
    taken = "makes the mean NaN" if np.isnan(evaluation.mean) else "not in the mean"
    return [f"without an object, so {taken}: {', '.join(evaluation.without_truth)}"]


def percent(value: float, width: int = 6) -> str:
    """A number of a table in percent, a dash for NaN, ``width`` characters wide."""
    return f"{'-':>{width}}" if np.isnan(value) else f"{100 * value:{width}.2f}"


def _overlap(evaluation: Evaluation) -> str:
    return f"overlap from {evaluation.threshold:g}" if evaluation.threshold else "overlaps from 0.5 to 0.95"
