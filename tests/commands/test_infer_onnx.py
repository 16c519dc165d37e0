"""infer_onnx finds what the net finds, whatever the batch; bad pictures end nothing; a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from onnx_nets import conv, ip, layer, make_net, source
from program import call
from small_detectors import detector, picture

from caffe_compat.commands import infer_results
from caffe_compat.depth import Camera, complete, hha
from caffe_compat.media import Encoding, Preparation, Preprocessing, write_preparation
from caffe_compat.onnx import export_onnx
from caffe_compat.onnx.postprocess import Boxes
from caffe_compat.onnx.preprocess import Pictures

CLASSES = ("chair", "table", "lamp", "sofa", "bed")
NET = (
    'name: "small" '
    + source("data", 1, 3, 16, 16)
    + conv("c", "data", "c")
    + layer("Pooling", "p", "c", "p", "pooling_param { pool: AVE global_pooling: true }")
    + ip("f", "p", "f")
    + layer("Softmax", "prob", "f", "prob")
)
WANTED = Preprocessing(resize=(20, 20), crop=(16, 16), scale=0.02, classes=CLASSES)


def write_model(folder: Path, wanted: Preprocessing | None = WANTED, text: str = NET, **options):
    net = make_net(text)
    facts = {} if wanted is None else {"preprocessing": Preparation({"data": wanted}).text()}
    export_onnx(net, folder / "n.onnx", metadata=facts, **options)
    return net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures and a model."""
    (tmp_path / "pictures").mkdir()
    for seed in range(5):
        cv2.imwrite(str(tmp_path / "pictures" / f"{seed}.png"), picture(seed, 24 + seed, 30))
    write_model(tmp_path)
    return tmp_path


def expected(net, wanted: Preprocessing = WANTED) -> np.ndarray:
    blobs = np.stack([wanted.blob(picture(seed, 24 + seed, 30)) for seed in range(5)])
    with torch.no_grad():
        return net(data=torch.from_numpy(blobs))["prob"].numpy()


def labels(path: Path) -> list[list[tuple[str, float]]]:
    found = json.loads(path.read_text())["pictures"]
    return [[(one["class"], one["score"]) for one in entry["labels"]] for entry in found]


@pytest.mark.parametrize("words", [[], ["--batch", 1], ["--batch", 3, "--workers", 1], ["--batch", 64]])
def test_labels_are_the_nets(folder: Path, words: list[object]) -> None:
    done = call("infer_onnx", "n.onnx", "pictures", "--json", "o.json", "--npz", "o.npz", *words, folder=folder)
    assert done.status == 0, done.stderr
    assert done.stdout == "5 pictures done, 0 failed\nwrote o.json\nwrote o.npz\n"
    scores = expected(make_net(NET))
    arrays = np.load(folder / "o.npz")
    np.testing.assert_allclose(arrays["prob"], scores, rtol=1e-4, atol=1e-6)
    assert arrays["pictures"].tolist() == [f"pictures/{seed}.png" for seed in range(5)]
    for found, row in zip(labels(folder / "o.json"), scores, strict=True):
        order = np.argsort(-row)
        assert [name for name, _ in found] == [CLASSES[k] for k in order]
        np.testing.assert_allclose([score for _, score in found], row[order], rtol=1e-4, atol=2e-6)
    assert not list(folder.glob("*.part*")) and not list(folder.glob("*.lock"))


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_batch_that_the_model_fixes(folder: Path, batch: int) -> None:
    write_model(folder, dynamic=False, inputs={"data": (batch, 3, 16, 16)})
    done = call("infer_onnx", "n.onnx", "pictures", "--npz", "o.npz", "--blobs", "prob", folder=folder)
    assert done.status == 0, done.stderr
    np.testing.assert_allclose(np.load(folder / "o.npz")["prob"], expected(make_net(NET)), rtol=1e-4, atol=1e-6)


def test_pictures_of_their_own_sizes(folder: Path) -> None:
    """With sizes open and no resizing each picture goes in as it is; outputs that differ in shape stay apart."""
    wanted = Preprocessing(scale=0.02, classes=CLASSES)
    net = write_model(folder, wanted, dynamic=True, outputs=["c", "prob"])
    done = call("infer_onnx", "n.onnx", "pictures", "pictures/3.png", "--npz", "o.npz", "--batch", 4, folder=folder)
    assert done.status == 0, done.stderr
    arrays = np.load(folder / "o.npz")
    for number, seed in enumerate((0, 1, 2, 3, 4, 3)):
        blob = torch.from_numpy(wanted.blob(picture(seed, 24 + seed, 30)))[None]
        blobs = {name: value.detach().numpy() for name, value in net(data=blob, blobs=["c", "prob"]).items()}
        np.testing.assert_allclose(arrays["prob"][number], blobs["prob"][0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(arrays[f"c/{number}"], blobs["c"][0], rtol=1e-3, atol=1e-4)


def test_without_files_it_prints(folder: Path) -> None:
    done = call("infer_onnx", "n.onnx", "pictures/1.png", "pictures/0.png", "--top", 2, folder=folder)
    best = [np.argsort(-row)[:2] for row in expected(make_net(NET))[[1, 0]]]
    lines = done.stdout.splitlines()
    for line, seed, order in zip(lines, (1, 0), best, strict=False):
        assert line.startswith(f"pictures/{seed}.png: {CLASSES[order[0]]} 0.") and line.count(",") == 1
    assert lines[2:] == ["2 pictures done, 0 failed"]


def test_classes_are_numbers_where_nobody_names_them(folder: Path) -> None:
    write_model(folder, Preprocessing(resize=(16, 16)))
    done = call("infer_onnx", "n.onnx", "pictures/1.png", "--top", 1, folder=folder)
    assert done.stdout.split(": ")[1].split()[0] in "01234"
    (folder / "names.txt").write_text("a\nb\nc\nd\ne\n")
    done = call("infer_onnx", "n.onnx", "pictures/1.png", "--top", 1, "--classes", "names.txt", folder=folder)
    assert done.stdout.split(": ")[1].split()[0] in "abcde"
    (folder / "names.txt").write_text("a\nb\n")
    done = call("infer_onnx", "n.onnx", "pictures/1.png", "--classes", "names.txt", folder=folder)
    assert done.status == 2 and "'prob' has 5 numbers for a picture, there are 2 class names" in done.stderr


def test_preprocessing_of_a_file(folder: Path) -> None:
    write_model(folder, None)
    done = call("infer_onnx", "n.onnx", "pictures", "--npz", "o.npz", folder=folder)
    assert done.status == 2 and "n.onnx: the model does not say how pictures are prepared for it" in done.stderr
    write_preparation(folder / "p.json", Preparation({"data": WANTED}))
    done = call("infer_onnx", "n.onnx", "pictures", "--npz", "o.npz", "--preprocessing", "p.json", folder=folder)
    assert done.status == 0, done.stderr
    np.testing.assert_allclose(np.load(folder / "o.npz")["prob"], expected(make_net(NET)), rtol=1e-4, atol=1e-6)


def test_bad_pictures_are_named_at_the_end(folder: Path) -> None:
    (folder / "pictures" / "0a.png").write_bytes(b"nothing")
    (folder / "pictures" / "2a.jpg").write_bytes(b"")
    cv2.imwrite(str(folder / "pictures" / "4a.png"), np.zeros((9, 9), np.uint16))
    done = call("infer_onnx", "n.onnx", "pictures", "missing.jpg", "--json", "o.json", "--batch", 2, folder=folder)
    assert done.status == 1
    told = done.stdout.splitlines()
    for name, reason in (("0a.png", "is no image"), ("2a.jpg", "is no image"), ("missing.jpg", "Could not open file")):
        assert any(line.startswith("failed: ") and name in line and reason in line for line in told), told
    assert any("4a.png: holds depth, the input 'data' takes color pictures of 8 bits" in line for line in told)
    assert "5 pictures done, 4 failed" in told
    content = json.loads((folder / "o.json").read_text())
    assert len(content["pictures"]) == 5 and len(content["failed"]) == 4
    again = call("infer_onnx", "n.onnx", "pictures", "missing.jpg", "--json", "o.json", folder=folder)
    assert again.status == 1 and "is there already" in again.stdout


def test_pictures_that_the_model_does_not_take(folder: Path) -> None:
    """A fixed size without resizing: every picture of another size fails, and it is said once."""
    write_model(folder, Preprocessing(classes=CLASSES), dynamic=False)
    done = call("infer_onnx", "n.onnx", "pictures", folder=folder)
    assert done.status == 1 and "0 pictures done, 5 failed" in done.stdout
    assert "axis 2 (height) is 24, expected 16" in done.stdout


class Stop(BaseException):
    """What ends a run in the middle."""


def test_a_run_that_was_stopped_goes_on(folder: Path, monkeypatch) -> None:
    words = ["n.onnx", "pictures", "--json", "o.json", "--npz", "o.npz", "--batch", 1, "--draw", "drawn"]
    taken = []
    take = infer_results.Results.take

    def stopping(self, sample, answer):
        if len(taken) == 3:
            raise Stop
        taken.append(sample.name)
        take(self, sample, answer)

    monkeypatch.setattr(infer_results.Results, "take", stopping)
    with pytest.raises(Stop):
        call("infer_onnx", *words, folder=folder)
    assert taken == ["0", "1", "2"] and not (folder / "o.json").exists() and (folder / "o.json.part").exists()
    part = (folder / "o.json.part").read_bytes()
    (folder / "o.json.part").write_bytes(part[:-5])  # and the last record was not whole
    (folder / "drawn" / "2.png").unlink()
    monkeypatch.setattr(infer_results.Results, "take", take)
    done = call("infer_onnx", *words, folder=folder)
    assert done.status == 0 and "5 pictures done (2 of an earlier run), 0 failed" in done.stdout
    stopped = (folder / "o.json").read_bytes(), np.load(folder / "o.npz")["prob"]
    whole = call("infer_onnx", *words, "--overwrite", folder=folder)
    assert whole.status == 0, whole.stdout
    assert stopped[0] == (folder / "o.json").read_bytes()
    np.testing.assert_array_equal(stopped[1], np.load(folder / "o.npz")["prob"])


def test_results_are_not_replaced_in_silence(folder: Path) -> None:
    words = ["n.onnx", "pictures", "--json", "o.json"]
    assert call("infer_onnx", *words, folder=folder).status == 0
    before = (folder / "o.json").read_bytes()
    done = call("infer_onnx", *words, "--top", 2, folder=folder)
    assert done.status == 2 and "o.json exists and was made with top = 5, now 2; --overwrite replaces it" in done.stderr
    cv2.imwrite(str(folder / "pictures" / "1.png"), picture(9))
    done = call("infer_onnx", *words, folder=folder)
    assert done.status == 2 and "o.json exists and was made with pictures" in done.stderr
    assert (folder / "o.json").read_bytes() == before
    assert call("infer_onnx", *words, "--overwrite", folder=folder).status == 0
    (folder / "o.json").write_text('{"a": 1}')
    done = call("infer_onnx", *words, folder=folder)
    assert done.status == 2 and "does not say how it was made" in done.stderr


def test_drawn_pictures(folder: Path) -> None:
    assert call("infer_onnx", "n.onnx", "pictures", "--draw", "drawn", folder=folder).stdout.splitlines()[-1] == (
        "wrote 5 pictures into drawn"
    )
    drawn = cv2.imread(str(folder / "drawn" / "3.png"))
    assert min(drawn.shape[:2]) >= 320 and (drawn == 255).all(2).any()  # enlarged, with white letters
    done = call("infer_onnx", "n.onnx", "pictures/3.png", "--draw", "drawn", folder=folder)
    assert done.status == 1 and "3.png exists; --overwrite replaces it" in done.stdout
    assert call("infer_onnx", "n.onnx", "pictures/3.png", "--draw", "drawn", "--overwrite", folder=folder).status == 0


def test_pictures_of_one_name_stay_apart(folder: Path) -> None:
    (folder / "more").mkdir()
    cv2.imwrite(str(folder / "more" / "1.jpg"), picture(7))
    call("infer_onnx", "n.onnx", "pictures/1.png", "more/1.jpg", "more/1.jpg", "--draw", "drawn", folder=folder)
    drawn = sorted(path.name for path in (folder / "drawn").iterdir())
    assert drawn == ["more_1.2.png", "more_1.png", "pictures_1.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.onnx", "pictures"], "none.onnx"),
        (["pictures/0.png", "pictures"], "expected an ONNX model"),
        (["n.onnx", "none.txt"], "none.txt"),
        (["n.onnx", "pictures/0.png,pictures/1.png,pictures/2.png"], "3 files, the model takes 1 of each scene"),
        (["n.onnx", "pictures", "--scores", "prop"], "no output 'prop' (did you mean 'prob'?)"),
        (["n.onnx", "pictures", "--npz", "o.npz", "--blobs", "c"], "no output 'c'"),
        (["n.onnx", "pictures", "--blobs", "prob"], "--blobs goes with --npz or --h5"),
        (["n.onnx", "pictures", "--batch", "0"], "--batch is 0, expected 1 or more"),
        (["n.onnx", "pictures", "--workers", "0"], "--workers is 0"),
        (["n.onnx", "pictures", "--threads", "0"], "threads is 0, expected 1 or more"),
        (["n.onnx", "pictures", "--device", "gpu"], "device is 'gpu', expected cpu or cuda"),
        (["n.onnx", "pictures", "--json", "n.onnx"], "n.onnx is an input, it would be overwritten"),
        (["n.onnx", "."], "no pictures"),
        (["n.onnx", "pictures", "--preprocessing", "none.json"], "none.json"),
        (["n.onnx", "pictures", "--json", "pictures/0.png/o.json"], "0.png"),
    ],
)
def test_what_it_refuses(folder: Path, words: list[str], message: str) -> None:
    before = sorted(folder.rglob("*"))
    done = call("infer_onnx", *words, folder=folder)
    assert done.status == 2 and message in done.stderr, done
    assert sorted(folder.rglob("*")) == before and done.stderr.count("\n") == 1


# -- depth ------------------------------------------------------------------------------------------------------------


def depth_scene(folder: Path, seed: int = 0) -> np.ndarray:
    """Depth in millimetres with a hole, in a file; its metres."""
    rows = np.linspace(1500, 3000, 40)[:, None] + np.linspace(0, 400, 50)[None] + 100 * seed
    codes = np.rint(rows).astype(np.uint16)
    codes[10:14, 20:24] = 0
    cv2.imwrite(str(folder / f"{seed}_depth.png"), codes)
    cv2.imwrite(str(folder / f"{seed}_color.png"), picture(seed, 40, 50))
    return codes / 1000


@pytest.mark.filterwarnings("ignore:gravity")
def test_depth_becomes_hha_as_in_training(tmp_path: Path) -> None:
    """A franken net on RGB-D pairs: the depth of each is encoded with the settings that the model carries."""
    how = Encoding(scale=15000.0, camera=(52.0, 52.0, 24.5, 19.5))
    wanted = Preprocessing("hha", resize=(16, 16), scale=0.02, classes=CLASSES, encoding=how)
    net = write_model(tmp_path, wanted)
    rows = []
    for seed in range(2):
        metres = depth_scene(tmp_path, seed)
        image = hha(complete(metres), Camera(52, 52, 24.5, 19.5), metres == 0, scale=15000.0)
        rows.append(wanted.blob(np.ascontiguousarray(image[..., ::-1])))
    scores = net(data=torch.from_numpy(np.stack(rows)))["prob"].detach().numpy()
    (tmp_path / "pairs.txt").write_text("0_color.png 0_depth.png\n1_color.png\t1_depth.png\n")
    words = ["n.onnx", "pairs.txt", "--npz", "o.npz", "--draw", "drawn"]
    done = call("infer_onnx", *words, "--units-per-metre", 1000, folder=tmp_path)
    assert done.status == 0, done.stdout + done.stderr
    warned = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 2 and all("gravity was found" in line for line in warned)  # a wall, seen by a lying camera
    np.testing.assert_allclose(np.load(tmp_path / "o.npz")["prob"], scores, rtol=1e-4, atol=1e-6)
    assert np.load(tmp_path / "o.npz")["pictures"].tolist() == ["0_color.png", "1_color.png"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["0_color.png", "1_color.png"]
    alone = call("infer_onnx", "n.onnx", "0_depth.png", "--npz", "a.npz", "--units-per-metre", 1000, folder=tmp_path)
    assert alone.status == 0, alone.stdout
    np.testing.assert_allclose(np.load(tmp_path / "a.npz")["prob"], scores[:1], rtol=1e-4, atol=1e-6)
    done = call("infer_onnx", *words, folder=tmp_path)
    assert done.status == 2 and "--overwrite" in done.stderr
    done = call("infer_onnx", "n.onnx", "pairs.txt", folder=tmp_path)
    assert done.status == 1 and "0_depth.png: holds depth: --units-per-metre is missing" in done.stdout


def test_depth_without_a_camera(tmp_path: Path) -> None:
    write_model(tmp_path, Preprocessing("hha", resize=(16, 16), classes=CLASSES))
    depth_scene(tmp_path)
    words = ["n.onnx", "0_color.png,0_depth.png", "--units-per-metre", 1000]
    done = call("infer_onnx", *words, folder=tmp_path)
    assert done.status == 1 and "--camera is missing, and the model carries none" in done.stdout
    done = call("infer_onnx", *words, "--camera", "52,52,24.5,19.5", folder=tmp_path)
    assert done.status == 0, done.stdout
    cv2.imwrite(str(tmp_path / "0_color.png"), picture(0, 40, 51))
    done = call("infer_onnx", *words, "--camera", "52,52,24.5,19.5", folder=tmp_path)
    assert done.status == 1 and "40 x 51" in done.stdout


# -- detectors --------------------------------------------------------------------------------------------------------


def finds_what_detect_finds(tmp_path: Path, words: list, both: bool) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture(1, 60, 80))
    cv2.imwrite(str(tmp_path / "a_hha.png"), picture(2, 60, 80))
    pictures = ["--image", "a.png"] if both else []
    done = call("detect", *words, *pictures, "--hha", "a_hha.png", "--json", "d.json", "--conf", 0.06, folder=tmp_path)
    assert done.status == 0, done.stderr
    wanted = json.loads((tmp_path / "d.json").read_text())["objects"]
    scene = "a.png,a_hha.png" if both else "a_hha.png"
    more = ["--json", "o.json", "--npz", "o.npz", "--draw", "drawn", "--conf", 0.06]
    done = call("infer_onnx", "n.onnx", scene, *more, folder=tmp_path)
    assert done.status == 0, done.stdout + done.stderr
    (found,) = json.loads((tmp_path / "o.json").read_text())["pictures"]
    assert len(found["objects"]) == len(wanted) > 3
    for mine, theirs in zip(found["objects"], wanted, strict=True):
        assert mine["class"] == theirs["class"] and abs(mine["score"] - theirs["score"]) < 1e-4
        np.testing.assert_allclose(mine["box"], theirs["box"], atol=0.01)


@pytest.mark.parametrize("both", [False, True])
def test_objects_are_those_that_detect_finds(tmp_path: Path, both: bool) -> None:
    words, _ = detector(tmp_path, both)
    finds_what_detect_finds(tmp_path, words, both)
    arrays = np.load(tmp_path / "o.npz")
    assert arrays["scores"].shape[2] == 20 and arrays["boxes"].shape[2] == 80
    assert (tmp_path / "drawn").exists()


@pytest.mark.parametrize("both", [False, True])
def test_boxes_of_the_graph_are_those_that_detect_finds(tmp_path: Path, both: bool) -> None:
    words, _ = detector(tmp_path, both, postprocess=Boxes(per_image=100_000))
    finds_what_detect_finds(tmp_path, words, both)


def test_detectors_that_take_bytes(tmp_path: Path) -> None:
    """Bytes are resized before they come in, and rounded: scores and boxes are near those of numbers."""
    one = Preprocessing("hha", short_side=96, longest_side=2000, classes=("__background__", *"abcdefghijklmnopqrs"))
    asked = Pictures(Preparation({"data": one}))
    detector(tmp_path, postprocess=Boxes(), preprocess=asked)
    cv2.imwrite(str(tmp_path / "a.png"), picture(2, 96, 128))
    done = call("infer_onnx", "n.onnx", "a.png", "--json", "o.json", "--conf", 0.06, folder=tmp_path)
    assert done.status == 0, done.stdout + done.stderr
    detector(tmp_path, postprocess=Boxes())
    done = call("infer_onnx", "n.onnx", "a.png", "--json", "p.json", "--conf", 0.06, folder=tmp_path)
    first, second = (
        json.loads((tmp_path / name).read_text())["pictures"][0]["objects"] for name in ("o.json", "p.json")
    )
    assert len(first) == len(second) > 3
    for mine, theirs in zip(first, second, strict=True):
        assert mine["class"] == theirs["class"] and abs(mine["score"] - theirs["score"]) < 1e-4


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_classifiers_that_take_bytes(folder: Path, order: str) -> None:
    asked = Pictures(Preparation({"data": WANTED}), order)
    write_model(folder, preprocess=asked)
    done = call("infer_onnx", "n.onnx", "pictures", "--npz", "o.npz", folder=folder)
    assert done.status == 0, done.stdout + done.stderr
    np.testing.assert_allclose(np.load(folder / "o.npz")["prob"], expected(make_net(NET)), rtol=1e-4, atol=1e-6)
    write_model(folder, preprocess=Pictures(Preparation({"data": WANTED}), order, (20, 20)))  # resized in the graph
    done = call("infer_onnx", "n.onnx", "pictures", "--npz", "p.npz", folder=folder)
    assert done.status == 0, done.stdout + done.stderr
    np.testing.assert_allclose(np.load(folder / "p.npz")["prob"], expected(make_net(NET)), atol=0.02)


def test_what_a_detector_refuses(tmp_path: Path) -> None:
    detector(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), picture(1, 60, 80))
    for words, message in (
        (["--blobs", "cls_prob", "--npz", "o.npz"], "of a detector, --npz holds scores and boxes"),
        (["--proposals", "none.npz"], "none.npz"),
        (["--scores", "prob"], "the model has no output 'prob'"),
        (["--set", "TEST.SCALE", "1"], "TEST.SCALE"),
    ):
        done = call("infer_onnx", "n.onnx", "a.png", *words, folder=tmp_path)
        assert done.status == 2 and message in done.stderr, done


def test_several_files_of_one_scene(tmp_path: Path) -> None:
    detector(tmp_path, both=True)
    cv2.imwrite(str(tmp_path / "a.png"), picture(1, 60, 80))
    cv2.imwrite(str(tmp_path / "b.png"), picture(2, 60, 81))
    done = call("infer_onnx", "n.onnx", "a.png", folder=tmp_path)
    assert done.status == 2 and "a.png: 1 file, the model takes 2 of each scene" in done.stderr
    done = call("infer_onnx", "n.onnx", "a.png,b.png", folder=tmp_path)
    assert done.status == 1 and "80x60 (a.png) and 81x60 (b.png)" in done.stdout
