"""Colour and flow fused as colour and depth are, on drawn clips: trained apart, averaged before the softmax.

Each modality is fed less its own means, in training, in tests, and in the fused net.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_compat.commands import main_of
from caffe_compat.config import load_config
from caffe_compat.datasets import find_imdb
from caffe_compat.detection.deployed import detector_options
from caffe_compat.detection.description import describe_detector
from caffe_compat.detection.images import read_modalities
from caffe_compat.detection.inference import Detector, ask, load_detector_net
from caffe_compat.errors import UsageError
from caffe_compat.evaluation.detections import read_detections
from caffe_compat.media import Preprocessing, read_preparation
from caffe_compat.scenes import ClipSettings, clip_specs, open_clips, write_clip, write_clip_lists

CLIPS = "clips:clips,split=1_{},modalities={}"
NETS = {"rgb": ("small", "color", "images"), "flow": ("small_hha", "flow", "flow")}
SIZE = ["--classes", "7", "--hidden", "16", "--scales", "48"]
OPTIONS = ["--set", "TRAIN.USE_FLIPPED", "False", "TEST.MAX_PER_IMAGE", "20", "EXP_DIR"]


def run(name: str, *words: str) -> None:
    assert main_of(name)([str(word) for word in words]) in (0, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, proposals, and a detector of each modality, trained for two iterations."""
    folder = tmp_path_factory.mktemp("fusion")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = ClipSettings(train=7, videos=2, test=7, frames=3, width=64, height=48)
        open_clips(Path("clips"), settings)
        for spec in clip_specs(settings):
            write_clip(Path("clips"), settings, False, spec)
        write_clip_lists(Path("clips"), settings)
        for part in ("train", "test"):
            boxes = ["--output", f"{part}.npz", "--count", "20", "--workers", "0"]
            run("make_proposals", "--imdb", CLIPS.format(part, "images"), *boxes)
        for name, (net, modality, kind) in NETS.items():
            run("make_detection", "--net", net, "--modality", modality, *SIZE, "--folder", name, "--fillers")
            train = ["--solver", f"{name}/solver.prototxt", "--cfg", f"{name}/config.yml", "--iters", "2"]
            imdb = ["--imdb", CLIPS.format("train", kind), "--proposals", "train.npz"]
            run("train_net", *train, *imdb, *OPTIONS, name)
        both = ["--net", "small", "--second", "small_hha", "--modality", "color", "flow", *SIZE, "--folder", "both"]
        parts = [word for name in NETS for word in ("--part", f"{name}/test.prototxt", weights_of(name))]
        run("make_detection", *both, *parts)
        surgery = ["--net_surgery_json", "both/init_weights.json", "--out_net_file", "both/fused.caffemodel"]
        run("net_surgery", "--out_net_def", "both/test.prototxt", *surgery)
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def weights_of(name: str) -> str:
    (found,) = Path("output", name).glob("*/fast_rcnn_iter_2.caffemodel")
    return str(found)


def test_each_detector_says_what_it_is_fed() -> None:
    for name, modality, mean in (("rgb", "color", 102.9801), ("flow", "flow", 128)):
        stored = read_preparation(Path(weights_of(name)).parent / "preprocessing.json").inputs["data"]
        assert stored.modality == modality and stored.mean[0] == pytest.approx(mean)
    assert load_config("flow/config.yml").pixel_means == (128.0,) * 3
    assert load_config("both/config.yml").means_of(1) == (128.0,) * 3


@pytest.mark.parametrize("several", [True, False])
def test_scores_are_the_averages_of_the_two(several: bool) -> None:
    """Of two files of weights, and of one that net surgery made."""
    files = [weights_of("rgb"), weights_of("flow")] if several else ["both/fused.caffemodel"]
    record = find_imdb(CLIPS.format("test", "images+flow")).records[3]
    boxes = np.array([[0, 0, 40, 30], [10, 5, 63, 47], [20, 20, 50, 40]], np.float32)
    outputs = {}
    for name, kinds, weights in (
        ("rgb", ["images"], [weights_of("rgb")]),
        ("flow", ["flow"], [weights_of("flow")]),
        ("both", ["images", "flow"], files),
    ):
        config = load_config(f"{name}/config.yml", ["DEDUP_BOXES", "0.0"])
        net = load_detector_net(f"{name}/test.prototxt", weights)
        detector = Detector(net, 8, len(kinds), config, blobs=("cls_score", None))
        images = read_modalities([record.paths[kind] for kind in kinds])
        outputs[name] = detector(ask(images, boxes, config))
    for k in range(2):
        first, second, fused = (outputs[name][k] for name in ("rgb", "flow", "both"))
        assert np.abs(first - second).max() > 1e-3
        np.testing.assert_allclose(fused, (first + second) / 2, atol=1e-5)


def test_a_test_of_both_is_evaluated_by_the_rule_of_actions() -> None:
    words = ["--def", "both/test.prototxt", "--net", weights_of("rgb"), weights_of("flow"), "--cfg", "both/config.yml"]
    imdb = ["--imdb", CLIPS.format("test", "images+flow"), "--proposals", "test.npz"]
    run("test_net", *words, *imdb, *OPTIONS, "fused")
    (file,) = Path("output/fused").glob("*/*/eval.json")
    found = json.loads(file.read_text())
    assert len(found["classes"]) == 7 and 0 <= found["mean"] <= 1
    assert len(read_detections(file.with_name("detections.npz"))) > 0


def test_means_of_one_modality_for_both_are_refused() -> None:
    """Flow's weights were trained less 128; the fused configuration without --modality subtracts colour's mean."""
    words = ["--def", "both/test.prototxt", "--net", weights_of("rgb"), weights_of("flow")]
    imdb = ["--imdb", CLIPS.format("test", "images+flow"), "--proposals", "test.npz"]
    with pytest.raises(UsageError, match=r"input 'data' wants a mean of \[128.0, 128.0, 128.0\], PIXEL_MEANS are"):
        run("test_net", *words, *imdb, "--set", "TEST.SCALES", "[48]", "EXP_DIR", "wrong")


def test_training_both_at_once_feeds_each_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """make_detection --second writes a training net too; one iteration of it moves the weights of both."""
    words = ["--solver", "both/solver.prototxt", "--cfg", "both/config.yml", "--iters", "1"]
    start = [f"{weights_of('rgb')},{weights_of('flow')}"]
    imdb = ["--imdb", CLIPS.format("train", "images+flow"), "--proposals", "train.npz", "--weights", *start]
    run("train_net", *words, *imdb, *OPTIONS, "joint")
    (file,) = Path("output/joint").glob("*/fast_rcnn_iter_1.caffemodel")
    stored = read_preparation(file.parent / "preprocessing.json").inputs
    assert [one.mean[0] for one in stored.values()] == pytest.approx([102.9801, 128])
    before, after = (
        load_detector_net("both/test.prototxt", start[0].split(",")),
        load_detector_net("both/test.prototxt", [file]),
    )
    for layer in ("fc7", "da_fc7"):
        assert not torch.equal(before.layer(layer).blobs[0], after.layer(layer).blobs[0])


def test_a_deployed_detector_is_fed_each_modality_less_its_own_means() -> None:
    """What a model carries for its two inputs becomes the options that predict and infer_onnx feed it by."""
    imdb = find_imdb(CLIPS.format("test", "images+flow"))
    carried = list(describe_detector(imdb, load_config("both/config.yml")).inputs.values())
    config = load_config(pairs=detector_options(carried))
    assert [config.means_of(place) for place in (0, 1)] == [pytest.approx((102.9801, 115.9465, 122.7717)), (128.0,) * 3]
    assert not load_config(pairs=detector_options(carried[1:])).modality_means
    with pytest.raises(UsageError, match="less one mean for each of 3 channels"):
        detector_options([carried[0], Preprocessing("flow", mean=(128.0,), resize_rule="fast-rcnn")])


def test_modalities_must_be_those_of_the_nets(tmp_path: Path) -> None:
    for words, message in (
        (["--modality", "color", "flow"], "expected 1, one for each net"),
        (["--modality", "flw"], "did you mean 'flow'"),
        (["--modality", "gray"], "has 1 channel, detectors see three"),
    ):
        with pytest.raises(UsageError, match=message):
            run("make_detection", "--net", "small", *SIZE, "--folder", str(tmp_path / "x"), *words)
    assert not (tmp_path / "x").exists()
