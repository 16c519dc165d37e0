"""Hypercolumns on Kinect frames of mOSD, with SqueezeNet's trained convolutions: the pipeline's places are right."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, needs
from program import call

from caffe_compat.config import load_config
from caffe_compat.datasets import find_imdb
from caffe_compat.evaluation.detections import Detections
from caffe_compat.net import load_net
from caffe_compat.proto import read_solver
from caffe_compat.segmentation.average import RegionAverage
from caffe_compat.segmentation.inference import Masks, load_mask_net
from caffe_compat.segmentation.superpixels import made_superpixels
from caffe_compat.segmentation.testing import SegmentRun, object_overlaps, segment_all
from caffe_compat.segmentation.training import MaskRun, mask_solver


def test_regions_of_the_objects_boxes_are_the_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = needs("real", "rgbd", "kinect_mosd_pcl", "instances.json")
    weights = needs("real", "models", "squeezenet_v1.0_deepcomp", "squeezenet_v1.0_decoded.caffemodel")
    monkeypatch.chdir(tmp_path)
    imdb = find_imdb(f"coco:{frames},split=learn,classes=box+round,images")
    imdb = dataclasses.replace(imdb, records=list(imdb.records)[::20])
    net = load_net(ROOT / "prototxt" / "detection" / "squeezenet_rgb" / "train.prototxt", weights, phase="TRAIN")
    net.save("detector.caffemodel")
    words = ["--net", "squeezenet", "--classes", 2, "--short-side", 160, "--iter-size", 1, "--iters", 8]
    assert call("make_sds", *words, "--folder", "masks").status == 0
    config = load_config("masks/config.yml")
    param = read_solver("masks/solver.prototxt")
    param.snapshot_prefix = "inst_segm"
    run = MaskRun(imdb, config, None, ["detector.caffemodel"], False, lambda items, what: items)
    solver = mask_solver(param, run)
    solver.step(8)
    solver.snapshot()
    boxes = [
        [
            np.array(
                [[*box, 1] for box, name in zip(record.boxes, record.classes, strict=True) if name == one], np.float32
            ).reshape(-1, 5)
            for record in imdb.records
        ]
        for one in imdb.classes
    ]
    found = Detections(imdb.classes, tuple(record.name for record in imdb.records), boxes)
    masks = Masks(load_mask_net("masks/test.prototxt", ["inst_segm_iter_8.caffemodel"], config)[0], 1, config)
    average, best = RegionAverage(imdb.classes), []
    for one in segment_all(SegmentRun(imdb, found, masks, made_superpixels("color", 500), config)):
        assert not one.problem and one.regions is not None and one.regions.any(1).all()
        overlaps = object_overlaps(one)
        average.process(one.record, one.detections, overlaps)
        best += overlaps.max(0).tolist()
    assert len(best) >= 6 and np.mean(best) > 0.45, best  # where masks or boxes are misplaced, next to nothing
    assert average.evaluate()[0.5].mean > 0.3
