"""What is said of regions, as files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.datasets.mat import write_mat
from caffe_compat.evaluation.result import Evaluation
from caffe_compat.files import write_file
from caffe_compat.segmentation.average import region_text

__all__ = ["write_region_reports"]


def write_region_reports(
    stem: str | os.PathLike[str], evaluations: Mapping[float, Evaluation], skipped: Sequence[str] = ()
) -> list[Path]:
    """Write the branch's ``STEM.txt`` and ``STEM.mat``, and ``STEM.json`` with the figures; each whole or not at all.

    Args:
        stem: what the names begin with, such as ``segm_eval``.
        evaluations: by threshold of the overlap.
        skipped: names of the images that were not evaluated.

    Raises:
        WriteError: one cannot be written.
    """
    files = [Path(f"{os.fspath(stem)}{ending}") for ending in (".txt", ".mat", ".json")]
    write_file(files[0], region_text(evaluations))
    write_mat(files[1], _mat(list(evaluations.values())))
    figures = {"skipped": list(skipped), "thresholds": [_figures(key, one) for key, one in evaluations.items()]}
    write_file(files[2], json.dumps(figures, indent=1) + "\n")
    return files


def _figures(threshold: float, evaluation: Evaluation) -> dict[str, Any]:
    """Numbers that JSON can hold: null where there is none."""
    return {
        "metric": evaluation.metric,
        "threshold": threshold,
        "images": evaluation.images,
        "mean": _plain(evaluation.mean),
        "classes": {
            name: {"ap": _plain(ap), "ground_truth": int(truths), "detections": int(found)}
            for name, ap, truths, found in zip(
                evaluation.classes, evaluation.ap, evaluation.ground_truth, evaluation.detections, strict=True
            )
        },
    }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mat(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """``ap`` by threshold and class, cells ``prec`` and ``rec`` of the same form, ``classes``."""
    classes = evaluations[0].classes if evaluations else ()
    content: dict[str, Any] = {"ap": np.array([one.ap for one in evaluations]).reshape(len(evaluations), len(classes))}
    for name, kind in (("prec", "precision"), ("rec", "recall")):
        cell = np.empty((len(evaluations), len(classes)), object)
        for row, one in enumerate(evaluations):
            for column, values in enumerate(getattr(one, kind)):
                cell[row, column] = values[:, None]
        content[name] = cell
    names = np.empty((1, len(classes)), object)
    names[0, :] = list(classes)
    return content | {"classes": names}
