"""Our own layout of nets: ranks follow the edges, nothing overlaps, and drawings say what the net says."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffe_compat.errors import UsageError
from caffe_compat.proto import caffe_pb2, read_net
from caffe_compat.pycaffe import draw
from caffe_compat.pycaffe.draw_scene import Scene
from caffe_compat.pycaffe.layered import arrange
from caffe_compat.resources import prototxt

NET = """
layer { name: "data" type: "Data" top: "data" top: "label" data_param { batch_size: 4 } }
layer { name: "conv<1>" type: "Convolution" bottom: "data" top: "c1"
  convolution_param { num_output: 5 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "branch" type: "Pooling" bottom: "c1" top: "p1" }
layer { name: "sum" type: "Eltwise" bottom: "c1" bottom: "p1" top: "s" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "s" bottom: "label" top: "loss" }
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> caffe_pb2.NetParameter:
    monkeypatch.setenv("PATH", str(tmp_path))  # without Graphviz
    (tmp_path / "n.prototxt").write_text(NET)
    return read_net(tmp_path / "n.prototxt")


def overlapping(scene: Scene) -> list[tuple[str, str]]:
    """Pairs of boxes that have more than an edge in common."""
    return [
        (one[0].lines[0], other[0].lines[0])
        for one, other in combinations(scene.parts, 2)
        if abs(one[1] + one[3] / 2 - other[1] - other[3] / 2) < (one[3] + other[3]) / 2 - 0.01
        and abs(one[2] + one[4] / 2 - other[2] - other[4] / 2) < (one[4] + other[4]) / 2 - 0.01
    ]


def test_random_graphs_are_laid_out_along_their_edges_without_overlaps() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        count = int(rng.integers(1, 14))
        sizes = {str(k): (float(rng.integers(10, 90)), float(rng.integers(10, 60))) for k in range(count)}
        pairs = [sorted(map(int, rng.integers(0, count, 2))) for _ in range(int(rng.integers(0, 25)))]
        edges = [(str(a), str(b)) for a, b in pairs if a != b]
        found = arrange(sizes, edges)
        boxes = found.boxes
        for (start, end), way in zip(edges, found.ways, strict=True):
            assert boxes[start].along + boxes[start].length < boxes[end].along
            assert way[0] == (boxes[start].across, boxes[start].along + boxes[start].length)
            assert way[-1] == (boxes[end].across, boxes[end].along)
        for one, other in combinations(boxes.values(), 2):
            apart = abs(one.across - other.across) >= (one.breadth + other.breadth) / 2 - 1e-6
            assert apart or one.along + one.length <= other.along or other.along + other.length <= one.along
        assert all(box.across - box.breadth / 2 > -1e-6 for box in boxes.values())
        assert max(box.along + box.length for box in boxes.values()) <= found.length + 1e-9


def test_cycles_and_loops_are_drawn_all_the_same() -> None:
    found = arrange({"a": (9, 9), "b": (9, 9), "c": (9, 9)}, [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")])
    assert found.boxes["a"].along < found.boxes["b"].along < found.boxes["c"].along
    assert found.ways[2][0][1] > found.ways[2][-1][1]  # back up
    assert arrange({}, []).length == 0


@pytest.mark.parametrize("rankdir", ["LR", "RL", "TB", "BT"])
def test_layers_follow_in_the_direction_that_was_asked_for(net: caffe_pb2.NetParameter, rankdir: str) -> None:
    scene = draw.scene_of(net, rankdir)
    place = {part.lines[0]: (left + width / 2, top + height / 2) for part, left, top, width, height in scene.parts}
    axis = 0 if rankdir in ("LR", "RL") else 1
    steps = [place[name][axis] for name in ("data", "conv<1>", "c1", "branch", "sum", "loss")]
    assert steps == sorted(steps, reverse=rankdir in ("RL", "BT")) and not overlapping(scene)
    assert place["relu"][0] == place["c1"][0] and place["relu"][1] > place["c1"][1]  # in place: under its blob


def test_without_graphviz_svg_png_and_pdf_are_drawn_and_others_refused(net: caffe_pb2.NetParameter) -> None:
    root = ElementTree.fromstring(draw.draw_net(net, "LR", "svg"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"conv<1>", "(Convolution) 5", "(Data) Batch 4", "label", "relu"} <= set(texts)
    assert "href" not in draw.svg_of(net)
    scene, picture = draw.scene_of(net, "LR"), Image.open(io.BytesIO(draw.draw_net(net, "LR")))
    assert picture.size == pytest.approx((scene.width, scene.height), abs=1)
    assert len(picture.convert("RGB").getcolors(1 << 16)) > 50
    assert draw.draw_net(net, "TB", "pdf").startswith(b"%PDF")
    with pytest.raises(UsageError, match="'bmp' needs Graphviz.*[.]svg"):
        draw.draw_net(net, "LR", "bmp")


def test_a_whole_net_has_no_overlaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    net = read_net(prototxt("caffenet/train_val.prototxt"))
    scene = draw.scene_of(net, "LR", phase=1)
    assert not overlapping(scene) and len(scene.parts) > 40
    assert draw.svg_of(net) == draw.svg_of(net)
