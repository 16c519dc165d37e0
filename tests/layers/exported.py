"""The layers' cases that can be exported, with random parameters."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from one_layer import one_net

from caffe_compat.net.net import Net

DEGENERATE = {
    "Convolution-4",  # the kernel is larger than the image, for which ONNX Runtime has no convolution
    "FlowWarp-2",  # what comes from outside is NaN
}


def exported_cases() -> list[Any]:
    """Type, body, shapes and options of every case that computes something."""
    found = []
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        for kind, configurations in importlib.import_module(path.stem).CASES.items():
            for index, (body, shapes, options) in enumerate(configurations):
                name = f"{kind}-{index}"
                usable = shapes and options.get("forward") is not False and options.get("tops") != 0
                if usable and options.get("onnx") is not False and name not in DEGENERATE:
                    found.append(pytest.param(kind, body, shapes, options, id=name))
    return found


def case_net(kind: str, body: str, shapes: Sequence[tuple[int, ...]], options: dict[str, Any]) -> Net:
    """The net of a case; the blobs of layers that hold a variance are positive."""
    tops = options.get("top_names") or [f"y{index}" for index in range(options.get("tops", 1))]
    net = one_net(kind, body, shapes, tops, dialect=options.get("dialect", ""))
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (blob for node in net.nodes for blob in node.layer.blobs):
            values = torch.rand(parameter.shape, generator=random) + 0.3
            parameter.copy_(values if kind in ("BatchNorm", "BN", "DenseBlock") else values - 0.8)
    return net
