"""Which entry of a file of proposals is whose, told by the paths of pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from nyud2_files import cell
from scipy.io import savemat

from caffe_compat.datasets.picture_proposals import pairs_database, picture_name, picture_proposals
from caffe_compat.datasets.proposal_file import ProposalFile, write_proposal_file
from caffe_compat.errors import DataError, MissingFileError
from caffe_compat.media import write_pairs

BOX = np.array([[1, 2, 20, 10]], "f4")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 24 x 32: ``one/color/7.png``, ``two/color/7.png``, and the same below ``hha``."""
    monkeypatch.chdir(tmp_path)
    for folder in ("one/color", "two/color", "one/hha", "two/hha"):
        Path(folder).mkdir(parents=True)
        cv2.imwrite(f"{folder}/7.png", np.zeros((24, 32, 3), np.uint8))


def save(names: list[str], boxes: list[np.ndarray] | None = None) -> str:
    write_proposal_file("boxes.npz", ProposalFile(names, boxes or [BOX + n for n in range(len(names))]))
    return "boxes.npz"


def first(path: str, *frames: tuple[str, ...]) -> list[float]:
    """x1 of the first box of each frame, minus 1: the number of its entry."""
    return [float(boxes[0, 0]) - 1 for boxes in picture_proposals(path, frames)]


@pytest.mark.parametrize("name", ["7", "7.png", "color/7", "one/color/7.png", "./one/x/../color/7"])
def test_names_are_ends_of_paths(name: str) -> None:
    found = first(save(["9", str(Path(name)) if ".." not in name else picture_name(name)]), ("one/color/7.png",))
    assert found == [1]


def test_the_longest_end_and_the_first_picture_decide(tmp_path: Path) -> None:
    path = save(["7", "one/color/7", "two/color/7.png", "hha/7"])
    assert first(path, ("one/color/7.png",), ("two/color/7.png",), ("one/hha/7.png",)) == [1, 2, 3]
    assert first(path, ("one/color/7.png", "one/hha/7.png"), ("two/hha/7.png",)) == [1, 3]
    assert first(save(["hha/7"]), ("one/color/7.png", "one/hha/7.png")) == [0]
    assert first(save([f"{tmp_path}/one/color/7"]), ("one/color/7.png",)) == [0]


def test_one_picture_twice_is_no_matter_but_two_with_one_entry_are() -> None:
    assert first(save(["7"]), ("one/color/7.png",), ("one/color/../color/7.png",)) == [0, 0]
    with pytest.raises(
        DataError, match=r"'7' would be the proposals of both \S*one/color/7.png and \S*two/color/7.png"
    ):
        first(save(["7"]), ("one/color/7.png",), ("two/color/7.png",))


def test_pictures_without_proposals_are_named_up_to_ten() -> None:
    frames = [(f"{number}.png",) for number in range(12)]
    with pytest.raises(
        DataError, match=r"boxes.npz: there are no proposals in it for 12 pictures: 0.png, .*9.png and 2 mo"
    ):
        picture_proposals(save(["a"]), frames)
    with pytest.raises(DataError, match=r"there is no box in it for 1 picture: one/color/7.png"):
        picture_proposals(save(["7"], [np.array([[3, 3, 3, 9]], "f4")]), [("one/color/7.png",)])
    with pytest.raises(DataError, match=r"boxes of 7 are not within its 32 x 24 pixels"):
        picture_proposals(save(["7"], [BOX + 20]), [("one/color/7.png",)])
    with pytest.raises(MissingFileError, match="none.npz"):
        picture_proposals("none.npz", frames)


def test_files_of_others() -> None:
    savemat(
        "mcg.mat", {"bboxes": cell([BOX[:, [1, 0, 3, 2]] + 1, BOX[:, [1, 0, 3, 2]] + 2]), "imnames": cell(["3", "7"])}
    )
    assert first("mcg.mat", ("one/color/7.png",)) == [1]
    Path("folder").mkdir()
    savemat("folder/7.mat", {"boxes": BOX + 1})
    assert first("folder", ("one/color/7.png",)) == [0]
    with pytest.raises(DataError, match="folder: there are no proposals in it for 1 picture: one/color/8.png"):
        picture_proposals("folder", [("one/color/8.png",)])
    savemat("unnamed.mat", {"boxes": cell([BOX])})
    with pytest.raises(DataError, match="unnamed.mat: does not name its images"):
        picture_proposals("unnamed.mat", [("one/color/7.png",)])


def test_only_the_first_are_read_and_those_with_extent() -> None:
    boxes = np.array([[0, 0, 9, 9], [2, 2, 2, 8], [1, 1, 5, 5], [2, 2, 8, 8]], "f4")
    (found,) = picture_proposals(save(["7"], [boxes]), [("one/color/7.png",)], top_k=3)
    assert found.tolist() == [[0, 0, 9, 9], [1, 1, 5, 5]]


def test_pairs_are_a_database_of_their_first_pictures() -> None:
    write_pairs("lists.txt", [("one/color/7.png", "one/hha/7.png"), ("two/color/7.png", "two/hha/7.png")])
    imdb = pairs_database(["lists.txt", "lists.txt"])
    assert [record.name for record in imdb.records] == ["one/color/7", "two/color/7"]
    assert [record.paths for record in imdb.records] == [{"images": "one/color/7.png"}, {"images": "two/color/7.png"}]
