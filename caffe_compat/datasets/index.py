"""RGB-D frames listed in a JSON file: any data set whose colour and depth are registered files."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.io import DepthFormat, Encoding
from caffe_compat.depth.sources import FileSource
from caffe_compat.documents import read_json
from caffe_compat.errors import DataError, one_line

__all__ = ["index_records"]


def index_records(index: str | os.PathLike[str], broken: list[tuple[str, str]] | None = None) -> list[FrameRecord]:
    """Frames listed in a JSON file.

    Each entry has ``color``, ``depth`` (paths beside the index), ``K_fx_fy_cx_cy`` and ``depth_units_per_metre``;
    it may have ``rawdepth``, ``scene``, ``encoding`` (``SUN...`` or ``raw 11-bit...``), ``invalid``, ``origin``
    (if absent 0, but 1 for NYUD2's own intrinsics) and ``gravity`` (three numbers: the direction down as an
    accelerometer measured it, X right, Y down, Z forward).

    Args:
        index: the file.
        broken: gets (frame, reason) of every entry that is not as it should be; None raises for the first.

    Raises:
        MissingFileError, DataError: no such file; not such a list; two frames of one name; the entry and field that is
            wrong, unless ``broken`` takes it, or if none is right.
    """
    entries = read_json(index, "index of frames")
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{os.fspath(index)}: expected a list of frames")
    records: list[FrameRecord] = []
    names: dict[str, int] = {}
    wrong: list[tuple[str, str]] = []
    for number, entry in enumerate(entries):
        where = f"{os.fspath(index)}: frame {number}"
        try:
            records.append(_record(entry, Path(index).parent))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, DataError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else one_line(error)
            wrong.append((where, f"{where}: {reason}"))
            continue
        first = names.setdefault(records[-1].name, number)
        if first != number:
            raise DataError(f"{os.fspath(index)}: frames {first} and {number} would both be {records[-1].name}.png")
    if wrong and (broken is None or not records):
        raise DataError(wrong[0][1])
    if broken is not None:
        broken += wrong
    return records


def _record(entry: dict[str, Any], root: Path) -> FrameRecord:
    encoding = _encoding(str(entry.get("encoding", "plain")))
    units = None if encoding == "nyud2_raw" else float(entry["depth_units_per_metre"])
    fx, fy, cx, cy = (float(value) for value in entry["K_fx_fy_cx_cy"])
    nyud2 = CAMERAS["nyud2_color"]
    usual_origin = 1 if abs(fx - nyud2.fx) < 1e-5 and abs(fy - nyud2.fy) < 1e-5 else 0
    parts = [part for part in Path(entry["depth"]).with_suffix("").parts if part not in ("..", os.sep)]
    names = {"images": "color", "depth": "depth", "rawdepth": "rawdepth"}
    paths = {kind: str(root / entry[field]) for kind, field in names.items() if entry.get(field) is not None}
    return FrameRecord(
        name="_".join(parts),
        paths=paths,
        depth=FileSource(
            depth=str(root / entry["depth"]),
            form=DepthFormat(units, encoding, tuple(int(code) for code in entry.get("invalid", (0, 65535)))),
            raw_depth=paths.get("rawdepth"),
            color=str(root / entry["color"]),
        ),
        camera=Camera(fx, fy, cx, cy, origin=int(entry.get("origin", usual_origin))),
        scene=str(entry["scene"]) if entry.get("scene") else None,
        gravity=None if entry.get("gravity") is None else _direction(entry["gravity"]),
    )


def _direction(numbers: Any) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in numbers)
    if not 0 < math.hypot(x, y, z) < math.inf:
        raise DataError(f"gravity is {[x, y, z]}, expected a direction: three finite numbers, not all 0")
    return x, y, z


def _encoding(text: str) -> Encoding:
    if text.lower().startswith("sun"):
        return "sun"
    if text == "nyud2_raw" or text.startswith("raw 11-bit"):
        return "nyud2_raw"
    if text == "plain":
        return "plain"
    raise DataError(f"encoding '{text}': expected plain, sun or nyud2_raw")
