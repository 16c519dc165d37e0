"""Which layer types can be exported, as a table made from the layers themselves."""

from __future__ import annotations

from caffe_compat.layers import Layer, registered
from caffe_compat.proto.forks import origin

__all__ = ["support_page", "support_table"]

_HEAD = """# Layers

Every layer type that can be built, the Caffe that had it first, and whether it can be exported to ONNX. Where a type
name has several meanings, the fork that means it so stands in brackets. This page is made by `make layers`; a test
holds it.

"""


def support_page() -> str:
    """The text of ``docs/layers.md``."""
    return _HEAD + support_table()


def support_table() -> str:
    """A Markdown table of all layer types: whether they have an ONNX form and, if not, why."""
    lines = ["| Layer type | Origin | ONNX | Reason |", "|---|---|---|---|"]
    for name, meanings in registered().items():
        for meaning in meanings:
            exports = meaning.layer.to_onnx is not Layer.to_onnx
            reason = meaning.layer.onnx_reason or ("" if exports else "no ONNX form yet")
            title = f"{name} ({meaning.dialect})" if meaning.dialect else name
            source = origin(name, meaning.dialect) or "this package"
            lines.append(f"| {title} | {source} | {'yes' if exports else 'no'} | {reason} |")
    return "\n".join(dict.fromkeys(lines)) + "\n"  # a fork may have several meanings of one name
