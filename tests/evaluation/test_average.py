"""The branch's and VOC's average precision against slow, obvious loops."""

import itertools

import numpy as np
import pytest

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.errors import DataError, UsageError
from caffe_compat.evaluation.average import AveragePrecision
from caffe_compat.evaluation.evaluator import make_evaluator
from caffe_compat.evaluation.overlaps import box_overlaps
from caffe_compat.evaluation.result import FALSE, IGNORED, TRUE

CLASSES = ("bed", "chair", "lamp")


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0, 0.0
    area, other = ((x[2] - x[0] + 1) * (x[3] - x[1] + 1) for x in (a, b))
    return width * height / (area + other - width * height), width * height / area


def reference(images, name, threshold, points, parity):
    """One class: images are (objects as (class, box, difficult, crowd), {class: detections})."""
    wanted, verdicts = 0, []
    for objects, found in images:
        mine = [thing for thing in objects if thing[0] == name]
        wanted += sum(not thing[3] and (parity or not thing[2]) for thing in mine)
        taken = set()
        rows = found[name].tolist()
        for row in sorted(rows, key=lambda row: -row[4]):  # sorted is stable
            best, where, crowded = 0.0, None, 0.0
            for k, (_, box, _, crowd) in enumerate(mine):
                union, part = overlap(row, box)
                if crowd:
                    crowded = max(crowded, part)
                elif union > best:
                    best, where = union, k
            if best >= threshold:
                if mine[where][2] and not parity:
                    verdicts.append((row[4], None))
                else:
                    verdicts.append((row[4], where not in taken))
                    taken.add(where)
            else:
                verdicts.append((row[4], None if crowded >= threshold else False))
    right = wrong = 0
    precision, recall = [], []
    for _, verdict in sorted(verdicts, key=lambda one: -one[0]):
        if verdict is not None:
            right, wrong = right + verdict, wrong + (not verdict)
            precision.append(right / (right + wrong))
            recall.append(right / wanted if wanted else float("nan"))
    if not wanted:
        return float("nan"), precision, recall
    if points == 11:
        at = [
            max([p for p, r in zip(precision, recall, strict=True) if r >= t], default=0) for t in np.arange(11) * 0.1
        ]
        return sum(at) / 11, precision, recall
    area, before = 0.0, 0.0
    for k, r in enumerate(recall):
        area += (r - before) * max(precision[k:])
        before = r
    return area, precision, recall


def random_images(seed, crowds=True):
    """Small boxes on a coarse grid, so that many overlap and some equally; scores of few values, so that many tie."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(rng.integers(1, 7)):
        objects = []
        for _ in range(rng.integers(0, 5)):
            corner, side = rng.integers(0, 6, 2) * 4, rng.integers(1, 5, 2) * 4
            box = [*corner, *(corner + side)]
            objects.append((CLASSES[rng.integers(2)], box, rng.random() < 0.2, crowds and rng.random() < 0.15))
        found = {}
        for name in CLASSES:
            count = rng.integers(0, 9) if rng.random() < 0.8 else 0
            corners, sides = rng.integers(0, 12, (count, 2)) * 2, rng.integers(2, 10, (count, 2)) * 2
            scores = rng.integers(0, 5 if seed % 2 else 1000, (count, 1)) / 8
            found[name] = np.hstack([corners, corners + sides, scores]).astype("f4").reshape(-1, 5)
        if objects and rng.random() < 0.7:  # some that fit
            name, box, *_ = objects[0]
            found[name] = np.vstack([found[name], np.array([[*box, 0.5], [*box, 0.25]], "f4")])
        images.append((objects, found))
    return images


def record(number, objects):
    return FrameRecord(
        f"img_{number}",
        boxes=np.array([thing[1] for thing in objects], "f4").reshape(-1, 4),
        classes=tuple(thing[0] for thing in objects),
        difficult=np.array([thing[2] for thing in objects], bool),
        crowd=np.array([thing[3] for thing in objects], bool),
    )


def judged(images, metric="nyud2", **options):
    judge = AveragePrecision(CLASSES, metric, **options)
    for number, (objects, found) in enumerate(images):
        judge.process(record(number, objects), [found[name] for name in CLASSES])
    return judge.evaluate()


@pytest.mark.parametrize("metric", ["nyud2", "voc", "voc07"])
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_random_images(metric, threshold):
    ties = 0
    for seed in range(60):
        images = random_images(seed)
        found = judged(images, metric, threshold=threshold)
        wanted = [reference(images, name, threshold, 11 if metric == "voc07" else 0, False) for name in CLASSES]
        np.testing.assert_allclose(found.ap, [one[0] for one in wanted], atol=1e-12, equal_nan=True)
        for k, (_, precision, recall) in enumerate(wanted):
            np.testing.assert_allclose(found.precision[k], precision, atol=1e-12, equal_nan=True)
            np.testing.assert_allclose(found.recall[k], recall, atol=1e-12, equal_nan=True)
            ties += len(found.scores[k]) - len(set(found.scores[k]))
        known = [one[0] for one in wanted if not np.isnan(one[0])]
        assert np.isclose(found.mean, np.mean(known)) if known else np.isnan(found.mean)
    assert ties > 100


def test_parity_takes_difficult_objects_as_others_and_lets_nan_through():
    """Without equal scores: their order is that of numpy's unstable sort."""
    compared = 0
    for seed in range(0, 60, 2):
        images = random_images(seed, crowds=False)
        rng = np.random.default_rng(seed)
        for _, found in images:
            for rows in found.values():
                rows[:, 4] = rng.random(len(rows))
        found = judged(images, parity=True)
        for k, name in enumerate(CLASSES):
            ap, precision, recall = reference(images, name, 0.5, 0, True)
            if np.isnan(ap) and not precision:
                ap = 0.0  # as the branch's sum over nothing
            np.testing.assert_allclose(found.ap[k], ap, atol=1e-6, equal_nan=True)
            np.testing.assert_allclose(found.recall[k], recall, atol=1e-6, equal_nan=True)
            compared += len(precision)
        assert np.isnan(found.mean) == np.isnan(found.ap).any()
    assert compared > 200


def test_the_most_overlapped_object_counts_also_if_it_was_found_before():
    boxes = np.array([[0, 0, 9, 9], [2, 0, 11, 9]], "f4")
    first, second = [0, 0, 9, 9, 0.9], [1, 0, 9, 9, 0.8]  # the second overlaps both enough, the first object more
    judge = AveragePrecision(("bed",))
    judge.process(FrameRecord("a", boxes=boxes, classes=("bed", "bed")), [np.array([first, second], "f4")])
    found = judge.evaluate()
    assert found.matches.verdict.tolist() == [TRUE, FALSE]
    assert found.matches.truth.tolist() == [0, 0]
    np.testing.assert_allclose(found.matches.overlap, [1, 0.9])
    np.testing.assert_allclose(found.ap, [0.5])


def test_difficult_objects_and_crowds_are_neither_wanted_nor_punished():
    boxes = np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 139, 99]], "f4")
    thing = FrameRecord(
        "a",
        boxes=boxes,
        classes=("bed",) * 3,
        difficult=np.array([False, True, False]),
        crowd=np.array([False, False, True]),
    )
    rows = [[20, 0, 29, 9, 0.9], [21, 0, 29, 9, 0.8], [50, 10, 59, 19, 0.7], [0, 0, 9, 9, 0.6], [200, 0, 209, 9, 0.5]]
    judge = AveragePrecision(("bed",), "voc")
    judge.process(thing, [np.array(rows, "f4")])
    found = judge.evaluate()
    assert found.matches.verdict.tolist() == [IGNORED, IGNORED, IGNORED, TRUE, FALSE]
    assert found.ground_truth.tolist() == [1] and found.detections.tolist() == [5]
    assert found.precision[0].tolist() == [1, 0.5] and found.scores[0].round(1).tolist() == [0.6, 0.5]


def test_an_overlap_of_exactly_the_threshold_is_enough():
    thing = FrameRecord("a", boxes=np.array([[0, 0, 9, 9]], "f4"), classes=("bed",))
    for right, box in ((True, [0, 0, 9, 4]), (False, [0, 0, 9, 3])):
        judge = AveragePrecision(("bed",))
        judge.process(thing, [np.array([[*box, 1]], "f4")])
        assert judge.evaluate().ap.tolist() == [float(right)]
        assert judge.evaluate(0.4).ap.tolist() == [1.0]


def test_a_class_without_objects_is_named_and_not_in_the_mean():
    thing = FrameRecord("a", boxes=np.array([[0, 0, 9, 9]], "f4"), classes=("chair",))
    hit, none = np.array([[0, 0, 9, 9, 1]], "f4"), np.zeros((0, 5), "f4")
    for parity in (False, True):
        judge = AveragePrecision(CLASSES, parity=parity)
        judge.process(thing, [hit, hit, none])
        found = judge.evaluate()
        assert found.without_truth == ("bed", "lamp")
        np.testing.assert_array_equal(found.ap, [np.nan, 1, 0 if parity else np.nan], equal_nan=True)
        assert np.isnan(found.mean) if parity else found.mean == 1
        assert np.isnan(found.recall[0]).all() and len(found.recall[0]) == 1


def test_nothing_at_all():
    found = AveragePrecision(CLASSES).evaluate()
    assert np.isnan(found.ap).all() and np.isnan(found.mean) and found.images == 0
    found = AveragePrecision(()).evaluate()
    assert found.ap.shape == (0,) and np.isnan(found.mean)
    judge = AveragePrecision(("bed",))
    judge.process(FrameRecord("a", boxes=np.array([[0, 0, 9, 9]], "f4"), classes=("bed",)), [np.zeros((0, 5), "f4")])
    assert judge.evaluate().ap.tolist() == [0.0]
    judge.reset()
    assert judge.evaluate().images == 0


def test_masks_instead_of_boxes():
    """Another overlap of the same detections, whose rows are those that were given, also where parity sorts them."""
    for parity in (False, True):
        judge = AveragePrecision(
            ("bed",), parity=parity, overlap=lambda rows, record: np.array([[0.1, 0.6], [0.8, 0.2]])
        )
        _masks_instead_of_boxes(judge)


def _masks_instead_of_boxes(judge):
    rows = np.array([[0, 0, 1, 1, 0.8], [0, 0, 1, 1, 0.9]], "f4")
    judge.process(FrameRecord("a", boxes=np.zeros((2, 4), "f4"), classes=("bed", "bed")), [rows])
    assert judge.evaluate().ap.tolist() == [1.0]
    assert judge.evaluate(0.7).ap.tolist() == [0.5]
    with pytest.raises(DataError, match=r"image b: overlaps of shape \(2, 2\), expected 2 x 1"):
        judge.process(FrameRecord("b", boxes=np.zeros((1, 4), "f4"), classes=("bed",)), [rows])


def test_overlaps():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 20, (30, 2))
    boxes = np.hstack([corners, corners + rng.integers(0, 12, (30, 2))]).astype("f4")
    crowd = rng.random(10) < 0.5
    found, plain = box_overlaps(boxes[:20], boxes[20:], crowd), box_overlaps(boxes[:20], boxes[20:])
    for i, k in itertools.product(range(20), range(10)):
        union, part = overlap(boxes[i].tolist(), boxes[20 + k].tolist())
        assert np.isclose(plain[i, k], union) and np.isclose(found[i, k], part if crowd[k] else union)
    assert box_overlaps(boxes[:0], boxes).shape == (0, 30) and box_overlaps(boxes, boxes[:0]).shape == (30, 0)


GOOD = np.array([[0, 0, 9, 9, 1]], "f4")


@pytest.mark.parametrize("metric", ["nyud2", "voc", "voc07", "coco"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 0, 9, 9, np.nan]], "detection 1 of class chair is .*nan.*, expected finite numbers"),
        ([[0, 0, 9, 9, np.inf]], "detection 1 of class chair is .*inf.*, expected finite numbers"),
        ([[0, 0, 9, 9, 1], [0, -np.inf, 9, 9, 1]], "detection 2 of class chair is .*-inf.*, expected finite numbers"),
        (
            [[9, 0, 0, 9, 1]],
            r"detection 1 of class chair is \[9.0, 0.0, 0.0, 9.0, 1.0\].* expected x1 <= x2 and y1 <= y2",
        ),
        ([[0, 9, 0, 8, 1]], "detection 1 of class chair is .*expected x1 <= x2 and y1 <= y2"),
        ([[0, 0, 9, 9]], r"detections of class chair are float32 of shape \(1, 4\), expected n x 5"),
    ],
)
def test_detections_that_are_none(metric, rows, message):
    judge = make_evaluator(metric, CLASSES)
    thing = FrameRecord("img_7", boxes=np.array([[0, 0, 9, 9]], "f4"), classes=("bed",))
    with pytest.raises(DataError, match=f"image img_7: {message}"):
        judge.process(thing, [GOOD, np.array(rows, "f4"), GOOD])
    judge.process(thing, [GOOD, GOOD, GOOD])  # nothing stayed of it
    assert judge.evaluate().images == 1


@pytest.mark.parametrize("metric", ["nyud2", "coco"])
def test_images_that_cannot_be_evaluated(metric):
    judge = make_evaluator(metric, CLASSES)
    box = np.array([[0, 0, 9, 9]], "f4")
    for thing, found, message in (
        (FrameRecord("a"), [GOOD] * 3, "image a: its objects are not known"),
        (FrameRecord("a", boxes=box, classes=("bed",)), [GOOD] * 2, "image a: detections of 2 classes, expected 3"),
        (FrameRecord("a", boxes=box, classes=("lamps",)), [GOOD] * 3, "class 'lamps'.*none of the 3.*mean 'lamp'"),
        (FrameRecord("a", boxes=box, classes=("bed",) * 2), [GOOD] * 3, r"boxes of shape \(1, 4\), expected \(2, 4\)"),
        (
            FrameRecord("a", boxes=box[:, ::-1], classes=("bed",)),
            [GOOD] * 3,
            r"object 1 \(bed\) has the box \[9.0, 9.0",
        ),
        (FrameRecord("a", boxes=box * np.nan, classes=("bed",)), [GOOD] * 3, r"object 1 \(bed\) has the box \[nan"),
    ):
        with pytest.raises(DataError, match=message):
            judge.process(thing, found)
    thing = FrameRecord("a", boxes=box, classes=("bed",))
    judge.process(thing, [GOOD] * 3)
    with pytest.raises(DataError, match="image a: was evaluated before"):
        judge.process(thing, [GOOD] * 3)


def test_parity_takes_boxes_inside_out():
    """The branch clips on one side only, and so makes some (quirk 8)."""
    judge = make_evaluator("nyud2", CLASSES, parity=True)
    none, wrong = np.zeros((0, 5), "f4"), np.array([[30, 0, 20, 9, 1]], "f4")
    judge.process(FrameRecord("a", boxes=np.array([[0, 0, 39, 9]], "f4"), classes=("bed",)), [wrong, none, none])
    assert judge.evaluate().ap[0] == 0


def test_rules_and_thresholds_that_are_none():
    with pytest.raises(UsageError, match="no metric 'voc7', expected one of nyud2, voc, voc07, coco.*'voc07'"):
        make_evaluator("voc7", CLASSES)
    for threshold in (0, 1.5, -1, float("nan")):
        for metric in ("nyud2", "coco"):
            with pytest.raises(UsageError, match="threshold of the overlap"):
                make_evaluator(metric, CLASSES, threshold=threshold)
