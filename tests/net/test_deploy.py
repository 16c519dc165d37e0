"""The deploy form of training nets: what they answer without labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT

from caffe_compat import load_net
from caffe_compat.description import describe_net
from caffe_compat.errors import UsageError
from caffe_compat.net import net_of
from caffe_compat.net.deploy import deploy_form, reads_own_data
from caffe_compat.proto import caffe_pb2, parse_text, read_net

LABELLED = 'top: "data" top: "label"'
CROP = "transform_param { crop_size: 8 mean_value: 100 }"
DATA = f'layer {{ name: "d" type: "Data" {LABELLED} {CROP} data_param {{ source: "none" batch_size: 4 }} }}'
SCORES = (
    'layer { name: "c" type: "Convolution" bottom: "data" top: "c" param { name: "w" } convolution_param { '
    'num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } } '
    'layer { name: "f" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { num_output: 3 weight_filler { '
    'type: "xavier" } } }'
)
LOSS = (
    'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "loss" } '
    'layer { name: "acc" type: "Accuracy" bottom: "f" bottom: "label" top: "acc" include { phase: TEST } }'
)


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


def test_what_it_answers_is_what_the_loss_compares() -> None:
    form = deploy_form(net(DATA + SCORES + LOSS), "n")
    assert form.shape == (1, 3, 8, 8) and form.left_out == ("loss", "acc") and form.answers == ("prob",)
    built = net_of(describe_net(form.message))
    assert built.input_names == ["data"] and built.output_names == ["prob"]
    found = built(data=torch.randn(5, 3, 8, 8), blobs=["f", "prob"])
    torch.testing.assert_close(found["prob"], torch.softmax(found["f"], 1))
    assert form.message.layer[1].param[0].name == "w", "shared parameters stay shared"


@pytest.mark.parametrize("name", ["caffenet", "alexnet", "vgg16"])
def test_deploy_forms_of_the_zoo(name: str) -> None:
    """Layers, blobs and shapes of the deploy nets that were published."""
    made = deploy_form(read_net(ROOT / f"prototxt/{name}/train_val.prototxt"), name).message
    known = read_net(ROOT / f"prototxt/{name}/deploy.prototxt")
    assert [(x.type, list(x.bottom), list(x.top)) for x in made.layer] == [
        (x.type, list(x.bottom), list(x.top)) for x in known.layer
    ]


def test_answers_of_several_losses() -> None:
    aux = 'layer { name: "aux" type: "SigmoidCrossEntropyLoss" bottom: "c" bottom: "label" loss_weight: 0.3 }'
    form = deploy_form(net(DATA + SCORES + aux + LOSS), "n")
    assert form.answers == ("aux/prob", "prob")
    assert [layer.type for layer in form.message.layer][3:] == ["Sigmoid", "Softmax"]


def test_what_is_made_of_labels_is_left_out() -> None:
    text = DATA + SCORES + (
        'layer { name: "one" type: "Flatten" bottom: "label" top: "one" } '
        'layer { name: "e" type: "EuclideanLoss" bottom: "one" bottom: "f" top: "e" } '
        'layer { name: "s" type: "Silence" bottom: "label" }'
    )  # fmt: skip
    form = deploy_form(net(text), "n")
    assert form.left_out == ("one", "e", "s") and not form.answers
    assert net_of(describe_net(form.message)).output_names == ["f"]


def test_sizes_are_those_of_the_pictures_where_these_are(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 7), np.uint8))
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.png 0\n")
    source = f'image_data_param {{ source: "{tmp_path}/list.txt" is_color: false batch_size: 4 }}'
    data = f'layer {{ name: "d" type: "ImageData" {LABELLED} {source} }}'
    assert deploy_form(net(data + SCORES + LOSS), "n").shape == (1, 1, 9, 7)
    assert deploy_form(net(data + SCORES + LOSS), "n", (2, 1, 5, 5)).shape == (2, 1, 5, 5)
    (tmp_path / "list.txt").unlink()
    with pytest.raises(
        UsageError, match=r"layer 'd' \(ImageData\) reads its own data .* --shape data=1,3,HEIGHT,WIDTH"
    ):
        deploy_form(net(data + SCORES + LOSS), "n")


def test_nets_of_which_no_deploy_form_can_be_guessed() -> None:
    name = "prototxt/transfer/vgg16_to_alexnet_hha/train_val.prototxt"
    with pytest.raises(UsageError, match="layer 'pairs' of type PairedImageData reads its data.*deploy prototxt"):
        deploy_form(read_net(ROOT / name), name)
    assert reads_own_data(read_net(ROOT / name))
    assert not reads_own_data(read_net(ROOT / "prototxt/caffenet/deploy.prototxt"))


def test_loaded_from_a_description_or_a_file(tmp_path: Path) -> None:
    form = deploy_form(net(DATA + SCORES + LOSS), "n")
    built = net_of(describe_net(form.message))
    built.save(tmp_path / "n.caffemodel")
    (tmp_path / "n.prototxt").write_text(str(form.message))
    data = torch.randn(1, 3, 8, 8)
    again = net_of(describe_net(form.message), tmp_path / "n.caffemodel")
    of_file = load_net(tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
    for other in (again, of_file):
        torch.testing.assert_close(other(data=data)["prob"], built(data=data)["prob"])
