"""Detections as the evaluation servers of VOC and COCO take them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.evaluation.database import in_order_of
from caffe_compat.evaluation.detections import Detections
from caffe_compat.files import write_file

__all__ = ["write_competition"]


def write_competition(folder: str | os.PathLike[str], imdb: ImageDatabase, detections: Detections) -> list[Path]:
    """Write detections for a server, each file whole or not at all.

    For ``coco`` ``detections_IMDB_results.json``: a list of ``image_id`` (the number in names such as
    ``COCO_val2014_000000000042``, other names as they are), ``category_id``, ``bbox`` (x, y, width, height) and
    ``score``.  For other rules VOC's ``comp4_det_SPLIT_CLASS.txt``: image, score, and x1 y1 x2 y2 from 1.

    Args:
        folder: exists.
        imdb: whose images they are of.
        detections: after suppression of what overlaps.

    Returns:
        The files.

    Raises:
        DataError: detections of other images or classes.
        WriteError: a file cannot be written.
    """
    detections = in_order_of(imdb, detections)
    if imdb.metric == "coco":
        file = Path(folder) / f"detections_{imdb.name}_results.json"
        write_file(file, _coco(imdb, detections))
        return [file]
    split = imdb.name.rsplit("_", 1)[-1]
    files = []
    for name, row in zip(imdb.classes, detections.boxes, strict=True):
        files.append(Path(folder) / f"comp4_det_{split}_{name.replace(os.sep, '_')}.txt")
        write_file(files[-1], _voc(detections.images, row))
    return files


def _voc(images: tuple[str, ...], row: list[np.ndarray]) -> str:
    return "".join(
        f"{image} {score:.3f} {x1 + 1:.1f} {y1 + 1:.1f} {x2 + 1:.1f} {y2 + 1:.1f}\n"
        for image, found in zip(images, row, strict=True)
        for x1, y1, x2, y2, score in found.tolist()
    )


def _coco(imdb: ImageDatabase, detections: Detections) -> str:
    ids = imdb.category_ids or tuple(range(1, len(imdb.classes) + 1))
    numbers = {record.name: record.id for record in imdb.records if record.id is not None}
    rows = []
    for number, row in zip(ids, detections.boxes, strict=True):
        for image, found in zip(detections.images, row, strict=True):
            match = re.fullmatch(r"(?:.*/)?COCO_\w+_(\d{12})", image)
            for x1, y1, x2, y2, score in found.tolist():
                rows.append(
                    {
                        "image_id": numbers.get(image, int(match[1]) if match else image),
                        "category_id": number,
                        "bbox": [round(value, 2) for value in (x1, y1, x2 - x1 + 1, y2 - y1 + 1)],
                        "score": round(score, 5),
                    }
                )
    return json.dumps(rows)
