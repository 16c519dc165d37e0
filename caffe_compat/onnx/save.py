"""Models that passed onnx.checker, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import onnx

from caffe_compat.errors import ExportError, WriteError
from caffe_compat.files import atomic_folder, atomic_write
from caffe_compat.onnx.parts import Parts, checked, pieces, split, without_weights
from caffe_compat.temporary import refusal

__all__ = ["check_model", "is_file", "is_large", "model_folder", "save_onnx"]

_LARGE = 2**31 - 2**20  #: bytes of weights from which protobuf cannot hold the model in one piece
_PAGE = 4096  #: weights in a file of their own begin at multiples of this, so that they can be mapped into memory


def save_onnx(
    model: onnx.ModelProto | Parts, path: str | os.PathLike[str], external: bool | None = None, check: bool = True
) -> None:
    """Check a model and write it, whole or not at all; its weights are not copied.

    Args:
        check: False if it was checked before (:func:`export_onnx` does).
        external: whether the weights go to a second file, ``path`` with ``.data`` appended; by default those of 2 GB
            or more, which one file cannot hold.

    Raises:
        ExportError: onnx.checker refuses the model; nothing is written then.
        WriteError: the file cannot be written.
    """
    target = Path(path)
    parts = model if isinstance(model, Parts) else split(model)
    if check:
        check_model(parts)
    if not (is_large(parts) if external is None else external):
        with atomic_write(target) as stream:
            for piece in pieces(parts):
                stream.write(piece)
        return
    with model_folder(path) as (folder, target):
        data = folder / f"{target.name}.data"
        if parts.weights:
            with atomic_write(data) as stream:
                parts = _write_weights(parts, stream, data.name)
        with atomic_write(folder / target.name) as stream:
            stream.write(parts.model.SerializeToString())
        if data.exists():
            shutil.copymode(folder / target.name, data)


@contextlib.contextmanager
def model_folder(path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """A temporary folder whose files move to where a model is to be when the block ends without an error.

    Yields:
        The folder, and the model's file that ``path`` means, at the end of symbolic links; write it into the folder
        under its name.

    Raises:
        WriteError: it cannot be written; names ``path``.
    """
    if not is_file(path):
        raise WriteError(path, "it is no file")
    target = Path(os.path.realpath(path))
    try:
        with atomic_folder(target, replace=True) as folder:
            yield folder, target
    except WriteError as error:
        raise WriteError(path, error.reason) from error


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a file, or will be one; a device or a folder is none.

    Raises:
        WriteError: there can be nothing of this name.
    """
    try:
        return stat.S_ISREG(os.stat(Path(path)).st_mode)
    except FileNotFoundError:
        return True
    except (OSError, ValueError) as error:
        raise refusal(path, error) from error


def is_large(model: onnx.ModelProto | Parts) -> bool:
    """Whether the model's weights need a file of their own."""
    return (model if isinstance(model, Parts) else split(model)).size >= _LARGE


def check_model(model: onnx.ModelProto | Parts) -> None:
    """Let onnx.checker look at a model.

    It sees the larger weights as inputs of the graph, of the same types and shapes, and so copies none.

    Raises:
        ExportError: it refuses the model.
    """
    parts = model if isinstance(model, Parts) else split(model)
    bare = without_weights(parts)
    try:
        onnx.checker.check_model(bare, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx.checker refuses the model: {error}") from error


def _write_weights(parts: Parts, stream: IO[bytes], name: str) -> Parts:
    """Write the weights into a file of their own, and say of the model where they are."""
    model = onnx.ModelProto()
    model.CopyFrom(parts.model)
    end = 0
    for tensor in model.graph.initializer:
        if tensor.name not in parts.weights:
            continue
        values = checked(tensor, parts.weights[tensor.name])
        start = -(-end // _PAGE) * _PAGE
        stream.write(bytes(start - end))
        stream.write(values)
        end = start + values.nbytes
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", name), ("offset", start), ("length", values.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
    return Parts(model, {})
