"""``measured.json``: what was measured for a transfer, beside its nets, in which it stands as numbers."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from caffe_compat.documents import read_json
from caffe_compat.errors import DataError
from caffe_compat.files import write_file
from caffe_compat.transfer.start import Start

__all__ = ["forget_measured", "read_measured", "write_measured"]

NAME = "measured.json"
TABLES = ("features", "rates")
LARGEST = 1e300


def write_measured(folder: str | os.PathLike[str], start: Start) -> str:
    """Write what a transfer starts with, and the table of rates; returns the path.

    Raises:
        WriteError: it cannot be written.
    """
    recipe, schedule = start.transfer.recipe, start.schedule
    features = [
        {
            "layer": feature.teacher,
            "student_layer": feature.student,
            "mean_norm": recipe.mean_norms[index] if recipe.mean_norms else None,
            "scale": feature.scale,
            "adapt_std": feature.adapt_std,
            "adapt_bias": feature.adapt_bias,
            **({"alpha": feature.alpha, "tau": feature.tau} if recipe.loss == "sigmoid" else {}),
        }
        for index, feature in enumerate(start.transfer.features)
    ]
    found = {
        "features": features,
        "first_std": recipe.first_std,
        "clip_gradients": schedule.clip_gradients,
        "base_lr": schedule.base_lr,
        "rates": [asdict(verdict) for verdict in start.table],
    }
    path = Path(folder) / NAME
    write_file(path, json.dumps(_finite(found), indent=1) + "\n")
    return str(path)


def forget_measured(folder: str | os.PathLike[str]) -> None:
    """Remove what was measured for nets that stood there before."""
    (Path(folder) / NAME).unlink(missing_ok=True)


def read_measured(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What was measured for the nets of a folder; empty if nothing was.

    Raises:
        DataError: the file holds something else.
    """
    path = Path(folder) / NAME
    found = read_json(path) if path.exists() else {}
    tables = [found.get(name, []) for name in TABLES] if isinstance(found, dict) else []
    if len(tables) < len(TABLES) or not all(map(_is_table, tables)) or not _is_row(_without(found)):
        raise DataError(f"{path}: expected an object as make_transfer writes it")
    if not all(isinstance(row.get("layer"), str) for row in tables[0]):
        raise DataError(f"{path}: 'features': expected a 'layer' for each")
    return dict(found)


def _without(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in TABLES}


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) and _is_row(row) for row in value)


def _is_row(row: dict[str, Any]) -> bool:
    """Whether all values are words, null, or numbers that a float holds."""
    return all(
        value is None or isinstance(value, str) or (isinstance(value, (int, float)) and abs(value) < LARGEST)
        for value in row.values()
    )


def _finite(value: Any) -> Any:
    """The same with null for numbers that JSON does not have: the losses of a rate that diverged."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value if not isinstance(value, float) or abs(value) < float("inf") else None
