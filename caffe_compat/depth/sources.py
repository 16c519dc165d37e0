"""Where the depth of a frame comes from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from caffe_compat.depth.io import DepthFormat, read_color, read_depth, read_nyud2_codes
from caffe_compat.depth.registration import register_nyud2
from caffe_compat.errors import DataError, UsageError
from caffe_compat.stamps import file_digest

__all__ = ["FileSource", "Reading"]


@dataclasses.dataclass(frozen=True)
class Reading:
    """One frame as read.

    Args:
        depth: float64 [H, W] metres, 0 where nothing is known.
        missing: bool [H, W], pixels whose depth was filled in and not measured; None: the zeros of ``depth``.
        color: uint8 [H, W, 3] RGB, registered to ``depth``.
    """

    depth: np.ndarray
    missing: np.ndarray | None = None
    color: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Depth in a file of its own, as a :class:`~caffe_compat.frames.Source`.

    Args:
        depth: the file.
        form: how its numbers become metres.  With ``nyud2_raw`` depth is registered to ``color``, and both are
            undistorted, in reading.
        raw_depth: file of the same form and size whose holes are the missing pixels of an already filled ``depth``.
        color: colour image of the same size.

    Raises:
        UsageError: raw NYUD2 depth without colour, or with a separate raw depth.
    """

    depth: str
    form: DepthFormat = DepthFormat()
    raw_depth: str | None = None
    color: str | None = None

    def __post_init__(self) -> None:
        if self.form.encoding == "nyud2_raw" and (self.raw_depth is not None or self.color is None):
            raise UsageError(
                f"{self.depth}: raw NYUD2 depth needs its colour image (--color) to be registered to, "
                "and takes no separate raw depth"
            )

    @property
    def name(self) -> str:
        return self.depth

    def fingerprint(self) -> dict[str, Any]:
        return {
            "encoding": self.form.encoding,
            "units_per_metre": self.form.units_per_metre,
            "invalid": list(self.form.invalid),
            "depth": Path(self.depth).name,
            "depth_sha1": file_digest(self.depth),
            "missing_sha1": None if self.raw_depth is None else file_digest(self.raw_depth),
            "color_sha1": None if self.color is None else file_digest(self.color),
        }

    def read(self) -> Reading:
        color = None if self.color is None else read_color(self.color)
        if self.form.encoding == "nyud2_raw" and color is not None:
            return self._read_nyud2(color)
        depth = read_depth(self.depth, self.form)
        if color is not None and color.shape[:2] != depth.shape:
            raise DataError(
                f"{self.color} is {color.shape[0]} x {color.shape[1]} but {self.depth} is "
                f"{depth.shape[0]} x {depth.shape[1]}: colour and depth must be registered and of one size"
            )
        return Reading(depth, self._missing(depth), color)

    def _read_nyud2(self, color: np.ndarray) -> Reading:
        codes = read_nyud2_codes(self.depth)
        try:
            depth, color = register_nyud2(codes, color)
        except DataError as error:
            raise DataError(f"{self.depth}, {self.color}: {error}") from error
        if not depth.any():
            raise DataError(f"{self.depth}: all {depth.size} pixels are missing")
        return Reading(depth, None, color)

    def _missing(self, depth: np.ndarray) -> np.ndarray | None:
        if self.raw_depth is None:
            return None
        raw = read_depth(self.raw_depth, self.form)
        if raw.shape != depth.shape:
            raise DataError(
                f"{self.depth}: raw depth {self.raw_depth} is {raw.shape[0]} x {raw.shape[1]}, "
                f"depth {depth.shape[0]} x {depth.shape[1]}"
            )
        return np.asarray(raw == 0)
