"""Every layer's cases with random parameters, at sizes other than those that the model was exported with."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from one_layer import one_net

from caffe_compat.errors import ExportError, LayerError
from caffe_compat.onnx import export_onnx, verify_onnx
from caffe_compat.onnx.metadata import SIZES, read_fact

LAYERS = Path(__file__).resolve().parents[1] / "layers"
DEGENERATE = {"Convolution-4"}  # the kernel is larger than the image, for which ONNX Runtime has no convolution


def cases() -> list[Any]:
    found = []
    for path in sorted(LAYERS.glob("cases_*.py")):
        for kind, configurations in importlib.import_module(path.stem).CASES.items():
            for index, (body, shapes, options) in enumerate(configurations):
                name = f"{kind}-{index}"
                usable = shapes and options.get("forward") is not False and options.get("tops") != 0
                if usable and options.get("onnx") is not False and name not in DEGENERATE:
                    found.append(pytest.param(kind, body, shapes, options, id=name))
    return found


def choices(sizes: dict[str, int]) -> list[dict[str, int]]:
    """Other sizes for what is open: smaller, larger, not square, batches of 1 and 3; and one at a time."""

    def each(batch: int, height: int, width: int) -> dict[str, int]:
        found = {}
        for name, value in sizes.items():
            kind = name.rpartition("_")[2]
            found[name] = batch if kind == "batch" else max(1, value + (height if kind == "height" else width))
        return found

    return [each(1, -1, -1), each(3, 3, 8), each(1, 7, 1), *({name: value + 1} for name, value in sizes.items())]


@pytest.mark.parametrize(("kind", "body", "shapes", "options"), cases())
def test_dynamic_model_is_the_layer(
    kind: str, body: str, shapes: list[tuple[int, ...]], options: dict[str, Any]
) -> None:
    tops = options.get("top_names") or [f"y{index}" for index in range(options.get("tops", 1))]
    net = one_net(kind, body, shapes, tops)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (blob for node in net.nodes for blob in node.layer.blobs):
            values = torch.rand(parameter.shape, generator=random) + 0.3  # BatchNorm's hold a variance
            parameter.copy_(values if kind == "BatchNorm" else values - 0.8)
    try:
        model = export_onnx(net, dynamic=True)
    except ExportError as error:
        assert net.layer("under_test").onnx_reason, f"neither exports nor says why: {error}"
        return
    for choice in [{}, *choices(read_fact(model, SIZES))]:
        try:
            found = verify_onnx(net, model, sizes=[choice])
        except LayerError:
            if not choice:
                raise
            continue  # a size that the layer cannot take
        for name, difference in found.items():
            assert difference.within(2e-5), f"{name} at {choice}: {difference}"
