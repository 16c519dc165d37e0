"""Export, check, compare and only then name the file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from caffe_compat.compare import TOLERANCE, Difference
from caffe_compat.deploy import Session
from caffe_compat.net import Net
from caffe_compat.onnx.export import bare_parts, wrap
from caffe_compat.onnx.lower import Lower, Lowered, lower
from caffe_compat.onnx.options import ExportOptions, Options
from caffe_compat.onnx.parts import Parts, join, split
from caffe_compat.onnx.save import is_file, model_folder, save_onnx
from caffe_compat.onnx.verify import verify_onnx, verify_session

__all__ = ["ExportReport", "export_verified"]


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Attributes:
        path: the file that was written.
        size: its size in bytes, weights in a file of their own included.
        inputs, outputs: with sizes or names of sizes.
        tolerance: that every output's relative difference must not exceed.
        differences: per output; empty if not verified.
        lowered: what is written is in low precision, and so far from float32; None: it is in float32.
    """

    path: Path
    size: int
    nodes: int
    opset: int
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    tolerance: float
    differences: dict[str, Difference] = field(default_factory=dict)
    lowered: Lowered | None = None

    @property
    def passed(self) -> bool:
        """Whether all outputs are within the tolerance (NaN is not)."""
        return not self.refusal

    @property
    def refusal(self) -> str:
        """Why it did not pass: the first output that differs, and how; empty if it passed."""
        bad = ((name, found) for name, found in self.differences.items() if not found.within(self.tolerance))
        name, found = next(bad, ("", None))
        if found:
            return f"output '{name}' differs from PyTorch: {found} (tolerance {self.tolerance:g})"
        return self.lowered.refusal if self.lowered else ""

    def lines(self) -> list[str]:
        """For the terminal."""
        show = {name: f"{name} {' x '.join(map(str, dims)) or 'scalar'}" for name, dims in self._values().items()}
        lines = [
            f"{self.path}: {self.size / 1e6:.2f} MB, {self.nodes} nodes, opset {self.opset}",
            f"inputs: {', '.join(show[name] for name in self.inputs)}",
            f"outputs: {', '.join(show[name] for name in self.outputs)}",
        ]
        lines += [_line(name, found) for name, found in self.differences.items()]
        lines += [] if self.differences else ["not compared with PyTorch"]
        return [*lines, *self.lowered.lines()] if self.lowered else lines

    def _values(self) -> dict[str, tuple[int | str, ...]]:
        return {**self.inputs, **self.outputs}


def _line(name: str, found: Difference) -> str:
    shapes = ", ".join(" x ".join(map(str, shape)) or "scalar" for shape in found.shapes)
    what = f"differs from PyTorch, the reference: {found}" if found.note else f"largest difference to PyTorch {found}"
    return f"{name}: {what} (compared at {shapes})"


def export_verified(
    net: Net,
    path: str | os.PathLike[str],
    *,
    tolerance: float | None = TOLERANCE,
    device: str = "cpu",
    samples: Mapping[str, np.ndarray] | None = None,
    precision: Lower | None = None,
    **options: Unpack[ExportOptions],
) -> ExportReport:
    """Export a net, compare it with PyTorch in ONNX Runtime, and write it.

    A model that differs by more than the tolerance, or whose outputs hold NaN, is written as ``NAME.unverified.onnx``
    instead and ``path`` is left as it was.

    Args:
        tolerance: largest difference allowed, relative to the largest magnitude of an output; ``None``: not compared.
        device: where ONNX Runtime runs.
        precision: what to make of the model once it has passed; that is compared with float32 and written in its place.
        samples: values for all inputs of the net to compare with (with ``preprocess`` bytes of pictures); by default
            random ones of several sizes.
        options: see :class:`~caffe_compat.onnx.options.Options`.

    Raises:
        ExportError: the net cannot be exported, or ONNX Runtime cannot run the result; nothing is written.
    """
    wanted = Options(**options)
    bare = bare_parts(net, wanted)
    parts = wrap(bare, wanted)
    model = parts.model
    report = ExportReport(
        Path(path),
        0,
        len(model.graph.node),
        next(entry.version for entry in model.opset_import if not entry.domain),
        _dims(model.graph.input),
        _dims(model.graph.output),
        tolerance or 0.0,
    )
    given = None if wanted.preprocess else samples
    if precision is not None:
        found = {} if tolerance is None else verify_onnx(net, join(bare), given, device=device)
        return _export_lower(net, bare, replace(report, differences=found), precision, wanted, device)
    if tolerance is None:
        save_onnx(parts, path, check=False)
        return replace(report, size=_size(report.path))
    if not is_file(path):  # a device, from which no model can be run
        report = replace(report, differences=verify_onnx(net, join(bare), given, device=device))
        if report.passed:
            save_onnx(parts, path, check=False)
        return report if report.passed else _keep_apart(report, parts)
    with contextlib.suppress(_Refused), model_folder(path) as (folder, target):
        file = folder / target.name
        save_onnx(wrap(bare, replace(wanted, postprocess=None)), file, check=False)
        found = verify_session(net, Session(file, device), bare.model, samples, pictures=wanted.preprocess)
        report = replace(report, differences=found)
        if not report.passed:
            raise _Refused
        if wanted.postprocess is not None:
            save_onnx(parts, file, check=False)
            Session(file, device)  # ONNX Runtime must take it; what it computes is proved by the tests
        report = replace(report, size=_size(file))
    return report if report.passed else _keep_apart(report, parts)


def _export_lower(
    net: Net, bare: Parts, report: ExportReport, precision: Lower, wanted: Options, device: str
) -> ExportReport:
    """Write what is made of a bare model in float32, if that has passed, with what is wanted around it."""
    parts = bare
    if report.passed:
        model, lowered = lower(net, join(bare), precision, device)
        parts = wrap(split(model), wanted)
        report = replace(report, nodes=len(parts.model.graph.node), lowered=lowered)
    if not report.passed:
        return _keep_apart(report, parts)
    save_onnx(parts, report.path)
    return replace(report, size=_size(report.path))


class _Refused(Exception):
    """The model that was written is not to have its name."""


def _keep_apart(report: ExportReport, parts: Parts) -> ExportReport:
    """Write what was refused under a name that says so."""
    path = report.path.with_name(f"{report.path.stem}.unverified{report.path.suffix}")
    save_onnx(parts, path, check=False)
    return replace(report, path=path, size=_size(path))


def _size(path: Path) -> int:
    """Bytes of a model, weights in a file of their own included."""
    data = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)


def _dims(values: Any) -> dict[str, tuple[int | str, ...]]:
    return {v.name: tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
