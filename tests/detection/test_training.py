"""train_net.py --imdb: what it writes, what it refuses, and that a run that was cut off goes on bit by bit."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from detection.small_run import write_run
from program import SAME_BITS, call, end, start

from caffe_compat.config import load_config
from caffe_compat.detection.snapshots import read_regression, unnormalised
from caffe_compat.media import read_preprocessing
from caffe_compat.net import load_net
from caffe_compat.proto import caffe_pb2

OUT = Path("output/small/run/nyud2_hha_2015_trainval")


def files(folder: Path, iteration: int) -> dict[str, bytes]:
    """The files of a snapshot; those of .npz as arrays, for archives hold times."""
    stem = folder / OUT / f"fast_rcnn_iter_{iteration}"
    found = {kind: stem.with_name(f"{stem.name}.{kind}").read_bytes() for kind in ("caffemodel", "solverstate")}
    with np.load(f"{stem}.regression.npz") as arrays:
        return found | {name: arrays[name].tobytes() for name in arrays.files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 17 iterations that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    words = write_run(folder)
    done = call("train_net", *words, "--iters", 17, folder=folder)
    assert done.status == 0, done.stderr
    (folder / "log").write_text(done.stderr)
    return folder


def test_output(whole: Path) -> None:
    names = {path.name for path in (whole / OUT).iterdir()}
    kinds = ("caffemodel", "solverstate", "regression.npz")
    assert names == {f"fast_rcnn_iter_{k}.{kind}" for k in (5, 10, 15, 17) for kind in kinds} | {
        "config.yml",
        "fast_rcnn_metrics.jsonl",
        "preprocessing.json",
    }
    used = load_config(whole / OUT / "config.yml")
    assert used == load_config(whole / "config.yml")
    seen = read_preprocessing(whole / OUT / "preprocessing.json")
    assert (seen.modality, seen.classes[:3], len(seen.classes)) == ("hha", ("__background__", "bathtub", "bed"), 20)
    log = (whole / "log").read_text()
    assert re.search(r"Iteration 16 \(.* iter/s, .*\), loss = [\d.]+", log)
    assert re.search(r"Waited [\d.]+ s of [\d.]+ s \([\d.]+ %\) for minibatches of layer 'data'", log)
    assert "16 roidb entries" in log and "2 of 16 roidb entries" not in log


def test_snapshots_hold_deltas_that_are_not_normalised(whole: Path) -> None:
    for iteration in (5, 17):
        stem = whole / OUT / f"fast_rcnn_iter_{iteration}"
        found = read_regression(f"{stem}.regression.npz")
        net = load_net(whole / "train.prototxt", f"{stem}.caffemodel", phase="TRAIN")
        written = [blob.detach().numpy() for blob in net.layer("bbox_pred").blobs]
        weights, biases = found.raw["bbox_pred"]
        means, stds = found.statistics.means.ravel(), found.statistics.stds.ravel()
        np.testing.assert_allclose(written[0], weights * stds[:, None], rtol=1e-6)
        np.testing.assert_allclose(written[1], biases * stds + means, rtol=1e-6, atol=1e-9)
        assert (written[0] != weights).any()
        assert all(
            (a == b).all() for a, b in zip(written, unnormalised((weights, biases), found.statistics), strict=True)
        )
        assert set(found.raw) == {"bbox_pred"} and found.settings["RNG_SEED"] == 3


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_a_run_that_was_cut_off_goes_on_bit_by_bit(whole: Path, tmp_path: Path, number: int) -> None:
    words = write_run(tmp_path)
    process = start("train_net", *words, "--iters", 10**6, folder=tmp_path, **SAME_BITS)
    assert process.stderr is not None
    assert any("] Iteration 12 (" in line for line in process.stderr), "it ended before"
    os.kill(process.pid, number)
    done = end(process)
    assert done.status == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    states = sorted((tmp_path / OUT).glob("*.solverstate"), key=lambda path: int(re.findall(r"\d+", path.name)[-1]))
    reached = int(re.findall(r"\d+", states[-1].name)[-1])
    state = states[-1] if 13 <= reached < 17 else tmp_path / OUT / "fast_rcnn_iter_10.solverstate"
    for later in states[states.index(state) + 1 :]:  # what it managed to do before it heard the signal
        later.unlink()
    again = call("train_net", *words, "--iters", 17, "--snapshot", state, folder=tmp_path)
    assert again.status == 0, again.stderr
    expected, found = files(whole, 17), files(tmp_path, 17)
    assert [name for name in expected if expected[name] != found[name]] == []
    assert (tmp_path / OUT / "config.yml").read_bytes() == (whole / OUT / "config.yml").read_bytes()


def test_a_drawn_seed_is_recorded_and_used_again(whole: Path, tmp_path: Path) -> None:
    words = [*write_run(tmp_path), "--iters", 8, "--rand"]
    assert call("train_net", *words, folder=tmp_path).status == 0
    expected = files(tmp_path, 8)
    seed = read_regression(tmp_path / OUT / "fast_rcnn_iter_8.regression.npz").settings["RNG_SEED"]
    assert load_config(tmp_path / OUT / "config.yml").rng_seed == seed != 3
    assert expected["caffemodel"] != files(whole, 10)["caffemodel"]
    for path in (tmp_path / OUT).glob("*_iter_8.*"):
        path.unlink()
    done = call("train_net", *words, "--resume", folder=tmp_path)
    assert done.status == 0 and "Resuming from" in done.stderr, done.stderr
    assert files(tmp_path, 8) == expected
    assert load_config(tmp_path / OUT / "config.yml").rng_seed == seed


def test_reading_ahead_and_parity(whole: Path, tmp_path: Path) -> None:
    words = [*write_run(tmp_path), "--iters", 5]
    assert call("train_net", *words, "--set", "TRAIN.USE_PREFETCH", "False", folder=tmp_path).status == 0
    assert files(tmp_path, 5)["caffemodel"] == files(whole, 5)["caffemodel"]
    done = call("train_net", *words, "--parity", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert files(tmp_path, 5)["caffemodel"] != files(whole, 5)["caffemodel"], "it samples as the branch does"
    assert load_config(tmp_path / OUT / "config.yml").parity
    assert "2 of 16 roidb entries have no regions to train on" in done.stderr


def test_a_net_of_two_modalities_and_one_without_regression(tmp_path: Path) -> None:
    words = write_run(tmp_path, param_str="--num_classes 20 --num_data 2")
    words[words.index("nyud2_hha_2015_trainval")] = "nyud2_images+hha_2015_trainval"
    infix = ["--set", "TRAIN.SNAPSHOT_INFIX", "both"]
    assert call("train_net", *words, "--iters", 1, *infix, folder=tmp_path).status == 0
    folder = tmp_path / OUT.parent / "nyud2_images+hha_2015_trainval"
    assert (folder / "fast_rcnn_both_iter_1.caffemodel").exists() and (folder / "config_both.yml").exists()
    words = write_run(tmp_path, regression=False)
    assert call("train_net", *words, "--iters", 1, "--set", "TRAIN.BBOX_REG", "False", folder=tmp_path).status == 0
    assert read_regression(tmp_path / OUT / "fast_rcnn_iter_1.regression.npz").raw == {}


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_snapshot(tmp_path: Path) -> None:
    words = write_run(tmp_path, solver={"rate": 10})
    done = call("train_net", *words, "--set", "TRAIN.SNAPSHOT_ITERS", "1", folder=tmp_path)
    assert done.status == 2
    assert re.search(r"iteration \d+: .*layer '\w+' \(\w+\).*not finite", done.stderr.splitlines()[-1])
    kept = list((tmp_path / OUT).glob("*.caffemodel"))
    assert kept
    for path in kept:
        net = load_net(tmp_path / "train.prototxt", path, phase="TRAIN")
        assert all(np.isfinite(blob.detach().numpy()).all() for node in net.nodes for blob in node.layer.blobs)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        ({"labels": 21}, [], "layer 'cls_score' (InnerProduct): gives 21 numbers for a region, expected 20"),
        ({"boxes": 84}, [], "layer 'loss_bbox' (SmoothL1Loss)"),
        ({"labels": 21, "fused": True}, [], "layer 'sum' (Eltwise): gives 21 numbers for a region, expected 20"),
        (
            {"param_str": "--num_classes 21", "labels": 21, "boxes": 84},
            [],
            "layer 'data' (Python): param_str has num_classes 21, expected 20: nyud2_hha_2015_trainval has 19 classes",
        ),
        (
            {"param_str": "--num_classes 20 --num_data 2"},
            [],
            "layer 'data' (Python): param_str has num_data 2, expected 1: the images of nyud2_hha_2015_trainval are",
        ),
        (
            {},
            ["--set", "TRAIN.BBOX_PRED_PARAM_NAMES", "('bbox_prad',)"],
            "TRAIN.BBOX_PRED_PARAM_NAMES has 'bbox_prad', net 'small' has no such layer (did you mean 'bbox_pred'?)",
        ),
        ({}, ["--set", "TRAIN.BBOX_PRED_PARAM_NAMES", "('fc6',)"], "layer 'fc6' (InnerProduct): is in TRAIN.BBOX_PRED"),
        ({}, ["--set", "TRAIN.BBOX_PRED_PARAM_NAMES", "('relu',)"], "layer 'relu' (ReLU): is in TRAIN.BBOX_PRED"),
        ({}, ["--set", "TRAIN.BBOX_REG", "False"], "layer 'data' (Python): has bbox_targets among its tops, but"),
        ({"fillers": ""}, [], "net 'small': conv, fc6, cls_score, bbox_pred would start with weights of 0"),
        ({"solver": {"more": "snapshot: 3"}}, [], "solver.prototxt: snapshot is 3; a detector's snapshots are written"),
        ({}, ["--iters", "-1"], "--iters is -1"),
        ({}, ["--imdb", "nyud2_hha_2015_trainvla"], "nyud2"),
        ({}, ["--proposals", "none.mat"], "none.mat"),
        ({}, ["--weights", "none.caffemodel"], "none.caffemodel"),
        ({}, ["--snapshot", "none.solverstate"], "none.solverstate"),
        ({}, ["--snapshot", "alone.solverstate"], "alone.regression.npz"),
    ],
)
def test_refused(tmp_path: Path, change: dict[str, object], more: list[str], words: str) -> None:
    (tmp_path / "alone.solverstate").write_bytes(caffe_pb2.SolverState(iter=2).SerializeToString())
    done = call("train_net", *write_run(tmp_path, **change), *more, folder=tmp_path)
    assert done.status == 2
    assert words in done.stderr.splitlines()[-1]
    assert not [path for path in tmp_path.glob("output/**/*") if path.is_file()]


def test_weights_that_a_test_net_left_at_0_are_refused(tmp_path: Path) -> None:
    words = write_run(tmp_path)
    net = load_net(tmp_path / "train.prototxt")
    for name in ("fc6", "cls_score"):
        net.layer(name).blob(0).data.zero_()
    net.save(tmp_path / "zero.caffemodel")
    done = call("train_net", *words, "--weights", "zero.caffemodel", folder=tmp_path)
    assert done.status == 2
    assert "net 'small': fc6, cls_score would start with weights of 0 and learn nothing: --weights" in done.stderr


def test_detection_options_without_imdb_are_refused(tmp_path: Path) -> None:
    words = write_run(tmp_path)
    del words[2:4]
    done = call("train_net", *words, folder=tmp_path)
    assert done.status == 2 and "only detection training (--imdb) reads this" in done.stderr
    done = call("train_net", *words[:2], "--proposals", "builtin", folder=tmp_path)
    assert done.status == 2 and "--proposals: only detection training" in done.stderr
    done = call("train_net", *words[:2], folder=tmp_path)
    assert done.status == 2 and "layer 'data' (Python): has no images: it is fed by" in done.stderr


def test_a_picture_of_another_size_is_named(tmp_path: Path) -> None:
    words = write_run(tmp_path)
    for path in (tmp_path / "data/nyud2/data/hha").glob("*.png"):
        shutil.copy(next((tmp_path / "data/nyud2/data/images").glob("*.png")), path)
        path.write_bytes(path.read_bytes()[:-100])
    done = call("train_net", *words, folder=tmp_path)
    assert done.status == 2 and re.search(r"image img_\d+: .*hha/img_\d+.png", done.stderr.splitlines()[-1])


def test_all_pictures_of_other_sizes_are_named_before_proposals_are_computed(tmp_path: Path) -> None:
    words = write_run(tmp_path)
    for path in (tmp_path / "data/nyud2/data/hha").glob("*.png"):
        cv2.imwrite(str(path), np.zeros((7, 9, 3), np.uint8))
    done = call("train_net", *words, "--proposals", "builtin", folder=tmp_path)
    last = done.stderr.splitlines()[-1]
    assert done.status == 2 and last.count("has 9 x 7 pixels") == 5
    assert "pictures of 8 frames cannot be used: " in last and last.endswith("; and 3 more")
    assert not (tmp_path / "data" / "cache").exists()


def test_heads_are_checked_before_proposals_are_computed(tmp_path: Path) -> None:
    done = call("train_net", *write_run(tmp_path, labels=21), "--proposals", "builtin", folder=tmp_path)
    assert done.status == 2 and "gives 21 numbers for a region, expected 20" in done.stderr
    assert not (tmp_path / "data" / "cache").exists()


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        ({}, ["--set", "TRAIN.SCALES", "(50,)"], "was made with TRAIN.SCALES [48, 64], here it is [50]"),
        ({}, ["--parity"], "was made with PARITY False, here it is True"),
        ({"labels": 20, "solver": {"more": 'type: "Adam"'}}, [], "incorrect length of history blobs"),
    ],
)
def test_a_snapshot_of_another_run_is_refused(
    whole: Path, tmp_path: Path, change: dict[str, object], more: list[str], words: str
) -> None:
    shutil.copytree(whole / "output", tmp_path / "output")
    before = files(tmp_path, 5)
    state = OUT / "fast_rcnn_iter_5.solverstate"
    done = call("train_net", *write_run(tmp_path, **change), "--snapshot", state, *more, folder=tmp_path)
    assert done.status == 2 and words in done.stderr.splitlines()[-1]
    assert files(tmp_path, 5) == before


def test_files_of_two_snapshots_are_refused(whole: Path, tmp_path: Path) -> None:
    words = write_run(tmp_path)
    shutil.copytree(whole / "output", tmp_path / "output")
    folder = tmp_path / OUT
    shutil.copy(folder / "fast_rcnn_iter_5.regression.npz", folder / "fast_rcnn_iter_10.regression.npz")
    done = call("train_net", *words, "--snapshot", OUT / "fast_rcnn_iter_10.solverstate", folder=tmp_path)
    assert done.status == 2 and "layer 'bbox_pred' is not that of the weights beside it" in done.stderr
    (folder / "fast_rcnn_iter_10.regression.npz").write_bytes(b"PK\3\4 broken")
    done = call("train_net", *words, "--snapshot", OUT / "fast_rcnn_iter_10.solverstate", folder=tmp_path)
    assert done.status == 2 and "fast_rcnn_iter_10.regression.npz: is no .npz file" in done.stderr
    for number in (15, 17):
        (folder / f"fast_rcnn_iter_{number}.regression.npz").unlink()
    done = call("train_net", *words, "--iters", 17, "--resume", folder=tmp_path)
    assert done.status == 0 and done.stderr.count("Passing over a snapshot") == 3, done.stderr
    assert files(tmp_path, 17) == files(whole, 17)


def test_no_objects_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from caffe_compat.commands import training_builds

    def without(name: str, root: str):
        imdb = find(name, root)
        empty = [dataclasses.replace(record, boxes=np.zeros((0, 4), np.float32), classes=()) for record in imdb.records]
        return dataclasses.replace(imdb, records=empty if name.endswith("trainval") else [])

    find = training_builds.find_imdb
    monkeypatch.setattr(training_builds, "find_imdb", without)
    words = write_run(tmp_path)
    done = call("train_net", *words, folder=tmp_path)
    assert done.status == 2 and "nyud2_hha_2015_trainval: no region of its 8 images overlaps an object" in done.stderr
    words[words.index("nyud2_hha_2015_trainval")] = "nyud2_hha_2015_test"
    done = call("train_net", *words, folder=tmp_path)
    assert done.status == 2 and "nyud2_hha_2015_test: has no images" in done.stderr
