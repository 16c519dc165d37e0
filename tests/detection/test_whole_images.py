"""Faster R-CNN learns end to end by train_net.py --imdb: images with objects are fed, the net proposes regions."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from detection.small_run import FILLERS, FOLDER
from program import call

from caffe_compat.config import load_config
from caffe_compat.datasets import find_imdb
from caffe_compat.detection.snapshots import read_regression
from caffe_compat.detection.whole_images import WholeImages, ground_truth_roidb
from caffe_compat.errors import DataError, UsageError
from caffe_compat.net import load_net

IMDB, OUT = "nyud2_hha_2015_trainval", Path("output/proposing/nyud2_hha_2015_trainval")
CONFIG = """EXP_DIR: proposing
TRAIN:
  SCALES: !!python/tuple [48, 64]
  MAX_SIZE: 100
  IMS_PER_BATCH: 1
  SNAPSHOT_ITERS: 8
"""
HELD = FILLERS.replace("{", "{{").replace("}", "}}")
SOLVER = """net: "train.prototxt" base_lr: 0.002 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 display: 1
average_loss: 30 snapshot_prefix: "faster_rcnn" random_seed: 3
"""


def _python(name: str, module: str, kind: str, bottoms: str, tops: str, text: str) -> str:
    blobs = "".join(f'bottom: "{blob}" ' for blob in bottoms.split()) + "".join(f'top: "{t}" ' for t in tops.split())
    param = f'python_param {{ module: "{module}" layer: "{kind}" param_str: "{text}" }}'
    return f'layer {{ name: "{name}" type: "Python" {blobs}{param} }}\n'


def _layer(name: str, kind: str, bottoms: str, body: str, top: str = "") -> str:
    blobs = "".join(f'bottom: "{blob}" ' for blob in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {blobs}top: "{top or name}" {body} }}\n'


def _net(heads: bool = True, classes: int = 20) -> str:
    """py-faster-rcnn's end2end training net, small: a map of stride 8, three anchors."""
    grid = "{'feat_stride': 8, 'scales': [2]}"
    conv = "convolution_param {{ num_output: {} kernel_size: {} stride: {} pad: {} " + HELD + " }}"
    text = _python(
        "input-data", "roi_data_layer.layer", "RoIDataLayer", "", "data im_info gt_boxes", f"'num_classes': {classes}"
    )
    text += _layer("conv1", "Convolution", "data", conv.format(6, 5, 4, 2)) + _layer(
        "relu1", "ReLU", "conv1", "", "conv1"
    )
    text += _layer("conv2", "Convolution", "conv1", conv.format(12, 3, 2, 1)) + _layer(
        "r2", "ReLU", "conv2", "", "conv2"
    )
    text += _layer("rpn_cls_score", "Convolution", "conv2", conv.format(6, 1, 1, 0))
    text += _layer("rpn_bbox_pred", "Convolution", "conv2", conv.format(12, 1, 1, 0))
    shape = "reshape_param {{ shape {{ dim: 0 dim: {} dim: -1 dim: 0 }} }}"
    text += _layer("rpn_cls_score_reshape", "Reshape", "rpn_cls_score", shape.format(2))
    text += _python(
        "rpn-data",
        "rpn.anchor_target_layer",
        "AnchorTargetLayer",
        "rpn_cls_score gt_boxes im_info data",
        "rpn_labels rpn_bbox_targets rpn_inside rpn_outside",
        grid,
    )
    labelled = "propagate_down: true propagate_down: false"
    ignored = f"loss_param {{ ignore_label: -1 normalize: true }} {labelled}"
    text += _layer("rpn_loss_cls", "SoftmaxWithLoss", "rpn_cls_score_reshape rpn_labels", ignored)
    text += _layer(
        "rpn_loss_bbox",
        "SmoothL1Loss",
        "rpn_bbox_pred rpn_bbox_targets rpn_inside rpn_outside",
        "smooth_l1_loss_param { sigma: 3 } loss_weight: 1",
    )
    if not heads:
        return text
    text += _layer("rpn_cls_prob", "Softmax", "rpn_cls_score_reshape", "")
    text += _layer("rpn_cls_prob_reshape", "Reshape", "rpn_cls_prob", shape.format(6))
    text += _python(
        "proposal",
        "rpn.proposal_layer",
        "ProposalLayer",
        "rpn_cls_prob_reshape rpn_bbox_pred im_info",
        "rpn_rois",
        grid[:-1] + ", 'min_size': 4, 'post_nms_top_n': 60}",
    )
    text += _python(
        "roi-data",
        "rpn.proposal_target_layer",
        "ProposalTargetLayer",
        "rpn_rois gt_boxes",
        "rois labels bbox_targets inside outside",
        f"{{'num_classes': {classes}, 'batch_size': 32}}",
    )
    pooled = "roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.125 }"
    text += _layer("pool", "ROIPooling", "conv2 rois", pooled)
    full = "inner_product_param {{ num_output: {} " + HELD + " }}"
    text += _layer("fc6", "InnerProduct", "pool", full.format(24)) + _layer("r6", "ReLU", "fc6", "", "fc6")
    text += _layer("cls_score", "InnerProduct", "fc6", full.format(20)) + _layer(
        "bbox_pred", "InnerProduct", "fc6", full.format(80)
    )
    text += _layer("loss_cls", "SoftmaxWithLoss", "cls_score labels", labelled)
    return text + _layer("loss_bbox", "SmoothL1Loss", "bbox_pred bbox_targets inside outside", "loss_weight: 1")


def _write(folder: Path, net: str) -> list[object]:
    shutil.copytree(FOLDER / "tree" / "data", folder / "data")
    (folder / "train.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(SOLVER)
    (folder / "config.yml").write_text(CONFIG)
    return ["--solver", "solver.prototxt", "--imdb", IMDB, "--cfg", "config.yml", "--gpu", "-1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 150 iterations: some seconds."""
    folder = tmp_path_factory.mktemp("run")
    done = call("train_net", *_write(folder, _net()), "--iters", 150, folder=folder)
    assert done.status == 0, done.stderr
    (folder / "log").write_text(done.stderr)
    return folder


def test_the_losses_fall(run: Path) -> None:
    rows = [json.loads(line) for line in (run / OUT / "faster_rcnn_metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) >= 100 and np.isfinite(losses).all()
    assert losses[-1] < 0.7 * np.mean(losses[:5])
    assert "14 of 16 roidb entries have objects" in (run / "log").read_text()


def test_snapshots_hold_deltas_that_are_not_normalised(run: Path) -> None:
    stem = run / OUT / "faster_rcnn_iter_150"
    found = read_regression(f"{stem}.regression.npz")
    assert found.statistics.means.shape == (20, 4) and not found.statistics.means.any()
    assert found.statistics.stds[7].tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2])
    net = load_net(run / "train.prototxt", f"{stem}.caffemodel", phase="TRAIN")
    weights, biases = found.raw["bbox_pred"]
    deviations = np.tile([0.1, 0.1, 0.2, 0.2], 20)
    written = [blob.detach().numpy() for blob in net.layer("bbox_pred").blobs]
    np.testing.assert_allclose(written[0], weights * deviations[:, None], rtol=1e-5)
    np.testing.assert_allclose(written[1], biases * deviations, rtol=1e-5)


def test_a_run_goes_on_bit_by_bit(run: Path, tmp_path: Path) -> None:
    words = _write(tmp_path, _net())
    state = run / OUT / "faster_rcnn_iter_144.solverstate"
    done = call("train_net", *words, "--iters", 150, "--snapshot", state, folder=tmp_path)
    assert done.status == 0, done.stderr
    again, first = (folder / OUT / "faster_rcnn_iter_150.caffemodel" for folder in (tmp_path, run))
    assert again.read_bytes() == first.read_bytes()


def _images(folder: Path, change: tuple[str, str] = ("", "")) -> WholeImages:
    if not (folder / "data").exists():
        shutil.copytree(FOLDER / "tree" / "data", folder / "data")
    (folder / "c.yml").write_text(CONFIG.replace(*change) if change[0] else CONFIG)
    config = load_config(folder / "c.yml")
    imdb = find_imdb(IMDB, folder)
    return WholeImages(ground_truth_roidb(imdb, config, lambda items, what: items), imdb, config)


def test_blobs_number_by_number(tmp_path: Path) -> None:
    """The picture is as wide as the scale asks for; boxes, mirrored too, are in its pixels; classes count from 1."""
    images = _images(tmp_path)
    seen = set()
    for number in range(40):
        place, scale = images.sampler.batch(number)
        seen.add((place, scale))
        picture, info, objects = images.read(number)
        entry = images.roidb[place]
        size = cv2.imread(str(next(iter(entry.record.paths.values())))).shape[:2]
        factor = min(scale / min(size), 100 / max(size))
        assert info[0].tolist() == pytest.approx([*picture.shape[2:], factor])
        assert abs(picture.shape[2] - factor * size[0]) <= 0.5 and picture.dtype == objects.dtype == np.float32
        boxes = np.asarray(entry.record.boxes, float)
        if entry.flipped:
            boxes = np.stack([size[1] - 1 - boxes[:, 2], boxes[:, 1], size[1] - 1 - boxes[:, 0], boxes[:, 3]], 1)
        np.testing.assert_allclose(objects[:, :4], boxes * factor, rtol=1e-5)
        labels = [find_imdb(IMDB, tmp_path).classes.index(name) + 1 for name in entry.record.classes or ()]
        assert objects[:, 4].tolist() == labels
    assert len(seen) > 20


def test_every_image_once_an_epoch_and_the_same_again(tmp_path: Path) -> None:
    images = _images(tmp_path)
    places = [images.sampler.batch(number)[0] for number in range(28)]
    with_objects = np.flatnonzero(images.sampler.valid).tolist()
    assert sorted(places[:14]) == sorted(places[14:]) == with_objects and places[:14] != places[14:]
    assert images.sampler.batch(3)[0] == places[3]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TRAIN.IMS_PER_BATCH is 4, expected 1"):
        _images(tmp_path, ("IMS_PER_BATCH: 1", "IMS_PER_BATCH: 4"))
    images = _images(tmp_path)
    images.roidb.images[0].gt_classes[:] = 0
    for image in images.roidb.images:
        image.gt_classes[:] = 0
    with pytest.raises(DataError, match="none of 8 images has an object"):
        WholeImages(images.roidb, find_imdb(IMDB, tmp_path), images.config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("'num_classes': 20\"", "'num_classes': 21\""), "layer 'input-data' .*num_classes 21, expected 20"),
        (
            ("'num_classes': 20, 'batch", "'num_classes': 20, 'agnostic': true, 'batch"),
            "layer 'bbox_pred' .*expected .*8",
        ),
        (("num_output: 20", "num_output: 21"), "layer 'cls_score' .*gives 21 numbers for a region, expected 20"),
    ],
)
def test_a_net_of_other_classes_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    net = _net()
    assert change[0] in net
    done = call("train_net", *_write(tmp_path, net.replace(*change)), "--iters", 1, folder=tmp_path)
    assert done.status == 2 and re.search(message, done.stderr), done.stderr


def test_a_net_that_only_proposes(tmp_path: Path) -> None:
    done = call("train_net", *_write(tmp_path, _net(heads=False)), "--iters", 3, folder=tmp_path)
    assert done.status == 0, done.stderr
    assert read_regression(tmp_path / OUT / "faster_rcnn_iter_3.regression.npz").raw == {}
