"""ONNX files become sessions, or one clear error."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import onnxruntime

from caffe_compat.deploy.providers import PROVIDERS, not_started
from caffe_compat.deploy.values import Value
from caffe_compat.errors import CaffeCompatError, ExportError, MissingFileError, ModelFileError, UsageError, one_line
from caffe_compat.files import open_existing

__all__ = ["open_model", "read_description"]

_NAMELESS = "the model"
_MISSING = re.compile(r'[Ee]xternal data path does not exist: "?([^"]*[^"\s])"?|No such file or directory \[([^]]+)\]')
_OLD = re.compile(r"External data.*?(?:does not exist|No such file)|open file .* failed: No such file")
_OPSET = re.compile(r"[Oo]pset (\d+) is under development|[Uu]nsupported model IR version: (\d+)")


def open_model(model: Any, options: Any, providers: Sequence[tuple[str, dict[str, str]]]) -> Any:
    """An ``onnxruntime.InferenceSession``.

    Args:
        model: a file, its bytes, or an ``onnx.ModelProto`` of less than 2 GB.

    Raises:
        MissingFileError: no such file, or the file that holds its weights is not there.
        ModelFileError: it is no ONNX file, or not all of one.
        UsageError: an option that the provider does not know.
        ExportError: ONNX Runtime refuses it for another reason.
    """
    path = os.fspath(model) if isinstance(model, str | os.PathLike) else ""
    if path:
        with open_existing(path, "ONNX model"):
            pass
        source: Any = path
    else:
        source = model if isinstance(model, bytes) else _bytes_of(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=list(providers), enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions have no common base but Exception
        raise _refused(error, path or _NAMELESS, providers) from error


def _refused(error: Exception, who: str, providers: Sequence[tuple[str, dict[str, str]]]) -> CaffeCompatError:
    """What an exception of ONNX Runtime means."""
    text = one_line(error, 10_000)
    missing = _MISSING.search(text)
    if missing or _OLD.search(text):
        where = missing[1] or missing[2] if missing else "of its weights"
        return MissingFileError(where, f"weights of {who}, expected beside it")
    if "Protobuf parsing failed" in text or "No graph was found" in text or "does not have a graph" in text:
        return ModelFileError(f"{who}: is no ONNX model, or not all of one: ONNX Runtime cannot parse it")
    if "can not be read in full" in text or "out of bounds" in text:
        return ModelFileError(f"{who}: the file with its weights is shorter than the model says: {text}")
    if "install TensorRT" in text:
        return not_started(PROVIDERS["tensorrt"], [PROVIDERS["cuda"], PROVIDERS["cpu"]])
    newer = _OPSET.search(text)
    if newer:
        said = f"opset {newer[1]}" if newer[1] else f"IR version {newer[2]}"
        return ExportError(
            f"{who}: has {said}, which ONNX Runtime {onnxruntime.__version__} does not know: export with an older "
            "opset (export_onnx writes 17), or install a newer onnxruntime"
        )
    text = one_line(error, 400)
    if "graph capture" in text or "CUDA graph" in text:
        return UsageError(
            f"{who}: cannot be captured as a CUDA graph, since not every node runs on the GPU (regions pooled by "
            f"MaxRoiPool do not: export with --roi gpu): {text}"
        )
    if "provider option" in text.lower():
        return UsageError(f"options {dict(providers)}: {text}")
    if "OutOfMemory" in text or "bad_alloc" in text or "Failed to allocate memory" in text:
        return ExportError(f"{who}: does not fit into memory: {text}")
    name = "" if who == _NAMELESS else f" {who}"
    return ExportError(f"ONNX Runtime {onnxruntime.__version__} refuses the model{name}: {text}")


def read_description(session: Any, who: str) -> tuple[dict[str, Value], dict[str, Value], dict[str, str]]:
    """Inputs, outputs and metadata of an ``onnxruntime.InferenceSession``, by name.

    Raises:
        ModelFileError: names or metadata that are no text.
    """
    try:
        inputs = {told.name: Value.of(told) for told in session.get_inputs()}
        outputs = {told.name: Value.of(told) for told in session.get_outputs()}
        return inputs, outputs, dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{who}: is damaged: a name or its metadata are not text in UTF-8") from error


def _bytes_of(model: Any) -> bytes:
    if not hasattr(model, "SerializeToString"):
        raise UsageError(f"the model is {type(model).__name__}, expected a file, its bytes or an onnx.ModelProto")
    try:
        content: bytes = model.SerializeToString()
    except ValueError as error:  # protobuf's limit
        raise ExportError(f"the model has 2 GB or more, give it as a file: {error}") from error
    return content
