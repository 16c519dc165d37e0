"""Compare an exported model, run by ONNX Runtime, with the net in PyTorch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from caffe_compat.compare import Difference, difference, worst
from caffe_compat.deploy import Session
from caffe_compat.errors import ExportError, LayerError
from caffe_compat.layers.looking import only_looking
from caffe_compat.net import Net
from caffe_compat.onnx.metadata import RENAMED, SIZES, read_fact
from caffe_compat.onnx.parts import Parts, split
from caffe_compat.onnx.preprocess import Pictures, net_inputs, picture_names, random_pictures
from caffe_compat.onnx.samples import random_inputs
from caffe_compat.onnx.save import save_onnx
from caffe_compat.onnx.shapes import infer_shapes

__all__ = ["open_session", "random_cases", "verify_onnx", "verify_session"]

PathLike = str | os.PathLike[str]


def verify_onnx(
    net: Net,
    model: onnx.ModelProto | PathLike,
    inputs: Mapping[str, np.ndarray] | None = None,
    *,
    sizes: Sequence[Mapping[str, int]] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Difference]:
    """Run model and net on the same inputs; recurrent layers start from zero states, which this forgets.

    Args:
        net: the net that was exported; it runs where its parameters are.
        model: an exported model or its file.
        inputs: values for all inputs of the net; random ones by default (see ``samples.py``).
        sizes: values for the model's dynamic sizes, such as ``[{"batch": 1, "height": 300, "width": 400}]``, one
            comparison each; by default up to three choices that the net accepts.
        device: where ONNX Runtime runs, ``"cpu"`` or ``"cuda"``.

    Returns:
        The largest difference for each output of the model; see :mod:`caffe_compat.compare.arrays` for NaN.

    Raises:
        ExportError: ONNX Runtime refuses the model or its inputs, or an output has another shape than in PyTorch.
        UsageError: ONNX Runtime does not run on ``device``.
    """
    session = open_session(model, device)
    bare = split(model if isinstance(model, onnx.ModelProto) else onnx.load(model, load_external_data=False)).model
    return verify_session(net, session, bare, inputs, sizes=sizes, seed=seed)


def verify_session(
    net: Net,
    session: Session,
    model: onnx.ModelProto,
    inputs: Mapping[str, np.ndarray] | None = None,
    *,
    sizes: Sequence[Mapping[str, int]] | None = None,
    seed: int = 0,
    pictures: Pictures | None = None,
) -> dict[str, Difference]:
    """:func:`verify_onnx` of a model that is loaded already.

    Args:
        model: what it says of inputs and facts; the weights may be missing.
        pictures: the session's model has this preprocessing, ``model`` is what it was before; the net is fed what
            inference without ONNX would feed it, and ``inputs`` hold bytes.
    """
    blobs = {name: name for name in session.output_names} | read_fact(model, RENAMED)
    found: dict[str, list[Difference]] = {name: [] for name in session.output_names}
    random = np.random.default_rng(seed)
    for values in [inputs] if inputs is not None else random_cases(net, model, sizes, random):
        fed = values
        if pictures is not None:
            if inputs is None:
                shown = random_pictures(model, pictures, values, random)
            else:
                shown = {name: inputs[name] for name in picture_names(model, pictures)}
            fed = {**values, **shown}
            values = {name: fed[name] for name in values if name not in shown} | net_inputs(pictures, shown)
        expected = _run_net(net, values, list(blobs.values()))
        got = session({name: np.asarray(fed[name], value.kind) for name, value in session.inputs.items()})
        for name, blob in blobs.items():
            found[name].append(_difference(name, got[name], expected[blob]))
    if not all(found.values()):
        raise ExportError("there are no sizes to compare at")
    return {name: worst(cases) for name, cases in found.items()}


def random_cases(
    net: Net, model: onnx.ModelProto, sizes: Sequence[Mapping[str, int]] | None, random: np.random.Generator
) -> Iterator[dict[str, np.ndarray]]:
    """Random inputs for each choice of sizes that the net accepts; a choice that was asked for must be accepted.

    Args:
        model: an exported model, which says which of its sizes are open.
        sizes: values for these, one case each; by default up to three choices.
    """
    symbols: dict[str, int] = read_fact(model, SIZES)
    dims = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    base = {net.plan.names[blob]: net.plan.shapes[blob] for blob in net.plan.inputs}
    unnamed = [d.dim_param for entry in dims.values() for d in entry if d.dim_param and d.dim_param not in symbols]
    if unnamed or not set(dims) <= set(base):
        raise ExportError(
            f"the model takes {', '.join(dims)} and leaves {', '.join(unnamed) or 'nothing'} open without saying which "
            f"sizes to take: it was not exported from net '{net.description.name}' here; give inputs"
        )
    accepted = 0
    for choice in _choices(symbols) if sizes is None else sizes:
        unknown = [name for name in choice if name not in symbols]
        if unknown:
            raise ExportError(
                f"the model has no dynamic size '{unknown[0]}', only {', '.join(symbols) or 'fixed ones'}"
            )
        values = {**symbols, **choice}
        given = {name: tuple(values[d.dim_param] if d.dim_param else d.dim_value for d in dims[name]) for name in dims}
        shapes = {**base, **given}
        try:
            infer_shapes(net, net.nodes, shapes)
        except LayerError:
            if sizes is not None or not accepted:
                raise
            continue
        accepted += 1
        yield random_inputs(net, shapes, random)


def _choices(symbols: Mapping[str, int]) -> list[dict[str, int]]:
    """The prototxt's sizes, larger ones, and ones that are no multiple of anything; of batches two and one do."""
    if not symbols:
        return [{}]
    first, larger, odd = dict(symbols), {}, {}
    for name, value in symbols.items():
        if name.endswith("batch"):
            first[name] = min(value, 2)
            larger[name], odd[name] = 2 if value < 2 else 1, 1
        elif name.endswith("boxes"):
            larger[name], odd[name] = 7 if value != 7 else 8, 1
        else:
            larger[name], odd[name] = value + (64 if name.endswith("width") else 32), value + 13
    choices = [first, larger, odd]
    return [choice for index, choice in enumerate(choices) if choice not in choices[:index]]


def open_session(model: onnx.ModelProto | Parts | PathLike, device: str = "cpu") -> Session:
    """A session of a model of any size, by way of a file: in memory are only the weights that ONNX Runtime has."""
    if not isinstance(model, onnx.ModelProto | Parts):
        return Session(model, device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save_onnx(model, path, check=False)
        return Session(path, device)


def _run_net(net: Net, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
    missing = [name for name in outputs if name not in net.plan.names]
    if missing:
        raise ExportError(f"the model computes '{missing[0]}', which is no blob of net '{net.description.name}'")
    for node in net.nodes:
        node.layer.forget()
    like = next(net.parameters(), torch.zeros(()))
    with torch.no_grad():
        tensors = {name: torch.from_numpy(np.array(v)).to(like.device, like.dtype) for name, v in inputs.items()}
        with only_looking():
            blobs = net(blobs=outputs, **tensors)
    return {name: blobs[name].detach().double().cpu().numpy() for name in outputs}


def _difference(name: str, got: np.ndarray, expected: np.ndarray) -> Difference:
    if got.shape != expected.shape:
        raise ExportError(
            f"output '{name}' has the shape {list(got.shape)} in ONNX Runtime and {list(expected.shape)} in PyTorch"
        )
    return difference(got, expected)
