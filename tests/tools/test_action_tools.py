"""JHMDB from its files to the table over three splits, as its user runs the tools, with a net that was not trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from program import call

from caffe_compat import load_net
from caffe_compat.datasets.jhmdb import JHMDB_CLASSES
from tests.datasets.action_files import make_clips, make_jhmdb, save_flow

NET = """name: "small" input: "data" input_shape { dim: 1 dim: 3 dim: 24 dim: 32 }
input: "rois" input_shape { dim: 1 dim: 5 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 5
  stride: 4 pad: 2 weight_filler { type: "gaussian" std: 0.05 } } }
layer { name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.25 } }
layer { name: "cls_score" type: "InnerProduct" bottom: "pool" top: "cls_score" inner_product_param { num_output: 22
  weight_filler { type: "gaussian" std: 0.05 } } }
layer { name: "bbox_pred" type: "InnerProduct" bottom: "pool" top: "bbox_pred" inner_product_param { num_output: 88
  weight_filler { type: "gaussian" std: 0.001 } } }
layer { name: "cls_prob" type: "Softmax" bottom: "cls_score" top: "cls_prob" }
"""
SMALL = ["TEST.SCALES", "[24]", "PIXEL_MEANS", "[128.0, 128.0, 128.0]"]
FILES = {f"eval{end}" for end in (".txt", ".mat", ".json", ".npz", "_curves.csv", "_curves.png")}
FILES |= {"detections.npz", "detections.mat", "config.yml", "eval_video.csv", "eval_video.png"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data set, a net and its weights."""
    make_jhmdb(tmp_path / "data" / "jhmdb", make_clips(each=2))
    for number, path in enumerate(sorted((tmp_path / "data/jhmdb/flow").rglob("*.png"))):
        left = number % 9
        save_flow(path, moving=(left, 4, left + 11, 19))
    (tmp_path / "test.prototxt").write_text(NET)
    torch.manual_seed(3)
    load_net(tmp_path / "test.prototxt").save(tmp_path / "net.caffemodel")
    return tmp_path


@pytest.mark.slow
def test_three_splits(folder: Path) -> None:
    runs = []
    for split in (1, 2, 3):
        imdb = f"jhmdb_flow_split{split}_test"
        words = ("--imdb", imdb, "--output", f"motion{split}.npz", "--motion", "--recall", "--quiet", "--workers", 0)
        made = call("make_proposals", *words, "--count", 60, folder=folder)
        assert made.status == 0 and "boxes stay" in made.stdout, made.stderr
        net = ("--def", "test.prototxt", "--net", "net.caffemodel", "--imdb", imdb, "--gpu", -1)
        done = call("test_net", *net, "--proposals", f"motion{split}.npz", "--set", *SMALL, folder=folder)
        assert done.status == 0, done.stderr
        runs.append(folder / "output" / "default" / imdb / "net")
        assert {path.name for path in runs[-1].iterdir()} == FILES
        assert "mean curve" in done.stdout and "action rule, overlap from 0.5, 63 images" in done.stdout
    first = json.loads((runs[0] / "eval.json").read_text())
    assert list(first["classes"]) == list(JHMDB_CLASSES) and {c["ground_truth"] for c in first["classes"].values()} == {
        3
    }
    assert {c["clips"] for c in first["video"]["classes"].values()} == {1} and first["images"] == 63
    again = call("reval", runs[0], "--imdb", "jhmdb_flow_split1_test", folder=folder)
    assert again.status == 0 and json.loads((runs[0] / "eval.json").read_text()) == first
    table = call("average_splits", *runs, "--output", folder / "table7", folder=folder)
    assert table.status == 0 and table.stdout.startswith("split 1: jhmdb_flow_split1_test"), table.stderr
    means = [json.loads((run / "eval.json").read_text())["mean"] for run in runs]
    assert json.loads((folder / "table7.json").read_text())["mean"] == pytest.approx(np.mean(means))


def test_what_the_database_holds(folder: Path) -> None:
    done = call("imdb", "jhmdb_images+flow_split3_train", folder=folder)
    assert done.status == 0, done.stderr
    assert "63 images, 21 classes" in done.stdout and "evaluated by the rule action" in done.stdout
    assert "pictures: all there, of the sizes stated" in done.stdout
    save_flow(folder / "data/jhmdb/flow/run/0_run_x/00002.png", (24, 30))
    wrong = call("imdb", "jhmdb_images+flow_split3_train", folder=folder)
    assert wrong.status == 1 and "pictures: 1 frames with problems" in wrong.stdout
    assert "run/0_run_x/00002.png: has 30 x 24 pixels, frame run/0_run_x/00002 has 32 x 24" in wrong.stdout
