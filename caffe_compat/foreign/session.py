"""Run a model with ONNX Runtime on the device that was asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from caffe_compat.errors import ExportError, MissingFileError, UsageError

__all__ = ["Session"]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


class Session:
    """A loaded model::

        session = Session("net.onnx", device="cuda")
        prob = session({"data": images})["prob"]

    Args:
        model: a file, or a model of less than 2 GB.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``: where outputs are, and where it runs unless ``providers`` say so.
        providers: names of ONNX Runtime's execution providers in order of preference (the CPU comes last by itself).
        threads: threads for one node; by default as many as torch uses.

    Raises:
        UsageError: a provider is not in this build of ONNX Runtime, or did not start.
        ExportError: ONNX Runtime refuses the model.
    """

    def __init__(
        self,
        model: onnx.ModelProto | str | os.PathLike[str],
        device: str = "cpu",
        providers: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        wanted = _check_providers(self.device, providers)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        if not isinstance(model, onnx.ModelProto) and not Path(model).is_file():
            raise MissingFileError(model, "ONNX model")
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
        arguments: list[Any] = [
            (name, {"device_id": self.device.index or 0}) if name == _PROVIDERS["cuda"] else name for name in wanted
        ]
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=arguments)
        except Exception as error:  # onnxruntime's own exceptions have no common base but Exception
            raise ExportError(f"ONNX Runtime refuses the model: {error}") from error
        missing = [name for name in wanted if name not in self._session.get_providers()]
        if missing:
            raise UsageError(
                f"{', '.join(missing)} did not start, ONNX Runtime runs on {', '.join(self._session.get_providers())} "
                "instead; check its messages and the versions of CUDA and cuDNN"
            )
        self.input_names = [value.name for value in self._session.get_inputs()]
        self.output_names = [value.name for value in self._session.get_outputs()]

    @property
    def providers(self) -> list[str]:
        """Execution providers in use."""
        return list(self._session.get_providers())

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Compute all outputs.

        Args:
            inputs: by name, all NumPy arrays or all tensors, float32.

        Returns:
            Outputs by name: arrays for arrays; for tensors, tensors on this session's device, without copies through
            the CPU.

        Raises:
            UsageError: an input is missing or unknown, or arrays and tensors are mixed.
            ExportError: ONNX Runtime cannot run the model on these inputs.
        """
        if set(inputs) != set(self.input_names):
            raise UsageError(f"the model takes the inputs {self.input_names}, got {list(inputs)}")
        tensors = {isinstance(value, Tensor) for value in inputs.values()}
        if tensors == {True, False}:
            raise UsageError("inputs are arrays and tensors mixed, expected one kind")
        try:
            return self._run_bound(inputs) if tensors == {True} else self._run_arrays(inputs)
        except Exception as error:  # onnxruntime's own exceptions have no common base but Exception
            shapes = {name: list(np.shape(value)) for name, value in inputs.items()}
            raise ExportError(f"ONNX Runtime cannot run the model on inputs of shapes {shapes}: {error}") from error

    def _run_arrays(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        arrays = {name: np.asarray(value, np.float32, order="C") for name, value in inputs.items()}
        return dict(zip(self.output_names, self._session.run(self.output_names, arrays), strict=True))

    def _run_bound(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        binding = self._session.io_binding()
        kind, index = self.device.type, self.device.index or 0
        kept = {name: value.detach().to(self.device, torch.float32).contiguous() for name, value in inputs.items()}
        if kind == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # ONNX Runtime has a stream of its own
        for name, value in kept.items():
            binding.bind_input(name, kind, index, np.float32, tuple(value.shape), value.data_ptr())
        for name in self.output_names:
            binding.bind_output(name, kind, index)
        self._session.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        return {name: from_dlpack(value) for name, value in zip(self.output_names, outputs, strict=True)}


def _check_providers(device: torch.device, providers: Sequence[str] | None) -> list[str]:
    if providers is None:
        if device.type not in _PROVIDERS:
            raise UsageError(f"device is '{device}', expected cpu or cuda")
        wanted = [_PROVIDERS[device.type]]
    else:
        wanted = [_PROVIDERS.get(name, name) for name in providers]
    if _PROVIDERS["cuda"] in wanted:
        onnxruntime.preload_dlls()
    available = onnxruntime.get_available_providers()
    for name in wanted:
        if name not in available:
            raise UsageError(
                f"{name} was asked for, but this ONNX Runtime has only {', '.join(available)}"
                + ("; install onnxruntime-gpu in place of onnxruntime" if name == _PROVIDERS["cuda"] else "")
            )
    return wanted
