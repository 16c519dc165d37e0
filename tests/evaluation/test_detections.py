"""Detections and their files."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.evaluation.detections import Detections, read_detections, write_detections, write_detections_mat


def some(seed=0, classes=("bed", "chair", "lamp"), images=("img_1", "a/img_2", "é3", "none")):
    rng = np.random.default_rng(seed)
    boxes = [[rng.random((rng.integers(4), 5), dtype=np.float32) for _ in images] for _ in classes]
    return Detections(tuple(classes), tuple(images), boxes)


def same(one, other):
    assert (one.classes, one.images) == (other.classes, other.images)
    for row, other_row in zip(one.boxes, other.boxes, strict=True):
        for found, other_found in zip(row, other_row, strict=True):
            assert found.dtype == other_found.dtype == np.float32
            np.testing.assert_array_equal(found, other_found)


@pytest.mark.parametrize(
    "detections",
    [some(), some(1, ("x",), ("one",)), some(2, images=()), some(3, classes=()), Detections((), (), [])],
    ids=["several", "one", "no images", "no classes", "nothing"],
)
def test_what_is_written_is_read(tmp_path, detections):
    write_detections(tmp_path / "d.npz", detections)
    same(read_detections(tmp_path / "d.npz"), detections)
    first = (tmp_path / "d.npz").read_bytes()
    write_detections(tmp_path / "d.npz", detections)
    assert (tmp_path / "d.npz").read_bytes() == first
    write_detections_mat(tmp_path / "d.mat", detections)
    same(read_detections(tmp_path / "d.mat"), detections)


def test_the_branchs_own_mat_file(tmp_path):
    """A cell array of classes (with the background) by images, and no names."""
    detections = some()
    cells = np.empty((4, 4), object)
    for i in range(4):
        cells[0, i] = []
        for c in range(3):
            cells[c + 1, i] = detections.boxes[c][i]
    savemat(tmp_path / "detections.pkl.mat", {"all_boxes": cells})
    same(read_detections(tmp_path / "detections.pkl.mat", detections.classes, detections.images), detections)
    with pytest.raises(DataError, match=r"pkl.mat: it does not name its classes and images, and none were given"):
        read_detections(tmp_path / "detections.pkl.mat")
    with pytest.raises(DataError, match="all_boxes is 4 x 4, expected 3 classes and background x 1 images"):
        read_detections(tmp_path / "detections.pkl.mat", detections.classes, ["img_1"])
    write_detections_mat(tmp_path / "d.mat", detections)
    ours = loadmat(tmp_path / "d.mat")["all_boxes"]
    assert ours.shape == (4, 4) and ours[0, 0].size == 0
    np.testing.assert_array_equal(ours[2, 1], detections.boxes[1][1])


def test_rows_may_stand_in_any_order(tmp_path):
    np.savez(
        tmp_path / "d.npz",
        boxes=np.arange(20.0).reshape(4, 5),
        class_index=[1, 0, 1, 1],
        image_index=[1, 0, 0, 1],
        classes=["a", "b"],
        images=["x", "y"],
    )
    found = read_detections(tmp_path / "d.npz")
    assert [[len(rows) for rows in row] for row in found.boxes] == [[1, 0], [1, 2]]
    np.testing.assert_array_equal(found.boxes[1][1][:, 0], [0, 15])
    assert len(found) == 4 and [len(rows) for rows in found.of_image(1)] == [0, 2]


def arrays(**changed):
    held = {
        "boxes": np.zeros((2, 5), np.float32),
        "class_index": np.zeros(2, np.int32),
        "image_index": np.array([0, 1], np.int32),
        "classes": np.array(["a"]),
        "images": np.array(["x", "y"]),
    }
    return {name: value for name, value in {**held, **changed}.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boxes": None}, "no array 'boxes', it has class_index, classes, image_index, images; expected detections"),
        ({"boxes": np.zeros((2, 4))}, r"boxes are float64 of shape \(2, 4\), expected M x 5"),
        ({"class_index": np.zeros(3, int)}, r"class_index is int64 of shape \(3,\), expected 2 whole numbers"),
        ({"image_index": np.array([0, 2])}, "image_index goes from 0 to 2, but there are 2 images"),
        ({"image_index": np.array([-1, 1])}, "image_index goes from -1 to 1, but there are 2 images"),
        ({"classes": np.array([1])}, r"classes are int64 of shape \(1,\), expected a list of names"),
        ({"images": np.array(["x", "x"])}, "image x is there more than once"),
        ({"boxes": np.array([[0, 0, 1, 1, 1], [0, 0, 1, 1, np.nan]])}, "image y: detections of class a: number 1 is"),
        ({"boxes": np.array([[0, 0, 1, np.inf, 1], [0, 0, 1, 1, 1]])}, "image x: detections of class a: number 1 is"),
        ({"images": np.array(["x", None], object)}, "is no .npz file of plain arrays"),
    ],
)
def test_files_that_hold_something_else(tmp_path, changed, message):
    np.savez(tmp_path / "d.npz", **arrays(**changed))
    with pytest.raises(DataError, match=f"d.npz: .*{message}"):
        read_detections(tmp_path / "d.npz")


def test_no_files(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere.npz \(detections\)"):
        read_detections(tmp_path / "nowhere.npz")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(DataError, match="x.npz: is no .npz file"):
        read_detections(tmp_path / "x.npz")
    savemat(tmp_path / "x.mat", {"other": 1.0})
    with pytest.raises(DataError, match="x.mat: no cell array 'all_boxes'"):
        read_detections(tmp_path / "x.mat")


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[np.zeros((0, 5), "f4")]], r"arrays for 1 classes x \[1\] images, expected 1 x 2"),
        (
            [[np.zeros((0, 5), "f4"), np.zeros((0, 4), "f4")]],
            r"image y: detections of class a: float32 of shape \(0, 4\)",
        ),
        ([[np.zeros((0, 5), "f4"), np.zeros((0, 5))]], "image y: detections of class a: float64"),
        ([[[], np.zeros((0, 5), "f4")]], "image x: detections of class a: list of shape"),
    ],
)
def test_detections_of_other_shapes(boxes, message):
    with pytest.raises(DataError, match=message):
        Detections(("a",), ("x", "y"), boxes)
