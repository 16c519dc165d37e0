"""What a layer that is exported writes itself into; the graph itself is made in ``onnx/``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

__all__ = ["OnnxGraph"]


class OnnxGraph(Protocol):
    """What a layer may ask of the ONNX graph that it writes itself into.

    Blobs are named by strings: the names passed to a layer's ``to_onnx`` and those returned here.

    Attributes:
        roi: ``"cpu"`` or ``"gpu"``: where regions are to be pooled.
    """

    opset: int
    roi: str

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Append a node that writes the blobs ``outputs``; an attribute that is ``None`` is left out."""

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node with one output and return the fresh name of that output."""
        ...

    def constant(self, value: np.ndarray | float | int | Sequence[int], dtype: Any = None) -> str:
        """A constant (Python ints become int64, floats float32); equal constants share one initializer."""
        ...

    def parameter(self, layer: Any, index: int) -> str:
        """The initializer that holds blob ``index`` of the layer (shared parameters are stored once)."""
        ...

    def shape(self, blob: str) -> tuple[int | None, ...]:
        """Shape of a bottom; ``None`` for an axis whose size is only known at run time."""
        ...

    def static_shape(self, blob: str, why: str) -> tuple[int, ...]:
        """The same, or an ExportError that names ``why`` if an axis is dynamic."""
        ...
