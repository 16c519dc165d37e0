"""Motion-salient proposals, against ActionTubes' function in loops."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_compat.datasets import find_imdb
from caffe_compat.datasets.mat import write_mat
from caffe_compat.datasets.proposal_file import ProposalFile, read_proposal_file, write_proposal_file
from caffe_compat.detection.motion import (
    FlowPictures,
    MotionSalient,
    StoredProposals,
    in_motion,
    read_length,
    salient,
)
from caffe_compat.detection.proposals import Computed, keep_proposals
from caffe_compat.errors import DataError, MissingFileError
from tests.datasets.action_files import FRAMES, SIZE, make_clips, make_jhmdb, save_flow

WHOLE = [0, 0, SIZE[1] - 1, SIZE[0] - 1]


def salient_by_the_script(length: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    """get_motion_salient_boxes.m pixel by pixel; boxes y1 x1 y2 x2 from 1; its map and x1 y1 x2 y2 from 1."""
    rows = sorted({tuple(int(value) for value in box) for box in boxes})
    height, width = length.shape
    flow = [[(float(value) - 128) / 128 for value in row] for row in length]
    largest = max(map(max, flow))
    saliency = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            total = 0.0
            for dy in range(-2, 3):
                for dx in range(-2, 3):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        total += flow[y + dy][x + dx] / 25
            saliency[y, x] = total * (flow[y][x] / largest)
    moving = saliency >= min(0.2, 0.7 * saliency.max())
    kept = []
    for y1, x1, y2, x2 in rows:
        inside = moving[y1 - 1 : y2, x1 - 1 : x2].sum()
        if inside / moving.sum() >= 0.3:
            kept.append([x1, y1, x2, y2])
    return moving, kept


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_scripts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length = np.full((21, 33), 128, np.uint8)
    for _ in range(3):
        y, x = rng.integers(0, 15), rng.integers(0, 25)
        length[y : y + 8, x : x + 9] = 128 + rng.integers(
            0, (127, 40)[seed % 2] + 1, length[y : y + 8, x : x + 9].shape
        )
    corner = rng.integers(1, 15, (60, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 7, (60, 2))], 1)
    boxes = np.concatenate([boxes, boxes[:5], [[1, 1, 21, 33]]])  # y1 x1 y2 x2 from 1, some twice
    moving, expected = salient_by_the_script(length, boxes)
    np.testing.assert_array_equal(in_motion(length), moving)
    ours = (boxes[:, [1, 0, 3, 2]] - 1).astype(np.float32)
    kept = ours[salient(ours, in_motion(length))]
    assert sorted((kept + 1).tolist()) == sorted(expected) and 1 <= len(kept) < len(boxes)
    order = [next(i for i, box in enumerate(ours.tolist()) if box == one) for one in kept.tolist()]
    assert order == sorted(order)  # best first, as they came


def test_counted_by_hand() -> None:
    """A square of 10 x 10 moves 4 pixels: 100 pixels, of which 3 columns are 30."""
    length = np.full((30, 40), 128, np.uint8)
    length[10:20, 20:30] = 192
    moving = in_motion(length)
    # 0.5 x (share of the window that moves) reaches 0.2 from 10 of 25 pixels on; a corner has 9
    assert moving.sum() == 96 and not moving[[10, 10, 19, 19], [20, 29, 20, 29]].any()
    boxes = np.array(
        [[20, 10, 22, 19], [20, 10, 21, 19], [0, 0, 39, 29], [0, 0, 19, 29], [20, 10, 22, 19], [20, 10, 29, 12]], "f4"
    )
    assert salient(boxes, moving).tolist() == [False, False, True, False, False, False]  # 28 of 96
    wide = np.array([[20, 10, 23, 19], [20, 10, 23.4, 19], [20, 10, 22.6, 19], [19, 9, 60, 60]], "f4")
    assert salient(wide, moving).tolist() == [True] * 4
    slow = np.where(length > 128, 129, 128).astype(np.uint8)  # a sixteenth of a pixel: 0.7 of the largest decides
    assert in_motion(slow).sum() == 2 * 6 * 8 - 6 * 6  # windows with 18 or more of 25: 5 x 5, 5 x 4


def test_nothing_moves() -> None:
    still = np.full((9, 9), 128, np.uint8)
    assert not in_motion(still).any()
    boxes = np.array([[0, 0, 3, 3], [0, 0, 8, 8], [0, 0, 3, 3]], "f4")
    assert salient(boxes, in_motion(still)).tolist() == [True, True, False]
    assert salient(np.zeros((0, 4), "f4"), ~in_motion(still)).shape == (0,)


def test_a_picture_of_flow(tmp_path: Path) -> None:
    path = str(save_flow(tmp_path / "f.png", (6, 8), (1, 2, 3, 4)))
    length = read_length(path, (6, 8))
    assert length[2:5, 1:4].tolist() == [[176] * 3] * 3 and length.sum() == 48 * 128 + 9 * 48
    with pytest.raises(DataError, match=r"f\.png: is 8 x 6 pixels, expected 9 x 6"):
        read_length(path, (6, 9))
    cv2.imwrite(path, np.full((6, 8, 3), 90, np.uint8))
    with pytest.raises(DataError, match=r"f\.png: is no picture of flow: .* goes down to 90, expected 128"):
        read_length(path)
    with pytest.raises(MissingFileError):
        read_length(str(tmp_path / "none.png"))


def make_set(folder: Path) -> None:
    """Two clips of two classes; the right half moves, but in one frame nothing does."""
    make_jhmdb(folder / "data" / "jhmdb", make_clips(each=1))
    for path in sorted((folder / "data/jhmdb/flow/run").rglob("*.png"))[:2]:
        save_flow(path, SIZE, (16, 0, 31, 23))


def test_proposals_of_a_file(tmp_path: Path) -> None:
    make_set(tmp_path)
    imdb = find_imdb("jhmdb_images_split1_train", tmp_path)
    left, right = [0, 0, 15, 23], [16, 0, 31, 23]
    boxes = [np.array([left, right, WHOLE, right], np.float32) for _ in imdb.records]
    scores = [np.array([4, 3, 2, 1], np.float32)] * len(boxes)
    write_proposal_file(tmp_path / "p.npz", ProposalFile([r.name for r in imdb.records], boxes, scores))
    flow = FlowPictures(imdb, str(tmp_path / "data/jhmdb/flow"))
    found = MotionSalient(StoredProposals(str(tmp_path / "p.npz"), imdb, 2000), flow)
    count = keep_proposals(found, imdb, tmp_path / "out.npz", progress=False)
    content = read_proposal_file(tmp_path / "out.npz")
    kept = dict(zip(content.images, content.boxes, strict=True))
    assert [kept[f"run/0_run_x/0000{n}"].tolist() for n in (1, 2)] == [[right, WHOLE]] * 2
    assert kept["run/0_run_x/00003"].tolist() == [left, right, WHOLE]  # nothing moves there
    assert kept["run/0_run_x/00004"].tolist() == [left, right, WHOLE]  # the last goes by the frame before it
    assert len(content.images) == 21 * FRAMES and found.before == 4 * 84 and count == 2 * 2 + 82 * 3
    assert len(found.still) == 82 and not found.bare
    for path in (tmp_path / "data/jhmdb/flow/run").rglob("00003.png"):
        save_flow(path, SIZE, (16, 0, 31, 23))
    again = MotionSalient(StoredProposals(str(tmp_path / "p.npz"), imdb, 2000), FlowPictures(imdb, flow_of(tmp_path)))
    assert again.settings != found.settings
    again = again.gather(imdb.records)
    kept = dict(zip(again.images, again.boxes, strict=True))
    assert [kept[f"run/0_run_x/0000{n}"].tolist() for n in (3, 4)] == [[right, WHOLE]] * 2


def flow_of(root: Path) -> str:
    return str(root / "data/jhmdb/flow")


def test_frames_of_which_nothing_stays(tmp_path: Path) -> None:
    make_set(tmp_path)
    imdb = find_imdb("jhmdb_flow_split1_train", tmp_path)
    boxes = np.array([[1, 1, 16, 24]])  # of one image a file, x1 y1 x2 y2 from 1
    for record in imdb.records:
        path = tmp_path / "boxes" / f"{record.name}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mat(path, {"boxes": boxes})
    found = MotionSalient(StoredProposals(str(tmp_path / "boxes"), imdb, 10), FlowPictures(imdb, "flow"))
    content = found.gather(imdb.records)
    assert found.bare == ["run/0_run_x/00001", "run/0_run_x/00002"] and len(found.still) == 61
    assert sum(map(len, content.boxes)) == 61 and content.scores is None


def test_boxes_of_the_built_in_proposer(tmp_path: Path) -> None:
    make_jhmdb(tmp_path / "c", make_clips(("run",), each=1, frames=3), images="images")
    picture = np.full((*SIZE, 3), 40, np.uint8)
    picture[:, 16:] = (200, 90, 10)
    for path in (tmp_path / "c").rglob("*.png"):
        if "images" in path.parts:
            cv2.imwrite(str(path), picture)
        else:
            save_flow(path, SIZE, (20, 4, 30, 20))
    imdb = find_imdb(f"clips:{tmp_path / 'c'},split=1_train,modalities=images+flow")
    base = Computed(imdb, ["images"], tmp_path / "parts")
    base.make(0, False)
    every = base.gather(imdb.records)
    found = MotionSalient(base, FlowPictures(imdb, "flow"))
    assert (
        0
        < keep_proposals(found, imdb, tmp_path / "out.npz", 0, False)
        == sum(
            salient(boxes, in_motion(read_length(record.paths["flow"]))).sum()
            for boxes, record in zip(every.boxes, imdb.records, strict=True)
        )
    )
    assert not (tmp_path / "parts").exists() and read_proposal_file(tmp_path / "out.npz").settings == found.settings


def test_flow_that_is_not_there(tmp_path: Path) -> None:
    make_set(tmp_path)
    imdb = find_imdb("jhmdb_images_split1_train", tmp_path)
    with pytest.raises(
        MissingFileError, match=r"flow .*neither a modality of jhmdb_images_split1_train \(images\) nor"
    ):
        FlowPictures(imdb, "flow")
    (tmp_path / "data/jhmdb/flow/run/0_run_x/00002.png").unlink()
    with pytest.raises(DataError, match="1 frames have no flow in .*: run/0_run_x/00002 .the last frame of a clip"):
        FlowPictures(imdb, flow_of(tmp_path))
    (tmp_path / "data/jhmdb/flow/run/0_run_x/00003.png").unlink()
    with pytest.raises(DataError, match="3 frames have no flow"):  # so the last has nothing to go by
        FlowPictures(imdb, flow_of(tmp_path))
