"""fast-rcnn's data layers, named as Python layers, run natively on minibatches that they are given."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from one_layer import one_net

from caffe_compat.errors import CaffeCompatError, LayerError
from caffe_compat.layers.data import RegionData, RoIDataLayer, RoIDataLayerPi
from caffe_compat.layers.data.regions import ObjectData

TOPS = ("data", "data_1", "rois", "labels", "bbox_targets", "bbox_loss_weights")


class Counting:
    """Minibatch ``n`` has n + 1 regions, filled with n."""

    def __init__(self, num_classes: int = 3, num_data: int = 1, regression: bool = True) -> None:
        self.num_classes, self.num_data, self.regression = num_classes, num_data, regression
        self.asked: list[int] = []

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        self.asked.append(number)
        shapes = [(2, 3, 4 + number, 5)] * self.num_data + [(number + 1, 5), (number + 1,)]
        shapes += [(number + 1, 4 * self.num_classes)] * 2 if self.regression else []
        return tuple(np.full(shape, number, np.float32) for shape in shapes)


def pi(text: str, tops: tuple[str, ...]) -> RegionData:
    body = f"python_param {{ module: 'roi_data_layer.layer_pi' layer: 'RoIDataLayerPi' param_str: \"{text}\" }}"
    return one_net("Python", body, [], tops, "TRAIN").layer("under_test")


def upstream(text: str, tops: tuple[str, ...] = ("data", "rois", "labels")) -> RegionData:
    body = f"python_param {{ module: 'roi_data_layer.layer' layer: 'RoIDataLayer' param_str: \"{text}\" }}"
    return one_net("Python", body, [], tops, "TRAIN").layer("under_test")


def test_both_layers_need_no_python_code_of_the_user():
    layer = pi("--num_classes 3 --num_data 2", TOPS)
    assert type(layer) is RoIDataLayerPi and (layer.num_classes, layer.num_data, layer.regression) == (3, 2, True)
    assert layer.top_shapes([]) == [(1, 3, 100, 100)] * 2 + [(1, 5), (1,), (1, 12), (1, 12)]
    layer = upstream("'num_classes': 21")
    assert type(layer) is RoIDataLayer and (layer.num_classes, layer.num_data, layer.regression) == (21, 1, False)
    assert pi("--num_classes=4", TOPS[:1] + TOPS[2:4]).num_classes == 4
    assert not any(name.startswith("roi_data_layer") for name in sys.modules)


@pytest.mark.parametrize("ahead", [0, 3])
def test_minibatches_come_in_order_and_a_resumed_run_goes_on(ahead):
    source, layer = Counting(), pi("--num_classes 3", TOPS[:1] + TOPS[2:])
    layer.feed(source, ahead)
    for number in range(4):
        data, rois, labels, targets, weights = layer()
        assert data.shape == (2, 3, 4 + number, 5) and (data == number).all()
        assert rois.shape == (number + 1, 5) and labels.shape == (number + 1,) and targets.shape == weights.shape
        assert layer.top_shapes([])[0] == data.shape
    layer.seek(11)
    assert (layer()[0] == 11).all() and layer.position == 12
    assert layer.waited > 0
    layer.close()
    assert len(source.asked) == len(set(source.asked)), "a minibatch was made twice"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--num_classes 20 --num_date 1", "param_str has 'num_date' (did you mean 'num_data'?)"),
        ("--num_classes twenty", "param_str: num_classes is 'twenty', expected a positive whole number"),
        ("--num_classes 0", "param_str: num_classes is '0', expected a positive whole number"),
        ("--num_data 1", "param_str is '--num_data 1', expected num_classes in it"),
        ("--num_classes", "expected words such as --num_classes 20 --num_data 1"),
        ("'num_classes': 21", "expected words such as --num_classes 20 --num_data 1"),
    ],
)
def test_bad_command_lines(text, words):
    with pytest.raises(LayerError) as caught:
        pi(text, TOPS[:1] + TOPS[2:4])
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["21", "'num_classes': [", "'num_classes': true", "'classes': 21", ""])
def test_bad_yaml(text):
    with pytest.raises(CaffeCompatError, match="layer 'under_test' \\(Python\\).*param_str"):
        upstream(text)


def test_tops():
    with pytest.raises(LayerError, match="has 5 tops, expected 2 for pictures, then rois and labels"):
        pi("--num_classes 3 --num_data 2", TOPS[:5])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Counting(num_classes=4), "num_classes is 3 in param_str, the images have 4"),
        (Counting(num_data=2), "num_data is 1 in param_str, the images have 2"),
        (Counting(regression=False), "has bbox_targets among its tops, but training makes none (TRAIN.BBOX_REG)"),
    ],
)
def test_a_source_that_does_not_fit(source, words):
    with pytest.raises(LayerError) as caught:
        pi("--num_classes 3", TOPS[:1] + TOPS[2:]).feed(source)
    assert words in str(caught.value)


def test_without_a_source_there_are_no_minibatches():
    with pytest.raises(LayerError, match="has no images: it is fed by detection training"):
        upstream("'num_classes': 21")()


def test_outside_weights_are_where_inside_weights_are():
    layer = upstream("'num_classes': 3", ("data", "rois", "labels", "bbox_targets", "inside", "outside"))
    layer.feed(Counting())
    assert not layer()[5].any()  # batch 0 is filled with 0
    *_, inside, outside = layer()
    assert inside.shape == outside.shape == (2, 12) and (outside == 1).all()


class Objects:
    """Image ``n`` has n objects."""

    num_classes = 3

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        shapes = [(1, 3, 50, 60), (1, 3), (number, 5)]
        return tuple(np.full(shape, number, np.float32) for shape in shapes)


def test_nets_that_propose_regions_are_fed_objects():
    tops = ("data", "im_info", "gt_boxes")
    layer = upstream("'num_classes': 3", tops)
    assert type(layer) is ObjectData and layer.top_shapes([]) == [(1, 3, 128, 128), (1, 3), (1, 5)]
    with pytest.raises(LayerError, match="has no images: it is fed by feed"):
        layer()
    layer.feed(Objects())
    assert [tuple(blob.shape) for blob in (layer(), layer())[1]] == [(1, 3, 50, 60), (1, 3), (1, 5)]
    with pytest.raises(LayerError, match="num_classes is 4 in param_str, the images have 3"):
        upstream("'num_classes': 4", tops).feed(Objects())
    for text in ("'num_classes': 1", "'num_classes': true", "{num_classes: 3, more: 2}"):
        with pytest.raises(LayerError, match="expected num_classes, a whole number from 2"):
            upstream(text, tops)
