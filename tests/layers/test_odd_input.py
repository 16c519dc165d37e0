"""Every layer with odd shapes and parameters: one of our errors, or a result of the shape that the layer told."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_layer import one_net

from caffe_compat.errors import CaffeCompatError
from caffe_compat.layers import registered

Shapes = list[tuple[int, ...]]
Case = tuple[str, Shapes, dict[str, Any]]

FILES = frozenset({"HDF5Output", "Python"})  # they write a file or run the code of a user
NUMBER = re.compile(r"(?<=: )-?\d+(?:\.\d+)?(?:e-?\d+)?")
ODD = ("-1", "0", "1000", "2147483647", "-2147483648")
ODD_REAL = (*ODD, "1e30", "nan")


def _cases() -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        for name, cases in importlib.import_module(path.stem).CASES.items():
            cases = [(body, [tuple(shape) for shape in shapes], options) for body, shapes, options in cases]
            found.setdefault(name, []).extend(case for case in cases if case[2].get("forward") is not False)
    return found


CASES = {name: cases for name, cases in _cases().items() if name not in FILES and cases}


def _odd_shapes(shapes: Shapes) -> Iterator[Shapes]:
    """No items, empty axes, one axis, none, more and fewer axes."""
    for number, shape in enumerate(shapes):
        for axis in range(len(shape)):
            yield [*shapes[:number], (*shape[:axis], 0, *shape[axis + 1 :]), *shapes[number + 1 :]]
    if not shapes:
        return
    yield [(0, *shape[1:]) for shape in shapes]
    yield [(0,) * len(shape) for shape in shapes]
    yield [shape[:1] for shape in shapes]
    yield [shape[:-1] for shape in shapes]
    yield [(*shape, 1, 1) for shape in shapes]
    yield [(1, *shape) for shape in shapes]
    for shape in ((), (1,), (3,), (2, 3, 4, 5, 6), shapes[0], shapes[-1]):
        yield [shape] * len(shapes)


def _odd_parameters(body: str, shapes: Shapes) -> Iterator[str]:
    """A kernel or pad of 1000 along three axes is a gigabyte: there it is 40, which fits no bottom either."""
    deep = any(len(shape) > 4 for shape in shapes)
    for match in NUMBER.finditer(body):
        for value in ODD_REAL if "." in match[0] else ODD:
            value = "40" if deep and value == "1000" else value
            yield body[: match.start()] + value + body[match.end() :]


def _run(name: str, body: str, shapes: Shapes, options: dict[str, Any], phase: str) -> None:
    """Forward and backward; only our errors are allowed."""
    tops = options.get("top_names") or [f"y{index}" for index in range(options.get("tops", 1))]
    torch.manual_seed(0)
    try:
        net = one_net(name, body, shapes, tops, phase, options.get("dialect", ""))
        layer, generator = net.layer("under_test"), np.random.default_rng(0)
        if not layer.on_meta or name == "Input":
            return  # reads files, or is never run
        bottoms = []
        for index, shape in enumerate(shapes):
            sample = layer.sample(index, shapes, generator)
            value = generator.random(shape) * (index not in options.get("labels", {})) if sample is None else sample
            bottoms.append(torch.from_numpy(np.array(value, np.float32)))
            bottoms[-1].requires_grad_(index not in (layer.no_gradient or ()))
        made = layer(*bottoms)
        tops_made = made if isinstance(made, tuple) else (made,)
        if not layer.sized_by_values:
            assert [tuple(top.shape) for top in tops_made] == [tuple(shape) for shape in layer.top_shapes(shapes)]
        seeds = [top for top in tops_made if top.requires_grad]
        if seeds:
            torch.autograd.backward(seeds, [torch.ones_like(top) for top in seeds])
    except CaffeCompatError:
        return


def test_all_types_are_swept() -> None:
    assert set(registered()) - set(CASES) <= FILES | {"MemoryData"}


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("name", CASES)
def test_odd_shapes(name: str, phase: str) -> None:
    for body, shapes, options in CASES[name]:
        for odd in _odd_shapes(shapes):
            _run(name, body, odd, options, phase)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("name", CASES)
def test_odd_parameters(name: str, phase: str) -> None:
    for body, shapes, options in CASES[name]:
        for odd in _odd_parameters(body, shapes):
            _run(name, odd, shapes, options, phase)
