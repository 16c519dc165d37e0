"""What a model takes and gives, and whether what it is given is that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffe_compat.errors import DataError, UsageError, nearest

__all__ = ["Value", "check_finite", "check_names", "check_rois", "check_shapes", "check_type", "plain_array"]

_KINDS = {"float": "float32", "double": "float64"}
"""ONNX Runtime's names of element types that NumPy calls otherwise."""
_NATIVE = {kind: np.dtype(kind).str for kind in ("float32", "uint8")}
"""NumPy's short names of what inputs usually are; its long ones are put together anew each time, in microseconds."""
_AXES = ("image", "channel", "height", "width")
_BYTE_AXES = ("image", "height", "width", "channel")


@dataclass(frozen=True)
class Value:
    """An input or output of a model.

    Attributes:
        name: the blob's.
        shape: sizes; a name where one is left open until run time, None where nothing is known of it.
        kind: NumPy's name of the element type, ``float32``; of what is no tensor ONNX Runtime's own.
    """

    name: str
    shape: tuple[int | str | None, ...]
    kind: str

    @classmethod
    def of(cls, told: Any) -> Value:
        """What ONNX Runtime says of a value."""
        kind = str(told.type)
        if kind.startswith("tensor(") and kind.endswith(")"):
            kind = kind[7:-1]
        dims = told.shape if isinstance(told.shape, list | tuple) else ()
        shape = tuple(dim if isinstance(dim, int | str) else None for dim in dims)
        return cls(told.name, shape, _KINDS.get(kind, kind))

    @property
    def open_axes(self) -> tuple[int, ...]:
        """Axes whose size is only known at run time."""
        return tuple(axis for axis, size in enumerate(self.shape) if not isinstance(size, int))

    def __str__(self) -> str:
        sizes = " x ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.name} ({sizes or 'scalar'}, {self.kind})"


def check_names(given: Sequence[str], wanted: Sequence[Value]) -> None:
    """Refuse inputs that the model does not have, and too few.

    Raises:
        UsageError: with the nearest name.
    """
    known = [value.name for value in wanted]
    if set(given) == set(known):
        return
    takes = f"the model takes the inputs {', '.join(map(str, wanted)) or '(none)'}"
    for name in given:
        if name not in known:
            raise UsageError(f"{takes}; there is no '{name}'{nearest(str(name), known)}")
    missing = [name for name in known if name not in given]
    if missing:
        raise UsageError(f"{takes}; {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")


def plain_array(value: Any, wanted: Value) -> np.ndarray:
    """An array as ONNX Runtime takes it: of the type that the model wants, in the processor's byte order, contiguous.

    Numbers and lists of them become arrays of that type; arrays of another type are refused, not converted.

    Raises:
        UsageError: it is of another type, or no array.
    """
    if isinstance(value, list | tuple | int | float):
        try:
            return np.asarray(value, wanted.kind)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"input '{wanted.name}': is no array of {wanted.kind}: {error}") from error
    array = np.asarray(value)
    if array.dtype.str == _NATIVE.get(wanted.kind) and array.flags.c_contiguous:
        return array
    check_type(array.dtype.name if array.dtype.isnative else f"{array.dtype.name} of another byte order", wanted)
    return np.ascontiguousarray(array).reshape(array.shape)


def check_type(kind: str, wanted: Value, what: str = "input") -> None:
    """Refuse another element type than the model's.

    Raises:
        UsageError: it is another.
    """
    if kind == wanted.kind:
        return
    hint = ""
    if what == "input" and wanted.kind == "float32":
        hint = "; if rounding to float32 is meant, say so (a.astype('float32'), t.float())"
        if kind == "uint8":
            hint = "; pictures need their preprocessing first (mean, scale, order of channels)"
    raise UsageError(f"{what} '{wanted.name}' is {kind}, the model {_verb(what)} {wanted.kind}{hint}")


def check_shapes(shapes: Mapping[str, Sequence[int]], wanted: Sequence[Value], what: str = "input") -> None:
    """Refuse shapes that do not fit; sizes of one name must agree over all of them.

    Raises:
        UsageError: names the axis and what was expected.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for value in wanted:
        if value.name not in shapes:
            continue
        shape = list(shapes[value.name])
        who = f"{what} '{value.name}' has the shape {shape}"
        if len(shape) != len(value.shape):
            if not value.shape and what == "output":
                continue  # ONNX Runtime does not know it
            raise UsageError(f"{who}, expected {len(value.shape)} axes: the model {_verb(what)} {value}")
        for axis, (have, want) in enumerate(zip(shape, value.shape, strict=True)):
            place = f"axis {axis}{_axis(axis, value)} is {have}"
            if isinstance(want, int) and have != want:
                raise UsageError(f"{who}: {place}, expected {want}: the model {_verb(what)} {value}")
            if isinstance(want, str):
                first, owner = sizes.setdefault(want, (have, value.name))
                if first != have:
                    raise UsageError(f"{who}: {place}, but '{want}' is {first} in '{owner}'; they must be the same")


def check_finite(name: str, bad: int, count: int) -> None:
    """Refuse numbers that are none.

    Raises:
        DataError: some of them are NaN or infinite.
    """
    if bad:
        raise DataError(f"input '{name}': {bad} of {count} numbers are NaN or infinite")


def check_rois(names: tuple[str, str], extremes: tuple[float, float], batch: int) -> None:
    """Refuse regions of images that are not in the batch; kernels on GPUs would read beyond it.

    Args:
        names: of the input with the regions, and of that with the images.
        extremes: lowest and highest index, NaN if one is; cut towards zero, as Caffe does.
        batch: number of images.

    Raises:
        DataError: an index that no image has.
    """
    (name, of), (lowest, highest) = names, extremes
    if not (lowest > -1 and highest < batch):
        wrong = highest if lowest > -1 else lowest
        raise DataError(
            f"input '{name}': a region has the image index {wrong:g}, expected 0 to {batch - 1}: '{of}' holds {batch} "
            f"{'image' if batch == 1 else 'images'}"
        )


def _axis(axis: int, value: Value) -> str:
    """What an axis of a blob of pictures is; inputs of bytes have their channels last."""
    if len(value.shape) != 4:
        return ""
    return f" ({(_BYTE_AXES if value.kind == 'uint8' else _AXES)[axis]})"


def _verb(what: str) -> str:
    return "takes" if what == "input" else "gives"
