"""RGB-D frames listed in a JSON file: any data set whose colour and depth are registered files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from caffe_compat.depth.batch import Kind
from caffe_compat.depth.camera import CAMERAS, Camera
from caffe_compat.depth.frames import FileSource, Frame
from caffe_compat.depth.io import DepthFormat, Encoding
from caffe_compat.errors import DataError
from caffe_compat.files import open_existing

__all__ = ["index_frames"]


def index_frames(index: str | os.PathLike[str], output: str | os.PathLike[str], kind: Kind = "hha") -> list[Frame]:
    """Frames listed in a JSON file, with ``color/NAME.png`` and ``hha/NAME.png`` (or ``disparity/``) below ``output``.

    Each entry has ``color``, ``depth`` (paths beside the index), ``K_fx_fy_cx_cy`` and ``depth_units_per_metre``;
    it may have ``rawdepth``, ``scene``, ``encoding`` (``SUN...`` or ``raw 11-bit...``), ``invalid`` and ``origin``
    (if absent 0, but 1 for NYUD2's own intrinsics).

    Raises:
        MissingFileError, DataError: no such file; not such a list; the entry and field that is wrong.
    """
    with open_existing(index, "index of frames") as stream:
        try:
            entries = json.load(stream)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{os.fspath(index)}: not JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{os.fspath(index)}: expected a list of frames")
    frames: list[Frame] = []
    outputs: dict[str, int] = {}
    for number, entry in enumerate(entries):
        try:
            frames.append(_frame(entry, Path(index).parent, Path(output), kind))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, DataError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else error
            raise DataError(f"{os.fspath(index)}: frame {number}: {reason}") from error
        first = outputs.setdefault(frames[-1].output, number)
        if first != number:
            raise DataError(f"{os.fspath(index)}: frames {first} and {number} would both be {frames[-1].output}")
    return frames


def _frame(entry: dict[str, Any], root: Path, output: Path, kind: Kind) -> Frame:
    encoding = _encoding(str(entry.get("encoding", "plain")))
    units = None if encoding == "nyud2_raw" else float(entry["depth_units_per_metre"])
    fx, fy, cx, cy = (float(value) for value in entry["K_fx_fy_cx_cy"])
    nyud2 = CAMERAS["nyud2_color"]
    usual_origin = 1 if abs(fx - nyud2.fx) < 1e-5 and abs(fy - nyud2.fy) < 1e-5 else 0
    parts = [part for part in Path(entry["depth"]).with_suffix("").parts if part not in ("..", os.sep)]
    name = "_".join(parts) + ".png"
    raw = entry.get("rawdepth")
    source = FileSource(
        depth=str(root / entry["depth"]),
        form=DepthFormat(units, encoding, tuple(int(code) for code in entry.get("invalid", (0, 65535)))),
        raw_depth=None if raw is None else str(root / raw),
        color=str(root / entry["color"]),
    )
    camera = Camera(fx, fy, cx, cy, origin=int(entry.get("origin", usual_origin)))
    scene = str(entry.get("scene", ""))
    return Frame(source, str(output / kind / name), camera, str(output / "color" / name), scene)


def _encoding(text: str) -> Encoding:
    if text.lower().startswith("sun"):
        return "sun"
    if text == "nyud2_raw" or text.startswith("raw 11-bit"):
        return "nyud2_raw"
    if text == "plain":
        return "plain"
    raise DataError(f"encoding '{text}': expected plain, sun or nyud2_raw")
