"""Export, check, compare and only then name the file: what ``tools/export_onnx.py`` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caffe_compat.layers import Shape
from caffe_compat.net import Net
from caffe_compat.onnx.export import Dynamic, export_onnx, is_large, save_onnx
from caffe_compat.onnx.verify import Difference, verify_onnx

__all__ = ["Report", "export_verified"]


@dataclass(frozen=True)
class Report:
    """What was exported.

    Attributes:
        path: the file that was written.
        size: its size in bytes, weights in a file of their own included.
        inputs, outputs: with sizes or names of sizes.
        tolerance: that every output's relative difference must not exceed.
        differences: per output; empty if not verified.
    """

    path: Path
    size: int
    nodes: int
    opset: int
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    tolerance: float
    differences: dict[str, Difference] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether all outputs are within the tolerance (NaN is not)."""
        return all(difference.relative <= self.tolerance for difference in self.differences.values())

    def lines(self) -> list[str]:
        """For the terminal."""
        show = {name: f"{name} {' x '.join(map(str, dims)) or 'scalar'}" for name, dims in self._values().items()}
        lines = [
            f"{self.path}: {self.size / 1e6:.2f} MB, {self.nodes} nodes, opset {self.opset}",
            f"inputs: {', '.join(show[name] for name in self.inputs)}",
            f"outputs: {', '.join(show[name] for name in self.outputs)}",
        ]
        for name, found in self.differences.items():
            shapes = ", ".join(" x ".join(map(str, shape)) or "scalar" for shape in found.shapes)
            lines.append(
                f"{name}: largest difference to PyTorch {found.absolute:.3g} absolute, {found.relative:.3g} relative "
                f"(compared at {shapes})"
            )
        return lines if self.differences else [*lines, "not compared with PyTorch"]

    def _values(self) -> dict[str, tuple[int | str, ...]]:
        return {**self.inputs, **self.outputs}


def export_verified(
    net: Net,
    path: str | os.PathLike[str],
    *,
    inputs: Mapping[str, Shape] | None = None,
    outputs: Sequence[str] | None = None,
    dynamic: Dynamic = ("batch",),
    opset: int = 17,
    metadata: Mapping[str, Any] | None = None,
    tolerance: float | None = 1e-4,
    device: str = "cpu",
) -> Report:
    """Export a net, compare it with PyTorch in ONNX Runtime, and write it.

    A model that differs by more than the tolerance is written as ``NAME.unverified.onnx`` instead and ``path`` is left
    as it was.

    Args:
        tolerance: largest difference allowed, relative to the largest magnitude of an output; ``None``: not compared.
        device: where ONNX Runtime runs.

    Raises:
        ExportError: the net cannot be exported, or ONNX Runtime cannot run the result; nothing is written.
    """
    target = Path(path)
    model = export_onnx(net, inputs=inputs, outputs=outputs, dynamic=dynamic, opset=opset, metadata=metadata)
    differences = {} if tolerance is None else verify_onnx(net, model, device=device)
    report = Report(
        target,
        0,
        len(model.graph.node),
        opset,
        _dims(model.graph.input),
        _dims(model.graph.output),
        tolerance or 0.0,
        differences,
    )
    if not report.passed:
        target = target.with_name(f"{target.stem}.unverified{target.suffix}")
    save_onnx(model, target, check=False)
    size = target.stat().st_size
    if is_large(model):
        size += target.with_name(f"{target.name}.data").stat().st_size
    return Report(**{**report.__dict__, "path": target, "size": size})


def _dims(values: Any) -> dict[str, tuple[int | str, ...]]:
    return {v.name: tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
