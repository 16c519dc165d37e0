"""What layers say of scaled bottoms and blobs (``homogeneous``, ``affine``) is what they do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from one_layer import one_net
from test_odd_input import CASES

from caffe_compat.layers import Layer, registered

FACTOR = 4.0


def make(name: str, body: str, shapes: Any, options: dict[str, Any]) -> tuple[Layer, list[torch.Tensor]]:
    tops = options.get("top_names") or [f"y{index}" for index in range(options.get("tops", 1))]
    torch.manual_seed(0)
    net, generator = one_net(name, body, shapes, tops, "TEST", options.get("dialect", "")), np.random.default_rng(0)
    layer = net.layer("under_test")
    bottoms = []
    for index, shape in enumerate(shapes):
        sample = layer.sample(index, shapes, generator)
        value = generator.normal(size=shape) if sample is None else sample
        bottoms.append(torch.from_numpy(np.array(value, np.float32)))
    return layer, bottoms


def run(layer: Layer, bottoms: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        made = layer(*bottoms)
    return made if isinstance(made, tuple) else (made,)


def of(flag: str) -> list[str]:
    names = [
        name for name, kinds in registered().items() if name in CASES and any(getattr(k.layer, flag) for k in kinds)
    ]
    assert len(names) > 2
    return names


@pytest.mark.parametrize("name", of("homogeneous"))
def test_homogeneous(name: str) -> None:
    for body, shapes, options in CASES[name]:
        layer, bottoms = make(name, body, shapes, options)
        if not layer.homogeneous:  # another meaning of the name
            continue
        generator = np.random.default_rng(0)
        given = [layer.sample(index, shapes, generator) is not None for index in range(len(shapes))]  # boxes, places
        scaled = [bottom if kept else bottom * FACTOR for bottom, kept in zip(bottoms, given, strict=True)]
        for one, other in zip(run(layer, bottoms), run(layer, scaled), strict=True):
            torch.testing.assert_close(other, one * FACTOR)


@pytest.mark.parametrize("name", of("affine"))
def test_affine(name: str) -> None:
    for body, shapes, options in CASES[name]:
        layer, bottoms = make(name, body, shapes, options)
        if not layer.affine:
            continue
        before = run(layer, bottoms)
        with torch.no_grad():
            layer.blobs[0].div_(FACTOR)
        scaled = len(bottoms) if len(before) == len(bottoms) else 1  # a top of each bottom, or one of the first
        same = run(layer, [bottom * FACTOR for bottom in bottoms[:scaled]] + bottoms[scaled:])
        with torch.no_grad():
            layer.blobs[0].mul_(FACTOR)
            for blob in layer.blobs:
                blob.mul_(FACTOR)
        for one, kept, other in zip(before, same, run(layer, bottoms), strict=True):
            torch.testing.assert_close(kept, one)
            torch.testing.assert_close(other, one * FACTOR, rtol=1e-5, atol=1e-5)
