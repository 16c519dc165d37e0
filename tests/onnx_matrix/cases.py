"""The models of the matrix: every layer that exports, with fixed and with open sizes, of the first and last opset.

Layers come from Caffe's golden cases, from the configurations of ``tests/layers/cases_*.py`` and from
``tests/data/onnx``.  What a model should compute is what PyTorch does, which other tests compare with Caffe.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from caffe_compat.description import State, describe_net
from caffe_compat.errors import ExportError, LayerError
from caffe_compat.net import Net, load_net
from caffe_compat.onnx import export_onnx
from caffe_compat.onnx.graph import OPSETS
from caffe_compat.onnx.metadata import RENAMED, SIZES, read_fact
from caffe_compat.onnx.samples import random_inputs
from caffe_compat.proto import caffe_pb2
from caffe_compat.proto.text import parse

TESTS = Path(__file__).resolve().parents[1]
GOLDEN, SMALL = TESTS / "data" / "golden" / "layers", TESTS / "data" / "onnx"
NAN = ("quirk_pooling_ave_beyond",)
"""Golden cases in which Caffe computes NaN: 0 / 0 in a window of no area."""

Inputs = dict[str, np.ndarray]


@dataclass
class Subject:
    """A net to export, with inputs of the sizes that it is exported with, and perhaps others; and how to export it."""

    name: str
    net: Net
    inputs: list[Inputs] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


# -- nets ----------------------------------------------------------------------------------------------------------


def subjects() -> Iterator[Subject]:
    """All of them, those with RoI pooling in both forms; what no net can be made of without files is left out."""
    for subject in _nets():
        yield subject
        if any(node.layer.caffe_type == "ROIPooling" for node in subject.net.nodes):
            yield replace(subject, name=f"{subject.name}_for_gpu", options={"roi": "gpu"})


def _nets() -> Iterator[Subject]:
    for path in sorted(GOLDEN.glob("*.npz")):
        subject = _golden(path)
        if subject is not None:
            yield subject
    yield from _configurations()
    for path in sorted(SMALL.glob("*.prototxt")):
        torch.manual_seed(0)
        net = load_net(path)
        shapes = {net.plan.names[blob]: net.plan.shapes[blob] for blob in net.plan.inputs}
        ones = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
        yield Subject(path.stem, net, [ones] if len(shapes) == 1 else [])


def _net(text: str) -> Net:
    torch.manual_seed(0)
    return Net(describe_net(parse(text, caffe_pb2.NetParameter), State("TEST")))


def _golden(path: Path) -> Subject | None:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    spec = json.loads(str(arrays["case"][()]))
    if spec["phase"] != "TEST" or "files" in spec:
        return None
    net = _net(str(arrays["prototxt"][()]))
    with torch.no_grad():
        for name, value in arrays.items():
            if name.startswith("param/"):
                layer, _, index = name.removeprefix("param/").rpartition("/")
                blob = net.layer(layer).blobs[int(index)]
                blob.copy_(torch.from_numpy(value).reshape(blob.shape))
    passes = []
    for prefix in ("in/", *(f"p{number}/in/" for number in range(1, 4))):
        inputs = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        if set(inputs) == set(net.input_names):
            passes.append({name: value.astype(np.float32) for name, value in inputs.items()})
    return Subject(path.stem, net, passes)


def _configurations() -> Iterator[Subject]:
    sys.path.insert(0, str(TESTS / "layers"))
    exported = importlib.import_module("exported")
    seen: Counter[str] = Counter()  # a type may have cases in several files
    for path in sorted((TESTS / "layers").glob("cases_*.py")):
        for kind, configurations in importlib.import_module(path.stem).CASES.items():
            for body, shapes, options in configurations:
                name = f"{kind}-{seen[kind]}"
                seen[kind] += 1
                usable = shapes and options.get("forward") is not False and options.get("tops") != 0
                if not usable or options.get("onnx") is False or name in exported.DEGENERATE:
                    continue
                yield Subject(name, exported.case_net(kind, body, shapes, options))


# -- models and what they should compute ---------------------------------------------------------------------------


def write(subject: Subject, folder: Path, opsets: Sequence[int] = OPSETS) -> tuple[list[str], str]:
    """Write the models of a net, static and dynamic for each opset, and the runs of all.

    Returns:
        The names of the models' files below ``folder``, and why there is none.
    """
    base = subject.inputs[0] if subject.inputs else None
    shapes = None if base is None else {name: value.shape for name, value in base.items()}
    models = {}
    try:
        for opset in opsets:
            options = {**subject.options, "inputs": shapes, "opset": opset}
            models[f"static-{opset}"] = export_onnx(subject.net, dynamic=False, **options)
            model = export_onnx(subject.net, dynamic=True, **options)
            if read_fact(model, SIZES):
                models[f"dynamic-{opset}"] = model
    except ExportError as error:
        return [], str(error)
    place = folder / subject.name
    place.mkdir(parents=True)
    np.savez(place / "data.npz", **_runs(subject, models))
    for name, model in models.items():
        onnx.save_model(model, place / f"{name}.onnx")
    return [f"{subject.name}/{name}.onnx" for name in models], ""


def _runs(subject: Subject, models: Mapping[str, onnx.ModelProto]) -> dict[str, Any]:
    model = list(models.values())[-1]  # the one with open sizes, if there is any
    names = [value.name for value in model.graph.output]
    blobs = [read_fact(model, RENAMED).get(name, name) for name in names]
    runs, arrays = [], {}
    for inputs, is_open in _inputs(subject, model):
        number = len(runs)
        with torch.no_grad():
            for node in subject.net.nodes:
                node.layer.forget()
            found = subject.net(blobs=blobs, **{name: torch.from_numpy(value) for name, value in inputs.items()})
        outputs = [found[blob].detach().numpy() for blob in blobs]
        if is_open and not all(value.size for value in outputs):
            continue  # a kernel larger than the image, for which ONNX has no convolution
        nan = subject.name in NAN
        if any(np.isnan(value).any() for value in outputs) and not nan:
            raise ValueError(f"{subject.name}: PyTorch computes NaN, which proves nothing; expected other inputs")
        wanted = {value.name: inputs[value.name] for value in model.graph.input}
        arrays |= {f"{number}/in/{index}": value for index, value in enumerate(wanted.values())}
        arrays |= {f"{number}/out/{index}": value for index, value in enumerate(outputs)}
        runs.append({"inputs": list(wanted), "outputs": names, "open": is_open, "nan": nan})
    return arrays | {"runs": json.dumps(runs)}


def _inputs(subject: Subject, model: onnx.ModelProto) -> Iterator[tuple[Inputs, bool]]:
    """Inputs to run with, and whether they have sizes other than the model's with fixed ones."""
    net, random = subject.net, np.random.default_rng(0)
    shapes = {net.plan.names[blob]: net.plan.shapes[blob] for blob in net.plan.inputs}
    if subject.inputs:
        shapes = {name: value.shape for name, value in subject.inputs[0].items()}
    else:
        yield random_inputs(net, shapes, random), False
    for inputs in subject.inputs:
        is_open = {name: value.shape for name, value in inputs.items()} != shapes
        if not is_open or _fits(model, inputs):
            yield inputs, is_open
    sizes: Mapping[str, int] = read_fact(model, SIZES)
    dims = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    for count, height, width in ((3, 3, 8), (1, 1, -1)) if sizes else ():
        more = {"height": height, "width": width}
        kinds = {name: name.rpartition("_")[2] for name in sizes}
        chosen = {
            name: max(1, value + more[kinds[name]]) if kinds[name] in more else count for name, value in sizes.items()
        }
        given = {name: tuple(chosen.get(dim.dim_param, dim.dim_value) for dim in dims[name]) for name in dims}
        try:
            yield random_inputs(net, {**shapes, **given}, random), True
        except LayerError:
            continue  # sizes that the layer cannot take


def _fits(model: onnx.ModelProto, inputs: Inputs) -> bool:
    """Whether a model takes inputs of these shapes."""
    for value in model.graph.input:
        dims, shape = value.type.tensor_type.shape.dim, inputs[value.name].shape
        if len(dims) != len(shape) or any(d.dim_value not in (0, s) for d, s in zip(dims, shape, strict=True)):
            return False
    return True
