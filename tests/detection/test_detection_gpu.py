"""Detectors with ``--gpu 0``: training, a test, and the branch's numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from detection.small_run import FOLDER, write_run
from gpu import needs_gpu, same, weights_in
from program import call

from caffe_compat.evaluation.detections import read_detections

pytestmark = needs_gpu
TRACE = FOLDER / "trace"
OUT = Path("output/small/run/nyud2_hha_2015_trainval")
SMALL = ["TEST.SCALES", "[96]", "TEST.MAX_SIZE", "2000", "TEST.MAX_PER_IMAGE", "30", "TEST.MAX_PER_SET_F", "6"]
SINGLE = ["--def", TRACE / "test.prototxt", "--net", TRACE / "fast_rcnn_iter_20.caffemodel"]
FUSED = ["--def", TRACE / "test_fused.prototxt", "--net", TRACE / "init.caffemodel"]


def _train(folder: Path, *words: object) -> list[np.ndarray]:
    done = call("train_net", *words, folder=folder)
    assert done.status == 0, done.stderr
    assert "Waited" in done.stderr
    return weights_in(folder / OUT / "fast_rcnn_iter_7.caffemodel")


def test_training_goes_as_on_the_cpu_and_goes_on(tmp_path: Path) -> None:
    words = write_run(tmp_path)[:-2]
    text = (tmp_path / "train.prototxt").read_text()
    (tmp_path / "train.prototxt").write_text(text.replace("dropout_ratio: 0.5", "dropout_ratio: 0"))
    on_gpu = _train(tmp_path, *words, "--gpu", "0", "--iters", 7)
    state = tmp_path / OUT / "fast_rcnn_iter_5.solverstate"
    again = _train(tmp_path, *words, "--gpu", "0", "--iters", 7, "--snapshot", state)
    on_cpu = _train(tmp_path, *words, "--gpu", "-1", "--iters", 7)
    for index, (got, more, wanted) in enumerate(zip(on_gpu, again, on_cpu, strict=True)):
        same(f"blob {index}", got, wanted, 1e-3)
        same(f"blob {index} of the run that went on", more, got, 1e-3)


def test_two_modalities_with_dropout(tmp_path: Path) -> None:
    words = write_run(tmp_path, param_str="--num_classes 20 --num_data 2")[:-2]
    words[words.index("nyud2_hha_2015_trainval")] = "nyud2_images+hha_2015_trainval"
    done = call("train_net", *words, "--gpu", "0", "--iters", 3, folder=tmp_path)
    assert done.status == 0, done.stderr


@pytest.mark.parametrize(("net", "imdb"), [(SINGLE, "nyud2_hha_2015_test"), (FUSED, "nyud2_images+hha_2015_test")])
def test_a_test_finds_what_it_finds_on_the_cpu(tmp_path: Path, net: list[object], imdb: str) -> None:
    shutil.copytree(FOLDER / "tree" / "data", tmp_path / "data")
    found = []
    for gpu in ("0", "-1"):
        words = ["--imdb", imdb, "--parity", "--set", *SMALL, "EXP_DIR", f"run{gpu}"]
        done = call("test_net", *net, *words[:3], "--gpu", gpu, *words[3:], folder=tmp_path)
        assert done.status == 0, done.stderr
        (path,) = (tmp_path / "output" / f"run{gpu}").rglob("detections.npz")
        found.append(read_detections(path))
    for mine, theirs in zip(found[0].boxes, found[1].boxes, strict=True):
        for got, wanted in zip(mine, theirs, strict=True):
            same("boxes and scores", got, wanted, 1e-3)


def test_detect_on_a_picture(tmp_path: Path) -> None:
    pictures = FOLDER / "tree" / "data" / "nyud2" / "data"
    words = ["--image", pictures / "images/img_5020.png", "--hha", pictures / "hha/img_5020.png", "--classes", "nyud2"]
    found = []
    for gpu in ("0", "-1"):
        more = ["--conf", "0.5", "--json", f"found{gpu}.json", "--gpu", gpu, "--set", *SMALL]
        done = call("detect", *FUSED, *words, *more, folder=tmp_path)
        assert done.status == 0, done.stderr
        found.append(json.loads((tmp_path / f"found{gpu}.json").read_text())["objects"])
    assert found[1] and [one["class"] for one in found[0]] == [one["class"] for one in found[1]]
    same("scores", [one["score"] for one in found[0]], [one["score"] for one in found[1]], 1e-3)
