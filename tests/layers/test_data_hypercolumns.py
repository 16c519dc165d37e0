"""The branch's data layer for hypercolumns, named as a Python layer, runs natively on batches that it is given."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from one_layer import one_net

from caffe_compat.errors import LayerError
from caffe_compat.layers.data import HypercolumnData, HypercolumnSettings

REST = ("normalizedboxes", "sppboxes", "categids", "labels", "instance_wts")
RELEASED = "--imdb_name nyud2_hha_2015_trainval --max_size 688"


class Counting:
    """Batch ``n`` has n + 1 boxes, filled with n."""

    def __init__(self, num_classes: int = 19, num_images: int = 1) -> None:
        self.num_classes, self.num_images = num_classes, num_images

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        shapes = [(1, 3, 4 + number, 5)] * self.num_images + [(number + 1, count, 1, 1) for count in (6, 5, 1)]
        shapes += [(number + 1, 1, 50, 50), (number + 1, 1, 1, 1)]
        return tuple(np.full(shape, number, np.float32) for shape in shapes)


def layer_of(text: str, tops: tuple[str, ...] = ("image", *REST)) -> HypercolumnData:
    body = (
        "python_param { module: 'lib.sds.hypercolumn_data_layer' layer: 'HypercolumnDataLayer' "
        f'param_str: "{text}" }}'
    )
    return one_net("Python", body, [], tops, "TRAIN").layer("under_test")


def test_the_released_line_needs_no_python_code_of_the_user():
    layer = layer_of(RELEASED)
    assert type(layer) is HypercolumnData
    assert layer.settings == HypercolumnSettings("nyud2_hha_2015_trainval", 0.7, 5, 19, 688, 1)
    assert layer.top_shapes([])[:2] == [(1, 3, 100, 100), (5, 6, 1, 1)] and layer.top_shapes([])[4] == (5, 1, 50, 50)
    assert not any(name.startswith("lib.sds") for name in sys.modules)
    two = layer_of("--num_images=2 --ov_thresh 0.5 --train_samples_per_img 3", ("image", "image_1", *REST))
    assert (two.settings.num_images, two.settings.ov_thresh, two.top_shapes([])[2]) == (2, 0.5, (3, 6, 1, 1))


def test_batches_come_in_order_and_a_resumed_run_goes_on():
    layer = layer_of(RELEASED)
    layer.feed(Counting(), 2)
    for number in range(3):
        image, boxes, cells, classes, labels, weights = layer()
        assert image.shape == (1, 3, 4 + number, 5) and boxes.shape == (number + 1, 6, 1, 1)
        assert cells.shape[1] == 5 and classes.shape == weights.shape and (labels == number).all()
    layer.seek(11)
    assert (layer()[0] == 11).all() and layer.position == 12
    layer.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--imdb_nam x", r"param_str has 'imdb_nam' \(did you mean 'imdb_name'\?\)"),
        ("--num_classes twenty", "num_classes is 'twenty', expected a positive whole number"),
        ("--ov_thresh nan", "ov_thresh is 'nan', expected a number above 0, up to 1"),
        ("--ov_thresh 70", "ov_thresh is '70', expected a number above 0, up to 1"),
        ("--max_size", "expected words such as"),
        ("--num_images 2", "has 6 tops, expected 7: 2 for pictures"),
    ],
)
def test_bad_command_lines(text, words):
    with pytest.raises(LayerError, match=words):
        layer_of(text)


def test_a_source_of_other_data_is_refused_and_none_is_said():
    layer = layer_of(RELEASED)
    with pytest.raises(LayerError, match="has no images: it is fed by"):
        layer()
    with pytest.raises(LayerError, match="num_classes is 19 in param_str, the images have 3"):
        layer.feed(Counting(3))
    with pytest.raises(LayerError, match="num_images is 1 in param_str, the images have 2"):
        layer.feed(Counting(19, 2))
