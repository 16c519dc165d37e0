"""Runs models in the runtime that is installed beside it, and compares; needs numpy and that runtime only.

    python runner.py BACKEND CASES REPORT < NAMES

A model ``CASES/case/variant.onnx`` belongs to ``CASES/case/data.npz``: ``runs``, the JSON list of its runs, each
with the names of its inputs and outputs, whether it is for open sizes only, and whether Caffe computes NaN; and
``<run>/in/<i>`` and ``<run>/out/<i>``.
REPORT gets a line for every model: its name, a tab, and what is wrong, empty if nothing is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 2e-5
"""Of a difference, relative to the largest magnitude that an output should have."""
HUGE = 1e30
"""Larger magnitudes are marks, such as Caffe's maximum over nothing; each is compared with itself."""

Arrays = Mapping[str, np.ndarray]
Model = Callable[[Arrays], Sequence[np.ndarray]]


def onnxruntime(path: Path) -> Model:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, {one.name: inputs[one.name] for one in session.get_inputs()})


def openvino(path: Path) -> Model:
    import openvino

    core = openvino.Core()
    model = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    names = [one.get_node().get_friendly_name() for one in model.inputs]
    return lambda inputs: list(model([inputs[name] for name in names]).values())


def reference(path: Path) -> Model:
    from onnx.reference import ReferenceEvaluator

    model = ReferenceEvaluator(str(path))
    return lambda inputs: model.run(None, {name: inputs[name] for name in model.input_names})


def tract(path: Path) -> Model:
    import tract

    loaded = tract.onnx().load(str(path))
    names = [loaded.input_name(number) for number in range(loaded.input_count())]
    model = loaded.into_model().into_runnable()
    return lambda inputs: [value.to_numpy() for value in model.run([inputs[name] for name in names])]


BACKENDS: Mapping[str, Callable[[Path], Model]] = {
    function.__name__: function for function in (onnxruntime, openvino, reference, tract)
}


def difference(got: Any, wanted: np.ndarray, nan: bool = False) -> str:
    """What is wrong with an output; empty if nothing is.

    Args:
        nan: whether Caffe computes NaN there, in which case the same values must be NaN; else none may.
    """
    mine, theirs = np.asarray(got), wanted
    if mine.shape != theirs.shape:
        return f"shape {list(mine.shape)}, expected {list(theirs.shape)}"
    mine, theirs = mine.astype(np.float64), theirs.astype(np.float64)
    empty = np.isnan(theirs)
    if (np.isnan(mine) != empty).any() or (empty.any() and not nan):
        return f"{np.isnan(mine).sum()} of {mine.size} values are NaN, in PyTorch {empty.sum()}"
    size = np.where(empty, 0, np.abs(theirs))
    usual = size < HUGE
    limit = TOLERANCE * np.where(usual, size[usual].max(initial=0.0), size)
    with np.errstate(invalid="ignore"):  # equal infinities
        bad = ~((np.abs(mine - theirs) <= limit) | (mine == theirs) | empty)
    if not bad.any():
        return ""
    first = tuple(int(axis[0]) for axis in np.nonzero(np.atleast_1d(bad)))
    values = np.atleast_1d(mine)[first], np.atleast_1d(theirs)[first]
    return f"{bad.sum()} of {bad.size} values differ, first at {list(first)}: {values[0]:.7g}, expected {values[1]:.7g}"


def check(load: Callable[[Path], Model], path: Path) -> str:
    """What is wrong with a model in this runtime; empty if nothing is."""
    with np.load(path.parent / "data.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    model = load(path)
    for number, run in enumerate(json.loads(str(arrays["runs"][()]))):
        if run["open"] and not path.stem.startswith("dynamic"):
            continue
        inputs = {name: arrays[f"{number}/in/{index}"] for index, name in enumerate(run["inputs"])}
        outputs = model(inputs)
        if len(outputs) != len(run["outputs"]):
            return f"wrong: {len(outputs)} outputs, expected {len(run['outputs'])}"
        for index, (name, value) in enumerate(zip(run["outputs"], outputs, strict=True)):
            wrong = difference(value, arrays[f"{number}/out/{index}"], run["nan"])
            if wrong:
                shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
                return f"wrong: output '{name}' for {shapes}: {wrong}"
    return ""


def main(backend: str, cases: Path, report: Path, names: Sequence[str]) -> None:
    """Check each model; a line is written before the next model is touched, for runtimes may end the process."""
    with report.open("a", encoding="utf-8") as lines:
        for name in names:
            try:
                wrong = check(BACKENDS[backend], cases / name)
            except Exception as error:  # whatever a runtime raises is its answer
                wrong = f"{type(error).__name__}: {error}"
            lines.write(f"{name}\t{' '.join(wrong.split())}\n")
            lines.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.stdin.read().splitlines())
