"""Whether a net slides its windows as those did that its weights were trained with.

Weights fit a net by their shapes, whatever its pads are; but what was trained on maps with other pads sees everything
elsewhere.  The branch's hypercolumn net of HHA is one: its convolutions come from a detector with pads 7 and 0, and it
has 5 and 1, which moves maps by 10 pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from caffe_compat.net.plan import Node
from caffe_compat.proto.windows import StoredWindow, stored_windows, window_of

__all__ = ["other_pads"]


def other_pads(nodes: Iterable[Node], files: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Layers of a net whose strides, pads or dilations are not those that a file with their weights keeps.

    Files that keep none (HDF5, or of before today's format) say nothing.

    Returns:
        One text a layer, such as ``conv1 has pad 5, net.caffemodel was trained with 7``.

    Raises:
        MissingFileError, ModelFileError: a file cannot be read.
    """
    held: dict[str, tuple[str, StoredWindow]] = {}
    for file in files:
        held |= {name: (os.path.basename(file), window) for name, window in stored_windows(file).items()}
    found = []
    for node in nodes:
        own = window_of(node.description.message)
        file, theirs = held.get(node.name, ("", None))
        if own is None or theirs is None:
            continue
        for what in ("stride", "pad", "dilation"):
            mine, other = getattr(own, what), getattr(theirs, what)
            if mine != other:
                found.append(f"{node.name} has {what} {_told(mine)}, {file} was trained with {_told(other)}")
    return found


def _told(sides: tuple[int, int]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]} x {sides[1]}"
