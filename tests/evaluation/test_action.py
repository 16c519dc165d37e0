"""Actions: frame AP, tubes linked from boxes, the area under the ROC curve; against the released script in loops."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.tubes_reference import get_average_roc_curve, get_roc_curve, roc_curve_jhmdb, zero_jump_link

from caffe_compat.datasets.imdb import ImageDatabase
from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError
from caffe_compat.evaluation.action import TUBE_THRESHOLDS, ActionAverage
from caffe_compat.evaluation.database import evaluate_database
from caffe_compat.evaluation.detections import Detections
from caffe_compat.evaluation.evaluator import make_evaluator
from caffe_compat.evaluation.reports import write_reports
from caffe_compat.evaluation.tables import table
from caffe_compat.evaluation.tubes import link_boxes, mean_roc, roc, tube_overlap

CLASSES = ("jump", "run", "wave")


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.integers(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(3, 40, (count, 2)), rng.random((count, 1))], 1)
    return np.asarray(boxes, np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_links_are_those_of_the_script(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = [random_boxes(rng, int(rng.integers(1 + seed % 3, 9))) for _ in range(int(rng.integers(2, 9)))]
    expected = zero_jump_link(frames)
    found = link_boxes(frames, most=100)
    assert len(found) == len(expected) == min(map(len, frames))
    for tube, path in zip(found, expected, strict=True):
        assert tube.score == pytest.approx(path["total_score"], rel=1e-12)
        boxes = [frame[row, :4].tolist() for frame, row in zip(frames, tube.rows, strict=True)]
        assert boxes == path["boxes"]
    assert [tube.score for tube in link_boxes(frames, 3)] == [tube.score for tube in found[:3]]
    assert all(a.score >= b.score for a, b in zip(found, found[1:], strict=False))


def test_a_link_is_worth_its_scores_and_its_overlap() -> None:
    """Counted by hand: 10 x 10 pixels, one moved by 5, so 50 of 150 are shared."""
    frames = [
        np.array([[0, 0, 9, 9, 0.5]], np.float32),
        np.array([[90, 0, 99, 9, 0.75], [5, 0, 14, 9, 0.5]], np.float32),
    ]
    (tube,) = link_boxes(frames)
    assert tube.rows.tolist() == [0, 1] and tube.score == pytest.approx((0.5 + 0.5 + 1 / 3) / 2)
    frames[1][0, 4] = 0.9
    assert link_boxes(frames)[0].rows.tolist() == [0, 0]
    truth = np.array([[0, 0, 9, 9], [90, 0, 99, 4]])
    assert tube_overlap(frames, link_boxes(frames)[0], truth) == pytest.approx(0.75)


def test_frames_without_a_box_and_single_frames() -> None:
    none = np.zeros((0, 5), np.float32)
    one = np.array([[0, 0, 9, 9, 0.25], [0, 0, 5, 5, 0.5]], np.float32)
    assert link_boxes([]) == [] and link_boxes([one, none, one]) == [] and link_boxes([none]) == []
    assert [(tube.rows.tolist(), tube.score) for tube in link_boxes([one])] == [([1], 0.5), ([0], 0.25)]


@pytest.mark.parametrize("seed", range(6))
def test_curves_are_those_of_the_script(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(5):
        scores = np.round(rng.random(int(rng.integers(3, 40))), 1)  # with many that are equal
        right = rng.random(len(scores)) < 0.3
        right[0] = False
        expected = get_roc_curve(list(zip(scores.tolist(), right.astype(int).tolist(), strict=True)), 20)
        false_rate, true_rate, area = roc(scores, right, 20)
        assert area == pytest.approx(expected[0], abs=1e-12)
        assert true_rate.tolist() == expected[1] and false_rate.tolist() == expected[2]
        if len(false_rate):
            curves.append((false_rate, true_rate))
    area, tpr, fpr = get_average_roc_curve([one[1].tolist() for one in curves], [one[0].tolist() for one in curves])
    found = mean_roc(curves)
    assert found[0].tolist() == fpr
    np.testing.assert_allclose(found[1], tpr, atol=1e-12)
    assert found[2] == pytest.approx(area, abs=1e-12)


def test_curves_without_shares() -> None:
    """Nothing to be found, or nothing wrong among the tubes; no tubes at all find nothing."""
    for scores, right, wanted in (([0.5], [False], 0), ([0.5], [True], 1)):
        assert np.isnan(roc(np.array(scores), np.array(right), wanted)[2])
    assert roc(np.zeros(0), np.zeros(0, bool), 3)[2] == 0
    half = (np.array([0.0, 0.5]), np.array([0.5, 1.0]))
    assert mean_roc([half, (np.zeros(0), np.zeros(0))])[2] == pytest.approx(0.25)
    assert np.isnan(mean_roc([])[2])


def make_set(seed: int, clips: int = 9, frames: int = 5) -> tuple[ImageDatabase, Detections]:
    """Clips of the classes in turn; detections near the truth, and others; every frame has some of every class."""
    rng = np.random.default_rng(seed)
    records, found = [], []
    for number in range(clips):
        action = CLASSES[number % len(CLASSES)]
        start = rng.integers(5, 20, 2)
        for t in range(frames):
            box = np.array([[*(start + t), *(start + t + 20)]], np.float32)
            records.append(
                FrameRecord(
                    name=f"{action}/clip{clips - number}/{t + 1:05d}",
                    size=(64, 64),
                    scene=f"clip{clips - number}",
                    boxes=box,
                    classes=(action,),
                )
            )
            row = []
            for name in CLASSES:
                boxes = random_boxes(rng, 4)
                near = box[0] + rng.integers(-6, 7, 4)
                likely = 0.4 * (name == action) + 0.6 * rng.random()
                row.append(np.concatenate([boxes, [[*near, likely]]]).astype(np.float32))
            found.append(row)
    names = tuple(record.name for record in records)
    imdb = ImageDatabase("set", CLASSES, ("images",), records, metric="action")
    return imdb, Detections(CLASSES, names, [[row[c] for row in found] for c in range(len(CLASSES))])


def reference(imdb: ImageDatabase, detections: Detections, threshold: float) -> dict[str, Any]:
    clips = sorted({str(record.scene) for record in imdb.records})
    videos = []
    for clip in clips:
        places = [index for index, record in enumerate(imdb.records) if record.scene == clip]
        paths = [zero_jump_link([detections.boxes[c][i] for i in places]) for c in range(len(CLASSES))]
        records = [imdb.records[i] for i in places]
        truth = [record.boxes[0].tolist() for record in records if record.boxes is not None]
        videos.append({"action": CLASSES.index((records[0].classes or ("",))[0]), "truth": truth, "paths": paths})
    return roc_curve_jhmdb(videos, len(CLASSES), threshold)


@pytest.mark.parametrize("seed", range(3))
def test_video_figures_are_those_of_the_script(seed: int) -> None:
    imdb, detections = make_set(seed)
    found = evaluate_database(imdb, detections)
    assert found.metric == "action" and found.video is not None
    for k, threshold in enumerate(TUBE_THRESHOLDS):
        expected = reference(imdb, detections, threshold)
        np.testing.assert_allclose(found.video.area[k], expected["auc"], atol=1e-12)
        assert found.video.mean[k] == pytest.approx(np.mean(expected["auc"]))
        assert found.video.area_of_mean[k] == pytest.approx(expected["mean"][0], abs=1e-12)
        assert found.summary[f"video AUC from {threshold:g}"] == found.video.area_of_mean[k]
        assert found.video.clips.tolist() == expected["num_gt"] == [3, 3, 3]
        assert found.video.tubes.tolist() == expected["tubes"] == [27, 27, 27]
    assert (np.diff(found.video.area, axis=0) <= 0).all() and found.video.area[0].max() > 0


def slow_frame_ap(imdb: ImageDatabase, detections: Detections, c: int, threshold: float = 0.5) -> float:
    """Object by object."""
    rows = sorted(
        ((float(box[4]), -i, box[:4]) for i, found in enumerate(detections.boxes[c]) for box in found),
        key=lambda row: (-row[0], -row[1]),
    )
    taken: set[int] = set()
    hits, points, wanted = 0, [], sum(record.classes == (CLASSES[c],) for record in imdb.records)
    for n, (_, minus, box) in enumerate(rows, start=1):
        record = imdb.records[-minus]
        assert record.boxes is not None
        truth = record.boxes[0]
        width = min(box[2], truth[2]) - max(box[0], truth[0]) + 1
        height = min(box[3], truth[3]) - max(box[1], truth[1]) + 1
        inside = max(width, 0) * max(height, 0)
        areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, truth)]
        if record.classes == (CLASSES[c],) and inside / (sum(areas) - inside) >= threshold and -minus not in taken:
            taken.add(-minus)
            hits += 1
            points.append((hits / wanted, n))
    precisions = [k / n for k, (_, n) in enumerate(points, start=1)]
    return float(sum(max(precisions[k:]) for k in range(len(points))) / wanted)


def test_frame_average_precision() -> None:
    imdb, detections = make_set(5)
    found = evaluate_database(imdb, detections)
    expected = [slow_frame_ap(imdb, detections, c) for c in range(3)]
    np.testing.assert_allclose(found.ap, expected, atol=1e-12)
    assert found.mean == pytest.approx(np.mean(expected)) and 0.05 < found.mean < 0.95
    assert found.ground_truth.tolist() == [15, 15, 15] and found.threshold == 0.5
    strict = evaluate_database(imdb, detections, threshold=0.7)
    np.testing.assert_allclose(strict.ap, [slow_frame_ap(imdb, detections, c, 0.7) for c in range(3)], atol=1e-12)
    assert strict.video is not None and found.video is not None
    np.testing.assert_array_equal(strict.video.area, found.video.area)


def perfect(imdb: ImageDatabase) -> Detections:
    """The truth with score 1, and far from it a box of every class with score 0."""
    far = np.array([60, 60, 63, 63, 0], np.float32)
    boxes = []
    for name in imdb.classes:
        row = []
        for record in imdb.records:
            assert record.boxes is not None
            right = [[*record.boxes[0], 1.0]] if record.classes == (name,) else []
            row.append(np.array([*right, far], np.float32))
        boxes.append(row)
    return Detections(imdb.classes, tuple(record.name for record in imdb.records), boxes)


def test_perfect_detections() -> None:
    imdb, _ = make_set(0)
    found = evaluate_database(imdb, perfect(imdb))
    assert found.ap.tolist() == [1, 1, 1] and found.video is not None
    # 9 wrong tubes (3 of them in clips of the class): shares 1/9 to 5/9 are looked at, all beside a true rate of 1
    np.testing.assert_allclose(found.video.area, 5 / 9, atol=1e-12)
    np.testing.assert_allclose(found.video.area_of_mean, 5 / 9, atol=1e-12)
    assert found.video.gaps.tolist() == [0, 0, 0]


def test_a_frame_without_a_box_ends_its_tubes() -> None:
    imdb, _ = make_set(0)
    detections = perfect(imdb)
    detections.boxes[1][7] = np.zeros((0, 5), np.float32)
    video = evaluate_database(imdb, detections).video
    assert video is not None and video.gaps.tolist() == [0, 1, 0] and video.area[0, 1] < video.area[0, 0]
    assert "no tube for 1 of 27 pairs of class and clip" in table(evaluate_database(imdb, detections))


def test_classes_without_clips_are_left_out_and_in_parity_are_not() -> None:
    imdb, detections = make_set(1, clips=2)
    found, same = (evaluate_database(imdb, detections, parity) for parity in (False, True))
    assert found.video is not None and same.video is not None
    assert np.isnan(found.video.area[:, 2]).all() and not np.isnan(found.video.area[:, :2]).any()
    np.testing.assert_allclose(found.video.mean, found.video.area[:, :2].mean(1))
    assert not np.isnan(found.video.area_of_mean).any()
    assert np.isnan(same.video.mean).all() and np.isnan(same.video.area_of_mean).all()
    assert found.without_truth == ("wave",)


def test_the_order_of_frames_does_not_matter() -> None:
    imdb, detections = make_set(2)
    judge, mixed = ActionAverage(CLASSES), ActionAverage(CLASSES)
    order = np.random.default_rng(0).permutation(len(imdb.records))
    for places, one in ((range(len(order)), judge), (order, mixed)):
        for i in places:
            one.process(imdb.records[i], detections.of_image(i))
    assert judge.evaluate().summary == mixed.evaluate().summary
    judge.reset()
    judge.process(imdb.records[0], detections.of_image(0))
    assert judge.evaluate().images == 1


def test_what_is_refused() -> None:
    judge = make_evaluator("action", CLASSES)
    none = [np.zeros((0, 5), np.float32)] * 3
    box = np.array([[0, 0, 5, 5]], np.float32)
    judge.process(FrameRecord("a/1", scene="a", boxes=box, classes=("run",)), none)
    for record, reason in (
        (FrameRecord("a/2", boxes=box, classes=("run",)), "does not say of which clip it is"),
        (FrameRecord("a/3", scene="a", boxes=box, classes=("wave",)), "shows wave, another frame of clip a run"),
        (FrameRecord("a/4", scene="a", boxes=box[[0, 0]], classes=("run", "run")), "shows 2 objects, expected the one"),
        (FrameRecord("a/5", scene="a", boxes=box[:0], classes=()), "shows 0 objects"),
        (FrameRecord("a/1", scene="a", boxes=box, classes=("run",)), "was evaluated before"),
    ):
        with pytest.raises(DataError, match=reason):
            judge.process(record, none)


def test_reports(tmp_path: Path) -> None:
    imdb, detections = make_set(3)
    found = evaluate_database(imdb, detections)
    assert found.video is not None
    files = write_reports(tmp_path, found)
    assert [file.name for file in files[-2:]] == ["eval_video.csv", "eval_video.png"] and len(files) == 8
    rows = list(csv.DictReader((tmp_path / "eval_video.csv").open()))
    assert [row["class"] for row in rows] == [*CLASSES, "mean", "mean curve"]
    assert float(rows[1]["auc_from_0.5"]) == pytest.approx(found.video.area[4, 1], rel=1e-5)
    assert float(rows[4]["auc_from_0.1"]) == pytest.approx(found.video.area_of_mean[0], rel=1e-5)
    content = json.loads((tmp_path / "eval.json").read_text())
    assert content["metric"] == "action" and content["video"]["mean_curve"] == found.video.area_of_mean.tolist()
    assert content["video"]["classes"]["run"]["clips"] == 3
    assert (tmp_path / "eval_video.png").read_bytes()[:4] == b"\x89PNG"
    shown = table(found).splitlines()
    line = next(row for row in shown if row.startswith("mean curve"))
    assert line.split()[2:] == ["9", "81", *(f"{100 * value:.2f}" for value in found.video.area_of_mean)]
