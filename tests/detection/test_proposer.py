"""The built-in proposer."""

import json

import cv2
import numpy as np
import pytest
from conftest import needs

from caffe_compat.detection.proposer import propose
from caffe_compat.errors import DataError, UsageError
from caffe_compat.evaluation.overlaps import box_overlaps
from caffe_compat.scenes import Settings, draw, encode, frame_specs

SIZE = (120, 160)


def shapes(size=SIZE):
    """A picture of a rectangle, a disc and a triangle on a noisy ground, and their boxes."""
    height, width = size
    picture = np.full((height, width, 3), (90, 120, 140), np.uint8)
    unit = height // 12
    cv2.rectangle(picture, (unit, unit), (4 * unit, 6 * unit), (30, 30, 200), -1)
    cv2.circle(picture, (10 * unit, 4 * unit), 2 * unit, (200, 60, 30), -1)
    corners = np.array([[8 * unit, 11 * unit], [14 * unit, 11 * unit], [11 * unit, 8 * unit]])
    cv2.fillPoly(picture, [corners], (40, 200, 60))
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    boxes = [[1, 1, 4, 6], [8, 2, 12, 6], [8, 8, 14, 11]]
    return np.clip(picture + noise, 0, 255).astype(np.uint8), unit * np.array(boxes, float)


def recall(found, gt, least=0.5):
    return float((box_overlaps(gt, found).max(1) >= least).mean())


def check(boxes, scores, size, count):
    """What holds of all proposals."""
    assert boxes.dtype == scores.dtype == np.float32 and 1 <= len(boxes) == len(scores) <= count
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= boxes[:, :2]).all()
    assert (boxes[:, [2, 3]] <= [size[1] - 1, size[0] - 1]).all() and (boxes == np.rint(boxes)).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert (np.diff(scores) <= 0).all() and np.isfinite(scores).all()


@pytest.mark.parametrize("size", [SIZE, (481, 641)])
@pytest.mark.parametrize("modality", ["images", "hha", "thermal"])
def test_simple_shapes(size, modality):
    picture, gt = shapes(size)
    boxes, scores = propose({modality: picture})
    check(boxes, scores, size, 2000)
    assert recall(boxes, gt, 0.8) == 1


def test_shapes_in_depth_alone():
    """Two boxes before a wall, measured in whole millimetres with holes, in no colour."""
    depth = np.full(SIZE, 2000, np.uint16)
    depth[20:70, 30:80] = 1500
    depth[60:110, 100:150] = 1700
    depth[::7, ::5] = 0
    for values in (depth, depth.astype(np.float32) / 1000, np.where(depth == 0, np.nan, depth / 1000)):
        boxes, scores = propose({"depth": values})
        check(boxes, scores, SIZE, 2000)
        assert recall(boxes, np.array([[30.0, 20, 79, 69], [100, 60, 149, 109]]), 0.7) == 1


def test_a_slope_shows_where_no_step_in_depth_is():
    """A book lying on a table of the same height differs in nothing; a ramp that starts at the table does."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    near = 0.4 + 0.001 * rows
    inside = (columns >= 60) & (columns < 110) & (rows >= 30) & (rows < 80)
    near[inside] += 0.004 * (rows - 30)[inside]
    boxes, _ = propose({"depth": 1 / near})
    assert recall(boxes, np.array([[60.0, 30, 109, 79]]), 0.7) == 1


def test_the_same_again():
    picture, _ = shapes()
    first, again = (
        propose({"images": picture, "hha": 255 - picture}),
        propose({"hha": 255 - picture, "images": picture}),
    )
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one, other)


def test_fewer_are_the_best_of_more():
    picture, _ = shapes()
    many, few = propose({"images": picture}), propose({"images": picture}, 20)
    assert len(few[0]) == 20 and np.array_equal(few[0], many[0][:20]) and np.array_equal(few[1], many[1][:20])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (12, 12), (2, 400), (700, 3)])
def test_odd_sizes(size):
    rng = np.random.default_rng(0)
    for pictures in (
        {"images": rng.integers(0, 256, (*size, 3), dtype=np.uint8)},
        {"depth": rng.random(size) + 1},
        {"depth": np.where(rng.random(size) < 0.3, 1e-300, 1e300)},
        {"images": np.zeros((*size, 3), np.uint8), "depth": np.ones(size, np.uint16)},
    ):
        check(*propose(pictures), size, 2000)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ({"images": np.zeros((4, 5), np.uint8)}, r"images: uint8 of shape \(4, 5\), expected uint8 \[H, W, 3\]"),
        ({"hha": np.zeros((4, 5, 3), np.uint16)}, "hha: uint16"),
        ({"hha": np.zeros((0, 5, 3), np.uint8)}, "hha: uint8"),
        ({"depth": np.zeros((4, 5, 3), np.uint8)}, r"depth: .* expected numbers \[H, W\]"),
        ({"depth": np.zeros((4, 5))}, "depth: .*all 20 pixels are missing"),
        (
            {"images": np.zeros((4, 5, 3), np.uint8), "hha": np.zeros((5, 4, 3), np.uint8)},
            "hha is 4 x 5 pixels, but images is 5 x 4",
        ),
    ],
)
def test_pictures_that_are_none(pictures, message):
    with pytest.raises(DataError, match=message):
        propose(pictures)


def test_wrong_arguments():
    with pytest.raises(UsageError, match="no picture"):
        propose({})
    with pytest.raises(UsageError, match="0 proposals"):
        propose({"images": np.zeros((4, 5, 3), np.uint8)}, 0)


@pytest.mark.parametrize("kinds", [("images",), ("depth",), ("hha",), ("images", "hha")])
def test_drawn_scenes(kinds):
    settings = Settings(train=30, pairs=10, val=10, test=10)
    found = []
    for spec in [spec for spec in frame_specs(settings) if spec.split != "pairs"][::3]:
        frame, raw = draw(settings, spec)
        filled, hha = encode(raw, settings.camera)
        rows, columns = np.flatnonzero(frame.mask.any(1)), np.flatnonzero(frame.mask.any(0))
        pictures = {"images": frame.image[..., ::-1], "depth": filled, "hha": hha[..., ::-1]}
        boxes, scores = propose({kind: np.ascontiguousarray(pictures[kind]) for kind in kinds})
        check(boxes, scores, frame.mask.shape, 2000)
        found.append(recall(boxes, np.array([[columns[0], rows[0], columns[-1], rows[-1]]]), 0.7))
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize(
    ("kinds", "every"),
    [
        (("images",), 8),
        (("depth",), 8),
        pytest.param(("images", "depth"), 8, marks=pytest.mark.slow),
        pytest.param(("images",), 1, marks=pytest.mark.slow),
        pytest.param(("depth",), 1, marks=pytest.mark.slow),
        pytest.param(("images", "depth"), 1, marks=pytest.mark.slow),
    ],
)
def test_recall_on_real_frames(kinds, every):
    """Kinect frames of tables with things on them, the test split: 0.5 at 2,000 boxes."""
    folder = needs("real", "rgbd", "kinect_mosd_pcl")
    content = json.loads((folder / "instances.json").read_text())
    best = []
    for image in [image for image in content["images"] if image["split"] == "test"][::every]:
        gt = np.array([entry["bbox"] for entry in content["annotations"] if entry["image_id"] == image["id"]], float)
        gt[:, 2:] += gt[:, :2] - 1
        pictures = {
            "images": cv2.imread(str(folder / image["file_name"])),
            "depth": cv2.imread(str(folder / image["depth"]), cv2.IMREAD_UNCHANGED),
        }
        boxes, scores = propose({kind: pictures[kind] for kind in kinds})
        check(boxes, scores, (480, 640), 2000)
        best.append(box_overlaps(gt, boxes).max(1))
    assert (np.concatenate(best) >= 0.5).mean() >= 0.97 and (np.concatenate(best) >= 0.7).mean() >= 0.85
