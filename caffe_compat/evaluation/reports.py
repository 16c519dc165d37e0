"""Evaluations as files."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.datasets.mat import write_mat
from caffe_compat.evaluation.detections import BACKGROUND
from caffe_compat.evaluation.plots import write_plot, write_video_plot
from caffe_compat.evaluation.result import Evaluation, VideoEvaluation
from caffe_compat.evaluation.tables import branch_text
from caffe_compat.files import atomic_write, write_file

__all__ = ["write_reports"]


def write_reports(folder: str | os.PathLike[str], evaluation: Evaluation, salt: str = "") -> list[Path]:
    """Write what an evaluation says, each file whole or not at all.

    ``eval.txt`` and ``eval.mat`` are the branch's (``ap``, ``prec``, ``rec`` and ``classes``, of which the first is the
    background, and empty).  ``eval.json`` holds the figures, ``eval.npz`` these and every point of the curves,
    ``eval_curves.csv`` their corners, ``eval_curves.png`` a drawing of them.  Where tubes were linked,
    ``eval_video.csv`` has the area under each class's curve at each threshold, ``eval_video.png`` the curves.

    Args:
        folder: exists.
        evaluation: what to write.
        salt: goes into the names, after ``eval``; the branch's TEST.DET_SALT and TEST.EVAL_SALT.

    Returns:
        The files, in that order.

    Raises:
        WriteError: one cannot be written.
    """
    stem = Path(folder) / f"eval{salt}"
    files = [Path(f"{stem}{ending}") for ending in (".txt", ".mat", ".json", ".npz", "_curves.csv", "_curves.png")]
    write_file(files[0], branch_text(evaluation.classes, evaluation.ap, evaluation.mean))
    write_mat(files[1], _mat(evaluation))
    write_file(files[2], json.dumps(_figures(evaluation), indent=1) + "\n")
    with atomic_write(files[3]) as stream:
        np.savez_compressed(stream, **_arrays(evaluation))  # type: ignore[arg-type]
    write_file(files[4], _csv(evaluation))
    write_plot(files[5], evaluation)
    if evaluation.video is not None:
        files += [Path(f"{stem}_video{ending}") for ending in (".csv", ".png")]
        write_file(files[6], _video_csv(evaluation.video))
        write_video_plot(files[7], evaluation.video)
    return files


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    """Numbers that JSON can hold: null where there is none."""
    video = {} if evaluation.video is None else {"video": _video(evaluation.video)}
    return video | {
        "metric": evaluation.metric,
        "threshold": evaluation.threshold or None,
        "images": evaluation.images,
        "mean": _plain(evaluation.mean),
        "summary": {name: _plain(value) for name, value in evaluation.summary.items()},
        "without_ground_truth": list(evaluation.without_truth),
        "classes": {
            name: {"ap": _plain(ap), "ground_truth": int(truths), "detections": int(found)}
            for name, ap, truths, found in zip(
                evaluation.classes, evaluation.ap, evaluation.ground_truth, evaluation.detections, strict=True
            )
        },
    }


def _video(video: VideoEvaluation) -> dict[str, Any]:
    return {
        "thresholds": list(video.thresholds),
        "mean_of_classes": [_plain(value) for value in video.mean],
        "mean_curve": [_plain(value) for value in video.area_of_mean],
        "classes": {
            name: {
                "auc": [_plain(value) for value in video.area[:, c]],
                "clips": int(video.clips[c]),
                "tubes": int(video.tubes[c]),
                "clips_without_link": int(video.gaps[c]),
            }
            for c, name in enumerate(video.classes)
        },
    }


def _video_csv(video: VideoEvaluation) -> str:
    """A row a class, the mean of the classes, and the mean curve, which has its area; empty where there is none."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("class", "clips", "tubes", *(f"auc_from_{least:g}" for least in video.thresholds)))
    totals = (int(video.clips.sum()), int(video.tubes.sum()))
    lines = [(name, int(video.clips[c]), int(video.tubes[c]), video.area[:, c]) for c, name in enumerate(video.classes)]
    for name, clips, tubes, values in (*lines, ("mean", *totals, video.mean), ("mean curve", *totals,
                                                                             video.area_of_mean)):  # fmt: skip
        rows.writerow((name, clips, tubes, *("" if math.isnan(value) else f"{value:.6g}" for value in values)))
    return text.getvalue()


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _arrays(evaluation: Evaluation) -> dict[str, np.ndarray]:
    none = np.zeros(0)
    return {
        "classes": np.array(evaluation.classes, str),
        "ap": evaluation.ap,
        "mean": np.array(evaluation.mean),
        "ground_truth": evaluation.ground_truth,
        "detections": evaluation.detections,
        "class_index": np.repeat(np.arange(len(evaluation.classes)), [len(rows) for rows in evaluation.precision]),
        "precision": np.concatenate([none, *evaluation.precision]),
        "recall": np.concatenate([none, *evaluation.recall]),
        "scores": np.concatenate([none, *evaluation.scores]),
    }


def _mat(evaluation: Evaluation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, values in (
        ("ap", evaluation.ap[:, None]),
        ("prec", [rows[:, None] for rows in evaluation.precision]),
        ("rec", [rows[:, None] for rows in evaluation.recall]),
        ("classes", evaluation.classes),
    ):
        cell = np.empty((1, len(evaluation.classes) + 1), object)
        cell[0, 0] = BACKGROUND if name == "classes" else np.zeros((0, 0))
        for k, value in enumerate(values):
            cell[0, k + 1] = value
        content[name] = cell
    return content


def _csv(evaluation: Evaluation) -> str:
    """The points at which another object is found, and the last: the others lie on the way down between them."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("class", "score", "recall", "precision"))
    for name, scores, recall, precision in zip(
        evaluation.classes, evaluation.scores, evaluation.recall, evaluation.precision, strict=True
    ):
        corner = np.diff(recall, prepend=0.0) > 0
        corner[-1:] = True
        for point in zip(scores[corner], recall[corner], precision[corner], strict=True):
            rows.writerow((name, *(f"{value:.6g}" for value in point)))
    return text.getvalue()
