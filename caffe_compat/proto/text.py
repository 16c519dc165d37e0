"""Prototxt text, as Caffe's C++ parser reads and prints it.

protobuf's Python parser does the work.  A tokenizer in front of it makes up the differences: it refuses what only
Python takes (``+1``, ``1_000``, unknown escapes) and allows what only C++ takes (``- 1``).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message
from google.protobuf.text_encoding import CEscape

from caffe_compat.errors import PrototxtError, nearest
from caffe_compat.proto import unknown
from caffe_compat.proto.forks import owned_by
from caffe_compat.proto.schema import CLASSES, PHASES

__all__ = ["Token", "format", "layer_lines", "parse", "tokens"]

M = TypeVar("M", bound=Message)

_GAP = re.compile(r"(?:[ \t\r\n\v\f]+|#[^\n]*)*")
_TOKEN = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>0[xX][0-9a-fA-F]+|0[0-7]+(?![0-9.eE])
        |(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![0-9.eE])[fF]?)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<symbol>[{}<>\[\]:,;.\-/])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?![abfnrtv\\?'\"0-7]|[xX][0-9a-fA-F]|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}).", re.DOTALL)
_LONG = re.compile(r"\S{100,}")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes, as surrogateescape decodes them
_NO_FIELD = re.compile(r'Message type "caffe\.(\w+)" has no field named "(\w+)"')
_NO_ENUM = re.compile(r'Enum type "caffe\.([\w.]+)" has no value named ([\w."]+?)\.?$')
_QUOTED_LINE = re.compile(r"^\d+:\d+ : (?:'.*': )?(?=[A-Z])", re.DOTALL)


class Token(NamedTuple):
    """One token of prototxt text: its kind (name, number, string, symbol), text and offset."""

    kind: str
    text: str
    start: int


def _position(text: str, offset: int) -> tuple[int, int]:
    line = text.count("\n", 0, offset) + 1
    return line, offset - (text.rfind("\n", 0, offset) + 1) + 1


def _lexical_reason(text: str, at: int) -> str:
    char = text[at]
    if "\udc80" <= char <= "\udcff":
        return f"byte 0x{ord(char) - 0xDC00:02x} is not UTF-8 text"
    if char == "\ufeff":
        return "a byte order mark (BOM); Caffe wants plain UTF-8 without it"
    if char in "\"'":
        return "string without an ending quote on its line"
    if char.isdigit():
        return f"malformed number {text[at : at + 20].split()[0]!r}"
    return f"unexpected character {char!r}"


def tokens(text: str, filename: str | None = None) -> Iterator[Token]:
    """The tokens of a prototxt, without comments.

    Raises:
        PrototxtError: a character, number or string that Caffe's tokenizer refuses.
    """
    at = 0
    while True:
        gap = _GAP.match(text, at)
        at = gap.end() if gap else at
        if at == len(text):
            return
        match = _TOKEN.match(text, at)
        if match is None:
            raise PrototxtError(_lexical_reason(text, at), filename, *_position(text, at))
        kind = match.lastgroup or ""
        if text.startswith("//", at):
            raise PrototxtError("'//' comments are not allowed, use '#'", filename, *_position(text, at))
        bad = _ESCAPE.search(match.group().replace("\\\\", "__")) if kind == "string" else None
        if bad:
            reason = f"invalid escape sequence {bad.group()!r} in a string; write '\\\\' for a backslash"
            raise PrototxtError(reason, filename, *_position(text, at + bad.start()))
        yield Token(kind, match.group(), at)
        at = match.end()


def _written_out(byte: re.Match[str]) -> str:
    """A byte that is not UTF-8 becomes the text ``\\xNN``, as in the names of weights files (Caffe keeps it as it is,
    but Python's strings cannot).
    """
    return f"\\\\x{ord(byte[0]) - 0xDC00:02x}"


def _normalise(text: str, filename: str | None) -> str:
    """The text with tokens that touch set apart and every ``- 1`` closed up; lines stay, columns nearly always."""
    parts: list[str] = []
    end = 0
    minus, last = False, ""
    for kind, token, start in tokens(text, filename):
        gap = text[end:start]
        end = start + len(token)
        if kind == "string":
            token = _NOT_UTF8.sub(_written_out, token)
        if minus:
            token, minus = "-" + token, False
            gap = gap[:-1] if gap.endswith(" ") else gap
        elif token == "-":
            parts.append(gap)
            minus, last = True, kind
            continue
        touching = not gap and "number" in (last, kind) and last in ("number", "name") and kind in ("number", "name")
        parts.append((" " if touching else gap) + token)
        last = kind
    return "".join(parts) + ("-" if minus else "") + text[end:]


def _friendly(error: text_format.ParseError, text: str, message_name: str) -> str:
    message = _LONG.sub(lambda word: word[0][:80] + "...", _QUOTED_LINE.sub("", str(error), count=1))
    if match := _NO_FIELD.search(message):
        found = unknown.find_unknown(list(tokens(text)), message_name)
        return unknown.describe(found, text) if found else unknown.reason(match[1], match[2])
    if match := _NO_ENUM.search(message):
        owner, _, enum = match[1].rpartition(".")
        descriptor = CLASSES[owner].DESCRIPTOR.enum_types_by_name[enum] if owner else None
        known = [value.name for value in descriptor.values] if descriptor else PHASES
        wrong = match[2].strip('"')
        hint = owned_by(match[1], wrong) or nearest(wrong.upper(), known) or f", expected one of {', '.join(known)}"
        return f"{match[1]} has no value {match[2]}{hint}"
    if message.startswith("Expected string"):
        message += " (strings stand in quotes)"
    return message.replace('"caffe.', '"').replace("Message type ", "message ")


def parse(text: str, message_class: type[M], filename: str | None = None) -> M:
    """Parse prototxt text into a message, strictly, as Caffe does.

    Args:
        text: the prototxt.
        message_class: e.g. ``caffe_pb2.NetParameter``.
        filename: named in errors.

    Raises:
        PrototxtError: the text does not parse; it has file, line and column of the first error.  Unknown fields are
            named all at once, with the forks that have them or the nearest known name.
    """
    message: M = message_class()
    try:
        text_format.Parse(_normalise(text, filename), message)
    except text_format.ParseError as error:
        raise PrototxtError(
            _friendly(error, text, message_class.DESCRIPTOR.name), filename, error.GetLine(), error.GetColumn()
        ) from error
    if not message.IsInitialized():
        missing = message.FindInitializationErrors()
        index = re.match(r"layers?\[(\d+)\]", missing[0])
        line = layer_lines(text)[int(index[1])] if index else None
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise PrototxtError(f"required fields are missing: {listed}", filename, line)
    return message


def layer_lines(text: str) -> list[int]:
    """Line numbers (from 1) of all top-level ``layer`` and ``layers`` blocks, in order; list form included."""
    lines: list[int] = []
    line = counted = 0  # line ends before the offset ``counted``
    depth, listed, field = 0, False, Token("", "", 0)
    for token in tokens(text):
        if token.kind == "name" and depth == 0:
            field = token
        elif token.text in ("{", "<") and token.kind == "symbol":
            if depth == 0 and field.text in ("layer", "layers"):
                start = token.start if listed else field.start
                line, counted = line + text.count("\n", counted, start), start
                lines.append(line + 1)
            depth += 1
        elif token.text in ("}", ">") and token.kind == "symbol":
            depth -= 1
        elif token.text in ("[", "]") and token.kind == "symbol" and depth == 0:
            listed = token.text == "["
    return lines


def _float(value: float) -> str:
    """Shortest decimal form that reads back as the same float32, as protobuf's C++ prints it."""
    wanted = struct.pack("<f", value)
    candidates = (f"{value:.{digits}g}" for digits in (6, 7, 8))
    return next((text for text in candidates if struct.pack("<f", float(text)) == wanted), f"{value:.9g}")


def _scalar(field: Any, value: Any) -> str:
    if field.cpp_type == field.CPPTYPE_STRING:
        return f'"{CEscape(value, False)}"'
    if field.cpp_type == field.CPPTYPE_ENUM:
        return str(field.enum_type.values_by_number[value].name)
    if field.cpp_type == field.CPPTYPE_BOOL:
        return "true" if value else "false"
    if field.cpp_type == field.CPPTYPE_FLOAT:
        return _float(value)
    if field.cpp_type == field.CPPTYPE_DOUBLE:
        return f"{value:.15g}" if float(f"{value:.15g}") == value else f"{value:.17g}"
    return str(value)


def _lines(message: Message, indent: str) -> Iterator[str]:
    for field, value in message.ListFields():
        for item in [value] if field.has_presence else value:
            if field.message_type is not None:
                yield f"{indent}{field.name} {{"
                yield from _lines(item, indent + "  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{field.name}: {_scalar(field, item)}"


def format(message: Message) -> str:  # noqa: A001 - read as text.format
    """The message as prototxt, like C++ ``DebugString``: fields in number order, shortest float32 numbers."""
    return "".join(line + "\n" for line in _lines(message, ""))
