"""Prototxt text for people: remarks before layers, small blocks on one line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from caffe_compat.proto.text import format as format_text

__all__ = ["comments", "compact", "net_text"]

_SMALL = re.compile(r"(\w+) \{\n((?:\s+\w+: [^\n{}]+\n){1,3})\s*\}")
_ONE_LINE = ("param", "weight_filler", "bias_filler", "include", "filler")


def compact(text: str) -> str:
    """Put small blocks (``param``, fillers, ``include``) on one line."""
    return _SMALL.sub(
        lambda match: (
            f"{match[1]} {{ {' '.join(line.strip() for line in match[2].splitlines())} }}"
            if match[1] in _ONE_LINE
            else match[0]
        ),
        text,
    )


def comments(lines: Iterable[str]) -> str:
    """Lines of a remark."""
    return "".join(f"# {line}\n" for line in lines)


def net_text(name: str, layers: Iterable[Any], remarks: Mapping[str, str], commands: Iterable[str]) -> str:
    """A whole net.

    Args:
        name: of the net.
        layers: messages, in order.
        remarks: by name of the layer they stand before; each once.
        commands: what writes this file again; stands at its head.
    """
    text = comments(["Written by:", *(f"  {line}" for line in commands)]) + f'name: "{name}"\n'
    told = set()
    for layer in layers:
        if layer.name in remarks and layer.name not in told:
            text += comments(textwrap.wrap(remarks[layer.name], 116))
            told.add(layer.name)
        body = "".join(f"  {line}\n" for line in compact(format_text(layer)).splitlines())
        text += f"layer {{\n{body}}}\n"
    return text
