"""ONNX Runtime's execution providers: the one that was asked for, or an error that says what is missing."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import onnxruntime

from caffe_compat.devices import TF32, cores
from caffe_compat.errors import UsageError, nearest, one_line

__all__ = [
    "PROVIDERS",
    "Place",
    "default_threads",
    "not_started",
    "options_of",
    "parse_device",
    "refuse_missing",
    "wanted_providers",
]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_LIBRARIES = {PROVIDERS["cuda"]: "onnxruntime_providers_cuda", PROVIDERS["tensorrt"]: "onnxruntime_providers_tensorrt"}
_CUDA_13 = (1, 27)
"""From this version on the wheels of onnxruntime-gpu are built for CUDA 13."""

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Memory that a session works in: ``cpu``, or ``cuda`` and which."""

    kind: str
    number: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.number}"


def parse_device(device: str) -> tuple[Place, list[str]]:
    """Where a session is to run, and on which providers, without those that come last by themselves.

    Raises:
        UsageError: it is none of ``cpu``, ``cuda``, ``cuda:N``, ``tensorrt`` and ``tensorrt:N``.
    """
    kind, colon, digits = device.partition(":")
    fits = digits.isascii() and digits.isdecimal() and len(digits) < 5 if colon else True
    if kind not in PROVIDERS or not fits or (kind == "cpu" and digits not in ("", "0")):
        raise UsageError(f"device is '{device}', expected cpu or cuda (or cuda:N, tensorrt, tensorrt:N)")
    if kind == "cpu":
        return Place("cpu"), [PROVIDERS["cpu"]]
    place = Place("cuda", int(digits or 0))
    return place, [PROVIDERS["cuda"]] if kind == "cuda" else [PROVIDERS["tensorrt"], PROVIDERS["cuda"]]


def wanted_providers(names: Sequence[str]) -> list[str]:
    """Full names of providers, all of which this ONNX Runtime has.

    Raises:
        UsageError: it lacks one; says which it has and what to install.
    """
    wanted = [PROVIDERS.get(name, name) for name in names]
    if any(name in _LIBRARIES for name in wanted) and hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on
        onnxruntime.preload_dlls()
    available = onnxruntime.get_available_providers()
    for name in wanted:
        if name not in available:
            hint = f"; {install_hint()}" if name in _LIBRARIES else nearest(name, available)
            raise UsageError(f"{name} was asked for, but this ONNX Runtime has only {', '.join(available)}{hint}")
    return wanted


def options_of(name: str, place: Place, given: Options, first: bool) -> tuple[str, dict[str, str]]:
    """A provider with its options.

    On a GPU everything is computed in float32, as in Caffe: ONNX Runtime would round to TF32 by itself.

    Args:
        given: of the caller, for the first provider; ``True`` and ``False`` become 1 and 0.
    """
    found: dict[str, Any] = {}
    if name in _LIBRARIES:
        found["device_id"] = place.number
    if name == PROVIDERS["cuda"]:
        found["use_tf32"] = os.environ.get(TF32, "") not in ("", "0")
    if first:
        found |= given
    return name, {key: str(int(value)) if isinstance(value, bool) else str(value) for key, value in found.items()}


def refuse_missing(wanted: Sequence[str], running: Sequence[str]) -> None:
    """Refuse a session that runs elsewhere than it was told to.

    Raises:
        UsageError: a provider did not start; says why, as far as can be found out, and what to install.
    """
    for name in wanted:
        if name not in running:
            raise not_started(name, running)


def not_started(name: str, running: Sequence[str]) -> UsageError:
    """The error of a provider that did not start."""
    why = _why_not(name)
    return UsageError(
        f"{name} did not start, ONNX Runtime would run on {', '.join(running)} instead"
        + (f": {why}" if why else "")
        + (f"; {install_hint()}" if name in _LIBRARIES else "")
        + ("; TensorRT's libraries come with pip install tensorrt" if name == PROVIDERS["tensorrt"] else "")
    )


def install_hint() -> str:
    """What to install for a GPU, for the version at hand."""
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(both) == 2:
        return (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: uninstall both, then "
            "install onnxruntime-gpu alone"
        )
    if both == ["onnxruntime"]:
        return "install onnxruntime-gpu in place of onnxruntime (uninstall that first)"
    version = onnxruntime.__version__
    cuda = 13 if _numbers(version) >= _CUDA_13 else 12
    return (
        f"onnxruntime-gpu {version} needs an NVIDIA driver, CUDA {cuda} and cuDNN 9: pip install "
        "'onnxruntime-gpu[cuda,cudnn]' brings the last two, or import a torch that was built for the same CUDA first"
    )


def default_threads() -> int:
    """As many as torch uses where it is loaded, else as OMP_NUM_THREADS says, else one for each core."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isascii() and said.isdecimal() and 0 < int(said) < 10_000 else cores()


def _why_not(name: str) -> str:
    """What the system says to the provider's library; empty if it loads."""
    if name not in _LIBRARIES:
        return ""
    folder = Path(onnxruntime.__file__).parent / "capi"
    for stem in ("onnxruntime_providers_shared", _LIBRARIES[name]):
        file = next((file for file in (folder / f"lib{stem}.so", folder / f"{stem}.dll") if file.exists()), None)
        if file is None:
            return f"{stem} is not installed"
        try:
            ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return one_line(error)
    return "its libraries load, so there is no GPU, or its driver is too old for them (nvidia-smi tells)"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
