"""test_net.py and detect.py, as their user runs them, on the branch's small tree and nets."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from forked import ranked
from program import SAME_BITS, call, end, start
from waiting import wait_for

from caffe_compat import load_net
from caffe_compat.config import load_config
from caffe_compat.detection.partial import PartialResults
from caffe_compat.errors import UsageError
from caffe_compat.evaluation.detections import read_detections
from caffe_compat.locks import hold
from caffe_compat.media import Preprocessing, write_preprocessing
from caffe_compat.media.drawing import class_color

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden_fork" / "detection"
TRACE = GOLDEN / "trace"
SMALL = ["TEST.SCALES", "[96]", "TEST.MAX_SIZE", "2000", "TEST.MAX_PER_IMAGE", "30", "TEST.MAX_PER_SET_F", "6"]
SINGLE = ["--def", TRACE / "test.prototxt", "--net", TRACE / "fast_rcnn_iter_20.caffemodel"]
FUSED = ["--def", TRACE / "test_fused.prototxt", "--net", TRACE / "init.caffemodel"]
HHA, BOTH = ["--imdb", "nyud2_hha_2015_test"], ["--imdb", "nyud2_images+hha_2015_test"]
FILES = {f"eval{end}" for end in (".txt", ".mat", ".json", ".npz", "_curves.csv", "_curves.png")}
FILES |= {"detections.npz", "detections.mat", "config.yml"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tree's data."""
    shutil.copytree(GOLDEN / "tree" / "data", tmp_path / "data")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_in_parity_is_the_branch_s(folder: Path) -> None:
    done = call("test_net", *SINGLE, *HHA, "--parity", "--set", *SMALL, "EXP_DIR", "a/b", folder=folder)
    assert done.status == 0, done.stderr
    out = folder / "output" / "a" / "b" / "nyud2_hha_2015_test" / "fast_rcnn_iter_20"
    assert {path.name for path in out.iterdir()} == FILES
    arrays = np.load(TRACE / "trace.npz")
    assert (out / "eval.txt").read_text() == str(arrays["test_single/eval_txt"])
    assert sum(len(arrays[key]) for key in arrays.files if key.startswith("test_single/all_boxes/")) == len(
        read_detections(out / "detections.npz")
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("im_detect: ")]
    assert [line.split()[1] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]
    used = load_config(out / "config.yml")
    assert used.parity and used.test.scales == (96,) and used.exp_dir == "a/b"


def test_salts_several_models_and_files_for_servers(folder: Path) -> None:
    net = load_net(TRACE / "test_fused.prototxt", TRACE / "init.caffemodel")
    net.save(folder / "both.caffemodel")
    done = call(
        "test_net", *FUSED, "both.caffemodel", *BOTH, "--comp", "--proposals", "builtin",
        "--set", *SMALL, "TEST.DET_SALT", "_d", "TEST.EVAL_SALT", "_e", folder=folder,
    )  # fmt: skip
    assert done.status == 0, done.stderr
    out = folder / "output" / "default" / "nyud2_images+hha_2015_test" / "init+both"
    names = {path.name for path in out.iterdir()}
    assert names >= {"detections_d.npz", "detections_d.mat", "eval_d_e.txt", "eval_d_e.json", "competition_d_e"}
    assert len(list((out / "competition_d_e").iterdir())) == 19
    assert not list(out.glob("*.part"))


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_a_run_that_was_stopped_goes_on(folder: Path, how: signal.Signals) -> None:
    big = ["TEST.SCALES", "[900]", *SMALL[2:]]
    command = ["test_net", *SINGLE, *HHA, "--set", *big]
    process = start(*command, folder=folder, **SAME_BITS)
    out = folder / "output" / "default" / "nyud2_hha_2015_test" / "fast_rcnn_iter_20"
    part = out / "detections.part"
    wait_for(lambda: part.exists() or (out / "detections.npz").exists(), process)
    process.send_signal(how)
    stopped = end(process)
    assert stopped.status in (0, 130, -how), stopped.stderr
    if stopped.status:
        left = {path.name for path in out.iterdir() if not path.name.startswith(".")}
        assert left <= {"detections.part", "detections.lock", *FILES}
    done = call(*command, folder=folder)
    assert done.status == 0, done.stderr
    if stopped.status and part.exists():
        assert "im_detect: 1/4" not in done.stdout, "the first image is not done again"
    found = contents(out)
    shutil.rmtree(out)
    assert call(*command, folder=folder).status == 0
    assert found == contents(out)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_several_processes_write_what_one_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = ["test_net", *SINGLE, *HHA, "--set", *SMALL, "EXP_DIR"]
    alone = ranked(1, *words, "alone", folder=folder)[0]
    append = PartialResults.append

    def dies(partial: PartialResults, *given: object) -> None:
        append(partial, *given)  # type: ignore[arg-type]
        if partial.path.name.endswith("part1"):
            os.kill(os.getpid(), signal.SIGKILL)

    out = folder / "output" / "several" / "nyud2_hha_2015_test" / "fast_rcnn_iter_20"
    with monkeypatch.context() as patch:
        patch.setattr(PartialResults, "append", dies)
        done = ranked(3, *words, "several", folder=folder)
        assert [one.status for one in done[:2]] == [2, -signal.SIGKILL] and "rank 1 of 3 has died" in done[0].stderr
        assert {"detections.part", "detections.part1"} <= {path.name for path in out.iterdir()}
        assert not [path for path in out.iterdir() if ".part" not in path.name]
    done = ranked(3, *words, "several", folder=folder)
    assert [one.status for one in done] == [0, 0, 0], done
    whole = [line for line in alone.stdout.splitlines() if not line.startswith("im_detect")]
    mine = [line for line in done[0].stdout.splitlines() if not line.startswith("im_detect")]
    assert mine == [line.replace("/alone/", "/several/") for line in whole]
    assert [one.stdout for one in done[1:]] == ["rank 1 of 3: 1 images\n", "rank 2 of 3: 1 images\n"]
    found, expected = (contents(folder / "output" / name) for name in ("several", "alone"))
    for files in (found, expected):  # EXP_DIR stands in it
        files.pop("nyud2_hha_2015_test/fast_rcnn_iter_20/config.yml")
    assert found == expected


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([*SINGLE, "--imdb", "nyud2_images+hha_2015_test"], ["data, rois", "2 modalities"]),
        ([*FUSED, *HHA], ["data, data_1, rois", "1 modality"]),
        ([*SINGLE, *HHA, "--bbox_blob_name", "cls_score"], ["'cls_score' has 20 numbers", "expected 80"]),
        ([*SINGLE, *HHA, "--score_blob_name", "prob"], ["no blob 'prob'"]),
        ([*SINGLE[:3], TRACE / "none.caffemodel", *HHA, "--no-wait"], ["none.caffemodel"]),
        ([*SINGLE[:3], TRACE / "none.caffemodel", *HHA, "--wait", "no"], ["none.caffemodel"]),
        (["--def", TRACE / "test_fused.prototxt", *SINGLE[2:], *BOTH], ["no weights for conv1", "cls_score"]),
        ([*SINGLE, "--imdb", "nyud2_hha_2015_tset"], ["did you mean 'test'"]),
        ([*SINGLE, *HHA, "--proposals", "none.npz"], ["none.npz"]),
        ([*SINGLE, *HHA, "--set", "TEST.SCALE", "[1]"], ["TEST.SCALE", "TEST.SCALES"]),
        ([*SINGLE, *HHA, "--set", "TEST.MODALITY_SCALES", "[[96], [96]]"], ["2 modalities, expected 1"]),
    ],
)
def test_what_test_net_refuses(folder: Path, words: list[object], parts: list[str]) -> None:
    done = call("test_net", *words, folder=folder)
    assert done.status == 2, done.stderr
    assert not list((folder).rglob("*.npz"))
    for part in parts:
        assert part in done.stderr.splitlines()[-1]


def test_two_runs_into_one_folder_are_told_apart(folder: Path) -> None:
    out = folder / "output" / "a" / "nyud2_hha_2015_test" / "fast_rcnn_iter_20"
    with hold(out / "detections.lock", "testing", "", UsageError):
        done = call("test_net", *SINGLE, *HHA, "--set", *SMALL, "EXP_DIR", "a", folder=folder)
        assert done.status == 2 and f"process {os.getpid()} is testing into" in done.stderr
        assert [path.name for path in out.iterdir()] == ["detections.lock"]


def test_unreadable_and_foreign_pictures(folder: Path) -> None:
    picture = folder / "data" / "nyud2" / "data" / "hha" / "img_5021.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:40])
    done = call("test_net", *SINGLE, *HHA, "--set", *SMALL, folder=folder)
    assert done.status == 2 and "img_5021.png" in done.stderr
    cv2.imwrite(str(picture), np.zeros((40, 50, 3), np.uint8))
    done = call("test_net", *SINGLE, *HHA, "--set", *SMALL, folder=folder)
    assert done.status == 2 and "img_5021" in done.stderr and "pixels" in done.stderr
    assert not list(folder.rglob("detections.npz"))
    picture.write_bytes(whole)
    assert call("test_net", *SINGLE, *HHA, "--set", *SMALL, folder=folder).status == 0


def test_numbers_that_are_not_finite_name_image_and_blob(folder: Path) -> None:
    net = load_net(TRACE / "test.prototxt", TRACE / "fast_rcnn_iter_20.caffemodel")
    net.layer("da_cls_score").blobs[1].data[:] = 3e38
    net.layer("da_cls_score").blobs[0].data[:] = 3e38  # finite, but not what is made of them
    net.save(folder / "nan.caffemodel")
    done = call("test_net", *SINGLE[:3], "nan.caffemodel", *HHA, "--set", *SMALL, folder=folder)
    assert done.status == 2 and "image img_5020" in done.stderr and "blob 'cls_prob'" in done.stderr


# -- detect -----------------------------------------------------------------------------------------------------------

COLOR, SEEN = "data/nyud2/data/images/img_5020.png", "data/nyud2/data/hha/img_5020.png"


def test_a_picture_with_boxes(folder: Path) -> None:
    words = ["--image", COLOR, "--hha", SEEN, "--classes", "nyud2", "--conf", "0.9", "--set", *SMALL]
    done = call("detect", *FUSED, *words, "--out", "found.png", "--json", "found.json", folder=folder)
    assert done.status == 0, done.stderr
    objects = json.loads((folder / "found.json").read_text())["objects"]
    assert objects and min(one["score"] for one in objects) >= 0.9
    assert [one["score"] for one in objects] == sorted((one["score"] for one in objects), reverse=True)
    drawn = cv2.imread(str(folder / "found.png"))
    picture = cv2.imread(str(folder / COLOR))
    assert drawn.shape[0] % picture.shape[0] == 0
    assert (drawn == class_color(objects[0]["class"])).all(2).any()
    assert objects[0]["class"] in done.stdout


def test_what_stands_beside_the_weights_is_used(folder: Path) -> None:
    shutil.copy(TRACE / "fast_rcnn_iter_20.caffemodel", folder / "n.caffemodel")
    names = ("__background__", *(f"thing{k}" for k in range(19)))
    write_preprocessing(folder / "preprocessing.json", Preprocessing(modality="hha", classes=names))
    (folder / "config.yml").write_text("TEST: {SCALES: [96], BBOX_REG: false}\n")
    words = ["--def", TRACE / "test.prototxt", "--net", "n.caffemodel", "--image", COLOR, "--hha", SEEN, "--conf", 0.1]
    done = call("detect", *words, "--json", "a.json", folder=folder)
    assert done.status == 0, done.stderr
    first = json.loads((folder / "a.json").read_text())["objects"][0]
    assert first["class"].startswith("thing")
    assert all(side == round(side) for side in first["box"]), "proposals as they are"


@pytest.mark.parametrize("near", [[], ["--near", "1.5"]])
def test_depth_becomes_the_hha_of_make_hha(folder: Path, near: list[str]) -> None:
    rng = np.random.default_rng(0)
    depth = 1500 + 400 * np.add.outer(np.arange(106) / 106, np.arange(140) / 140) + rng.uniform(0, 9, (106, 140))
    cv2.imwrite(str(folder / "depth.png"), depth.astype(np.uint16))
    camera = ["--camera", "130,130,70,53", "--units-per-metre", "1000", *near]
    assert call("make_hha", "depth.png", "-o", "hha.png", *camera, folder=folder).status == 0
    shared = ["--classes", "nyud2", "--conf", "0.05", "--set", *SMALL]
    one = call("detect", *SINGLE, "--depth", "depth.png", *camera, *shared, "--json", "1.json", folder=folder)
    other = call("detect", *SINGLE, "--hha", "hha.png", *shared, "--json", "2.json", folder=folder)
    assert (one.status, other.status) == (0, 0), one.stderr + other.stderr
    objects = [json.loads((folder / f"{k}.json").read_text())["objects"] for k in (1, 2)]
    assert objects[0] == objects[1] != []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([*SINGLE, "--hha", SEEN], "which classes?"),
        ([*SINGLE, "--classes", "nyud2"], "which picture?"),
        ([*SINGLE, "--classes", "voc", "--hha", SEEN], "'cls_prob' has 20 numbers for a region, expected 21"),
        ([*SINGLE, "--classes", "nyud2", "--hha", SEEN, "--image", COLOR], "says which of them it sees"),
        ([*FUSED, "--classes", "nyud2", "--image", COLOR], "sees 2 pictures"),
        ([*FUSED, "--classes", "nyud2", "--image", COLOR, "--hha", "no.png"], "no.png"),
        ([*FUSED, "--classes", "nyud2", "--image", COLOR, "--depth", SEEN], "--camera is missing"),
        ([*SINGLE, "--classes", "none.txt", "--hha", SEEN], "none.txt"),
        ([*SINGLE, "--classes", "nyud2", "--hha", SEEN, "--out", "x.nothing"], "x.nothing"),
        ([*SINGLE, "--classes", "nyud2", "--hha", SEEN, "--out", SEEN], "is an input"),
        ([*SINGLE, "--classes", "nyud2", "--hha", SEEN, "--conf", "7"], "--conf is 7"),
        ([*SINGLE, "--classes", "nyud2", "--hha", SEEN, "--depth", SEEN], "not both"),
    ],
)
def test_what_detect_refuses(folder: Path, words: list[object], part: str) -> None:
    before = contents(folder)
    done = call("detect", *words, folder=folder)
    assert done.status == 2, done.stderr
    assert part in done.stderr.splitlines()[-1]
    assert contents(folder) == before
