"""Models that passed onnx.checker, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import onnx

from caffe_compat.errors import ExportError
from caffe_compat.files import atomic_folder, write_file

__all__ = ["check_model", "is_large", "save_onnx"]

_LARGE = 2**31 - 2**20  #: bytes of weights from which protobuf cannot hold the model in one piece


def save_onnx(
    model: onnx.ModelProto, path: str | os.PathLike[str], external: bool | None = None, check: bool = True
) -> None:
    """Check a model and write it, whole or not at all.

    Args:
        check: False if it was checked before (:func:`export_onnx` does).
        external: whether the weights go to a second file, ``path`` with ``.data`` appended; by default those of 2 GB
            or more, which one file cannot hold.

    Raises:
        ExportError: onnx.checker refuses the model; nothing is written then.
        WriteError: the file cannot be written.
    """
    target = Path(path)
    if not (is_large(model) if external is None else external):
        if check:
            check_model(model)
        write_file(target, model.SerializeToString())
        return
    with atomic_folder(target, replace=True) as folder:
        _save_external(model, folder / target.name)
        data = folder / f"{target.name}.data"
        if data.exists():  # weights under 1 kB stay in the model
            shutil.copymode(folder / target.name, data)


def is_large(model: onnx.ModelProto) -> bool:
    """Whether the model's weights need a file of their own."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) >= _LARGE


def check_model(model: onnx.ModelProto | str) -> None:
    """Let onnx.checker look at a model, or at its file.

    Raises:
        ExportError: it refuses the model.
    """
    if isinstance(model, onnx.ModelProto) and is_large(model):
        try:
            with tempfile.TemporaryDirectory() as folder:
                _save_external(model, Path(folder) / "model.onnx")
        except OSError as error:
            reason = f"cannot write it to {tempfile.gettempdir()}, where onnx.checker is to look at it"
            raise ExportError(f"the model has 2 GB or more: {reason}: {error.strerror or error}") from error
        return
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx.checker refuses the model: {error}") from error


def _save_external(model: onnx.ModelProto, path: Path) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # onnx.save takes the weights out of the model that it is given
    data = f"{path.name}.data"
    onnx.save_model(copy, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data)
    check_model(str(path))
