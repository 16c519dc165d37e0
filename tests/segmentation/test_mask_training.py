"""train_net.py with a hypercolumn net: what it writes and refuses; a run that was cut off goes on bit by bit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from program import Done, call
from segmentation.small_masks import OUT, TRAIN, TRAINING, write_run, write_scenes

from caffe_compat.config import load_config
from caffe_compat.media import read_preprocessing
from caffe_compat.net import load_net

KINDS = ("caffemodel", "solverstate", "settings.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_scenes(folder)
    return folder


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 6 iterations that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    write_run(folder, made)
    done = call("train_net", *TRAINING, folder=folder)
    assert done.status == 0, done.stderr
    (folder / "log").write_text(done.stdout + done.stderr)
    return folder


def files(folder: Path, iteration: int) -> dict[str, bytes]:
    return {kind: (folder / OUT / f"inst_segm_iter_{iteration}.{kind}").read_bytes() for kind in KINDS}


def train(folder: Path, *words: object) -> Done:
    return call("train_net", *TRAINING, *words, folder=folder)


def test_output(whole: Path) -> None:
    names = {path.name for path in (whole / OUT).iterdir()}
    assert names == {f"inst_segm_iter_{k}.{kind}" for k in (3, 6) for kind in KINDS} | {
        "config.yml", "inst_segm_metrics.jsonl", "preprocessing.json",
    }  # fmt: skip
    used = load_config(whole / OUT / "config.yml")
    assert used == load_config(whole / "masks" / "config.yml") and used.sds.feat_scale == 8
    seen = read_preprocessing(whole / OUT / "preprocessing.json")
    assert (seen.modality, seen.short_side, seen.classes[:2]) == ("color", 72, ("__background__", "ball"))
    log = (whole / "log").read_text()
    assert re.search(r"\d+ boxes of \d classes show objects", log)
    (next_command,) = re.findall(r"test_net\.py (.*)", log)
    assert "--sds 1 --sds_detection_file" in next_command and f"{OUT}/inst_segm_iter_6.caffemodel" in next_command


def test_only_the_classifiers_learn(whole: Path, made: Path) -> None:
    before = load_net(whole / "masks" / "test.prototxt", made / "detector.caffemodel")
    after = load_net(whole / "masks" / "test.prototxt", whole / OUT / "inst_segm_iter_6.caffemodel")
    changed = set()
    for one, other in zip(before.nodes, after.nodes, strict=True):
        for mine, theirs in zip(one.layer.blobs, other.layer.blobs, strict=True):
            if (mine != theirs).any():
                changed.add(one.name)
    assert changed == {"conv_pool2", "conv_conv4", "fcfc7"}


def test_a_run_that_was_cut_off_goes_on_bit_by_bit(whole: Path, made: Path, tmp_path: Path) -> None:
    write_run(tmp_path, made)
    assert train(tmp_path, "--iters", 3).status == 0
    done = train(tmp_path, "--resume")
    assert done.status == 0 and "Resuming from" in done.stderr
    assert files(tmp_path, 6) == files(whole, 6)
    for path in (tmp_path / OUT).glob("*_iter_6.*"):
        path.unlink()
    state = OUT / "inst_segm_iter_3.solverstate"
    words = [word for word in TRAINING if word not in ("--weights", "detector.caffemodel")]
    done = call("train_net", *words, "--snapshot", state, "--set", "SDS.MAX_SIZE", 900, folder=tmp_path)
    assert done.status == 2 and "made with SDS.MAX_SIZE 1000, here it is 900" in done.stderr
    (tmp_path / OUT / "inst_segm_iter_3.settings.json").unlink()
    done = call("train_net", *words, "--snapshot", state, folder=tmp_path)
    assert done.status == 2 and "inst_segm_iter_3.settings.json: is missing" in done.stderr


def test_as_the_branch_calls_it(made: Path, tmp_path: Path) -> None:
    """``caffe train``: images are those that the data layer names, snapshots go where the solver says."""
    write_run(tmp_path, made)
    words = ["train", "-solver", "masks/solver.prototxt", "-weights", "detector.caffemodel"]
    given = ["--weights", "detector.caffemodel", "--iters", 1]
    done = call("train_net", *TRAINING[:4], *given, folder=tmp_path)
    assert done.status == 0, done.stderr
    assert (tmp_path / OUT / "inst_segm_iter_1.caffemodel").exists()
    text = (tmp_path / "masks" / "solver.prototxt").read_text()
    (tmp_path / "masks" / "solver.prototxt").write_text(re.sub("max_iter: 6", "max_iter: 1", text))
    done = call("caffe", *words, folder=tmp_path)
    told = "SDS.FEAT_SCALE is 16, but net 'masks' pools regions from maps with cells of 8"
    assert done.status == 2 and told in done.stderr


def test_classifiers_learn_the_drawn_solids(made: Path, tmp_path: Path) -> None:
    write_run(tmp_path, made, "--iters", 40, "--snapshot-iters", 100, "--base-lr", 0.01)
    assert train(tmp_path, "--set", "RNG_SEED", 5).status == 0
    lines = map(json.loads, (tmp_path / OUT / "inst_segm_metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line.get("phase") == "train"]
    assert losses[-1] < 0.8 * losses[0], losses


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--weights", "/dev/null"], ["no weights for conv1, conv2", "start from its snapshot"]),
        (["--set", "SDS.FEAT_SCALE", 16], ["SDS.FEAT_SCALE is 16", "cells of 8 pixels"]),
        (["--imdb", f"{TRAIN},modalities=images+hha"], ["num_images is 1 in param_str, the images have 2"]),
        (["--imdb", "tree:scenes,split=pairs"], ["pixels of its objects|objects are not known"]),
        (["--proposals", "none.npz"], ["none.npz"]),
    ],
)
def test_what_is_refused(whole: Path, words: list[object], parts: list[str]) -> None:
    before = files(whole, 6)
    done = train(whole, *words)
    assert done.status == 2, done.stderr
    for part in parts:
        assert re.search(part, done.stderr.splitlines()[-1]), done.stderr.splitlines()[-1]
    assert files(whole, 6) == before


def test_a_detector_of_other_pads_is_refused(made: Path, tmp_path: Path) -> None:
    write_run(tmp_path, made)
    path = tmp_path / "masks" / "train.prototxt"
    path.write_text(path.read_text().replace("pad: 2", "pad: 1", 1))
    done = train(tmp_path)
    assert done.status == 2 and "conv1 has pad 1, detector.caffemodel was trained with 2" in done.stderr
    done = train(tmp_path, "--parity", "--iters", 0)
    assert "conv1 has pad 1, detector.caffemodel was trained with 2: its maps lie elsewhere" in done.stderr


def test_instances_that_the_map_lacks_are_named(made: Path, tmp_path: Path) -> None:
    write_run(tmp_path, made)
    truth = tmp_path / "scenes" / "benchmarkData" / "groundTruth"
    (truth / "img_5003.mat").write_bytes((truth / "img_5004.mat").read_bytes())
    (truth / "img_5001.mat").unlink()
    done = train(tmp_path)
    assert done.status == 2, done.stderr
    assert "masks of 1 images cannot be used: image img_5001" in done.stderr or "masks of 2 images" in done.stderr
    assert not list(tmp_path.glob("output/**/*.caffemodel"))
