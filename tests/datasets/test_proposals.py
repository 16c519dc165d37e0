"""Proposals in others' files and in ours."""

import numpy as np
import pytest
from conftest import needs
from nyud2_files import cell, lengths, truncated, write_v73
from scipy.io import savemat

from caffe_compat.datasets.proposal_file import (
    ProposalFile,
    read_proposal_file,
    read_proposal_stamp,
    write_proposal_file,
)
from caffe_compat.datasets.proposals import read_any, read_proposals
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import CaffeCompatError, DataError, MissingFileError, UsageError

FORMS = pytest.mark.parametrize("form", ["v5", "v7.3"])

PROPOSALS = [np.array([[2.0, 11, 40, 30], [1, 1, 425, 560]]), np.zeros((0, 4)), np.array([[7.0, 8, 7, 8]], np.float32)]


CONTENT = ProposalFile(
    ["a", "b/c", "ü"],
    [np.array([[0.5, 1, 2, 3], [4, 5, 6, 7]], "f4"), np.array([[1, 1, 1, 1]], "f4"), np.zeros((0, 4), "f4")],
    [np.array([0.75, 0.5], "f4"), np.ones(1, "f4"), np.zeros(0, "f4")],
    {"count": 3},
)


def record(name, size=None):
    return FrameRecord(name, size=size)


def save(path, form, content):
    if form == "v7.3":
        return write_v73(path, content)
    savemat(path, content)
    return path


def write_proposals(path, form, boxes=PROPOSALS, names=("img_5001", "img_5003", "img_5002"), column=True):
    content = {"bboxes": cell(list(boxes), column), "imnames": cell(list(names), column)}
    return save(path, form, content)


@FORMS
@pytest.mark.parametrize("column", [True, False])
def test_proposals(tmp_path, form, column):
    found = read_proposals(write_proposals(tmp_path / "x.mat", form, column=column))
    assert list(found) == ["img_5001", "img_5003", "img_5002"]
    assert found["img_5001"].tolist() == [[10, 1, 29, 39], [0, 0, 559, 424]]
    assert found["img_5001"].dtype == np.float32
    assert found["img_5003"].shape == (0, 4)
    assert found["img_5002"].tolist() == [[7, 6, 7, 6]]


@FORMS
def test_proposals_in_the_order_asked_for(tmp_path, form):
    assert list(read_proposals(write_proposals(tmp_path / "x.mat", form), ["img_5002", "img_5001"])) == [
        "img_5002",
        "img_5001",
    ]


def test_names_missing_or_twice(tmp_path):
    path = write_proposals(tmp_path / "x.mat", "v5")
    with pytest.raises(DataError, match=r"x\.mat: img_5009, img_6000: not among its 3 imnames"):
        read_proposals(path, ["img_5001", "img_5009", "img_6000"])
    path = write_proposals(tmp_path / "x.mat", "v5", names=("img_5001", "img_5002", "img_5001"))
    with pytest.raises(DataError, match=r"x\.mat: img_5001: more than one"):
        read_proposals(path)
    path = write_proposals(tmp_path / "x.mat", "v5", names=("img_5001", "img_5002"))
    with pytest.raises(DataError, match=r"x\.mat: 3 bboxes for 2 imnames"):
        read_proposals(path)


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [
        (np.array([[1.0, 2, 3, 4], [1, 2, np.nan, 4]]), r"1 are not .* number 2 is \[1.0, 2.0, nan, 4.0\]"),
        (np.array([[5.0, 2, 3, 4]]), "number 1"),
        (np.array([[1.0, 5, 3, 4]]), "number 1"),
        (np.array([[0.0, 1, 3, 4]]), "number 1"),
        (np.array([[1.0, 2, 3, 4, 5]]), r"\(1, 5\), expected N x 4"),
        ("text", "str, expected N x 4"),
    ],
)
def test_wrong_proposals(tmp_path, boxes, reason):
    path = write_proposals(tmp_path / "x.mat", "v5", boxes=[*PROPOSALS[:2], boxes])
    with pytest.raises(DataError, match=rf"x\.mat: boxes of img_5002: .*{reason}"):
        read_proposals(path)
    assert len(read_proposals(path, ["img_5001"])) == 1


def test_proposals_that_are_no_cells(tmp_path):
    savemat(tmp_path / "x.mat", {"bboxes": np.ones((3, 4)), "imnames": cell(["a"])})
    with pytest.raises(DataError, match="bboxes is no cell array"):
        read_proposals(tmp_path / "x.mat")


@FORMS
def test_selective_search(tmp_path, form):
    """boxes [y1 x1 y2 x2] from 1 and images, as Fast R-CNN's selective_search_data has them."""
    content = {"boxes": cell(list(PROPOSALS), True), "images": cell(["000005", "000007", "000009"], False)}
    path = save(tmp_path / "voc_2007_trainval.mat", form, content)
    source = read_any(path, ["000009", "000005"])
    assert source(record("000005", (425, 560))).tolist() == [[10, 1, 29, 39], [0, 0, 559, 424]]
    assert source(record("000009", (425, 560))).tolist() == [[7, 6, 7, 6]]
    with pytest.raises(DataError, match=r"trainval\.mat: 000006: not among its 3 images \(did you mean '00000"):
        read_any(path, ["000006", "000005"])
    with pytest.raises(DataError, match="no proposals of 000007 were asked for"):
        source(record("000007"))


def test_selective_search_without_names_goes_by_order(tmp_path):
    path = save(tmp_path / "x.mat", "v5", {"boxes": cell(list(PROPOSALS), True)})
    assert read_any(path, ["a", "b", "c"])(record("c")).tolist() == [[7, 6, 7, 6]]
    with pytest.raises(DataError, match="boxes of 3 images without their names .* expected 2"):
        read_any(path, ["a", "b"])


@FORMS
def test_one_image_of_the_demo_counts_from_0(tmp_path, form):
    path = save(tmp_path / "000004_boxes.mat", form, {"boxes": np.array([[0, 0, 23, 15], [3, 4, 499, 405]], np.uint16)})
    found = read_any(path, ["000004"])(record("000004", (406, 500)))
    assert found.dtype == np.float32 and found.tolist() == [[0, 0, 23, 15], [3, 4, 499, 405]]
    with pytest.raises(DataError, match="holds the boxes of one image, expected those of 2"):
        read_any(path, ["000004", "000005"])


@FORMS
@pytest.mark.parametrize("place", ["COCO_val2014_0/COCO_val2014_000000000/{}.mat", "{}.mat"])
def test_folder_of_files(tmp_path, form, place):
    """Hosang's for COCO: from 1, a 0 counts as 1, first occurrences stay, at most 2,000 of the file."""
    name = "COCO_val2014_000000000042"
    path = tmp_path / place.format(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.array([[5, 6, 7, 8], [0, 1, 640, 480], [5, 6, 7, 8], [1, 1, 640, 480], [2, 2, 3, 3]], np.uint16)
    save(path, form, {"boxes": rows})
    picture = record(name, (480, 640))
    assert read_any(tmp_path, [name])(picture).tolist() == [[4, 5, 6, 7], [0, 0, 639, 479], [1, 1, 2, 2]]
    assert read_any(tmp_path, [name], top_k=3)(picture).tolist() == [[4, 5, 6, 7], [0, 0, 639, 479]]
    many = np.tile(np.arange(1, 2101)[:, None], 4)
    save(path, form, {"boxes": many.astype(float)})
    assert len(read_any(tmp_path, [name])(record(name))) == 2000
    with pytest.raises(MissingFileError, match="proposals of COCO_val2014_000000000043"):
        read_any(tmp_path, [name, "COCO_val2014_000000000043"])


def test_folder_of_mcg_has_matlab_columns(tmp_path):
    (tmp_path / "MCG").mkdir()
    save(tmp_path / "MCG" / "a.mat", "v5", {"boxes": np.array([[2.0, 11, 40, 30]])})
    assert read_any(tmp_path / "MCG", ["a"])(record("a")).tolist() == [[10, 1, 29, 39]]


def test_own_file(tmp_path):
    path = tmp_path / "p.npz"
    write_proposal_file(path, CONTENT)
    before = path.read_bytes()
    write_proposal_file(path, CONTENT)
    assert path.read_bytes() == before
    found = read_proposal_file(path)
    assert found.images == ("a", "b/c", "ü") and read_proposal_stamp(path) == found.settings == {"count": 3}
    for mine, theirs in zip(found.boxes + found.scores, CONTENT.boxes + CONTENT.scores, strict=True):
        assert mine.dtype == np.float32 and np.array_equal(mine, theirs)
    source = read_any(path, ["ü", "a"], top_k=1)
    assert source(record("a")).tolist() == [[0.5, 1, 2, 3]] and source(record("ü")).shape == (0, 4)
    with pytest.raises(DataError, match=r"p\.npz: d: not among its 3 images"):
        read_any(path, ["a", "d"])


def test_own_file_of_nothing(tmp_path):
    write_proposal_file(tmp_path / "p.npz", ProposalFile([], []))
    assert read_proposal_file(tmp_path / "p.npz").images == ()


def test_boxes_at_the_edge(tmp_path):
    """Less than a pixel outside is cut, more is refused."""
    rows = np.array([[-0.25, -0.5, 9.5, 19.75], [2, 3, 9, 19]], np.float32)
    write_proposal_file(tmp_path / "p.npz", ProposalFile(["a"], [rows]))
    source = read_any(tmp_path / "p.npz", ["a"])
    assert source(record("a", (20, 10))).tolist() == [[0, 0, 9, 19], [2, 3, 9, 19]]
    with pytest.raises(DataError, match=r"p\.npz: 2 of 2 boxes of a are not within its 9 x 20 pixels; number 1 is"):
        source(record("a", (20, 9)))
    write_proposal_file(tmp_path / "q.npz", ProposalFile(["a"], [rows[1:] - [[2, 3, 0, 0], [2, 3, 0, 1]]]))
    with pytest.raises(DataError, match=r"1 of 2 .* number 1 is x1 y1 x2 y2 = \[0\.0, 0\.0, 9\.0, 19\.0\]"):
        read_any(tmp_path / "q.npz", ["a"])(record("a", (19, 10)))
    with pytest.raises(DataError, match="boxes of a: 1 are not"):
        ProposalFile(["a"], [np.array([[-1.0, 0, 3, 3]])])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"counts": np.array([2, 1, 1])}, "counts add up to 4, but there are 3 boxes"),
        ({"counts": np.array([5, -2, 0])}, "counts add up to 3, but there are 3 boxes"),
        ({"counts": np.array([2, 1])}, "expected 3 whole numbers"),
        ({"counts": np.array([2.0, 1, 0])}, "float64"),
        ({"images": np.array(["a", "a", "b"])}, "more than once"),
        ({"images": np.array([1, 2, 3])}, "expected a list of names"),
        ({"boxes": np.zeros((3, 5), "f4")}, r"\(3, 5\), expected M x 4"),
        ({"boxes": np.array([[0, 0, 1, 1], [0, 0, 1, np.nan], [0, 0, 1, 1]], "f4")}, "boxes of a: 1 .* number 2"),
        ({"boxes": np.array([[0, 0, 1, 1], [0, 0, 1, 1], [5, 0, 1, 1]], "f4")}, "boxes of b/c: 1 .* number 1"),
        ({"scores": np.zeros(2, "f4")}, "expected 3 numbers"),
        ({"scores": np.full(3, np.inf, "f4")}, "scores of a"),
        ({"settings": np.array("[1]")}, "not settings"),
        ({"settings": np.array(3)}, "expected JSON text"),
        ({"boxes": None}, "no array 'boxes', it has counts, images"),
        ({"images": np.array(["a", None, "b"], object)}, "no .npz file of plain arrays"),
    ],
)
def test_wrong_own_files(tmp_path, change, reason):
    arrays = {
        "boxes": np.tile(np.array([0, 0, 1, 1], "f4"), (3, 1)),
        "counts": np.array([2, 1, 0]),
        "images": np.array(["a", "b/c", "d"]),
    }
    arrays = {name: value for name, value in {**arrays, **change}.items() if value is not None}
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(DataError, match=rf"p\.npz: .*{reason}"):
        read_any(tmp_path / "p.npz", ["a"])


def test_other_files_are_refused(tmp_path):
    with pytest.raises(MissingFileError):
        read_any(tmp_path / "none.mat", ["a"])
    savemat(tmp_path / "x.mat", {"bboxs": np.zeros((3, 4))})
    with pytest.raises(DataError, match=r"x\.mat: has the variables bboxs; expected proposals"):
        read_any(tmp_path / "x.mat", ["a"])
    (tmp_path / "x.txt").write_text("1 2 3 4\n")
    with pytest.raises(DataError, match=r"x\.txt: not a Matlab file"):
        read_any(tmp_path / "x.txt", ["a"])
    with pytest.raises(UsageError, match="-1 proposals"):
        read_any(tmp_path / "x.mat", ["a"], -1)


def test_damaged_files(tmp_path):
    """Whatever is cut off or turned over, the error is ours, or the boxes are sound."""
    write_proposal_file(tmp_path / "p.npz", CONTENT)
    save(tmp_path / "p.mat", "v5", {"boxes": cell(list(PROPOSALS), True), "images": cell(["a", "b/c", "ü"], True)})
    rng = np.random.default_rng(0)
    for path in (tmp_path / "p.npz", tmp_path / "p.mat"):
        whole = path.read_bytes()
        for turn in range(150):
            changed = bytearray(whole)
            if turn % 3 == 0:
                del changed[rng.integers(len(whole)) :]
            else:
                changed[rng.integers(len(whole))] ^= 1 << rng.integers(8)
            path.write_bytes(changed)
            try:
                found = read_any(path, ["a", "b/c"])(record("a"))
            except CaffeCompatError as error:
                assert path.name in str(error)  # noqa: PT017
            else:
                assert found.shape[1] == 4 and np.isfinite(found).all() and (found[:, 2:] >= found[:, :2]).all()


@FORMS
def test_truncated_files(tmp_path, form):
    content = {"boxes": cell(list(PROPOSALS), True), "images": cell(["a", "b", "c"], True)}
    path = save(tmp_path / "x.mat", form, content)
    for length in lengths(path, 40):
        with pytest.raises(DataError, match="x_"):
            read_any(truncated(path, length), ["a"])


@pytest.mark.parametrize(("name", "size", "count"), [("000004", (406, 500), 2888), ("001551", (375, 500), 2057)])
def test_boxes_of_fast_rcnns_demo(name, size, count):
    """Real ones: they touch the last pixel counted from 0."""
    path = needs("real", "photos", "voc_demo", f"{name}_boxes.mat")
    found = read_any(path, [name])(record(name, size))
    assert found.shape == (count, 4) and found.min() == 0
    assert len(read_any(path, [name], 2000)(record(name, size))) == 2000
