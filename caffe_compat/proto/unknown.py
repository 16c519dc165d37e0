"""All unknown fields of a prototxt at once: protobuf's parser stops at the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from caffe_compat.errors import nearest
from caffe_compat.proto.forks import owned_by
from caffe_compat.proto.schema import CLASSES

__all__ = ["Unknown", "describe", "find_unknown", "reason"]

_OPEN = {"{": "}", "<": ">"}
_MOST_NAMES, _MOST_LINES = 20, 5


class Unknown(NamedTuple):
    """A field that its message does not have: the message's name, the field's, and where in the text it starts."""

    message: str
    name: str
    start: int


def find_unknown(tokens: Sequence[Any], message: str) -> list[Unknown]:
    """The unknown fields of a text, in order; what is below one of them is not looked at.

    Args:
        tokens: ``(kind, text, start)`` of a text that is well-formed but for such fields.
        message: which message the text is of.
    """
    found: list[Unknown] = []
    inside: list[Any] = [CLASSES[message].DESCRIPTOR]  # None: below an unknown field
    field: Any = None
    for index, (kind, text, start) in enumerate(tokens):
        if text in _OPEN and kind == "symbol":
            inside.append(field.message_type if field is not None else None)
        elif text in _OPEN.values() and kind == "symbol" and len(inside) > 1:
            inside.pop()
        elif kind == "name" and _is_field(tokens, index):
            owner = inside[-1]
            field = owner.fields_by_name.get(text) if owner is not None else None
            if owner is not None and field is None:
                found.append(Unknown(owner.name, text, start))
    return found


def _is_field(tokens: Sequence[Any], index: int) -> bool:
    """Whether the name at ``index`` is a field's, and not a value: a colon or a bracket follows."""
    return index + 1 < len(tokens) and tokens[index + 1][1] in (":", "{", "<")


_PRIVATE = 8000000  # fields from here on are forks', in messages that Caffe has too


def reason(message: str, name: str) -> str:
    """Why a field is refused: the forks that have it; if none, the nearest name, or the messages where it belongs."""
    hint = owned_by(message, name)
    if not hint:
        fields = CLASSES[message].DESCRIPTOR.fields
        found = [(f.name, f.message_type.fields_by_name.get(name)) for f in fields if f.message_type]
        had = {owner: field.number for owner, field in found if field is not None}
        owners = [owner for owner, number in had.items() if number < _PRIVATE] or list(had)
        hint = nearest(name, [field.name for field in fields])
        if not hint and len(owners) in (1, 2, 3):
            hint = f" (it belongs into {' or '.join(owners)})"
    return f"{message} has no field named '{name}'{hint}"


def describe(unknown: Sequence[Unknown], text: str) -> str:
    """All unknown fields on one line, those of one name together, with their lines."""
    lines: dict[tuple[str, str], list[int]] = {}
    for message, name, start in unknown:
        lines.setdefault((message, name), []).append(text.count("\n", 0, start) + 1)
    if len(unknown) == 1:
        return reason(*unknown[0][:2])
    parts = [f"{reason(*key)}: {_listed(found)}" for key, found in list(lines.items())[:_MOST_NAMES]]
    more = len(lines) - _MOST_NAMES
    return f"{len(unknown)} unknown fields: " + "; ".join([*parts, *_more(more, "names")])


def _listed(lines: Sequence[int]) -> str:
    shown = ", ".join([*map(str, lines[:_MOST_LINES]), *_more(len(lines) - _MOST_LINES, "")])
    return f"line{'s' if len(lines) > 1 else ''} {shown}"


def _more(count: int, what: str) -> Iterator[str]:
    if count > 0:
        yield f"{count} more {what}".rstrip()
