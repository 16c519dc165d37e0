"""tools/reval.py on the branch's own detections, in every form in which they are stored."""

import json
import shutil

import cv2
import numpy as np
import pytest
from program import ROOT, call
from scipy.io import savemat

from caffe_compat.datasets import find_imdb
from caffe_compat.evaluation.detections import Detections, read_detections, write_detections, write_detections_mat

GOLDEN = ROOT / "tests" / "data" / "golden_fork" / "detection"
IMDB = "nyud2_hha_2015_test"


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "fastrcnn.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files if name.startswith("test/")}


@pytest.fixture
def imdb():
    return find_imdb(IMDB, GOLDEN / "tree")


@pytest.fixture
def detections(arrays, imdb):
    none = np.zeros((0, 5), np.float32)
    boxes = [
        [arrays.get(f"test/all_boxes/{c + 1}/{i}", none) for i in range(len(imdb.records))]
        for c in range(len(imdb.classes))
    ]
    return Detections(imdb.classes, tuple(record.name for record in imdb.records), boxes)


@pytest.fixture
def straight(detections):
    """The same without boxes inside out, which only parity takes."""
    boxes = [[rows[(rows[:, 2:4] >= rows[:, :2]).all(1)] for rows in row] for row in detections.boxes]
    return Detections(detections.classes, detections.images, boxes)


def reval(folder, *words):
    return call("reval", folder, "--imdb", IMDB, "--set", "ROOT_DIR", GOLDEN / "tree", *words)


def test_the_branchs_run(tmp_path, arrays, detections, imdb):
    write_detections(tmp_path / "detections.npz", detections)
    done = reval(tmp_path, "--parity", "--rerun")
    assert done.status == 0, done.stderr
    assert (tmp_path / "eval.txt").read_text() == str(arrays["test/eval_txt"])
    assert f"{tmp_path / 'detections.npz'}: {len(detections)} boxes, overlap from 0.3 is suppressed" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    found = np.load(tmp_path / "eval.npz")
    for name, truths, count, ap in zip(
        imdb.classes, found["ground_truth"], found["detections"], found["ap"], strict=True
    ):
        assert [name, str(truths), str(count), "-" if np.isnan(ap) else f"{100 * ap:.2f}"] in lines
    assert "makes the mean NaN" in done.stdout
    expected = [f"eval{e}" for e in (".json", ".mat", ".npz", ".txt", "_curves.csv", "_curves.png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["detections.npz", *expected])


def test_by_default_classes_without_objects_are_named_and_left_out(tmp_path, straight):
    write_detections(tmp_path / "detections.npz", straight)
    done = reval(tmp_path)
    assert done.status == 0, done.stderr
    figures = json.loads((tmp_path / "eval.json").read_text())
    absent = figures["without_ground_truth"]
    assert absent and f"without an object, so not in the mean: {', '.join(absent)}" in done.stdout
    known = [row["ap"] for row in figures["classes"].values() if row["ap"] is not None]
    assert len(known) == 19 - len(absent) and figures["mean"] == pytest.approx(np.mean(known))


def test_boxes_inside_out_need_parity(tmp_path, detections):
    detections.boxes[2][1] = np.array([[30, 0, 20, 9, 0.5]], np.float32)
    write_detections(tmp_path / "detections.npz", detections)
    done = reval(tmp_path)
    assert done.status == 2 and f"image {detections.images[1]}: detection 1 of class bookshelf" in done.stderr
    assert "expected x1 <= x2 and y1 <= y2 (what was detected with PARITY needs it here too)" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["detections.npz"]
    assert reval(tmp_path, "--parity").status == 0


@pytest.mark.parametrize("form", ["detections.mat", "detections.pkl.mat", "detections_s.npz"])
def test_other_files(tmp_path, detections, arrays, form):
    path, salt = tmp_path / form, []
    if form == "detections.mat":
        write_detections_mat(path, detections)
    elif form == "detections.pkl.mat":
        cells = np.empty((len(detections.classes) + 1, len(detections.images)), object)
        for i in range(len(detections.images)):
            cells[0, i] = []
            for c in range(len(detections.classes)):
                cells[c + 1, i] = detections.boxes[c][i]
        savemat(path, {"all_boxes": cells})
    else:
        write_detections(path, detections)
        salt = ["TEST.DET_SALT", "_s", "TEST.EVAL_SALT", "_e"]
    done = reval(tmp_path, *salt, "--parity")
    assert done.status == 0, done.stderr
    name = "eval_s_e.txt" if salt else "eval.txt"
    assert (tmp_path / name).read_text() == str(arrays["test/eval_txt"])


def test_options(tmp_path, straight):
    """Another suppression and another threshold, from the run's own configuration and from the command line."""
    write_detections(tmp_path / "detections.npz", straight)
    (tmp_path / "config.yml").write_text("TEST:\n  NMS: 1.0\n")
    done = reval(tmp_path)
    assert "overlap from 1 is suppressed" in done.stdout, done.stderr
    done = reval(tmp_path, "TEST.NMS", "0.1", "--threshold", "0.05")
    assert "overlap from 0.1 is suppressed" in done.stdout and "overlap from 0.05" in done.stdout
    (tmp_path / "other.yml").write_text("TEST:\n  NMS: 0.7\n")
    assert "overlap from 0.7 is suppressed" in reval(tmp_path, "--cfg", tmp_path / "other.yml").stdout
    assert reval(tmp_path, "--threshold", "2").status == 2
    assert reval(tmp_path, "--pictures", "-1").status == 2


def test_pictures_and_files_for_servers(tmp_path, straight):
    write_detections(tmp_path / "detections.npz", straight)
    done = reval(tmp_path, "--pictures", "2", "--comp")
    assert done.status == 0, done.stderr
    sheets = sorted((tmp_path / "eval_pictures").iterdir())
    assert sheets[0].name == "01_bathtub.png" and cv2.imread(str(sheets[0])) is not None
    assert (tmp_path / "competition" / "comp4_det_test_bathtub.txt").exists()
    assert f"{tmp_path / 'eval_pictures' / '01_bathtub.png'} and {len(sheets) - 1} more files there" in done.stdout


def test_detections_of_something_else(tmp_path, straight):
    names = (*straight.images[:-1], "img_9999")
    write_detections(tmp_path / "detections.npz", Detections(straight.classes, names, straight.boxes))
    done = reval(tmp_path)
    assert (
        done.status == 2 and f"detections.npz: detections of images that {IMDB} does not have: img_9999" in done.stderr
    )
    names = (*straight.classes[:-1], "teapot")
    write_detections(tmp_path / "detections.npz", Detections(names, straight.images, straight.boxes))
    done = reval(tmp_path)
    assert done.status == 2 and f"detections of classes that {IMDB} does not have: teapot" in done.stderr
    write_detections(tmp_path / "detections.npz", straight)
    done = call("reval", tmp_path, "--imdb", "nyud2_hha_2015_train", "--set", "ROOT_DIR", GOLDEN / "tree")
    assert done.status == 2 and "nyud2_hha_2015_train does not have: img_" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_nothing_to_evaluate(tmp_path):
    done = reval(tmp_path / "nowhere")
    assert done.status == 2 and "nowhere" in done.stderr
    done = reval(tmp_path)
    assert done.status == 2 and "detections.npz" in done.stderr
    (tmp_path / "detections.pkl").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    done = reval(tmp_path)
    assert done.status == 2 and "detections.pkl: holds os.system, expected" in done.stderr
    assert not (tmp_path / "owned").exists()
    assert call("reval", tmp_path, "--imdb", "nyud3").status == 2


def test_unreadable_detections_leave_an_older_evaluation(tmp_path, straight):
    write_detections(tmp_path / "detections.npz", straight)
    assert reval(tmp_path).status == 0
    before = (tmp_path / "eval.txt").read_bytes()
    content = (tmp_path / "detections.npz").read_bytes()
    (tmp_path / "detections.npz").write_bytes(content[: len(content) // 2])
    done = reval(tmp_path)
    assert done.status == 2 and "detections.npz: is no .npz file" in done.stderr
    assert (tmp_path / "eval.txt").read_bytes() == before
    shutil.copy(tmp_path / "eval.npz", tmp_path / "detections.npz")
    assert "no array 'boxes'" in reval(tmp_path).stderr
    write_detections(tmp_path / "detections.npz", straight)
    assert read_detections(tmp_path / "detections.npz").classes == straight.classes
