import numpy as np
import pytest
from nyud2_files import NAMES, label_frame, lengths, truncated, write_v73
from scipy.io import loadmat, savemat

from caffe_compat.datasets.boxes import (
    GroundTruth,
    boxes_from_labels,
    boxes_from_segmentation,
    number_instances,
    read_ground_truth,
    write_ground_truth,
)
from caffe_compat.datasets.nyud2 import CLASSES, CROP
from caffe_compat.errors import DataError, MissingFileError

FORMS = pytest.mark.parametrize("form", ["v5", "v7.3"])


def thing(name, box, instance=1.0, truncated=False):
    return {
        "class": name,
        "bbox": np.array([box], float),
        "difficult": np.array([[False]]),
        "truncated": np.array([[truncated]]),
        "instanceId": np.array([[float(instance)]]),
    }


BED, ART, LAMP = (
    thing("bed", (1, 2, 560, 425), 3),
    thing("painting", (1, 1, 2, 2)),
    thing("lamp", (9, 8, 9, 20), 7, True),
)


def write_rec(path, form, things, size=(425, 560)):
    rec = {"imgsize": np.array([size], float), "objects": things}
    if form == "v7.3":
        return write_v73(path, {"rec": rec})
    records = np.empty((1, len(things)), [(field, object) for field in BED])
    for index, item in enumerate(things):
        records[0, index] = tuple(item.values())
    savemat(path, {"rec": {**rec, "objects": records}})
    return path


def objects(count=2, size=(425, 560)):
    return GroundTruth(
        boxes=np.array([[0, 1, 559, 424], [8, 7, 8, 19]], np.float32)[:count],
        names=["bed", "lamp"][:count],
        instance_ids=np.array([3, 7])[:count],
        difficult=np.array([False, False])[:count],
        truncated=np.array([False, True])[:count],
        size=size,
    )


@FORMS
def test_ground_truth_counts_from_0_and_keeps_classes(tmp_path, form):
    found = read_ground_truth(write_rec(tmp_path / "x.mat", form, [BED, ART, LAMP]), CLASSES)
    assert found.boxes.tolist() == [[0, 1, 559, 424], [8, 7, 8, 19]]
    assert found.boxes.dtype == np.float32
    assert found.names == ["bed", "lamp"]
    assert found.instance_ids.tolist() == [3, 7]
    assert found.truncated.tolist() == [False, True]
    assert found.difficult.tolist() == [False, False]
    assert found.size == (425, 560)


@FORMS
def test_all_classes(tmp_path, form):
    path = write_rec(tmp_path / "x.mat", form, [BED, ART])
    assert read_ground_truth(path).names == ["bed", "painting"]
    assert read_ground_truth(path, ["painting"]).boxes.tolist() == [[0, 0, 1, 1]]


@FORMS
@pytest.mark.parametrize("things", [[], [ART]])
def test_no_objects(tmp_path, form, things):
    found = read_ground_truth(write_rec(tmp_path / "x.mat", form, things), CLASSES)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.instance_ids.shape == (0,)


@FORMS
def test_one_object(tmp_path, form):
    assert read_ground_truth(write_rec(tmp_path / "x.mat", form, [LAMP])).names == ["lamp"]


@FORMS
@pytest.mark.parametrize(
    "box", [(0, 1, 5, 5), (1, 0, 5, 5), (1, 1, 561, 5), (1, 1, 5, 426), (6, 1, 5, 5), (1, 6, 5, 5)]
)
def test_bad_box_names_file_and_object(tmp_path, form, box):
    path = write_rec(tmp_path / "x.mat", form, [BED, thing("chair", box)])
    with pytest.raises(DataError, match=r"x\.mat: object 2 \(chair\): its box .* 560 columns and 425 rows"):
        read_ground_truth(path)


@pytest.mark.parametrize(
    ("rec", "reason"),
    [
        ({"imgsize": np.array([[4.0, 5.0]])}, "rec: no field 'objects', it is imgsize"),
        ({"objects": {}}, "no field 'imgsize'"),
        ({"imgsize": np.array([[4.0]]), "objects": ""}, r"imgsize is \[4.0\]"),
        ({"imgsize": np.array([[4.0, 5.0]]), "objects": "text"}, "objects is a str"),
        ({"imgsize": np.array([[4.0, 5.0]]), "objects": {"class": "bed"}}, "object 1: no field 'bbox'"),
        ({"imgsize": np.array([[4.0, 5.0]]), "objects": {"class": 1.0}}, "object 1: its class is"),
        ({"imgsize": np.array([[4.0, 5.0]]), "objects": {"class": "bed", "bbox": [1.0, 2.0]}}, r"\(bed\): its box is"),
    ],
)
def test_other_content(tmp_path, rec, reason):
    savemat(tmp_path / "x.mat", {"rec": rec})
    with pytest.raises(DataError, match=rf"x\.mat: .*{reason}"):
        read_ground_truth(tmp_path / "x.mat")


def test_absent_and_other_files(tmp_path):
    with pytest.raises(MissingFileError):
        read_ground_truth(tmp_path / "none.mat")
    savemat(tmp_path / "x.mat", {"record": 1})
    with pytest.raises(DataError, match=r"no variable 'rec' \(did you mean 'record'"):
        read_ground_truth(tmp_path / "x.mat")


@FORMS
def test_truncated_ground_truth(tmp_path, form):
    path = write_rec(tmp_path / "x.mat", form, [BED, LAMP])
    for length in lengths(path, 40):
        with pytest.raises(DataError, match=f"x_{length}.mat: "):
            read_ground_truth(truncated(path, length))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_written_and_read(tmp_path, count):
    path, wanted = tmp_path / "x.mat", objects(count)
    write_ground_truth(path, wanted)
    found = read_ground_truth(path)
    assert found.names == wanted.names
    assert found.size == wanted.size
    for name in ("boxes", "instance_ids", "difficult", "truncated"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_way_the_fork_reads(tmp_path, count):
    write_ground_truth(tmp_path / "x.mat", objects(count))
    things = loadmat(tmp_path / "x.mat")["rec"]["objects"][0][0][0]
    assert [str(item["class"][0]) for item in things] == ["bed", "lamp"][:count]
    boxes = np.zeros((count, 4), np.uint16)
    for index, item in enumerate(things):
        boxes[index, :] = item["bbox"][0] - 1
    assert boxes.tolist() == [[0, 1, 559, 424], [8, 7, 8, 19]][:count]


@pytest.mark.parametrize("size", [(424, 560), (425, 559)])
def test_box_outside_is_not_written(tmp_path, size):
    with pytest.raises(DataError, match=r"x\.mat: object 1 \(bed\)"):
        write_ground_truth(tmp_path / "x.mat", objects(size=size))
    assert not (tmp_path / "x.mat").exists()


def test_boxes_from_labels():
    labels, instances = label_frame()
    found = boxes_from_labels(labels[CROP], instances[CROP], NAMES, CLASSES)
    assert found.names == ["bed", "bed", "night-stand"]
    assert found.boxes.tolist() == [[10, 15, 109, 54], [260, 155, 260, 254], [0, 0, 559, 4]]
    assert found.instance_ids.tolist() == [1, 2, 4]  # 3 is the painting
    assert found.size == (425, 560)
    everything = boxes_from_labels(labels, instances, NAMES)
    assert everything.names == ["bed", "bed", "zebra-painting", "night-stand"]
    assert everything.boxes[2].tolist() == [400, 400, 420, 410]  # not the pixels whose instance is 0


def test_numbers_are_those_of_the_boxes():
    labels, instances = label_frame()
    numbers, found = number_instances(labels, instances), boxes_from_labels(labels, instances, NAMES)
    for number, box in zip(found.instance_ids, found.boxes, strict=True):
        rows, columns = np.nonzero(numbers == number)
        assert [columns.min(), rows.min(), columns.max(), rows.max()] == box.tolist()


def test_nothing_labelled():
    empty = np.zeros((4, 5), np.uint16)
    assert boxes_from_labels(empty, empty, NAMES).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        ([1, 1, 3, 0], "bed"),  # half of the pixels
        ([1, 3, 0, 0], None),  # a quarter each
        ([1, 0, 0, 3], None),
        ([3, 3, 1, 1], "bed"),  # half each: the lower
        ([3, 3, 3, 1], "night-stand"),
        ([0, 0, 0, 0], None),
        ([0, 0, 3, 3], "night-stand"),  # pixels without a class have no vote, but count as pixels
        ([0, 0, 0, 3], None),
    ],
)
def test_an_instance_needs_half_of_its_pixels(classes, name):
    segmentation = np.array([[0, 2, 2, 2, 2, 0]])
    found = boxes_from_segmentation(segmentation, np.array([[1, *classes, 1]]), NAMES, CLASSES)
    assert found.names == ([] if name is None else [name])
    assert found.boxes.tolist() == ([] if name is None else [[1, 0, 4, 0]])


@pytest.mark.parametrize(
    ("labels", "instances", "reason"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"shape \(2, 3\), instances \(3, 2\)"),
        (np.zeros((2, 3)), np.zeros((2, 3), int), "labels are float64"),
        (np.zeros((2, 3), int), np.zeros(3, int), "instances are int"),
        (np.full((2, 3), 4), np.ones((2, 3), int), "label 4: there are names for 3"),
        (np.full((2, 3), -1), np.ones((2, 3), int), "labels are"),
    ],
)
def test_wrong_maps(labels, instances, reason):
    with pytest.raises(DataError, match=reason):
        boxes_from_labels(labels, instances, NAMES)


@FORMS
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e300])
def test_infinities_are_refused(tmp_path, form, bad):
    for things, size, message in (
        ([thing("bed", (1, 2, bad, 4))], (425, 560), "its box"),
        ([thing("bed", (bad, 2, 3, 4))], (425, 560), "its box"),
        ([thing("bed", (1, 2, 3, 4), bad)], (425, 560), "instanceId of an object of class bed: expected one whole"),
        ([BED], (425, bad), r"rec\.imgsize is"),
    ):
        with pytest.raises(DataError, match=rf"x\.mat: .*{message}"):
            read_ground_truth(write_rec(tmp_path / "x.mat", form, things, size))
