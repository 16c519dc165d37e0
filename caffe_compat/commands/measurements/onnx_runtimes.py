"""What runs a net on the CPU: ONNX Runtime, torch itself, OpenVINO; and torch's own export of the peer."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from caffe_compat.commands.measurements.onnx_nets import Entry
from caffe_compat.commands.measurements.onnx_rows import Call

__all__ = ["eager", "export_with_torch", "has_openvino", "openvino", "ort", "ort_session"]


def export_with_torch(item: Entry, path: Path) -> str:
    """Export the hand-written net, axis 0 of every input open; says which of torch's exporters did it.

    That is its default one, which needs onnxscript; where that is missing or fails, as at roi_pool, the older one.
    """
    values = item.inputs(2)
    names, example = list(values), tuple(values.values())
    with _quiet(), torch.no_grad():
        if importlib.util.find_spec("onnxscript") is not None:
            axes = tuple({0: f"{name}_batch"} for name in names)
            with contextlib.suppress(torch.onnx.errors.OnnxExporterError):
                torch.onnx.export(
                    item.peer, example, str(path), dynamo=True, input_names=names, dynamic_shapes=axes, verbose=False,
                    external_data=False,
                )  # fmt: skip
                return "torch.onnx.export"
        torch.onnx.export(
            item.peer, example, str(path), dynamo=False, input_names=names, opset_version=17,
            dynamic_axes={name: {0: f"{name}_batch"} for name in names},
        )  # fmt: skip
    return "torch.onnx.export, dynamo=False"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporters say on their way."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def ort_session(path: Path, providers: Sequence[Any] = ("CPUExecutionProvider",), profile: Path | None = None) -> Any:
    """A session with as many threads as torch has, which stop spinning when it is another's turn.

    Args:
        profile: beginning of the name of the file that tells what every node took.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))


def ort(session: Any, arrays: Mapping[str, np.ndarray]) -> Call:
    """ONNX Runtime on these inputs."""
    return lambda: session.run(None, arrays)


def eager(peer: nn.Module, tensors: Sequence[Tensor]) -> Call:
    """Torch as it is."""

    def call() -> list[Tensor]:
        with torch.inference_mode():
            found = peer(*tensors)
        return list(found) if isinstance(found, tuple) else [found]

    return call


def has_openvino() -> str:
    """Its version, or an empty text where it is not installed."""
    if importlib.util.find_spec("openvino") is None:
        return ""
    return str(importlib.import_module("openvino").__version__).split("-")[0]


def openvino(path: Path, arrays: Mapping[str, np.ndarray]) -> Call:
    """OpenVINO on these inputs, compiled for their sizes; in float32 and with as many threads as torch has."""
    package = importlib.import_module("openvino")
    core = package.Core()
    model = core.read_model(str(path))
    model.reshape({name: list(array.shape) for name, array in arrays.items()})
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def call() -> list[np.ndarray]:
        found = request.infer(arrays)
        return [found[index] for index in range(len(found))]

    return call
