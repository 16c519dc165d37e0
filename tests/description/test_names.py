from collections import Counter

import pytest

from caffe_compat import load_net
from caffe_compat.compare.layers import unroll
from caffe_compat.description.names import UniqueNames
from caffe_compat.net import load_description
from caffe_compat.onnx import export_onnx

HEAD = 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 } } }\n'


def test_fresh_names():
    names = UniqueNames(["a", "b__2"])
    assert [names.fresh(name) for name in ("a", "b", "b", "b", "a__2", "a")] == [
        "a__2",
        "b",
        "b__3",
        "b__4",
        "a__2__2",
        "a__3",
    ]


class _Counting(str):
    """A name that counts how often it is asked for its place in a set."""

    looked = Counter()

    def __hash__(self):
        _Counting.looked[str(self)] += 1
        return super().__hash__()


def test_many_of_one_name_cost_no_more_each_than_few():
    _Counting.looked.clear()
    names = UniqueNames()
    name = _Counting("a")
    assert names.fresh(name) == "a"
    for number in range(2, 2002):
        assert names.fresh(name) == f"a__{number}"
    assert _Counting.looked["a"] < 5 * 2001


@pytest.mark.parametrize("top", ["d", "x{}"])
def test_layers_of_one_name(tmp_path, top):
    path = tmp_path / "n.prototxt"
    path.write_text(
        HEAD
        + "".join(
            f'layer {{ name: "a" type: "ReLU" bottom: "d" top: "{top.format(number)}" }}\n' for number in range(2000)
        )
    )
    net = load_net(path)
    names = [name for name, _ in net.named_children()]
    assert len(set(names)) == len(names) and {"a", "a__2", "a__2000"} <= set(names)
    description = load_description(path)
    assert [layer.line for layer in description.layers if layer.name == "a"] == list(range(2, 2002))
    message, _ = unroll(net, {"d": (1,)})
    tops = [blob for layer in message.layer for blob in layer.top]
    assert len(set(tops)) == len(tops)
    net.save(tmp_path / "w.caffemodel")
    assert net.copy_from(tmp_path / "w.caffemodel") == []
    nodes = [node.name for node in export_onnx(net).graph.node]
    assert len(nodes) == 2000 and len(set(nodes)) == 2000
