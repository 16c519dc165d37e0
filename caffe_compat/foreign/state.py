"""Weights of torch modules in files: read without running anything in them, and held against the module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from caffe_compat.errors import UsageError, WeightsError, nearest, one_line
from caffe_compat.files import open_existing

__all__ = ["copy_state", "read_state"]

PathLike = str | os.PathLike[str]
WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "net")
"""Keys under which training code keeps the weights, beside those of the optimizer."""
COUNTER = "num_batches_tracked"


def read_state(path: PathLike) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of what ``torch.save`` wrote, by name.

    Of ``torch.save``'s files only plain data is read (``weights_only``); no code in them runs.  The prefix ``module.``
    of nets that trained on several GPUs is dropped, and a checkpoint's weights are found under their usual keys.

    Raises:
        MissingFileError: no such file.
        WeightsError: it is no such file.
        UsageError: safetensors is not installed.
    """
    with open_existing(path, "weights"):
        pass
    name = os.fspath(path)
    found = _read_safetensors(name) if name.endswith(".safetensors") else _read_torch(name)
    for key in WRAPPERS:
        if isinstance(found.get(key), Mapping):
            found = found[key]
            break
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{name}: holds no tensors by name, expected a state dict")
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _read_safetensors(name: str) -> Mapping[str, Any]:
    try:
        load = import_module("safetensors.torch").load_file
    except ImportError as error:
        raise UsageError(f"{name}: needs safetensors: pip install 'caffe_compat[teachers]'") from error
    try:
        found: Mapping[str, Any] = load(name)
    except Exception as error:  # its own exceptions have no common base but Exception
        raise WeightsError(f"{name}: is no safetensors file: {one_line(error)}") from error
    return found


def _read_torch(name: str) -> Mapping[str, Any]:
    try:
        found = torch.load(name, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise WeightsError(
            f"{name}: is no state dict that torch reads without running code: {_brief(error)}"
        ) from error
    if isinstance(found, Mapping):
        return found
    raise WeightsError(f"{name}: holds a {type(found).__name__}, expected a state dict: tensors by name")


def _brief(error: BaseException) -> str:
    """Torch's message without its advice to run the code in the file."""
    return one_line(error).split(" In PyTorch 2.6")[0].split(" (1)")[0]


def copy_state(module: nn.Module, state: Mapping[str, Tensor], path: PathLike, who: str) -> None:
    """Copy the tensors that a module has; others of the file are left alone, but none may be missing.

    Raises:
        WeightsError: a parameter or buffer that the file lacks, or has in another shape; names it.
    """
    wanted = {name: value for name, value in module.state_dict().items() if not name.endswith(COUNTER)}
    missing = [name for name in wanted if name not in state]
    if missing:
        more = f" and {len(missing) - 1} more of {len(wanted)}" if len(missing) > 1 else ""
        hint = nearest(missing[0], state)
        raise WeightsError(f"{os.fspath(path)}: does not fit {who}: no '{missing[0]}'{more}{hint}")
    for name, value in wanted.items():
        if state[name].shape != value.shape:
            raise WeightsError(
                f"{os.fspath(path)}: does not fit {who}: '{name}' has the shape {list(state[name].shape)}, expected "
                f"{list(value.shape)}"
            )
    if not any(value.is_meta for value in wanted.values()):  # a net whose shapes alone are asked for has no numbers
        module.load_state_dict({name: state[name] for name in wanted}, strict=False)
