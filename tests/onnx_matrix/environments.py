"""Small environments, one for each runtime that reads the exported models: the runtime and numpy, nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ORT = ("numpy", "protobuf", "flatbuffers", "packaging", "coloredlogs", "humanfriendly", "sympy", "mpmath")


@dataclass(frozen=True)
class Environment:
    """One runtime.

    Attributes:
        backend: the function of ``runner.py`` that runs a model in it.
        packages: what to install, dependencies included; the first is the runtime.
        lacks: operators that it does not have or computes wrongly (see ``features`` of ``run.py``), with the reason:
            models with one are not for it.
        cannot: the same of models, by how their names begin.
        optional: whether others must agree, and this one only reports.
    """

    backend: str
    packages: tuple[str, ...]
    lacks: Mapping[str, str] = field(default_factory=dict)
    cannot: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False


ENVIRONMENTS: Mapping[str, Environment] = {
    **{
        f"onnxruntime-{version}": Environment("onnxruntime", (f"onnxruntime=={version}", *ORT))
        for version in ("1.20.1", "1.21.1", "1.24.4", "1.28.0")
    },
    "onnxruntime-newest": Environment("onnxruntime", ("onnxruntime", *ORT)),
    "openvino": Environment(
        "openvino",
        ("openvino", "openvino-telemetry", "numpy"),
        lacks={"Dropout": "it has none that drops, which Bayesian SegNet wants of it"},
        cannot={"argmax_ties_topk/dynamic": "its TopK of open sizes gives equal values in any order"},
    ),
    "onnx.reference": Environment(
        "reference",
        ("onnx", "numpy", "protobuf", "ml_dtypes", "typing_extensions"),
        lacks={
            "MaxRoiPool": "it has none",
            "LRN": "it normalizes as many channels as the batch has images",
            "GridSample of opset 17": "it does not know the name of the linear mode",
            "MaxPool of stride 1 with uneven pads": "it takes those of one axis for the other's",
            "ConvTranspose with groups": "it takes weights for other groups",
        },
    ),
    "tract": Environment("tract", ("tract", "numpy"), optional=True),
}


def make(name: str, folder: Path) -> Path:
    """The interpreter of an environment, made if it is not there or was made of other packages."""
    packages = ENVIRONMENTS[name].packages
    place, stamp = folder / name, folder / name / ".packages"
    python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == "\n".join(packages):
        return python
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", *packages], check=True)
    stamp.write_text("\n".join(packages), encoding="utf-8")
    return python


def version(name: str, python: Path) -> str:
    """Name and version of the runtime that is installed there."""
    package = ENVIRONMENTS[name].packages[0].partition("==")[0]
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    titles = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "onnx": "onnx.reference"}
    return f"{titles.get(package, package)} {done.stdout.strip()}"
