"""What nets want of pictures, written beside the weights that commands make: ``preprocessing.json``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from caffe_compat.layers.data.source import DataLayer
from caffe_compat.media import (
    PREPROCESSING,
    Preparation,
    Preprocessing,
    describe_weights,
    model_preparation,
    read_preparation,
    stored_preparation,
)
from caffe_compat.net import Net
from caffe_compat.net.surgery import Operation, input_origins
from caffe_compat.solver.solver import Solver

__all__ = ["describe_copy", "describe_snapshots", "describe_surgery", "fed", "wanted_by"]

PathLike = str | os.PathLike[str]


def describe_snapshots(solver: Solver, path: PathLike) -> None:
    """Have a solver write beside its weights what its data layers say that its net wants.

    What ``preprocessing.json`` beside the solver says of an input (:func:`~caffe_compat.transfer.files.write_transfer`
    writes it) comes first.  A net that is fed no pictures gets no file.

    Args:
        path: of the solver's prototxt.

    Raises:
        DataError: that file is damaged.
    """
    beside = Path(path).parent / PREPROCESSING
    declared = read_preparation(beside) if beside.exists() else None
    wanted = wanted_by(solver, declared)
    if wanted is not None:
        solver.on_weights = lambda weights: _write(weights, wanted)


def _write(weights: str, wanted: Preparation) -> None:
    describe_weights(weights, wanted)


def wanted_by(solver: Solver, declared: Preparation | None = None) -> Preparation | None:
    """What a solver's net wants in a test; None: no data layer says that it feeds pictures.

    Sizes and crops are those of the first test net that has such a layer, and a picture may be mirrored if the train
    net's are.
    """
    trained = fed(solver.net)
    tested = next((found for found in map(fed, solver.test_nets) if found), trained)
    flips = {name: one.flip for name, one in trained.items()}
    found = {name: replace(one, flip=flips.get(name, one.flip)) for name, one in tested.items()}
    if declared is not None:
        found = {name: one for name, one in found.items() if name not in declared.inputs} | dict(declared.inputs)
        found = {name: replace(one, classes=declared.classes) for name, one in found.items()}
    return Preparation(found) if found else None


def fed(net: Net) -> dict[str, Preprocessing]:
    """What the data layers of a net say, by top."""
    found: dict[str, Preprocessing] = {}
    for node in net.nodes:
        if isinstance(node.layer, DataLayer):
            found |= node.layer.wants()
    return found


def describe_copy(path: PathLike, source: PathLike) -> Path | None:
    """Write beside weights that were made of others what stands beside these; None: nothing does.

    Args:
        path: the new weights.

    Raises:
        DataError: what stands there is damaged, or of other weights.
    """
    found = stored_preparation(source, strict=False)
    return None if found is None else describe_weights(path, Preparation(found.inputs))


def describe_surgery(path: PathLike, prototxt: PathLike, operations: Sequence[Operation]) -> Path | None:
    """The same for weights that were put together; each input wants what that of its first copied layer wanted.

    Classes are those of the model that the last copied layer comes from.

    Args:
        path: the new weights.
        prototxt: of their net.

    Raises:
        DataError: what stands beside a model is damaged, or of other weights.
    """
    target = input_origins(prototxt)
    copies = {copy.dest: (operation, copy.source) for operation in operations for copy in operation.copies}
    known = [model_preparation(operation.prototxt, operation.model, strict=False) for operation in operations]
    stored = {id(operation): found for operation, found in zip(operations, known, strict=True)}
    inputs: dict[str, Preprocessing] = {}
    classes: tuple[str, ...] = ()
    for name, origins in target.items():
        operation, source = copies.get(name, (None, ""))
        held = None if operation is None else stored[id(operation)]
        if operation is None or held is None:
            continue
        classes = held.classes
        seen = input_origins(operation.prototxt).get(source, ())
        wanted = [held.inputs[one] for one in seen if one in held.inputs] or list(held.inputs.values())[:1]
        for place, origin in enumerate(origins):
            inputs.setdefault(origin, wanted[min(place, len(wanted) - 1)])
    if not inputs:
        return None
    return describe_weights(path, Preparation({name: replace(one, classes=classes) for name, one in inputs.items()}))
