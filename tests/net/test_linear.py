"""What nets of more layers take is in proportion: counted in lines of Python that run, not in seconds."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from caffe_compat import log
from caffe_compat.commands.measurements.curves_layers import _OPERATIONS, KINDS, chain, supervised
from caffe_compat.pycaffe import Net as CaffeNet
from caffe_compat.pycaffe import layered

SIZES = (24, 48, 96)


def lines_of(run: Callable[[], object]) -> int:
    """Lines that run in a call, those of loops and generators each time."""
    count = 0

    def local(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += 1
        return local

    before = sys.gettrace()
    sys.settrace(local)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def growth(counts: list[int]) -> float:
    """By how much the second doubling costs more than the first: 2 of what is linear, 4 of what is quadratic."""
    return (counts[2] - counts[1]) / (counts[1] - counts[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", ["building", "a call for all blobs", "loading"])
def test_deep_nets_of_every_shape(operation, kind, tmp_path):
    check(KINDS[kind], operation, tmp_path)


@pytest.mark.parametrize("operation", [
    "describing", "forward, backward, update", "reshaping", "saving", "saving HDF5", "sharing weights",
    "table of layers", "SVG drawing", "ONNX export",
])  # fmt: skip
def test_every_operation_on_a_chain(operation, tmp_path):
    check(chain, operation, tmp_path)


def check(text: Callable[[int], str], operation: str, folder: Any) -> None:
    counts = []
    for size in SIZES:
        path = folder / f"{size}.prototxt"
        path.write_text(text(size))
        with log.only_errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = _OPERATIONS[operation](path)
            if not counts:
                run()  # what is done once in a process
            counts.append(lines_of(run))
    assert counts[0] < counts[1] < counts[2]
    assert growth(counts) < 2.4, counts


def test_the_count_tells_linear_from_quadratic():
    many = [lines_of(lambda size=size: [number in range(size) for number in range(size)]) for size in SIZES]
    pairs = [lines_of(lambda size=size: [1 for _ in range(size) for _ in range(size)]) for size in SIZES]
    assert growth(many) == pytest.approx(2, abs=0.1) and growth(pairs) == pytest.approx(4, abs=0.2)


def test_a_script_that_runs_one_layer_after_the_other(tmp_path):
    counts = []
    for size in SIZES:
        path = tmp_path / f"{size}.prototxt"
        path.write_text(chain(size))
        with log.only_errors():
            net = CaffeNet(str(path), 1)

        def run(net: Any = net) -> None:
            for name in net._layer_names:
                net.forward(start=name, end=name)

        if not counts:
            run()
        counts.append(lines_of(run))
    assert growth(counts) < 2.4, counts


def test_a_drawing_has_places_for_long_edges_in_proportion_to_its_nodes(monkeypatch):
    """A blob that every layer reads has an edge to each; all of them through all ranks would be quadratic."""
    monkeypatch.setattr(layered, "FREE_BENDS", 50)
    bends = []
    for size in (50, 100, 200):
        names = [f"n{number}" for number in range(size)]
        edges = [*zip(names, names[1:], strict=False), *((names[0], name) for name in names[2:])]
        found = layered.arrange(dict.fromkeys(names, (40.0, 20.0)), edges)
        assert set(found.boxes) == set(names) and len(found.ways) == len(edges)
        bends.append(sum(len(way) for way in found.ways))
    assert bends[2] < 2.2 * bends[1] < 4.8 * bends[0]
    monkeypatch.setattr(layered, "FREE_BENDS", 10**6)
    assert sum(len(way) for way in layered.arrange(dict.fromkeys(names, (40.0, 20.0)), edges).ways) > 10 * bends[2]


def test_the_table_of_a_layer_with_many_bottoms_is_not_padded_in_every_row(tmp_path):
    sizes = []
    for size in (500, 1000):
        path = tmp_path / f"{size}.prototxt"
        path.write_text(KINDS["one blob that all read"](size))
        with log.only_errors():
            sizes.append(len(_OPERATIONS["table of layers"](path)()))
    assert sizes[1] < 2.2 * sizes[0]


def test_what_reads_one_blob_of_labels_is_drawn_whole(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(supervised(20))
    drawn = str(_OPERATIONS["SVG drawing"](path)())
    assert all(f">loss{number}<" in drawn for number in range(10))
