"""COCO-style json as a database: COCO's own layout, and one's own pictures."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import needs

from caffe_compat.datasets import find_imdb
from caffe_compat.datasets.mat import write_mat
from caffe_compat.errors import DataError, MissingFileError, UsageError
from tests.datasets.imdb_files import SIZE, save_picture

Document = dict[str, Any]
SQUARE = [[2, 3, 10, 3, 10, 13, 2, 13]]


def document() -> Document:
    """Two images of 30 x 20, three objects, and a crowd; the ids are out of order."""
    height, width = SIZE
    return {
        "images": [
            {"id": 9, "file_name": "b.jpg", "width": width, "height": height, "split": "test", "depth": "d/b_d.png"},
            {"id": 4, "file_name": "a.jpg", "width": width, "height": height, "split": "train", "depth": "d/a_d.png"},
        ],
        "categories": [{"id": 70, "name": "cup"}, {"id": 5, "name": "box"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 70, "bbox": [2, 3, 8, 10], "area": 80, "segmentation": SQUARE},
            {"id": 2, "image_id": 4, "category_id": 5, "bbox": [0, 0, 30.5, 20], "area": 600.5, "iscrowd": 1},
            {"id": 3, "image_id": 4, "category_id": 70, "bbox": [1.5, 2, 4.25, 0.5], "area": 1.0, "difficult": 1},
            {"id": 7, "image_id": 4, "category_id": 70, "bbox": [1, 2, 4, 3], "area": 0},
        ],
    }


def save(folder: Path, change: Callable[[Document], Any] = lambda found: None) -> Path:
    found = document()
    change(found)
    for name in ("a.jpg", "b.jpg", "hha/a_d.png", "hha/b_d.png", "thermal/a.jpg", "thermal/b.png"):
        save_picture(folder / name)
    path = folder / "set.json"
    path.write_text(json.dumps(found))
    return path


def test_own_pictures(tmp_path: Path) -> None:
    path = save(tmp_path / "my pictures")
    found = find_imdb(f"coco:{path}")
    assert found.name == "my_pictures_set_images" and found.metric == "coco" and found.proposals is None
    assert found.classes == ("box", "cup") and found.category_ids == (5, 70)  # by id
    assert [(record.name, record.id) for record in found.records] == [("b", 9), ("a", 4)]  # the file's order
    first, second = found.records
    assert first.size == SIZE and first.paths == {"images": str(path.parent / "b.jpg")} and first.classes == ("cup",)
    np.testing.assert_array_equal(first.boxes, np.array([[2, 3, 9, 12]], np.float32))
    # x2 = min(W - 1, x1 + max(0, w - 1)); an area of 0 is left out
    np.testing.assert_array_equal(second.boxes, np.array([[0, 0, 29, 19], [1.5, 2, 4.75, 2]], np.float32))
    assert second.crowd is not None and second.crowd.tolist() == [True, False]
    assert second.difficult is not None and second.difficult.tolist() == [False, True]
    assert second.areas is not None and second.areas.tolist() == [600.5, 1.0]


def test_modalities_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = find_imdb("coco:set.json,split=train,hha=hha,images,thermal=thermal,metric=nyud2")
    assert found.modalities == ("hha", "images", "thermal") and found.metric == "nyud2"
    assert found.name == f"{tmp_path.name}_set_hha+images+thermal_train"
    (record,) = found.records
    assert record.paths == {"hha": "hha/a_d.png", "images": "a.jpg", "thermal": "thermal/a.jpg"}
    assert find_imdb("coco:set.json,images=thermal,split=test").records[0].paths == {"images": "thermal/b.png"}
    named = document()
    for image in named["images"]:
        image["hha"] = f"hha/{Path(image['depth']).name}"
    Path("set.json").write_text(json.dumps(named))
    assert find_imdb("coco:set.json,hha,split=test").records[0].paths == {"hha": "hha/b_d.png"}  # beside the json


def test_some_classes_only(tmp_path: Path) -> None:
    """An image with an object of another class is left out: its objects would count against who does not know it."""
    path = save(tmp_path)
    found = find_imdb(f"coco:{path},classes=cup")
    assert found.name == f"{tmp_path.name}_set_images_cup" and found.classes == ("cup",) and found.category_ids == (70,)
    assert [record.name for record in found.records] == ["b"]
    both = find_imdb(f"coco:{path},classes=cup+box")
    assert both.classes == ("cup", "box") and both.category_ids == (70, 5) and len(both.records) == 2
    for classes, error, message in (
        ("cups", DataError, r"no class 'cups' \(did you mean 'cup'\?\); it has box, cup"),
        ("box", DataError, "no image has only objects of box"),
        ("cup+cup", UsageError, "a class is given twice"),
    ):
        with pytest.raises(error, match=message):
            find_imdb(f"coco:{path},classes={classes}")


def test_pictures_must_be_there_once(tmp_path: Path) -> None:
    path = save(tmp_path)
    with pytest.raises(DataError, match=r"set\.json: modality hha: 2 pictures are missing in .*thermal.*: b\.\*|b_d"):
        find_imdb(f"coco:{path},hha={tmp_path / 'd'}" if (tmp_path / "d").mkdir() is None else "")
    with pytest.raises(MissingFileError, match=r"nowhere \(folder of .*modality hha\)"):
        find_imdb(f"coco:{path},hha={tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match=r"image 9 \(b\.jpg\): no 'hha'; say where they are: hha=FOLDER"):
        find_imdb(f"coco:{path},hha")
    with pytest.raises(DataError, match="one file for several modalities"):
        find_imdb(f"coco:{path},images,hha={tmp_path}")
    save_picture(tmp_path / "thermal" / "a.png")
    with pytest.raises(DataError, match=r"modality thermal: .*thermal has a\.jpg and a\.png, expected one of them"):
        find_imdb(f"coco:{path},thermal={tmp_path / 'thermal'}")
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"modality images: 1 pictures are missing in .*: a\.jpg"):
        find_imdb(f"coco:{path}")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("split=tset", r"no image of split 'tset', it has splits test, train \(did you mean 'test'\?\)"),
        ("split", r"'split', expected split=NAME"),
        ("hha=", r"'hha=', expected split=NAME"),
        ("metric=coca", r"metric 'coca' \(did you mean 'coco'\?\)"),
        ("hha=x,hha=y", "hha is given twice"),
        ("a b=c", "'a b=c', expected"),
    ],
)
def test_wrong_options(tmp_path: Path, options: str, reason: str) -> None:
    with pytest.raises((UsageError, DataError), match=reason):
        find_imdb(f"coco:{save(tmp_path)},{options}")


def _set(field: str, at: int, **values: Any) -> Callable[[Document], Any]:
    return lambda found: found[field][at].update(values)


def _drop(field: str, at: int, key: str) -> Callable[[Document], Any]:
    return lambda found: found[field][at].pop(key)


A1 = r"set\.json: image 9 \(b\.jpg\), annotation 1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda found: found.pop("categories"),
            r"not COCO-style: no list 'categories' of objects; it has images, a",
        ),
        (lambda found: found.update(images={}), "not COCO-style: no list 'images'"),
        (lambda found: found.update(annotations=[3]), "not COCO-style: no list 'annotations'"),
        (lambda found: found.update(categories=[]), "no categories"),
        (lambda found: found.update(images=[], annotations=[]), "no images"),
        (_set("categories", 1, id=70), "category 2: another category has the id 70"),
        (_set("categories", 1, name="cup"), "or the name 'cup'"),
        (_drop("categories", 0, "name"), r"category 1 \(id 70\): its name is None, expected text"),
        (_set("images", 1, id=9), r"image 9 \(a\.jpg\): image b\.jpg has the id 9 too"),
        (_set("images", 1, file_name="b.png"), "two frames are called b|pictures are missing"),
        (_drop("images", 1, "width"), r"image 4 \(a\.jpg\): width is None, expected a whole number"),
        (_set("images", 1, height=0), r"image 4 \(a\.jpg\): height is 0"),
        (_drop("images", 1, "id"), "entry 2 of images: id is None"),
        (_set("images", 1, file_name="x/.."), "file_name is"),
        (_set("images", 1, file_name=None), "file_name is None"),
        (_set("annotations", 0, image_id=5), "annotation 1: no image has the id 5"),
        (_set("annotations", 0, id=2), "two annotations have the id 2"),
        (_set("annotations", 0, id=[2]), r"id is \[2\], expected a whole number"),
        (_set("annotations", 0, category_id=6), f"{A1}: no category has the id 6"),
        (_drop("annotations", 0, "category_id"), f"{A1}: category_id is None"),
        (_drop("annotations", 0, "bbox"), f"{A1} \\(cup\\): bbox is None, expected \\[x, y, width, height\\]"),
        (_set("annotations", 0, bbox=[2, 3, "8", 10]), f"{A1} .*: bbox has '8', expected a finite number"),
        (_set("annotations", 0, bbox=[2, 3, 1e999, 10]), r"set\.json: .*(no number of JSON|finite number)"),
        (_set("annotations", 0, bbox=[2, 3, float("nan"), 10]), r"set\.json: not JSON: NaN is no number"),
        (_set("annotations", 0, bbox=[2, 3, 0, 10]), f"{A1} .*: empty, reversed or outside the 30 x 20 pixels"),
        (_set("annotations", 0, bbox=[2, 3, -4, 10]), "empty, reversed or outside"),
        (_set("annotations", 0, bbox=[30, 3, 4, 10]), "empty, reversed or outside"),
        (_set("annotations", 0, bbox=[2, 3, 29, 10]), "a pixel or more beyond the 30 x 20 pixels"),
        (_set("annotations", 0, bbox=[-1, 3, 9, 10]), "a pixel or more beyond"),
        (_set("annotations", 0, iscrowd=2), f"{A1}: iscrowd is 2, expected 0 or 1"),
        (_set("annotations", 0, difficult="no"), f"{A1}: difficult is 'no', expected 0 or 1"),
        (_set("annotations", 0, area="80"), f"{A1}: area has '80', expected a finite number"),
        (_set("annotations", 0, segmentation=[[1, 2, 3, 4]]), f"{A1}: segmentation has a polygon that is no list"),
        (_set("annotations", 0, segmentation=[[1, 2, 3, 4, 5, "6"]]), "polygon that is no list"),
        (_set("annotations", 0, segmentation=[[1, 2, 3, 4, 5, 1e9]]), "a corner far out of its image"),
        (_set("annotations", 0, segmentation="x"), "segmentation is a str"),
        (_set("annotations", 0, segmentation={"size": [30, 20], "counts": [600]}), r"run lengths of size \[30, 20\]"),
        (_set("annotations", 0, segmentation={"size": [20, 30], "counts": [599]}), "run lengths of 599 pixels"),
        (_set("annotations", 0, segmentation={"size": [20, 30], "counts": 5}), "counts of segmentation are neither"),
        (_set("annotations", 0, label_values=[]), r"label_values are \[\]"),
    ],
)
def test_wrong_files(tmp_path: Path, change: Callable[[Document], Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        find_imdb(f"coco:{save(tmp_path, change)}")


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '{"images": []}', "[" * 100_000])
def test_not_coco(tmp_path: Path, text: str) -> None:
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(DataError, match=r"set\.json: not "):
        find_imdb(f"coco:{tmp_path / 'set.json'}")


def test_names_stay_below_a_folder(tmp_path: Path) -> None:
    path = save(tmp_path / "x", _set("images", 1, file_name="../pictures/a.b.jpg"))
    save_picture(tmp_path / "pictures" / "a.b.jpg")
    assert find_imdb(f"coco:{path}").records[1].name == "pictures/a.b"


def test_one_picture_is_not_taken_for_two_frames(tmp_path: Path) -> None:
    def change(found: Document) -> None:
        for image, folder in zip(found["images"], ("one", "two"), strict=True):
            image.update(file_name=f"{folder}/a.jpg")
            save_picture(tmp_path / folder / "a.jpg")

    path = save(tmp_path, change)
    assert [record.name for record in find_imdb(f"coco:{path}").records] == ["one/a", "two/a"]
    with pytest.raises(DataError, match=r"thermal/a\.jpg would be thermal of one/a and of two/a"):
        find_imdb(f"coco:{path},thermal={tmp_path / 'thermal'}")


def test_masks_of_polygons_and_run_lengths(tmp_path: Path) -> None:
    def change(found: Document) -> None:
        found["annotations"][0]["segmentation"] = [*SQUARE, [20.25, 0, 30, 0, 30, 10]]
        other = copy.deepcopy(found["annotations"][0])
        other.update(id=50, segmentation={"size": list(SIZE), "counts": [0, 20, 575, 5]})
        packed = dict(other, id=51, segmentation={"size": list(SIZE), "counts": "0d0oa0A"})
        found["annotations"] += [other, packed]

    record = find_imdb(f"coco:{save(tmp_path, change)}").records[0]
    assert record.masks is not None
    masks = record.masks()
    square = np.zeros(SIZE, bool)
    square[3:13, 2:10] = True
    np.testing.assert_array_equal(masks[0][:, :15], square[:, :15])
    assert masks[0][0, 21:].all() and not masks[0][10:, 20:].any()
    runs = np.zeros(SIZE, bool)
    runs[:, 0], runs[15:, 29] = True, True  # down the columns
    np.testing.assert_array_equal(masks[1], runs)
    np.testing.assert_array_equal(masks[2], runs)


def test_damaged_run_lengths_are_named_when_asked_for(tmp_path: Path) -> None:
    for counts in ("0d0oa", "0d0", "\u20ac", "o" * 30):
        change = _set("annotations", 0, segmentation={"size": list(SIZE), "counts": counts})
        masks = find_imdb(f"coco:{save(tmp_path, change)}").records[0].masks
        assert masks is not None
        with pytest.raises(DataError, match=r"set\.json: image 9 \(b\.jpg\): object 1: run lengths"):
            masks()


def test_masks_of_label_pictures(tmp_path: Path) -> None:
    def change(found: Document) -> None:
        del found["annotations"][0]["segmentation"]
        found["annotations"][0]["label_values"] = [20, 300]
        found["images"][0]["label"] = "label.png"

    labels = np.zeros(SIZE, np.uint16)
    labels[3:8, 2:10], labels[8:13, 2:10], labels[0] = 20, 300, 40
    cv2.imwrite(str(tmp_path / "label.png"), labels)
    path = save(tmp_path, change)
    masks = find_imdb(f"coco:{path}").records[0].masks
    assert masks is not None
    np.testing.assert_array_equal(masks(), [(labels == 20) | (labels == 300)])
    cv2.imwrite(str(tmp_path / "label.png"), labels[:, :20])
    with pytest.raises(DataError, match=r"label\.png: has 20 x 20 pixels, its frame 30 x 20"):
        masks()
    cv2.imwrite(str(tmp_path / "label.png"), np.zeros(SIZE, np.uint8))
    with pytest.raises(DataError, match=r"label\.png: no pixel has a label of object 1, \[20, 300\]"):
        masks()


def test_coco_itself(tmp_path: Path) -> None:
    """Its layout; boxes of its own files that are empty or stick out are left out or cut; tests have no boxes."""
    base, height, width = tmp_path / "data" / "coco", *SIZE
    found = document()
    for image in found["images"]:
        image["file_name"] = f"COCO_val2014_{image['id']:012}.jpg"
        save_picture(base / "images" / "val2014" / image["file_name"])
    found["annotations"][0]["bbox"] = [2, 3, 60, 10]
    found["annotations"][2]["bbox"] = [2, 3, 6, 0]
    (base / "annotations").mkdir()
    (base / "annotations" / "instances_minival2014.json").write_text(json.dumps(found))
    database = find_imdb("coco_2014_minival", tmp_path)
    assert database.name == "coco_2014_minival" and database.metric == "coco" and database.classes == ("box", "cup")
    np.testing.assert_array_equal(database.records[0].boxes, np.array([[2, 3, width - 1, 12]], np.float32))
    np.testing.assert_array_equal(database.records[1].boxes, np.array([[0, 0, width - 1, height - 1]], np.float32))
    assert database.proposals is not None
    name = database.records[0].name
    for record in database.records:
        file = base / "proposals/selective_search/mat" / record.name[:14] / record.name[:22] / f"{record.name}.mat"
        write_mat(file, {"boxes": np.array([[1.0, 2, 30, 20], [1, 2, 30, 20], [3, 4, 5, 6]])})
    assert name == "COCO_val2014_000000000009"
    np.testing.assert_array_equal(database.proposals(database.records[0]), [[0, 1, 29, 19], [2, 3, 4, 5]])
    del found["annotations"]
    for image in found["images"]:
        save_picture(base / "images" / "test2015" / image["file_name"])
    (base / "annotations" / "image_info_test-dev2015.json").write_text(json.dumps(found))
    test = find_imdb("coco_2015_test-dev", tmp_path)
    assert test.records[0].boxes is None and test.records[0].masks is None
    with pytest.raises(MissingFileError, match=r"image_info_test2015\.json"):
        find_imdb("coco_2015_test", tmp_path)
    with pytest.raises(UsageError, match="no image database 'coco_2014_test'"):
        find_imdb("coco_2014_test", tmp_path)


def test_polygons_are_those_of_cocos_own_code() -> None:
    masks = pytest.importorskip("faster_coco_eval.core.mask")
    from caffe_compat.datasets.masks import polygon_mask

    rng = np.random.default_rng(0)
    for number in range(300):
        size = (int(rng.integers(1, 80)), int(rng.integers(1, 80)))
        points = rng.uniform(-3, 85, 2 * int(rng.integers(3, 12))).round(number % 3)
        if number % 5 == 0:
            points[2:4] = points[:2]
        theirs = masks.decode(masks.frPyObjects([points.tolist()], *size))[:, :, 0]
        np.testing.assert_array_equal(polygon_mask(points, size), theirs)


def test_real_kinect_frames() -> None:
    path = needs("real/rgbd/kinect_mosd_pcl/instances.json")
    learn, test = (find_imdb(f"coco:{path},split={split}") for split in ("learn", "test"))
    assert (len(learn.records), len(test.records)) == (45, 65) and learn.classes == ("box", "round", "object")
    count = 0
    for record in (*learn.records, *test.records):
        assert record.boxes is not None and record.masks is not None and record.areas is not None
        masks = record.masks()
        assert masks.sum((1, 2)).tolist() == record.areas.tolist()
        for mask, box in zip(masks, record.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
        count += len(masks)
    assert count == 456
