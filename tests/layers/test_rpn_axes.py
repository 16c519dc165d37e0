"""In R-FCN's nets the Python layers of py-faster-rcnn give regions, labels and targets 4 axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases_rpn import named

from caffe_compat.description import describe_net
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2, parse_text

TARGETS = f"""
layer {{ name: "in" type: "Input" top: "r" top: "g"
  input_param {{ shape {{ dim: 9 dim: 5 }} shape {{ dim: 2 dim: 5 }} }} }}
layer {{ name: "targets" type: "Python" bottom: "r" bottom: "g" top: "rois" top: "labels" top: "t" top: "i" top: "o"
  {named("rpn.proposal_target_layer", "ProposalTargetLayer", "{num_classes: 3, batch_size: -1}")} }}
"""
OHEM = (
    TARGETS
    + """
layer { name: "scores" type: "Input" top: "scores" input_param { shape { dim: 11 dim: 3 } } }
layer { name: "boxes" type: "Input" top: "boxes" input_param { shape { dim: 11 dim: 12 } } }
layer { name: "cls" type: "SoftmaxWithLossOHEM" bottom: "scores" bottom: "labels" top: "a" top: "b" top: "per_cls"
  loss_weight: 0 loss_weight: 0 loss_weight: 0 }
layer { name: "box" type: "SmoothL1LossOHEM" bottom: "boxes" bottom: "t" bottom: "i" top: "c" top: "per_box"
  loss_weight: 0 loss_weight: 0 }
layer { name: "sum" type: "Eltwise" bottom: "per_cls" bottom: "per_box" top: "per_roi" }
layer { name: "pick" type: "BoxAnnotatorOHEM" bottom: "rois" bottom: "per_roi" bottom: "labels" bottom: "i"
  top: "kept_labels" top: "kept_weights" box_annotator_ohem_param { roi_per_img: 2 } }
"""
)
DATA = ["data", "rois", "labels", "targets", "inside", "outside"]


def _net(text: str, dialect: str = "") -> Net:
    return Net(describe_net(parse_text(text, caffe_pb2.NetParameter), dialect=dialect))


def _fed() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(1)
    gt = np.array([[10, 12, 60, 70, 2], [30, 5, 44, 90, 1]], np.float32)
    rois = np.zeros((9, 5), np.float32)
    rois[:, 1:] = gt[random.integers(0, 2, 9), :4] + random.normal(size=(9, 4)) * 9
    return torch.from_numpy(rois), torch.from_numpy(gt)


def test_losses_of_single_regions_add_up() -> None:
    net = _net(OHEM)  # nobody named the dialect: the other layers tell
    rois, gt = _fed()
    torch.manual_seed(0)
    names = ("per_cls", "per_box", "per_roi")
    found = net(r=rois, g=gt, scores=torch.randn(11, 3), boxes=torch.randn(11, 12), blobs=names)
    total, kept = found["per_roi"], found["kept_labels"]
    assert total.shape == (11, 1, 1, 1)
    torch.testing.assert_close(total, found["per_cls"] + found["per_box"])
    best = set(total.flatten().topk(2).indices.tolist())
    assert {n for n in range(11) if float(kept[n]) != -1} == best
    assert {n for n in range(11) if found["kept_weights"][n].any()} <= best


@pytest.mark.parametrize(("dialect", "ones"), [("", ()), ("rfcn", (1, 1))])
def test_the_same_numbers_in_other_shapes(dialect: str, ones: tuple[int, ...]) -> None:
    rois, gt = _fed()
    torch.manual_seed(3)
    plain = _net(TARGETS)(r=rois, g=gt)
    torch.manual_seed(3)
    found = _net(TARGETS, dialect)(r=rois, g=gt)
    assert found["labels"].shape == (11, *ones, *ones[:1]) and found["rois"].shape == (11, 5, *ones)
    for name in ("rois", "labels", "t", "i", "o"):
        torch.testing.assert_close(found[name].flatten(), plain[name].flatten())
        assert name == "labels" or found[name].shape[2:] == ones


class Minibatches:
    num_classes, num_data, regression = 3, 1, True

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.shapes = shapes

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        return tuple(np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for shape in self.shapes)


def _rows() -> np.ndarray:
    """Of the minibatch below, row by row, with the columns of the classes from 1 on added up."""
    columns = np.arange(7 * 12, dtype=np.float32).reshape(7, 12)
    return np.array([[*row[:4], *(row[4 + k] + row[8 + k] for k in range(4))] for row in columns])


@pytest.mark.parametrize(("dialect", "ones"), [("", ()), ("rfcn", (1, 1))])
def test_data_layers(dialect: str, ones: tuple[int, ...]) -> None:
    body = named("roi_data_layer.layer", "RoIDataLayer", "'num_classes': 3")
    tops = " ".join(f'top: "{name}"' for name in DATA)
    net = _net(f'layer {{ name: "d" type: "Python" {tops} {body} }}', dialect)
    assert [shape[1] for shape in net.layer("d").shapes[3:]] == [8 if ones else 12] * 3
    net.layer("d").feed(Minibatches((1, 3, 8, 9), (7, 5), (7,), (7, 12), (7, 12)))
    shapes = {name: tuple(value.shape) for name, value in net().items()}
    wide = dict.fromkeys(DATA[3:], (7, 8 if ones else 12, *ones))  # R-FCN's boxes are of no class
    assert shapes == {"data": (1, 3, 8, 9), "rois": (7, 5, *ones), "labels": (7, *ones, *ones[:1]), **wide}
    if ones:
        np.testing.assert_array_equal(net()["targets"].reshape(7, 8), _rows())
    tops = 'top: "data" top: "im_info" top: "gt_boxes"'
    net = _net(f'layer {{ name: "d" type: "Python" {tops} {body} }}', dialect)
    net.layer("d").feed(Minibatches((1, 3, 8, 9), (1, 3), (4, 5)))
    found = net()
    assert found["im_info"].shape == (1, 3) and found["gt_boxes"].shape == (4, 5, *ones)
    np.testing.assert_array_equal(found["gt_boxes"].flatten(), np.arange(20))
