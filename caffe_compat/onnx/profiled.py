"""Where ONNX Runtime did run the nodes of a model, from the profile of a session."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from caffe_compat.deploy.opening import open_model
from caffe_compat.deploy.providers import options_of, parse_device, refuse_missing, wanted_providers
from caffe_compat.errors import ExportError, one_line
from caffe_compat.onnx.measured import read_model, sizes_of, with_sizes
from caffe_compat.onnx.placement import CPU, CPU_BY_SHAPE, CUDA, LIMIT, Copy, Placed, Placement, place

__all__ = ["profile"]

_SUFFIX = "_kernel_time"
_DIRECTIONS = {"MemcpyToHost": (CUDA, CPU), "MemcpyFromHost": (CPU, CUDA)}


def profile(
    path: str | os.PathLike[str], device: str = "cuda", sizes: Mapping[str, int] | None = None, limit: int = LIMIT
) -> Placement:
    """Run a model once on zeros and read from ONNX Runtime's profile where its nodes ran and what was copied.

    Nodes are those that ONNX Runtime made of the model's: it joins some.  A node on the CPU counts as kept there by the
    shape rule if :func:`place` says so of that name.

    Args:
        device: ``cuda``, ``cuda:N`` or ``cpu``.
        sizes, limit: see :func:`place`.

    Raises:
        UsageError: the device is not there; a size that is not open.
        ExportError: ONNX Runtime refuses the model or cannot run it on zeros.
    """
    proto = read_model(path)
    taken = sizes_of(proto, sizes or {})
    feeds = _zeros(with_sizes(proto, taken).graph.input)
    shape_rule = {node.name for node in place(proto, sizes=sizes).nodes if node.where == CPU_BY_SHAPE}
    with tempfile.TemporaryDirectory() as folder:
        events = _run(path, device, feeds, Path(folder) / "profile")
    nodes: list[Placed] = []
    copies: list[Copy] = []
    for event in events:
        facts = event.get("args", {})
        name = str(event["name"]).removesuffix(_SUFFIX)
        op = str(facts.get("op_name", ""))
        if op in _DIRECTIONS:
            copies.append(Copy(name, *_DIRECTIONS[op], _number(facts.get("output_size"))))
            continue
        on_gpu = str(facts.get("provider", "")).startswith("CUDA")
        where = CUDA if on_gpu else CPU_BY_SHAPE if name in shape_rule else CPU
        nodes.append(Placed(name, op, 0, where, "" if where == CUDA else "says ONNX Runtime"))
    return Placement(f"ONNX Runtime {onnxruntime.__version__} on {device}", nodes, copies, limit, taken)


def _zeros(inputs: Any) -> dict[str, np.ndarray]:
    found = {}
    for value in inputs:
        tensor = value.type.tensor_type
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        found[value.name] = np.zeros([dim.dim_value for dim in tensor.shape.dim], kind)
    return found


def _run(
    path: str | os.PathLike[str], device: str, feeds: Mapping[str, np.ndarray], prefix: Path
) -> list[dict[str, Any]]:
    """The profile's entries of kernels."""
    where, names = parse_device(device)
    wanted = wanted_providers(names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    session = open_model(path, options, [options_of(name, where, {}, name == wanted[0]) for name in wanted])
    refuse_missing(wanted, session.get_providers())
    try:
        session.run(None, dict(feeds))
    except Exception as error:  # onnxruntime's own exceptions have no common base but Exception
        raise ExportError(f"ONNX Runtime cannot run {os.fspath(path)} on zeros: {one_line(error)}") from error
    entries = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [entry for entry in entries if entry.get("cat") == "Node" and str(entry["name"]).endswith(_SUFFIX)]


def _number(text: Any) -> int | None:
    return int(text) if str(text).isdecimal() else None
