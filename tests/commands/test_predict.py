"""predict finds what the net finds: labels, features and boxes of pictures, videos and RGB-D pairs."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from commands.test_infer_onnx import CLASSES, NET, WANTED
from conftest import needs
from media.test_video import write_video
from onnx_nets import make_net, source
from program import call
from small_detectors import TRACE, picture

from caffe_compat.media import Preparation, Preprocessing, write_mean, write_preparation

MODEL = ("--model", "n.prototxt", "--weights", "n.caffemodel")
MEAN = ("--mean", "104,117,123")
INPUT = source("data", 1, 3, 16, 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures, a net and its weights; nothing says how it is fed."""
    (tmp_path / "pictures").mkdir()
    for seed in range(5):
        cv2.imwrite(str(tmp_path / "pictures" / f"{seed}.png"), picture(seed, 24 + seed, 30))
    (tmp_path / "n.prototxt").write_text(NET)
    make_net(NET).save(tmp_path / "n.caffemodel")
    return tmp_path


def expected(wanted: Preprocessing, blob: str = "prob", pictures: list[np.ndarray] | None = None) -> np.ndarray:
    pictures = [picture(seed, 24 + seed, 30) for seed in range(5)] if pictures is None else pictures
    data = torch.from_numpy(np.stack([wanted.blob(one) for one in pictures]))
    with torch.no_grad():
        return make_net(NET)(data=data, blobs=[blob])[blob].numpy()


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_labels_as_the_snapshot_says(folder: Path, batch: int) -> None:
    write_preparation(folder / "preprocessing.json", Preparation({"data": WANTED}))
    words = ["pictures", "--json", "o.json", "--npz", "o.npz", "--h5", "o.h5", "--sheet", "s.png", "--batch", batch]
    done = call("predict", *MODEL, *words, folder=folder)
    assert done.status == 0, done.stderr
    assert done.stdout == "5 pictures done, 0 failed\nwrote o.json\nwrote o.npz\nwrote o.h5\nwrote s.png\n"
    scores = expected(WANTED)
    close(np.load(folder / "o.npz")["prob"], scores)
    with h5py.File(folder / "o.h5") as file:
        close(file["prob"][()], scores)
        assert file["pictures"].asstr()[()].tolist() == [f"pictures/{k}.png" for k in range(5)]
    content = json.loads((folder / "o.json").read_text())
    assert content["model"] == "n.prototxt" and content["weights"] == ["n.caffemodel"]
    for found, row in zip(content["pictures"], scores, strict=True):
        assert [one["class"] for one in found["labels"]] == [CLASSES[k] for k in np.argsort(-row)]
    sheet = cv2.imread(str(folder / "s.png"))
    assert sheet.shape[1] > 5 * 240 and not list(folder.glob("*.part*"))
    again = call("predict", *MODEL, *words, folder=folder)
    assert again.status == 0 and "is there already" in again.stdout
    for options in (["--mean", "1"], ["--top", 2]):
        done = call("predict", *MODEL, *words, *options, folder=folder)
        assert done.status == 2 and "o.json exists and was made with" in done.stderr


def test_flags_say_how_an_own_net_is_fed(folder: Path) -> None:
    done = call("predict", *MODEL, *MEAN, "pictures", "--npz", "o.npz", folder=folder)
    assert done.status == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "data: color resized to 16 x 16, blue green red, less 104, 117, 123",
        "no class names are known: classes are told by their numbers (--classes FILE names them)",
    ]
    close(np.load(folder / "o.npz")["prob"], expected(Preprocessing(mean=(104, 117, 123), resize=(16, 16))))
    mean = np.random.default_rng(0).uniform(50, 150, (3, 20, 18)).astype(np.float32)
    write_mean(folder / "mean.binaryproto", mean)
    np.save(folder / "mean.npy", mean)
    write_mean(folder / "rgb.binaryproto", mean)
    scaled = Preprocessing(mean_file=str(folder / "rgb.binaryproto"), scale=0.02, resize=(20, 18), crop=(16, 16))
    for file in ("mean.binaryproto", "mean.npy"):
        words = ["--mean-file", file, "--scale", 0.02, "pictures", "--npz", "o.npz", "--overwrite"]
        done = call("predict", *MODEL, *words, folder=folder)
        assert "resized to 18 x 20, the middle 16 x 16, blue green red, less a mean picture, times 0.02" in done.stdout
        close(np.load(folder / "o.npz")["prob"], expected(scaled))
    words = [*MEAN, "--channels", "rgb", "--resize", "20", "pictures", "--npz", "p.npz"]
    assert call("predict", *MODEL, *words, folder=folder).status == 0
    wanted = Preprocessing(
        channels=("red", "green", "blue"), mean=(104, 117, 123), resize=(20, 20), crop=(16, 16), scale=1.0
    )
    close(np.load(folder / "p.npz")["prob"], expected(wanted))


def test_a_training_net_says_how_it_is_fed(folder: Path) -> None:
    (folder / "train_val.prototxt").write_text(
        'layer { name: "d" type: "ImageData" top: "data" top: "label" transform_param { crop_size: 16 mean_value: 100 '
        "mean_value: 110 mean_value: 120 scale: 0.02 } image_data_param { source: \"none.txt\" new_height: 20 "
        "new_width: 22 } }"
    )  # fmt: skip
    words = ["pictures", "--preprocessing", "train_val.prototxt", "--npz", "o.npz"]
    done = call("predict", *MODEL, *words, folder=folder)
    assert done.status == 0, done.stderr
    assert "resized to 22 x 20, the middle 16 x 16, blue green red, less 100, 110, 120, times 0.02" in done.stdout
    wanted = Preprocessing(mean=(100, 110, 120), scale=0.02, resize=(20, 22), crop=(16, 16))
    close(np.load(folder / "o.npz")["prob"], expected(wanted))


def test_a_training_net_in_place_of_the_deploy_net(folder: Path) -> None:
    """Data and labels are elsewhere: it is given the pictures, as its transform_param says, and answers what its loss
    would compare with labels."""
    train_val = (
        'layer { name: "d" type: "Data" top: "data" top: "label" transform_param { crop_size: 16 mean_value: 100 '
        'mean_value: 110 mean_value: 120 scale: 0.02 } data_param { source: "none" batch_size: 4 } }'
    )
    layers = [line for line in NET.replace("layer {", "\nlayer {").splitlines() if line and "Input" not in line]
    softmax = [line for line in layers if '"Softmax"' in line]
    scores = softmax[0].split('bottom: "')[1].split('"')[0]
    loss = f'layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "{scores}" bottom: "label" }}'
    (folder / "train_val.prototxt").write_text("\n".join([train_val, *(x for x in layers if x not in softmax), loss]))
    words = ["--model", "train_val.prototxt", "--weights", "n.caffemodel", "pictures", "--npz", "o.npz"]
    done = call("predict", *words, folder=folder)
    assert done.status == 0, done.stderr
    assert done.stdout.startswith(
        "train_val.prototxt is a training net: here it takes input 'data' 1 x 3 x 16 x 16 in place of layer 'd' (Data)"
        ", prob for its loss\ndata: color resized to 16 x 16, blue green red, less 100, 110, 120, times 0.02\n"
    )
    close(np.load(folder / "o.npz")["prob"], expected(Preprocessing(mean=(100, 110, 120), scale=0.02, resize=(16, 16))))
    done = call("describe", "train_val.prototxt", "--deploy", "deploy.prototxt", folder=folder)
    assert done.status == 0 and done.stdout.startswith("wrote deploy.prototxt: it takes input 'data' 1 x 3 x 16 x 16")
    words = ["--model", "deploy.prototxt", *words[2:5], "--npz", "p.npz", "--preprocessing", "train_val.prototxt"]
    assert call("predict", *words, folder=folder).status == 0
    close(np.load(folder / "p.npz")["prob"], np.load(folder / "o.npz")["prob"])
    done = call("describe", "deploy.prototxt", "--deploy", "again.prototxt", folder=folder)
    assert done.status == 2 and "deploy.prototxt is no training net" in done.stderr


def test_features_of_any_blob(folder: Path) -> None:
    words = [*MEAN, "pictures", "--h5", "o.h5", "--blobs", "p", "prob"]
    assert call("predict", *MODEL, *words, folder=folder).status == 0
    wanted = Preprocessing(mean=(104, 117, 123), resize=(16, 16))
    with h5py.File(folder / "o.h5") as file:
        assert set(file) == {"pictures", "made_with", "p", "prob"}
        close(file["p"][()], expected(wanted, "p"))


def test_frames_of_a_video(folder: Path) -> None:
    write_video(folder / "clip.avi", 10)
    (folder / "bad.mp4").write_bytes(b"words" * 20)
    words = [*MEAN, "clip.avi", "--every", 4, "--json", "o.json", "--npz", "o.npz", "--sheet", "s.jpg"]
    done = call("predict", *MODEL, *words, folder=folder)
    assert done.status == 0, done.stderr
    found = json.loads((folder / "o.json").read_text())["pictures"]
    assert [(one["picture"], one["frame"], one["seconds"]) for one in found] == [
        ("clip.avi#0", 0, 0.0), ("clip.avi#4", 4, 0.4), ("clip.avi#8", 8, 0.8),
    ]  # fmt: skip
    frames = [np.full((32, 48, 3), 10 * number, np.uint8) for number in (0, 4, 8)]
    wanted = expected(Preprocessing(mean=(104, 117, 123), resize=(16, 16)), "prob", frames)
    np.testing.assert_allclose(np.load(folder / "o.npz")["prob"], wanted, atol=0.02)
    done = call("predict", *MODEL, *MEAN, "bad.mp4", "pictures/0.png", folder=folder)
    assert done.status == 1 and "failed: " in done.stdout and "bad.mp4" in done.stdout
    assert "1 picture done, 1 failed" in done.stdout


def test_bad_pictures_end_nothing(folder: Path) -> None:
    (folder / "pictures" / "2a.jpg").write_bytes(b"nothing")
    done = call("predict", *MODEL, *MEAN, "pictures", "--sheet", "s.png", "--sheet-pictures", 2, folder=folder)
    assert done.status == 1 and "2a.jpg: is no image" in done.stdout and "5 pictures done, 1 failed" in done.stdout
    assert cv2.imread(str(folder / "s.png")).shape[1] < 3 * 240
    done = call("predict", *MODEL, *MEAN, "pictures", "--sheet", "s.png", folder=folder)
    assert done.status == 2 and "s.png exists; --overwrite replaces it" in done.stderr


@pytest.mark.filterwarnings("ignore:gravity")
def test_depth_of_pairs(folder: Path) -> None:
    codes = np.rint(np.linspace(1500, 3000, 40)[:, None] + np.linspace(0, 400, 50)[None]).astype(np.uint16)
    cv2.imwrite(str(folder / "d.png"), codes)
    cv2.imwrite(str(folder / "c.png"), picture(0, 40, 50))
    (folder / "pairs.txt").write_text("c.png d.png\n")
    words = [*MEAN, "--modality", "hha", "pairs.txt", "--units-per-metre", 1000, "--camera", "52,52,24.5,19.5"]
    done = call("predict", *MODEL, *words, folder=folder)
    assert done.status == 0 and "c.png: " in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("named", [True, False])
def test_boxes_are_those_that_detect_finds(tmp_path: Path, named: bool) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(2, 60, 80))
    cv2.imwrite(str(tmp_path / "b.png"), picture(3, 60, 80))
    (tmp_path / "classes.txt").write_text("\n".join(f"class{k}" for k in range(1, 20)))
    net = ["--def", TRACE / "test.prototxt", "--net", TRACE / "fast_rcnn_iter_20.caffemodel", "--conf", 0.06]
    options = ["--set", "TEST.SCALES", "[96]", "TEST.MAX_SIZE", "2000"]
    classes = ["--classes", "classes.txt"]
    done = call("detect", *net, "--hha", "a.png", *classes, "--json", "d.json", *options, folder=tmp_path)
    assert done.status == 0, done.stderr
    wanted = json.loads((tmp_path / "d.json").read_text())["objects"]
    words = ["a.png", "b.png", "--modality", "hha", "--json", "o.json", "--draw", "drawn", "--sheet", "s.png"]
    more = classes if named else []
    done = call("predict", *net, *words, *more, *options, folder=tmp_path)
    assert done.status == 0, done.stdout + done.stderr
    assert ("no class names are known" in done.stdout) != named
    found = json.loads((tmp_path / "o.json").read_text())["pictures"][0]["objects"]
    assert len(found) == len(wanted) > 3
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine["class"] == (theirs["class"] if named else theirs["class"].removeprefix("class"))
        assert abs(mine["score"] - theirs["score"]) < 1e-5
        np.testing.assert_allclose(mine["box"], theirs["box"], atol=1e-3)
    assert len(list((tmp_path / "drawn").iterdir())) == 2 and (tmp_path / "s.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pictures"], "what does the net want of pictures?"),
        ([*MEAN, "none.txt"], "none.txt"),
        ([*MEAN, "pictures", "--scores", "prop"], "no output 'prop' (did you mean 'prob'?)"),
        ([*MEAN, "pictures", "--npz", "o.npz", "--blobs", "cc"], "no output 'cc'"),
        ([*MEAN, "pictures", "--blobs", "p"], "--blobs goes with --npz or --h5"),
        ([*MEAN, "pictures", "--every", "0"], "--every is 0, expected 1 or more"),
        ([*MEAN, "pictures", "--sheet", "s.xyz"], "expected a name that ends in .png or .jpg"),
        ([*MEAN, "pictures", "--resize", "a"], "--resize is 'a', expected H,W"),
        ([*MEAN, "pictures", "--modality", "hha,color"], "--modality is 'hha,color', expected one for each of data"),
        (["--mean", "a,b", "pictures"], "--mean is 'a,b', expected numbers with commas"),
        (["--mean", "1,2", "pictures"], "mean [1.0, 2.0]: expected 1 or 3 numbers"),
        ([*MEAN, "pictures", "--preprocessing", "n.prototxt"], "no data layer with a transform_param"),
        ([*MEAN, "pictures", "--json", "n.caffemodel"], "n.caffemodel is an input, it would be overwritten"),
    ],
)
def test_what_it_refuses(folder: Path, words: list[str], message: str) -> None:
    before = sorted(folder.rglob("*"))
    done = call("predict", *MODEL, *words, folder=folder)
    assert done.status == 2 and message in done.stderr, done
    assert sorted(folder.rglob("*")) == before and done.stderr.count("\n") == 1


def test_a_net_that_reads_its_own_data(folder: Path) -> None:
    own = (
        'layer { name: "d" type: "DummyData" top: "data" dummy_data_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }'
    )
    (folder / "n.prototxt").write_text('name: "own" ' + own + NET.removeprefix('name: "small" ' + INPUT))
    done = call("predict", *MODEL, *MEAN, "pictures", folder=folder)
    assert done.status == 2 and done.stderr.count("\n") == 1
    assert "net 'own' has no input to be given a picture (layer 'd' of type DummyData reads its data)" in done.stderr


def test_a_real_net_on_photos(tmp_path: Path) -> None:
    """Trained SqueezeNet: a cat, a bus and a dog by Caffe's own first labels."""
    net = needs("real", "models", "squeezenet_v1.0_deepcomp")
    photos, names = needs("real", "photos", "voc_demo"), needs("real", "data", "synset_words.txt")
    words = [
        "--model", net / "SqueezeNet_deploy.prototxt", "--weights", net / "squeezenet_v1.0_decoded.caffemodel",
        *MEAN, "--resize", 256, photos, "--classes", names, "--json", "o.json",
    ]  # fmt: skip
    done = call("predict", *words, folder=tmp_path)
    assert done.status == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "o.json").read_text())["pictures"]
    first = {Path(one["picture"]).name: one["labels"][0]["class"] for one in found}
    assert "tabby" in first["000542.jpg"] and "minibus" in first["000456.jpg"] and "Shih-Tzu" in first["001150.jpg"]
