"""PASCAL VOC as a database."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caffe_compat.datasets import find_imdb
from caffe_compat.datasets.mat import write_mat
from caffe_compat.datasets.voc import read_voc_xml
from caffe_compat.errors import DataError, MissingFileError, UsageError
from tests.datasets.imdb_files import SIZE, save_picture
from tests.datasets.nyud2_files import cell

OBJECT = (
    "<object><name>{}</name>{}<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>{}</object>"
)
PART = "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>99</xmax><ymax>9</ymax></bndbox></part>"


def xml(*objects: str, size: str = "<width>30</width><height>20</height>") -> str:
    return f"<annotation><size>{size}<depth>3</depth></size>{''.join(objects)}</annotation>"


def make_voc(root: Path, year: int = 2007, names: tuple[str, ...] = ("000012", "000005")) -> Path:
    base = root / "data" / f"VOCdevkit{year}" / f"VOC{year}"
    for folder in ("ImageSets/Main", "Annotations"):
        (base / folder).mkdir(parents=True)
    for split in ("trainval", "test"):
        (base / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{name} \r\n" for name in names))
    for name in names:
        save_picture(base / "JPEGImages" / f"{name}.jpg")
    first = OBJECT.format(" Person", "<difficult>1</difficult>", 1, 2, "30.0", 20, PART)
    second = OBJECT.format("tvmonitor", "", 3, 4, 5, 6, "")
    (base / "Annotations" / "000012.xml").write_text(xml(first, second))
    (base / "Annotations" / "000005.xml").write_text(xml())
    return base


def test_voc(tmp_path: Path) -> None:
    base = make_voc(tmp_path)
    found = find_imdb("voc_2007_trainval", tmp_path)
    assert found.name == "voc_2007_trainval" and found.metric == "voc07" and len(found.classes) == 20
    first, second = found.records
    assert (first.name, second.name) == ("000012", "000005") and first.size == (20, 30)
    assert first.paths == {"images": str(base / "JPEGImages" / "000012.jpg")}
    assert first.classes == ("person", "tvmonitor") and second.classes == ()
    np.testing.assert_array_equal(first.boxes, np.array([[0, 1, 29, 19], [2, 3, 4, 5]], np.float32))  # the whole person
    assert first.difficult is not None and first.difficult.tolist() == [True, False]
    assert second.boxes is not None and second.boxes.shape == (0, 4)


def test_masks_of_voc(tmp_path: Path) -> None:
    """A palette picture of some images: objects in the annotation's order, 255 their borders."""
    base = make_voc(tmp_path)
    (base / "SegmentationObject").mkdir()
    labels = np.zeros(SIZE, np.uint8)
    labels[1:5], labels[5] = 1, 255
    picture = Image.fromarray(labels, "P")
    picture.putpalette([0, 0, 0, 128, 0, 0] + [9] * 756 + [224, 224, 192])
    picture.save(base / "SegmentationObject" / "000012.png")
    first, second = find_imdb("voc_2007_trainval", tmp_path).records
    assert first.masks is not None and second.masks is None
    np.testing.assert_array_equal(first.masks(), [labels == 1, np.zeros(SIZE, bool)])  # the second is hidden


def test_proposals_of_voc(tmp_path: Path) -> None:
    make_voc(tmp_path)
    boxes = np.array([[2.0, 1, 20, 30], [4, 3, 6, 5]])
    content = {"boxes": cell([boxes, boxes[1:]]), "images": cell(["000012", "000005"])}
    write_mat(tmp_path / "data/selective_search_data/voc_2007_trainval.mat", content)
    found = find_imdb("voc_2007_trainval", tmp_path)
    assert found.proposals is not None
    np.testing.assert_array_equal(found.proposals(found.records[0]), [[0, 1, 29, 19], [2, 3, 4, 5]])
    np.testing.assert_array_equal(found.proposals(found.records[1]), [[2, 3, 4, 5]])


def test_the_top_proposals_of_voc(tmp_path: Path) -> None:
    """Files of one image each; their columns are x1 y1 x2 y2."""
    make_voc(tmp_path)
    rows = np.stack([np.arange(2500) % 25 + 1.0, np.arange(2500) // 250 + 1, np.full(2500, 28), np.full(2500, 18)], 1)
    rows[:, 2] += np.arange(2500) // 25 % 3  # 750 different ones
    for name in ("000012", "000005"):
        write_mat(tmp_path / "data/selective_search_IJCV_data/voc_2007" / f"{name}.mat", {"boxes": rows})
    found = find_imdb("voc_2007_test_top_1000", tmp_path)
    assert found.name == "voc_2007_test_top_1000" and found.proposals is not None
    boxes = found.proposals(found.records[1])
    np.testing.assert_array_equal(boxes[0], rows[0] - 1)
    assert {tuple(box) for box in boxes} == {tuple(row) for row in rows[:1000] - 1}
    for wrong in ("voc_2007_test_top_1500", "voc_2007_test_top_11000", "voc_2008_test"):
        with pytest.raises(UsageError, match="no image database 'voc_200"):
            find_imdb(wrong, tmp_path)


def test_the_test_images_of_2012_have_no_boxes(tmp_path: Path) -> None:
    base = make_voc(tmp_path, 2012)
    assert find_imdb("voc_2012_test", tmp_path).metric == "voc"
    (base / "Annotations" / "000012.xml").unlink()
    records = find_imdb("voc_2012_test", tmp_path).records
    assert [record.boxes for record in records] == [None, None] and records[0].size == SIZE
    with pytest.raises(MissingFileError, match=r"000012\.xml"):
        find_imdb("voc_2012_trainval", tmp_path)


def test_missing_and_doubled_images(tmp_path: Path) -> None:
    base = make_voc(tmp_path)
    lists = base / "ImageSets" / "Main" / "trainval.txt"
    for text, reason in (
        ("000012\n000012\n", r"trainval\.txt: two frames are called 000012"),
        ("\n", r"trainval\.txt: names no images"),
        ("000012 1\n", r"'000012 1', expected the name of an image on each line"),
        ("../x\n", "expected the name of an image"),
        ("000012\n000013\n", r"voc_2007_trainval: 1 pictures are missing in .*JPEGImages: 000013\.jpg"),
    ):
        lists.write_text(text)
        with pytest.raises(DataError, match=reason):
            find_imdb("voc_2007_trainval", tmp_path)
    with pytest.raises(MissingFileError, match=r"Main/val\.txt"):
        find_imdb("voc_2007_val", tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not XML"),
        ("<annotation>", "not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "defines entities"),
        ("<annotation/>", "size/height is None, expected a number"),
        (xml(size="<width>0</width><height>20</height>"), "size/width is '0', expected a whole number 1 to"),
        (
            xml(OBJECT.format("preson", "", 1, 1, 2, 2, "")),
            r"object 1 \(preson\): no such class \(did you mean 'person'",
        ),
        (
            xml(OBJECT.format("cat", "", 1, 1, 32, 2, "")),
            r"object 1 \(cat\): its box .* \[1\.0, 1\.0, 32\.0, 2\.0\] is inside",
        ),
        (xml(OBJECT.format("cat", "", 5, 1, 4, 2, "")), "inside out"),
        (xml(OBJECT.format("cat", "", -1, 1, 4, 2, "")), "inside out or not within 30 columns and 20 rows"),
        (xml(OBJECT.format("cat", "", "nan", 1, 4, 2, "")), "bndbox/xmin is 'nan', expected a number"),
        (xml(OBJECT.format("cat", "", "1e400", 1, 4, 2, "")), "expected a number"),
        (xml(OBJECT.format("cat", "<difficult>2</difficult>", 1, 1, 4, 2, "")), "difficult is '2', expected .* 0 to 1"),
        (xml(OBJECT.format("cat", "<difficult></difficult>", 1, 1, 4, 2, "")), "difficult is '', expected a number"),
        (xml("<object><name>cat</name></object>"), "bndbox/xmin is None"),
    ],
)
def test_wrong_annotations(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"a\.xml: .*{reason}"):
        read_voc_xml(path, "a.jpg")


def test_a_box_that_reaches_one_pixel_out_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(xml(OBJECT.format("cat", "", 0, 0, 31, 21, "")))
    np.testing.assert_array_equal(read_voc_xml(path, "a.jpg").boxes, np.array([[0, 0, 29, 19]], np.float32))
