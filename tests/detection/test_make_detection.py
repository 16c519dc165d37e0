"""tools/make_detection.py: options, refusals; fusing by surgery is averaging; compressed nets fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from caffe_compat.commands import compress_net, make_detection, net_surgery
from caffe_compat.config import load_config
from caffe_compat.errors import UsageError
from caffe_compat.net import Net, load_net
from caffe_compat.proto import read_net
from caffe_compat.resources import root

SIZE = (3, 96, 128)
HIDDEN = ["--hidden", "16"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(net: str, name: str, *words: str, classes: int = 2) -> int:
    return make_detection.main(["--net", net, "--classes", str(classes), "--folder", name, *words])


def by_name(path: str) -> dict[str, Any]:
    return {layer.name: layer for layer in read_net(path).layer}


def random_model(name: str, seed: int) -> Net:
    """Weights that are neither zero nor lost in the first layers."""
    net = load_net(f"{name}/test.prototxt")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for node in net.nodes:
            for blob in node.layer.blobs:
                fan_in = blob[0].numel() if blob.dim() > 1 else 100
                blob.copy_(torch.randn(blob.shape, generator=generator) * (2 / fan_in) ** 0.5)
    net.save(f"{name}.caffemodel")
    return net


def regions(count: int) -> torch.Tensor:
    low = torch.rand(count, 2, generator=torch.Generator().manual_seed(1)) * 60
    return torch.cat([torch.zeros(count, 1), low, low + torch.tensor([40.0, 30.0])], 1)


@pytest.mark.parametrize("first", ["caffenet", "squeezenet"])
def test_fused_by_surgery_is_the_average(first: str, capsys: pytest.CaptureFixture[str]) -> None:
    make(first, "rgb", *HIDDEN)
    make("alexnet_hha", "hha", *HIDDEN)
    parts = [word for one in ("rgb", "hha") for word in ("--part", f"{one}/test.prototxt", f"{one}.caffemodel")]
    make(first, "both", "--second", "alexnet_hha", *parts, *HIDDEN)
    rgb, hha = random_model("rgb", 1), random_model("hha", 2)
    capsys.readouterr()
    surgery = ["--out_net_def", "both/test.prototxt", "--net_surgery_json", "both/init_weights.json"]
    assert net_surgery.main([*surgery, "--out_net_file", "both.caffemodel"]) == 0
    assert capsys.readouterr().out.startswith("wrote both.caffemodel\n")  # every layer once, or it would be named
    data, data_1, rois = torch.randn(1, *SIZE), torch.randn(1, *SIZE), regions(9)
    asked = {"blobs": ["cls_score", "bbox_pred"]}
    with torch.no_grad():
        one, other = rgb(data=data, rois=rois, **asked), hha(data=data_1, rois=rois, **asked)
        fused = load_net("both/test.prototxt", "both.caffemodel")(data=data, data_1=data_1, rois=rois, **asked)
    for blob in ("cls_score", "bbox_pred"):
        average = 0.5 * one[blob] + 0.5 * other[blob]
        assert torch.equal(fused[blob], average) and average.std() > 1e-3
    torch.testing.assert_close(fused["cls_prob"], fused["cls_score"].softmax(1))
    assert not torch.allclose(fused["cls_prob"], 0.5 * one["cls_prob"] + 0.5 * other["cls_prob"], atol=1e-4)


def test_one_modality_twice_is_itself() -> None:
    make("alexnet_hha", "hha", *HIDDEN)
    net = random_model("hha", 3)
    with torch.no_grad():
        found = net(data=torch.randn(1, *SIZE), rois=regions(5), blobs=["cls_score", "cls_score_1", "bbox_pred_1"])
    assert torch.equal(found["cls_score"], found["cls_score_1"])
    assert torch.equal(found["bbox_pred"], found["bbox_pred_1"])


def test_a_compressed_net_takes_its_factors(capsys: pytest.CaptureFixture[str]) -> None:
    make("alexnet_hha", "hha", "--svd", "fc6=15,fc7=8", *HIDDEN)
    random_model("hha", 4)
    words = ["--def", "hha/test.prototxt", "--def-svd", "hha/test_svd.prototxt", "--net", "hha.caffemodel"]
    assert compress_net.main(words) == 0
    assert "wrote hha_svd_da_fc6_15_da_fc7_8.caffemodel" in capsys.readouterr().out
    found = by_name("hha/test_svd.prototxt")
    assert [found[f"da_fc6_{part}"].inner_product_param.num_output for part in "LU"] == [15, 16]
    assert not found["da_fc6_L"].inner_product_param.bias_term and found["da_fc6_U"].inner_product_param.bias_term
    assert found["da_relu6"].bottom == found["da_fc6_U"].top == ["da_fc6"]
    load_net("hha/test_svd.prototxt", "hha_svd_da_fc6_15_da_fc7_8.caffemodel")


def test_fillers_and_frozen_layers_of_ones_own_net() -> None:
    make("squeezenet", "a", "--fillers", "--freeze", "conv")
    for name, layer in by_name("a/train.prototxt").items():
        if layer.type == "Convolution":
            assert layer.convolution_param.weight_filler.type == "xavier", name
            assert [spec.lr_mult for spec in layer.param] == [0, 0]
        if layer.type == "InnerProduct":
            assert layer.inner_product_param.HasField("weight_filler"), name
            assert [spec.lr_mult for spec in layer.param] == [1, 2]
    make("caffenet", "c", "--freeze", "fc7")
    for name, layer in by_name("c/train.prototxt").items():
        if layer.type in ("Convolution", "InnerProduct"):
            outputs = name in ("cls_score", "bbox_pred")
            assert [spec.lr_mult for spec in layer.param] == ([1, 2] if outputs else [0, 0]), name
    make("vgg16", "b", "--fillers", "--no-dropout", "--loss-weight", "0.25")
    found = by_name("b/train.prototxt")
    assert found["conv1_1"].convolution_param.weight_filler.type == "msra"
    assert list(found["loss_cls"].loss_weight) == [0.25] and "drop6" not in found


def test_two_modalities_of_two_scales() -> None:
    make("vgg16", "both", "--second", "alexnet_hha", "--modality-scales", "600", "688", "--scales", "600")
    found = by_name("both/test.prototxt")
    assert found["roi_pool5"].bottom[1] == "rois" and found["da_roi_pool5"].bottom[1] == "rois_1"
    config = load_config("both/config.yml")
    assert config.test.modality_scales == ((600,), (688,)) and config.train.scales == (600,)


def test_configuration_and_commands(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--scales", "400", "500", "--test-scales", "500", "--max-size", "900", "--top-k", "300"]
    make("caffenet", "out/mine", *words, "--exp-dir", "a/b", "--imdb", "coco:box.json", "--iters", "900")
    config = load_config("out/mine/config.yml")
    assert config.train.scales == (400, 500) and config.test.scales == (500,) and config.exp_dir == "a/b"
    assert config.train.proposal_top_k == config.test.proposal_top_k == 300 and config.test.max_size == 900
    printed = capsys.readouterr().out
    assert "--weights MODEL.caffemodel --imdb coco:box.json --cfg out/mine/config.yml --iters 900" in printed


def test_remade_by_the_command_at_its_head() -> None:
    make("squeezenet", "mine", "--svd", "fc7=8", "--base-lr", "0.0025", "--score-thresh", "0.1", *HIDDEN)
    before = {path.name: path.read_text() for path in Path("mine").iterdir()}
    words = before["config.yml"].splitlines()[1].split()[2:]
    for path in Path("mine").iterdir():
        path.unlink()
    assert make_detection.main(words) == 0
    assert {path.name: path.read_text() for path in Path("mine").iterdir()} == before


BAD = {
    "net": (["--net", "cafenet"], ["'cafenet'", "did you mean 'caffenet'"]),
    "classes": (["--classes", "0"], ["--classes 0", "1 or more"]),
    "database": (["--classes", "nyud3_hha_2015_train"], ["nyud3_hha_2015_train"]),
    "second": (["--second", "vgg16"], ["second", "da_"]),
    "first": (["--net", "alexnet_hha", "--second", "caffenet"], ["second", "da_"]),
    "freeze": (["--freeze", "all"], ["'all'", "none, conv, fc7, coco"]),
    "svd": (["--svd", "fc8=4"], ["fc8", "fc6"]),
    "no rank": (["--svd", "fc6"], ["--svd fc6", "fc6=1024"]),
    "rank": (["--svd", "fc6=16", *HIDDEN], ["fc6", "16", "1 to 15"]),
    "hidden": (["--hidden", "-1"], ["--hidden -1"]),
    "scales": (["--scales", "0"], ["TRAIN.SCALES"]),
    "modality scales": (["--modality-scales", "600", "688"], ["--second"]),
    "iterations": (["--snapshot-iters", "0"], ["SNAPSHOT_ITERS"]),
    "parts": (["--part", "a", "b", "--part", "a", "b"], ["2 parts", "expected 1"]),
    "folder": (["--folder", "../x/.."], ["EXP_DIR"]),
}


@pytest.mark.parametrize("what", BAD)
def test_refusals(what: str) -> None:
    words, parts = BAD[what]
    with pytest.raises(UsageError) as caught:
        make_detection.main(["--net", "caffenet", "--classes", "2", "--folder", "out", *words])
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert not Path("out").exists()


def test_a_franken_net_has_two_parts_and_no_training_net() -> None:
    parts = ["--part", "student.prototxt", "s.caffemodel", "--part", "teacher.prototxt", "t.caffemodel"]
    make("caffenet_franken", "franken", *parts)
    assert sorted(path.name for path in Path("franken").iterdir()) == [
        "config.yml",
        "init_weights.json",
        "test.prototxt",
    ]
    student, teacher = json.loads(Path("franken/init_weights.json").read_text())
    assert student["copy_ops"]["dest"][-1] == "adapt_pool5" and teacher["copy_ops"]["dest"][0] == "da_fc6"
    assert teacher["copy_ops"]["source"] == ["fc6", "fc7", "cls_score", "bbox_pred"]


def test_a_franken_net_gives_the_teacher_s_feature_as_large_as_it_was() -> None:
    """The transfer scaled it; the adaptation of the detector undoes that, as unscale_pool5 does in the whole net."""
    Path("t").mkdir()
    Path("t/train_val.prototxt").write_text(
        'layer { name: "scale_pool5" type: "Power" bottom: "a" top: "b" power_param { scale: 0.25 } }'
    )
    parts = ["--part", "t/student_deploy.prototxt", "s.caffemodel", "--part", "teacher.prototxt", "t.caffemodel"]
    make("caffenet_franken", "franken", *parts)
    student, teacher = json.loads(Path("franken/init_weights.json").read_text())
    assert student["copy_ops"]["scale"] == [1.0] * 5 + [4.0] and "scale" not in teacher["copy_ops"]


def test_the_head_s_own_scale_comes_after_the_adaptation() -> None:
    parts = ["--part", "student.prototxt", "s.caffemodel", "--part", "teacher.prototxt", "t.caffemodel"]
    make("squeezenet_franken", "franken", *parts)
    layers = by_name("franken/test.prototxt")
    assert layers["adapt_pool9"].bottom == ["da_pool9"]
    assert layers["da_pool9_scale"].bottom == ["adapt_pool9"] and layers["da_fc6"].bottom == ["da_pool9_scale"]


def test_a_backbone_of_another_stride() -> None:
    make("small", "rgb")
    assert by_name("rgb/test.prototxt")["roi_pool5"].roi_pooling_param.spatial_scale == 0.125
    assert load_config("rgb/config.yml").dedup_boxes == 0.125
    net = random_model("rgb", 1)
    assert net(data=torch.zeros(1, 3, 96, 128), rois=regions(2), blobs=["conv5"])["conv5"].shape == (1, 64, 13, 17)
    own = load_net(root() / "prototxt/small/deploy.prototxt")
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
        assert own.layer(name).blob_shapes == net.layer(name).blob_shapes, name


def test_commands_for_ones_own_pictures_name_the_folder_and_the_other_split(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "my").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(f"my/{name}.png", np.zeros((20, 30, 3), np.uint8))
    images = [
        {"id": k, "file_name": f"{name}.png", "width": 30, "height": 20, "split": split}
        for k, (name, split) in enumerate((("a", "train"), ("b", "test")))
    ]
    text = json.dumps({"images": images, "annotations": [], "categories": [{"id": 1, "name": "cup"}]})
    (folder / "my" / "all.json").write_text(text)
    options = ["--fillers", "--iters", "3", *HIDDEN]
    make_detection.main(["--net", "caffenet", "--classes", "coco:my/all.json,split=train", "--folder", "net", *options])
    *_, trained, tested = capsys.readouterr().out.splitlines()
    assert trained.endswith("--imdb coco:my/all.json,split=train --cfg net/config.yml --iters 3 --proposals builtin")
    assert "--net output/net/my_all_images_train/fast_rcnn_iter_3.caffemodel" in tested
    assert "--imdb coco:my/all.json,split=test --cfg" in tested
