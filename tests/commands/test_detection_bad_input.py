"""What the detection commands say to bad input: one line that names what is wrong, status 2, nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from detection.small_run import FILLERS, LAYERS, REGRESSION, SOLVER
from program import Done, call

from caffe_compat.datasets.proposal_file import ProposalFile, write_proposal_file
from caffe_compat.net import load_net

IMDB = "coco:all.json,split=train,images=color"
HELD = "coco:all.json,split=test,images=color"
MODEL = "output/default/{folder}_all_images_train/fast_rcnn_iter_2.caffemodel"
TEST = """name: "small"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 32 dim: 48 }} }} }}
layer {{ name: "rois" type: "Input" top: "rois" input_param {{ shape {{ dim: 1 dim: 5 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 4 kernel_size: 5 stride: 4 pad: 2 }} }}
layer {{ name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param {{ pooled_h: 3 pooled_w: 3 spatial_scale: 0.25 }} }}
layer {{ name: "fc6" type: "InnerProduct" bottom: "pool" top: "fc6" inner_product_param {{ num_output: 16 }} }}
layer {{ name: "cls_score" type: "InnerProduct" bottom: "fc6" top: "cls_score"
  inner_product_param {{ num_output: {labels} }} }}
layer {{ name: "bbox_pred" type: "InnerProduct" bottom: "fc6" top: "bbox_pred"
  inner_product_param {{ num_output: {boxes} }} }}
layer {{ name: "cls_prob" type: "Softmax" bottom: "cls_score" top: "cls_prob" }}
"""
OPTIONS = ("config.yml", "preprocessing.json")
"""What a training writes before it starts, each whole."""
CONFIG = """TRAIN:
  SCALES: [48]
  BATCH_SIZE: 8
  SNAPSHOT_ITERS: 50
  BG_THRESH_LO: 0.0
TEST:
  SCALES: [48]
"""


def train_text(labels: int = 3, boxes: int = 12) -> str:
    return LAYERS.format(
        data_1="",
        conv_1="",
        targets='top: "bbox_targets" top: "bbox_loss_weights"',
        param_str=f"--num_classes {labels} --num_data 1",
        fillers=FILLERS,
        labels=labels,
        fusion="",
        scores="cls_score",
        regression=REGRESSION.format(boxes=boxes, fillers=FILLERS),
    )


def write_boxes(names: list[str], count: int = 30) -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 30, (count, 2))
    rows = np.hstack([low, low + rng.integers(6, 17, (count, 2))]).astype(np.float32)
    rows[0] = [8, 8, 27, 27]
    write_proposal_file("boxes.npz", ProposalFile(names, [rows] * len(names)))


def write_world() -> None:
    """Six pictures in two modalities, their json, proposals, a small net and its options."""
    rng = np.random.default_rng(1)
    for kind in ("color", "hha"):
        Path(kind).mkdir()
        for k in range(6):
            cv2.imwrite(f"{kind}/p{k}.png", rng.integers(0, 255, (48, 64, 3), np.uint8))
    images = [
        {"id": k, "file_name": f"p{k}.png", "width": 64, "height": 48, "split": "train" if k < 4 else "test"}
        for k in range(6)
    ]
    objects = [
        {"id": k, "image_id": k, "category_id": 1 + k % 2, "bbox": [8, 8, 20, 20], "area": 400, "iscrowd": 0}
        for k in range(6)
    ]
    classes = [{"id": 1, "name": "cup"}, {"id": 2, "name": "box"}]
    Path("all.json").write_text(json.dumps({"images": images, "annotations": objects, "categories": classes}))
    write_boxes([f"p{k}" for k in range(6)])
    Path("train.prototxt").write_text(train_text())
    Path("test.prototxt").write_text(TEST.format(labels=3, boxes=12))
    Path("solver.prototxt").write_text(SOLVER.format(rate=0.0002, more=""))
    Path("config.yml").write_text(CONFIG)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run: trained for two iterations and tested."""
    folder = tmp_path_factory.mktemp("trained") / "w"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_world()
        for done in (train(), test()):
            assert done.status == 0, done.stderr
    return folder


@pytest.fixture
def world(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which the test runs."""
    shutil.copytree(trained, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def model() -> str:
    return MODEL.format(folder="w")


def words(given: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    return [
        str(word)
        for name, value in {**defaults, **given}.items()
        if value is not None
        for word in (f"--{name}", *(value if isinstance(value, list) else [value]))
    ]


def train(**given: Any) -> Done:
    defaults = {"solver": "solver.prototxt", "imdb": IMDB, "cfg": "config.yml", "proposals": "boxes.npz", "iters": 2}
    return call("train_net", *words(given, defaults))


def test(**given: Any) -> Done:
    defaults = {"def": "test.prototxt", "net": model(), "imdb": HELD, "cfg": "config.yml", "proposals": "boxes.npz"}
    return call("test_net", *words(given, defaults), "--no-wait")


test.__test__ = False  # type: ignore[attr-defined]


def reval(imdb: str = HELD, folder: str = "", *more: str) -> Done:
    return call("reval", folder or "output/default/w_all_images_test/fast_rcnn_iter_2", "--imdb", imdb, *more)


def find(**given: Any) -> Done:
    defaults = {"def": "test.prototxt", "net": model(), "image": "color/p4.png", "proposals": "boxes.npz"}
    return call("detect", *words(given, {**defaults, "out": "found.png", "cfg": "config.yml"}))


def tree() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file() and "cache" not in path.parts}


def refused(run: Callable[[], Done], *named: str) -> None:
    """One line that names all this, status 2, and no file is new or changed."""
    before = tree()
    done = run()
    assert done.status == 2 and "Traceback" not in done.stderr, (done.status, done.stderr[-900:], done.stdout[-300:])
    lines = [line for line in done.stderr.splitlines()[-3:] if not line.startswith("I")][-1:]  # after training's log
    assert lines and lines[0].startswith("error: ") and done.stderr.count("error: ") == 1, done.stderr[-900:]
    missing = [word for word in named if word not in lines[0]]
    assert not missing, f"{missing} not in {lines[0]}"
    after = {name: held for name, held in tree().items() if name in before or Path(name).name not in OPTIONS}
    assert after == before, sorted(set(after) ^ set(before)) or "changed"


def edit(change: Callable[[Any], Any], path: str = "all.json") -> None:
    held = json.loads(Path(path).read_text())
    change(held)
    Path(path).write_text(json.dumps(held))


def clear_output() -> None:
    shutil.rmtree("output")


BOXES = {
    "outside": [70, 8, 20, 20],
    "partly outside": [8, 8, 200, 20],
    "reversed": [20, 20, -10, 5],
    "three numbers": [1, 2, 3],
    "not finite": [1, 2, float("nan"), 4],
    "words": ["a", 2, 3, 4],
}


@pytest.mark.parametrize("kind", BOXES)
def test_boxes_of_the_json(world: Path, kind: str) -> None:
    edit(lambda held: held["annotations"][2].update(bbox=BOXES[kind]))
    if kind == "partly outside":  # as the cut-off boxes that COCO's own files have
        assert train(iters=1).status in (0, 2)
        return
    refused(train, "all.json", *(["NaN"] if kind == "not finite" else ["annotation 2"]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda held: held["annotations"][1].update(category_id=9), ("all.json", "annotation 1", "9")),
        (lambda held: held["annotations"][1].update(image_id=77), ("all.json", "annotation 1", "77")),
        (lambda held: held["annotations"].clear(), ("w_all_images_train",)),
        (lambda held: held["images"].clear(), ("all.json",)),
        (lambda held: held["images"][1].update(width=65), ("p1.png", "64 x 48", "65 x 48")),
        (lambda held: held["images"][1].update(file_name="gone.png"), ("all.json", "gone")),
        (lambda held: held.pop("images"), ("all.json", "images")),
        (lambda held: held["images"][1].pop("file_name"), ("all.json", "file_name")),
        (lambda held: held["images"][1].update(id=0), ("all.json",)),
    ],
)
def test_json(world: Path, change: Callable[[Any], Any], named: tuple[str, ...]) -> None:
    clear_output()
    edit(change)
    refused(train, *named)


@pytest.mark.parametrize("text", ["[1, 2]", "{}", '{"images": 3}', "not json", "", '{"a": [[[['])
def test_json_that_is_none_of_coco(world: Path, text: str) -> None:
    Path("all.json").write_text(text)
    for run in (train, test, reval, lambda: call("imdb", IMDB)):
        refused(run, "all.json")


def test_empty_split(world: Path) -> None:
    for run in (train, test):
        refused(lambda run=run: run(imdb="coco:all.json,split=vall,images=color"), "all.json", "vall")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:900])


def sixteen(path: Path) -> None:
    cv2.imwrite(str(path), np.full((48, 64, 3), 999, np.uint16))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [truncated, sixteen, folder, Path.unlink, lambda path: path.write_text("text"), lambda p: p.write_bytes(b"")],
)
@pytest.mark.parametrize("run", ["train", "test", "find"])
def test_pictures(world: Path, damage: Callable[[Path], Any], run: str) -> None:
    clear_output() if run == "train" else None
    number = 1 if run == "train" else 4
    damage(Path(f"color/p{number}.png"))
    commands = {"train": train, "test": lambda: test(set=["TEST.DET_SALT", "_x"]), "find": find}
    refused(commands[run], f"p{number}.png")


@pytest.mark.parametrize("command", ["train", "test", "find"])
def test_proposals(world: Path, command: str) -> None:
    run = {"train": train, "test": test, "find": find}[command]
    write_boxes(["q0", "q1"])
    refused(run, "boxes.npz", "p4" if command != "train" else "p0")
    write_boxes([f"p{k}" for k in range(6)])
    with np.load("boxes.npz") as held:
        arrays = dict(held)
    for counts in ([10] * 6, [30, -30, 60, 0, 0, 0], [1, 2]):
        np.savez("boxes.npz", **{**arrays, "counts": np.array(counts, np.int64)})
        refused(run, "boxes.npz")
    for bad in (np.nan, 900, -40):
        boxes = arrays["boxes"].copy()
        boxes[1::30, 2] = bad
        np.savez("boxes.npz", **{**arrays, "boxes": boxes})
        refused(run, "boxes.npz", "p0" if bad != 900 or command == "train" else "p4")
    for content in (b"", b"text", b"PK\x03\x04 no archive"):
        Path("boxes.npz").write_bytes(content)
        refused(run, "boxes.npz")
    refused(lambda: run(proposals="color/p0.png"), "p0.png")
    refused(lambda: run(proposals="gone.npz"), "gone.npz")


def test_modalities_of_different_sizes(world: Path) -> None:
    cv2.imwrite("hha/p1.png", np.zeros((40, 64, 3), np.uint8))
    refused(lambda: train(imdb="coco:all.json,split=train,hha=hha"), "hha/p1.png", "64 x 40", "64 x 48")
    refused(lambda: train(imdb=f"{IMDB},hha=hha"), "'data'")


def test_heads_that_do_not_fit(world: Path) -> None:
    clear = Path("train.prototxt")
    clear.write_text(train_text(labels=5, boxes=20))
    refused(train, "solver.prototxt", "classes")
    clear.write_text(train_text(boxes=8))
    refused(train, "loss_bbox")
    Path("test.prototxt").write_text(TEST.format(labels=4, boxes=16))
    refused(test, "cls_score")
    refused(find, "cls_score")
    load_net("test.prototxt").save("four.caffemodel")
    for run in (test, lambda **given: find(classes="names.txt", **given)):
        Path("names.txt").write_text("cup\nbox\n")
        refused(lambda run=run: run(net="four.caffemodel"), "cls_prob", "4", "3")


def test_snapshots_and_weights_of_another_net(world: Path) -> None:
    text = TEST.format(labels=3, boxes=12)
    Path("other.prototxt").write_text(text.replace('"fc6"', '"fc8"').replace('"conv"', '"c"'))
    load_net("other.prototxt").save("other.caffemodel")
    refused(lambda: test(net="other.caffemodel"), "conv")
    state = model().replace("caffemodel", "solverstate")
    Path("train.prototxt").write_text(train_text().replace("num_output: 16", "num_output: 12"))
    refused(lambda: train(snapshot=state, iters=4), state.rpartition(".")[0], "fc6")
    refused(lambda: train(snapshot="gone.solverstate"), "gone.")
    refused(lambda: train(snapshot="all.json"), "all.")


def test_weights_that_are_not_numbers(world: Path) -> None:
    net = load_net("test.prototxt", model())
    net.layer("fc6").blob(0).data[0, 0] = np.nan
    net.save("nan.caffemodel")
    refused(lambda: test(net="nan.caffemodel"), "fc6")
    Path("names.txt").write_text("cup\nbox\n")
    refused(lambda: find(net="nan.caffemodel", classes="names.txt"), "nan.caffemodel", "fc6")
    clear_output()
    refused(lambda: train(weights="nan.caffemodel"), "fc6")


def test_files_that_are_not_there_or_something_else(world: Path) -> None:
    for name in ("gone", "color", "color/p0.png"):
        refused(lambda name=name: train(weights=name), name)
        refused(lambda name=name: train(solver=name), name)
        refused(lambda name=name: train(cfg=name), name)
        refused(lambda name=name: test(net=name), name)
        refused(lambda name=name: test(**{"def": name}), name)
        refused(lambda name=name: find(net=name), name)
        refused(lambda name=name: find(classes=name), name)
        refused(lambda name=name: reval(folder=name), name)
    refused(lambda: find(image="color"), "color")
    refused(lambda: test(imdb="coco:all.json,split=test,images=all.json"), "all.json")
    refused(lambda: test(imdb="coco:color,split=test"), "coco:color")


def test_options(world: Path) -> None:
    for run in (train, test, find):
        refused(lambda run=run: run(set=["TRAIN.SCALE", "3"]), "TRAIN.SCALE", "TRAIN.SCALES")
        refused(lambda run=run: run(set=["TEST.NMS", "abc"]), "TEST.NMS")
        refused(lambda run=run: run(set=["TEST.NMS"]), "TEST.NMS")
        refused(lambda run=run: run(gpu=77), "--gpu")
        Path("bad.yml").write_text("TEST:\n  SCALE: [3]\n")
        refused(lambda run=run: run(cfg="bad.yml"), "bad.yml", "SCALE")
    for run in (train, test, reval):
        refused(lambda run=run: run(imdb="nyud_hha_test"), "nyud_hha_test")
        refused(lambda run=run: run(imdb="voc_2007_test"), "data")
    refused(lambda: train(iters=-2), "-2")
    refused(lambda: call("make_detection", "--net", "nothing", "--classes", "3", "--folder", "x"), "nothing")


def test_prototxts_swapped(world: Path) -> None:
    refused(lambda: test(**{"def": "train.prototxt"}), "train.prototxt")
    refused(lambda: find(**{"def": "train.prototxt"}), "train.prototxt")
    Path("solver.prototxt").write_text(SOLVER.format(rate=0.1, more="").replace("train.prototxt", "test.prototxt"))
    refused(train, "solver.prototxt", "RoIDataLayerPi")
    refused(lambda: train(solver="test.prototxt"), "test.prototxt")
    refused(lambda: test(**{"def": "solver.prototxt"}), "solver.prototxt")


def test_outputs_that_cannot_be_written(world: Path) -> None:
    Path("blocked").write_text("a file")
    for run in (train, test):
        refused(lambda run=run: run(set=["EXP_DIR", "../blocked/x"]), "blocked")
    refused(lambda: find(out="blocked/found.png"), "blocked/found.png")
    refused(lambda: find(json="color"), "color")
    refused(lambda: find(out="color/p4.png"), "color/p4.png")
    refused(lambda: find(out="found.doc"), "found.doc")


def test_classes_of_a_database(world: Path) -> None:
    shutil.copy(model(), "fused.caffemodel")  # nothing beside it names its classes
    refused(lambda: find(net="fused.caffemodel"), "which classes?", "coco:PATH.json")
    assert find(net="fused.caffemodel", classes=HELD).status == 0


def test_compressing_and_fusing(world: Path) -> None:
    given = ["--def", "test.prototxt", "--def-svd", "test.prototxt", "--net"]
    refused(lambda: call("compress_net", *given, model()), "test.prototxt")
    refused(lambda: call("compress_net", *given, "gone"), "gone")
    Path("s.json").write_text("[{}]")
    words = ["--out_net_def", "test.prototxt", "--net_surgery_json", "s.json", "--out_net_file", "x.caffemodel"]
    refused(lambda: call("net_surgery", *words), "s.json")
    svm = ["--def", "test.prototxt", "--net", "gone", "--imdb", IMDB, "--cfg", "config.yml"]
    refused(lambda: call("train_svms", *svm, "--proposals", "boxes.npz"), "gone")


def test_classes_without_any_box_are_named_with_what_may_be_the_cause(world: Path) -> None:
    done = test(set=["TEST.SCORE_THRESH", 2.0])
    assert (
        done.status == 0 and "no box of cup, box: no score is above TEST.SCORE_THRESH, or all are equal" in done.stdout
    )
    assert "no box of" not in test().stdout
