"""Depth files."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import tokenize
import warnings
from typing import Literal

import numpy as np

from caffe_compat.errors import DataError, in_file, one_line
from caffe_compat.files import open_existing
from caffe_compat.frames.png import write_png
from caffe_compat.media.sizes import UNREADABLE, check_size, open_pillow

__all__ = [
    "ENCODINGS",
    "FARTHEST_METRES",
    "NEAREST_METRES",
    "DepthFormat",
    "Encoding",
    "UnitsError",
    "detect_units",
    "nyud2_metres",
    "read_color",
    "read_depth",
    "read_nyud2_codes",
    "read_raw",
    "write_depth",
]

Encoding = Literal["plain", "sun", "nyud2_raw"]
ENCODINGS = ("plain", "sun", "nyud2_raw")
NEAREST_METRES = 0.05
"""A frame that lies wholly nearer than this is not in metres."""
FARTHEST_METRES = 20.0
"""A frame that lies wholly farther than this is not in metres."""
_LOSSY = ("JPEG", "MPO", "WEBP")
SUN_FARTHEST = 8.0
NYUD2_FARTHEST = 10.0
NYUD2_LOWEST_CODE = 600
NYUD2_INFINITE_CODE = 1092.5
NYUD2_NO_DATA = 2047
USUAL_UNITS = (1000.0, 4000.0, 5000.0, 10000.0)
_UNREADABLE = (*UNREADABLE, tokenize.TokenError, OverflowError)  # what Pillow and NumPy raise


class UnitsError(DataError):
    """Depth whose units per metre are not known, or cannot be those that were said."""


@dataclasses.dataclass(frozen=True)
class DepthFormat:
    """How the numbers of a depth file become metres.

    Args:
        units_per_metre: 1000 for millimetres, 1 for metres; not used by ``nyud2_raw``.  None asks
            :func:`detect_units`, which refuses unless there is but one answer.
        encoding: ``plain``; ``sun``: SUN RGB-D's rotated bits, clamped to 8 m; ``nyud2_raw``: the Kinect's
            disparity codes with bytes swapped, as NYUD2's raw pgm files have them, clamped to 10 m.
        invalid: codes without a measurement (in 8- and 16-bit files; 65535 is a saturated sensor).
    """

    units_per_metre: float | None = None
    encoding: Encoding = "plain"
    invalid: tuple[int, ...] = (0, 65535)

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise DataError(f"depth encoding '{self.encoding}': expected one of {', '.join(ENCODINGS)}")
        if self.units_per_metre is not None and not (np.isfinite(self.units_per_metre) and self.units_per_metre > 0):
            raise DataError(f"units per metre is {self.units_per_metre}, expected a positive number such as 1000")
        odd = [code for code in self.invalid if not -(2**31) <= code < 2**32]
        if odd:
            raise DataError(f"invalid code {odd[0]:.4g} fits no depth file, expected whole numbers such as 0 or 65535")


def read_raw(path: str | os.PathLike[str]) -> np.ndarray:
    """The numbers of a one-channel png, pgm, tiff or npy file as they are: [H, W].

    Raises:
        MissingFileError: no such file.
        DataError: not such a file, truncated, or more than one channel.

    Warns:
        UserWarning: 8-bit numbers or a JPEG, which cannot hold a sensor's depth.
    """
    with open_existing(path, "depth") as stream:
        content = stream.read()
    lossy = False
    try:
        if content[:6] == b"\x93NUMPY":
            values: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
        elif content[:2] in (b"P2", b"P5"):
            values = _parse_pgm(content, path)
        else:
            with open_pillow(io.BytesIO(content), os.fspath(path)) as image:
                if image.mode == "P":
                    raise DataError(
                        f"{os.fspath(path)}: a palette image (colours, not numbers), expected one-channel depth"
                    )
                values, lossy = np.asarray(image), image.format in _LOSSY
    except _UNREADABLE as error:
        raise DataError(
            f"{os.fspath(path)}: cannot be read as depth (png, pgm, tiff or npy): {one_line(error)}"
        ) from error
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise DataError(
            f"{os.fspath(path)}: {values.dtype} of shape {values.shape}, expected one channel of numbers [H, W]"
        )
    if lossy:
        _warn(path, "a JPEG, which smears depth over edges; expected what the sensor's driver gave, 16-bit")
    elif values.dtype.itemsize == 1:
        _warn(path, "8-bit numbers, 256 steps of depth at most; a picture of depth? expected 16-bit")
    return values


def _warn(path: str | os.PathLike[str], text: str) -> None:
    warnings.warn(f"{os.fspath(path)}: {text}", UserWarning, stacklevel=3)


def read_depth(path: str | os.PathLike[str], form: DepthFormat) -> np.ndarray:
    """Depth in metres, float64 [H, W], 0 where nothing was measured.

    Raises:
        MissingFileError: no such file.
        DataError: it cannot be read, or every pixel is missing; :class:`UnitsError` where its unit is unknown or wrong.
    """
    raw = read_raw(path)
    with in_file(path):
        depth = _decode(raw, form)
    valid = depth > 0
    if not valid.any():
        raise DataError(f"{os.fspath(path)}: all {depth.size} pixels are missing")
    low, high = float(depth[valid].min()), float(depth.max())
    if low > FARTHEST_METRES or high < NEAREST_METRES:
        raise UnitsError(
            f"{os.fspath(path)}: with {form.units_per_metre:g} units per metre all depth lies between {low:g} and "
            f"{high:g} m, which is the wrong unit; {_choices(raw[valid])}"
        )
    return depth


def read_nyud2_codes(path: str | os.PathLike[str]) -> np.ndarray:
    """The sensor's disparity codes of a raw ``d-*.pgm``: uint16 [H, W], 2047 = nothing measured.

    Raises:
        MissingFileError: no such file.
        DataError: not a 16-bit pgm, or truncated.
    """
    raw = read_raw(path)
    if raw.dtype != np.uint16:
        raise DataError(f"{os.fspath(path)}: {raw.dtype} values, but raw NYUD2 depth is 16-bit")
    return np.asarray(raw.byteswap())


def nyud2_metres(codes: np.ndarray) -> np.ndarray:
    """Depth in metres, float64 and at most 10, of the Kinect's disparity codes; 0 where nothing was measured."""
    codes = codes.astype(np.float64)
    known = (codes >= NYUD2_LOWEST_CODE) & (codes < NYUD2_INFINITE_CODE)
    metres = 351.3 / np.where(known, NYUD2_INFINITE_CODE - codes, np.inf)
    return np.minimum(metres, NYUD2_FARTHEST)


def detect_units(raw: np.ndarray) -> float:
    """Units per metre of a depth map, if only one usual answer makes an indoor scene of it.

    Depth of 0.4 to 10 m (5th to 95th percentile) counts as one; millimetres and tenths of millimetres overlap in it, so
    this mostly says which choices there are.

    Args:
        raw: [H, W]; zeros are skipped.  Floating point is only ever taken for metres.

    Raises:
        UnitsError: none or several; the message lists what each would mean.
    """
    known = raw[np.isfinite(raw) & (raw > 0)]
    if not known.size:
        raise DataError(f"depth: all {raw.size} pixels are missing")
    low, high = (float(value) for value in np.percentile(known, (5, 95)))
    units = (1.0,) if raw.dtype.kind == "f" else USUAL_UNITS
    possible = [unit for unit in units if low / unit >= 0.4 and high / unit <= 10]
    if len(possible) != 1:
        raise UnitsError(f"the unit of depth cannot be told from its values; {_choices(known)}")
    return possible[0]


def _choices(known: np.ndarray) -> str:
    low, high = float(known.min()), float(known.max())
    meanings = ", ".join(f"{unit:g} ({low / unit:.3g} to {high / unit:.3g} m)" for unit in (1.0, *USUAL_UNITS))
    return f"pass units_per_metre (--units-per-metre), one of: {meanings}"


def _decode(raw: np.ndarray, form: DepthFormat) -> np.ndarray:
    if form.encoding == "nyud2_raw":
        return nyud2_metres(_uint16(raw, form).byteswap())
    unknown = ~np.isfinite(raw)
    if raw.dtype.kind != "f":
        unknown |= np.isin(raw, form.invalid)
    if form.encoding == "sun":
        bits = _uint16(raw, form)
        raw = (bits >> 3) | (bits << 13)
    units = form.units_per_metre or detect_units(np.where(unknown, 0, raw).astype(raw.dtype))
    metres = np.where(unknown, 0, raw).astype(np.float64) / units
    if (metres < 0).any():
        raise DataError(f"smallest value is {metres.min():g} m, depth cannot be negative")
    return np.minimum(metres, SUN_FARTHEST) if form.encoding == "sun" else metres


def _uint16(raw: np.ndarray, form: DepthFormat) -> np.ndarray:
    if raw.dtype != np.uint16:
        raise DataError(f"{raw.dtype} values, but the encoding '{form.encoding}' is 16-bit")
    return raw


def _parse_pgm(content: bytes, path: object) -> np.ndarray:
    """A pgm, binary or text, with its numbers unscaled (Pillow stretches them to the full range)."""
    header = re.match(
        rb"P[25](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s", content
    )
    if header is None:
        raise DataError(f"{path}: broken pgm header")
    width, height, largest = (int(part) for part in header.groups())
    if not (0 < width <= 65536 and 0 < height <= 65536 and 0 < largest <= 65535):
        raise DataError(f"{path}: pgm header says {width} x {height}, largest value {largest}")
    check_size(height, width, str(path))
    if content[:2] == b"P2":
        return _parse_text_pgm(content[header.end() :], (height, width), largest, path)
    kind = np.dtype(">u2") if largest > 255 else np.dtype("u1")
    body = content[header.end() :]
    if len(body) < width * height * kind.itemsize:
        raise DataError(f"{path}: truncated, {len(body)} of {width * height * kind.itemsize} bytes of pixels")
    values = np.frombuffer(body, kind, width * height).reshape(height, width)
    return values.astype(kind.newbyteorder("="))


def _parse_text_pgm(body: bytes, shape: tuple[int, int], largest: int, path: object) -> np.ndarray:
    words = re.sub(rb"#[^\n]*", b"", body).split()
    if len(words) < shape[0] * shape[1] or not all(map(bytes.isdigit, words)):
        raise DataError(f"{path}: {len(words)} numbers, expected {shape[0]} x {shape[1]} whole ones")
    words = words[: shape[0] * shape[1]]
    long = max((word.lstrip(b"0") for word in words), key=len)
    if len(long) > 9:
        raise DataError(f"{path}: has a number of {len(long)} digits, but its header says {largest} at most")
    values = np.array(words, np.int64).reshape(shape)
    if values.max() > largest:
        raise DataError(f"{path}: has {values.max()}, but its header says {largest} at most")
    return values.astype(np.uint16 if largest > 255 else np.uint8)


def read_color(path: str | os.PathLike[str]) -> np.ndarray:
    """A colour image as uint8 [H, W, 3], RGB.

    Raises:
        MissingFileError: no such file.
        DataError: not an image, or truncated.
    """
    with open_existing(path, "colour image") as stream:
        try:
            with open_pillow(stream, os.fspath(path)) as image:
                return np.array(image.convert("RGB"))
        except _UNREADABLE as error:
            raise DataError(f"{os.fspath(path)}: cannot be read as an image: {one_line(error)}") from error


def write_depth(path: str | os.PathLike[str], depth: np.ndarray, units_per_metre: float = 1000.0) -> None:
    """Write metres [H, W] as a 16-bit png; 0 stays 0.

    Raises:
        DataError: a depth that does not fit 16 bits.
    """
    codes = np.rint(np.asarray(depth, np.float64) * units_per_metre)
    if not np.isfinite(codes).all() or codes.min() < 0 or codes.max() > 65534:
        raise DataError(
            f"{os.fspath(path)}: depth up to {np.max(depth):g} m does not fit 16 bits at {units_per_metre:g} per metre"
        )
    write_png(path, codes.astype(np.uint16))
