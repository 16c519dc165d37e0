"""Every layer's cases with random parameters, at sizes other than those that the model was exported with."""

from __future__ import annotations

from typing import Any

import pytest
from exported import case_net, exported_cases

from caffe_compat.errors import ExportError, LayerError
from caffe_compat.onnx import export_onnx, verify_onnx
from caffe_compat.onnx.metadata import SIZES, read_fact


def choices(sizes: dict[str, int]) -> list[dict[str, int]]:
    """Other sizes for what is open: smaller, larger, not square, batches of 1 and 3; and one at a time."""

    def each(batch: int, height: int, width: int) -> dict[str, int]:
        found = {}
        for name, value in sizes.items():
            kind = name.rpartition("_")[2]
            found[name] = batch if kind == "batch" else max(1, value + (height if kind == "height" else width))
        return found

    return [each(1, -1, -1), each(3, 3, 8), each(1, 7, 1), *({name: value + 1} for name, value in sizes.items())]


@pytest.mark.parametrize(("kind", "body", "shapes", "options"), exported_cases())
def test_dynamic_model_is_the_layer(
    kind: str, body: str, shapes: list[tuple[int, ...]], options: dict[str, Any]
) -> None:
    net = case_net(kind, body, shapes, options)
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
