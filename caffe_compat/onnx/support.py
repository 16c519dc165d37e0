"""Which layer types can be exported, as a table made from the layers themselves."""

from __future__ import annotations

from caffe_compat.layers import Layer, registered

__all__ = ["support_table"]


def support_table() -> str:
    """A Markdown table of all layer types: whether they have an ONNX form and, if not, why."""
    lines = ["| Layer type | ONNX | Reason |", "|---|---|---|"]
    for name, layer in registered().items():
        exports = getattr(layer, "to_onnx", Layer.to_onnx) is not Layer.to_onnx
        reason = str(getattr(layer, "onnx_reason", ""))
        if not exports and not reason:
            reason = "no ONNX form yet"
        lines.append(f"| {name} | {'yes' if exports else 'no'} | {reason} |")
    return "\n".join(lines) + "\n"
