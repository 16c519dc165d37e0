"""Detections of a whole database, their reports, pictures and files for servers."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.evaluation.competition import write_competition
from caffe_compat.evaluation.database import evaluate_database, in_order_of
from caffe_compat.evaluation.detections import Detections
from caffe_compat.evaluation.examples import choose_examples
from caffe_compat.evaluation.pictures import draw_sheet, write_sheets
from caffe_compat.evaluation.reports import write_reports
from caffe_compat.evaluation.tables import branch_text, table

CLASSES = ("bed", "night-stand", "lamp")
NONE = np.zeros((0, 5), np.float32)


def rows(*values):
    return np.array(values, np.float32).reshape(-1, 5)


@pytest.fixture
def imdb(tmp_path):
    """Two pictures: in the first two beds and a night-stand, in the second a bed."""
    records = []
    for name, boxes, classes in (
        ("img_1", [[0, 0, 9, 9], [20, 0, 29, 9], [0, 20, 19, 39]], ("bed", "bed", "night-stand")),
        ("img_2", [[5, 5, 44, 34]], ("bed",)),
    ):
        path = str(tmp_path / f"{name}.png")
        cv2.imwrite(path, np.full((40, 50, 3), 128, np.uint8))
        records.append(FrameRecord(name, {"images": path}, size=(40, 50), boxes=np.array(boxes, "f4"), classes=classes))
    return ImageDatabase("toy_images_test", CLASSES, ("images",), records)


@pytest.fixture
def detections():
    beds = [rows([0, 0, 9, 9, 0.9], [1, 0, 9, 9, 0.8]), rows([0, 30, 4, 39, 0.95])]
    stands = [rows([0, 20, 19, 39, 0.5]), NONE]
    return Detections(CLASSES, ("img_1", "img_2"), [beds, stands, [NONE, rows([0, 0, 5, 5, 0.1])]])


def test_images_and_classes_may_stand_in_another_order(imdb, detections):
    turned = Detections(CLASSES[::-1], ("img_2", "img_1"), [[row[1], row[0]] for row in detections.boxes[::-1]])
    one, other = evaluate_database(imdb, detections), evaluate_database(imdb, turned)
    np.testing.assert_array_equal(one.ap, other.ap, equal_nan=True)
    np.testing.assert_allclose(one.ap, [1 / 6, 1, np.nan], equal_nan=True)
    assert in_order_of(imdb, detections) is detections


@pytest.mark.parametrize(
    ("classes", "images", "message"),
    [
        (CLASSES, ("img_1", "img_3"), "detections of images that toy_images_test does not have: img_3.*mean 'img_"),
        (("bed", "night-stand", "lamps"), ("img_1", "img_2"), "detections of classes that .* have: lamps.*mean 'lamp'"),
        (CLASSES, ("img_1",), "no detections of these images of toy_images_test: img_2"),
        (CLASSES[:2], ("img_1", "img_2"), "no detections of these classes of toy_images_test: lamp"),
    ],
)
def test_detections_of_something_else(imdb, classes, images, message):
    with pytest.raises(DataError, match=message):
        evaluate_database(imdb, Detections(classes, images, [[NONE] * len(images) for _ in classes]))


def test_the_table_names_classes_without_objects(imdb, detections):
    text = table(evaluate_database(imdb, detections))
    assert text.splitlines() == [
        "class         objects  detections      AP",
        "bed                 3           3   16.67",
        "night-stand         1           1  100.00",
        "lamp                0           1       -",
        "mean                4           5   58.33",
        "nyud2 rule, overlap from 0.5, 2 images",
        "without an object, so not in the mean: lamp",
    ]
    assert "makes the mean NaN: lamp" in table(evaluate_database(imdb, detections, parity=True))
    imdb = ImageDatabase("toy", CLASSES, ("images",), imdb.records, metric="coco")
    text = table(evaluate_database(imdb, detections))
    assert "coco rule, overlaps from 0.5 to 0.95, 2 images\nAP 5" in text and "APlarge" not in text


def test_the_branchs_table():
    text = branch_text(("bed", "night-stand"), np.array([0.0227, np.nan]), 1.0)
    assert text == "bed                 :  2.270000\nnight-stand         :       nan\nmean                :100.000000\n"


@pytest.mark.parametrize("metric", ["nyud2", "voc07", "coco"])
def test_reports(tmp_path, imdb, detections, metric):
    imdb = ImageDatabase("toy", CLASSES, ("images",), imdb.records, metric=metric)
    found = evaluate_database(imdb, detections)
    folder = tmp_path / "out"
    folder.mkdir()
    files = write_reports(folder, found, "_s")
    assert sorted(files) == sorted(folder.iterdir())
    names = ["eval_s.txt", "eval_s.mat", "eval_s.json", "eval_s.npz", "eval_s_curves.csv", "eval_s_curves.png"]
    assert [file.name for file in files] == names
    first = [file.read_bytes()[128 if file.suffix == ".mat" else 0 :] for file in files]
    write_reports(folder, found, "_s")
    assert first == [file.read_bytes()[128 if file.suffix == ".mat" else 0 :] for file in files]

    assert files[0].read_text() == branch_text(CLASSES, found.ap, found.mean)
    held = loadmat(files[1])
    assert [str(name[0]) for name in held["classes"][0]] == ["__background__", *CLASSES]
    assert held["ap"][0, 0].size == held["prec"][0, 0].size == held["rec"][0, 0].size == 0
    np.testing.assert_array_equal([float(x.item()) for x in held["ap"][0, 1:]], found.ap, equal_nan=True)
    np.testing.assert_array_equal(held["prec"][0, 1].ravel(), found.precision[0])
    figures = json.loads(files[2].read_text())
    assert figures["classes"]["lamp"] == {"ap": None, "ground_truth": 0, "detections": 1}
    assert figures["mean"] == found.mean and figures["without_ground_truth"] == ["lamp"]
    arrays = np.load(files[3], allow_pickle=False)
    np.testing.assert_array_equal(arrays["recall"][arrays["class_index"] == 1], found.recall[1])
    lines = files[4].read_text().splitlines()
    assert lines[0] == "class,score,recall,precision"
    if metric != "coco":
        assert lines[1:4] == ["bed,0.9,0.333333,0.5", "bed,0.8,0.333333,0.333333", "night-stand,0.5,1,1"]
    assert cv2.imread(str(files[5])) is not None


def test_examples(imdb, detections):
    beds, stands, lamps = choose_examples(imdb, detections)
    assert [(one.kind, one.image, round(one.score, 2)) for one in beds] == [
        ("right", 0, 0.9),
        ("wrong", 1, 0.95),
        ("again", 0, 0.8),
        ("missed", 1, 0),
        ("missed", 0, 0),
    ]
    assert beds[0].truth.tolist() == [0, 0, 9, 9] and beds[1].truth is None
    assert beds[2].overlap == pytest.approx(0.9) and beds[2].box.tolist() == [1, 0, 9, 9]
    assert beds[3].box.tolist() == [5, 5, 44, 34]
    assert [one.kind for one in stands] == ["right"] and [one.kind for one in lamps] == ["wrong"]
    assert [len(chosen) for chosen in choose_examples(imdb, detections, count=1)] == [3, 1, 1]


def test_wrong_ones_say_what_is_there(imdb):
    lamp = rows([0, 20, 18, 39, 0.7], [30, 0, 40, 5, 0.6])  # the night-stand, and nothing
    detections = Detections(CLASSES, ("img_1", "img_2"), [[NONE, NONE], [NONE, NONE], [lamp, NONE]])
    chosen = choose_examples(imdb, detections)[2]
    assert [(one.kind, one.other) for one in chosen] == [("wrong", "night-stand"), ("wrong", "")]
    assert not np.array_equal(draw_sheet(imdb, chosen[:1], ""), draw_sheet(imdb, [replace(chosen[0], other="")], ""))


def test_difficult_objects_are_no_examples(imdb, detections):
    record = imdb.records[1]
    hard = FrameRecord("img_2", record.paths, boxes=record.boxes, classes=record.classes, difficult=np.array([True]))
    imdb = ImageDatabase("toy", CLASSES, ("images",), [imdb.records[0], hard])
    kinds = [(one.kind, one.image) for one in choose_examples(imdb, detections)[0]]
    assert kinds == [("right", 0), ("wrong", 1), ("again", 0), ("missed", 0)]


def test_sheets(tmp_path, imdb, detections):
    found = evaluate_database(imdb, detections)
    examples = choose_examples(imdb, detections)
    files = write_sheets(tmp_path, imdb, examples, found.ap)
    assert [file.name for file in files] == ["01_bed.png", "02_night-stand.png", "03_lamp.png"]
    sheet = cv2.imread(str(files[0]))
    for color in ((60, 180, 60), (40, 40, 230), (0, 150, 255), (230, 60, 230)):  # one frame of each kind at least
        assert (sheet == color).all(2).sum() > 50, color
    np.testing.assert_array_equal(sheet, draw_sheet(imdb, examples[0], "bed: average precision 16.7"))
    stands = cv2.imread(str(files[1]))
    assert (stands == (60, 180, 60)).all(2).any() and not (stands == (40, 40, 230)).all(2).any()
    assert len(write_sheets(tmp_path, imdb, [examples[0], [], []], found.ap)) == 1
    (tmp_path / "img_1.png").unlink()
    with pytest.raises(MissingFileError, match="img_1.png"):
        draw_sheet(imdb, examples[0], "bed")


def test_boxes_outside_the_picture_are_drawn_at_its_edge(imdb):
    far = rows([-30, -30, 200, 200, 0.9], [80, 10, 60, 20, 0.8])
    detections = Detections(CLASSES, ("img_1", "img_2"), [[far, NONE], [NONE, NONE], [NONE, NONE]])
    examples = choose_examples(imdb, detections, parity=True)[0]
    assert (draw_sheet(imdb, examples, "é") == (40, 40, 230)).all(2).sum() > 500


def test_files_for_servers(tmp_path, imdb, detections):
    files = write_competition(tmp_path, imdb, detections)
    assert [file.name for file in files] == [f"comp4_det_test_{name}.txt" for name in CLASSES]
    assert files[0].read_text() == (
        "img_1 0.900 1.0 1.0 10.0 10.0\nimg_1 0.800 2.0 1.0 10.0 10.0\nimg_2 0.950 1.0 31.0 5.0 40.0\n"
    )
    coco = ImageDatabase("coco_2014_val", CLASSES, ("images",), imdb.records, None, "coco", (1, 2, 90))
    (file,) = write_competition(tmp_path, coco, detections)
    assert file.name == "detections_coco_2014_val_results.json"
    results = json.loads(file.read_text())
    assert len(results) == 5
    assert results[-1] == {"image_id": "img_2", "category_id": 90, "bbox": [0, 0, 6, 6], "score": 0.1}
    record = FrameRecord("COCO_val2014_000000000042", boxes=np.zeros((0, 4), "f4"), classes=())
    coco = ImageDatabase("coco_2014_val", CLASSES, ("images",), [record], None, "coco", (1, 2, 90))
    found = Detections(CLASSES, (record.name,), [[rows([0, 0, 5, 5, 0.1])], [NONE], [NONE]])
    assert json.loads(write_competition(tmp_path, coco, found)[0].read_text())[0]["image_id"] == 42
    coco = ImageDatabase("mine", CLASSES, ("images",), [replace(record, id=7)], None, "coco")
    assert json.loads(write_competition(tmp_path, coco, found)[0].read_text())[0]["image_id"] == 7
