"""What a LayerParameter says, remembering what was asked for.

A layer asks for every field it understands.  A field that is set in the prototxt but that nobody asked for is an
error, so that no importer's classic mistake - an option silently ignored - can happen here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caffe_compat.description import LayerDescription
from caffe_compat.errors import LayerError, ShapeError
from caffe_compat.layers.fillers import Filler

__all__ = ["Params", "Section", "ConvWindow"]

_log = logging.getLogger(__name__)
INT_MAX = 2**31 - 1
SHARED = frozenset({"loss_param", "transform_param"})
"""Messages that belong to no layer type: BVLC's schema has them for all loss and all data layers, and a layer of
another kind takes no notice of them (deploy nets made from training nets keep them)."""


@dataclass(frozen=True)
class ConvWindow:
    """Kernel, stride, pad and dilation of a sliding window, one entry per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """Size of the dilated kernel."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))


class Params:
    """The parameters of one layer.

    Attributes:
        name, type, phase: of the layer; ``phase`` is ``"TRAIN"`` or ``"TEST"``.
        bottoms, tops: blob names.
        in_place: whether some top is the bottom of the same index.
    """

    def __init__(self, description: LayerDescription) -> None:
        self.description = description
        self.name, self.type, self.phase = description.name, description.type, description.phase
        self.bottoms, self.tops, self.in_place = description.bottoms, description.tops, description.in_place
        self._sections: dict[str, Section] = {}

    def speaks(self, *dialects: str) -> bool:
        """Whether the net speaks one of these dialects, as the caller says or as its other names tell."""
        return self.description.dialect.name in dialects

    def section(self, field: str) -> Section:
        """The parameter message ``field``, e.g. ``"pooling_param"``; its defaults where the layer has none."""
        if field not in self._sections:
            self._sections[field] = Section(self, field, getattr(self.description.message, field))
        return self._sections[field]

    def has_section(self, field: str) -> bool:
        """Whether the prototxt has this parameter message."""
        present: bool = self.description.message.HasField(field)
        return present

    def error(self, reason: str) -> LayerError:
        """An error that names this layer."""
        return self.description.error(reason)

    def shape_error(self, reason: str) -> ShapeError:
        """A shape error that names this layer."""
        line = self.description.line
        return ShapeError(self.name, self.type, reason + (f" (line {line})" if line else ""))

    def refuse_unread(self) -> None:
        """Raise if a parameter is set that the layer never asked for, unless it is one of the shared messages.

        Raises:
            LayerError: naming the layer, its type and the fields.
        """
        unread = []
        for field, value in self.description.message.ListFields():
            if not field.name.endswith("_param"):
                continue
            section = self._sections.get(field.name)
            if section is None and field.name == "loss_param":
                _log.info("layer '%s' (%s): loss_param is ignored, as in Caffe", self.name, self.type)
            if section is None and field.name not in SHARED:
                unread.append(field.name)
            elif section is not None:
                unread += [f"{field.name}.{name}" for name in section.unread()]
            del value
        if unread:
            raise self.error(f"parameter {', '.join(unread)} means nothing to a layer of this type")


class Section:
    """One parameter message of a layer."""

    def __init__(self, params: Params, field: str, message: Any) -> None:
        self.params, self.field, self.message = params, field, message
        self._read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        """The value of a field, or its default; repeated fields as a list."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self.value(name)

    def value(self, name: str) -> Any:
        """The same, also for fields that share their name with a method here (``axis``, ``filler``)."""
        self._read.add(name)
        value = getattr(self.message, name)
        if hasattr(value, "append") or hasattr(value, "add"):
            value = list(value)
        for number in value if isinstance(value, list) else (value,):
            if isinstance(number, int) and number > INT_MAX and self._is_unsigned(name):
                raise self.params.error(f"{self.field}.{name} is {number}, expected at most {INT_MAX}")
        return value

    def _is_unsigned(self, name: str) -> bool:
        """Whether the field is a uint32, which Caffe's layers keep in an int."""
        field = self.message.DESCRIPTOR.fields_by_name[name]
        return bool(field.type == field.TYPE_UINT32)

    def has(self, name: str) -> bool:
        """Whether the field is set (for a repeated field: not empty)."""
        self._read.add(name)
        try:
            return bool(self.message.HasField(name))
        except ValueError:  # repeated fields have no presence
            return len(getattr(self.message, name)) > 0

    def optional(self, name: str) -> Any:
        """The value of a field, or ``None`` where it is not set."""
        return self.value(name) if self.has(name) else None

    def enum(self, name: str) -> str:
        """The name of an enum field's value, e.g. ``"MAX"``."""
        number = self.value(name)
        value: str = self.message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number[number].name
        return value

    def ignore(self, *names: str) -> None:
        """Accept fields that Caffe itself reads nowhere or that change no number (``engine``)."""
        self._read.update(names)

    def filler(self, name: str, default: Filler | None = None) -> Filler:
        """The filler in field ``name``; ``default`` (constant 0 if not given) where it is not set."""
        if not self.has(name) and default is not None:
            return default
        return Filler.from_message(self.value(name), self.params.error, f"{self.field}.{name}")

    def unread(self) -> list[str]:
        """Names of set fields that nobody asked for."""
        return [field.name for field, _ in self.message.ListFields() if field.name not in self._read]

    def axis(self, name: str, rank: int) -> int:
        """An axis field as a number in ``[0, rank)``.

        Raises:
            ShapeError: outside ``[-rank, rank)``.
        """
        return self.canonical_axis(int(self.value(name)), rank, name)

    def canonical_axis(self, axis: int, rank: int, name: str = "axis") -> int:
        """``axis`` counted from the end if negative, checked against the rank of the blob."""
        if not -rank <= axis < rank:
            raise self.params.shape_error(
                f"{self.field}.{name} is {axis}, expected {-rank} to {rank - 1} for a blob of {rank} axes"
            )
        return axis % rank

    def window(self, spatial: int) -> ConvWindow:
        """Kernel, stride, pad and dilation of a convolution-like layer over ``spatial`` axes.

        Caffe's refusals: the ``_h``/``_w`` forms are for two axes only and exclude the list form; a list has one
        entry or one per axis; kernel, stride and dilation are positive.
        """
        kernel = self._spatial("kernel_size", "kernel_h", "kernel_w", spatial, None)
        stride = self._spatial("stride", "stride_h", "stride_w", spatial, 1)
        pad = self._spatial("pad", "pad_h", "pad_w", spatial, 0)
        dilation = self._list("dilation", spatial, 1)
        for name, values in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
            if min(values, default=1) < 1:
                raise self.params.error(f"{self.field}.{name} is {list(values)}, expected positive numbers (nonzero)")
        return ConvWindow(kernel, stride, pad, dilation)

    def _spatial(self, name: str, name_h: str, name_w: str, spatial: int, default: int | None) -> tuple[int, ...]:
        if not (self.has(name_h) or self.has(name_w)):
            return self._list(name, spatial, default)
        if spatial != 2:
            raise self.params.error(
                f"{self.field}.{name_h} and {name_w} are for 2 spatial axes, this layer has {spatial}"
            )
        if self.has(name):
            raise self.params.error(f"{self.field} has both {name} and {name_h}/{name_w}, expected one form")
        return (int(getattr(self, name_h)), int(getattr(self, name_w)))

    def _list(self, name: str, spatial: int, default: int | None) -> tuple[int, ...]:
        values: Sequence[int] = getattr(self, name)
        if not values and default is not None:
            return (default,) * spatial
        if len(values) == 1:
            return (int(values[0]),) * spatial
        if len(values) != spatial or not values:
            raise self.params.error(
                f"{self.field}.{name} has {len(values)} entries, expected 1 or {spatial} (one per spatial axis)"
            )
        return tuple(int(value) for value in values)
