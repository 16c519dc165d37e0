"""COCO's average precision: by hand, and against a slow, obvious reference."""

import numpy as np
from evaluation.test_average import CLASSES, overlap, random_images, record

from caffe_compat.datasets.record import FrameRecord
from caffe_compat.evaluation.coco import THRESHOLDS, CocoAverage


def judged(images, **options):
    judge = CocoAverage(CLASSES, **options)
    for number, (objects, found) in enumerate(images):
        judge.process(record(number, objects), [found[name] for name in CLASSES])
    return judge.evaluate()


def reference(images, name, threshold, most=100):
    """One class at one threshold: COCO's evaluateImg and accumulate for objects of any size."""
    wanted, verdicts = 0, []
    for objects, found in images:
        mine = [thing for thing in objects if thing[0] == name]
        mine.sort(key=lambda thing: thing[2] or thing[3])  # those that count first
        wanted += sum(not (thing[2] or thing[3]) for thing in mine)
        taken = set()
        for row in sorted(found[name].tolist(), key=lambda row: -row[4])[:most]:
            best, where = min(threshold, 1 - 1e-10), None
            for k, (_, box, difficult, crowd) in enumerate(mine):
                if k in taken and not crowd:
                    continue
                if where is not None and (difficult or crowd) and not (mine[where][2] or mine[where][3]):
                    break
                value = overlap(row, box)[crowd]
                if value >= best:
                    best, where = value, k
            aside = where is not None and (mine[where][2] or mine[where][3])
            verdicts.append((row[4], None if aside else where is not None))
            taken.add(where)
    if not wanted:
        return float("nan")
    right = wrong = 0
    curve = []
    for _, verdict in sorted(verdicts, key=lambda one: -one[0]):
        if verdict is not None:
            right, wrong = right + verdict, wrong + (not verdict)
            curve.append((right / wanted, right / (right + wrong)))
    points = np.linspace(0, 1, 101)
    return sum(max((p for r, p in curve if r >= point), default=0) for point in points) / 101


def test_random_images():
    compared = 0
    for seed in range(40):
        images = random_images(seed)
        found = judged(images)
        for k, name in enumerate(CLASSES):
            wanted = np.mean([reference(images, name, threshold) for threshold in THRESHOLDS])
            np.testing.assert_allclose(found.ap[k], wanted, atol=1e-9, equal_nan=True)
            compared += wanted > 0
        single = judged(images, threshold=0.7)
        wanted = [reference(images, name, 0.7) for name in CLASSES]
        np.testing.assert_allclose(single.ap, wanted, atol=1e-9, equal_nan=True)
    assert compared > 20


def test_by_hand():
    """Two objects, one found exactly and one with an overlap of 0.62: at 0.5, 0.55 and 0.6 both are found; above only
    the first, and recall stays at 0.5, which is 51 of the 101 points.  Both are medium."""
    boxes = np.array([[0, 0, 49, 99], [100, 0, 149, 99]], "f4")
    rows = np.array([[0, 0, 49, 99, 0.9], [100, 0, 149, 61, 0.8]], "f4")
    judge = CocoAverage(("bed", "chair"))
    judge.process(FrameRecord("a", boxes=boxes, classes=("bed", "bed")), [rows, rows[:1]])
    found = judge.evaluate()
    wanted = (3 + 7 * 51 / 101) / 10
    np.testing.assert_allclose(found.ap, [wanted, np.nan], equal_nan=True)
    assert np.isclose(found.mean, wanted) and found.without_truth == ("chair",)
    summary = found.summary
    np.testing.assert_allclose([summary[name] for name in ("AP", "AP50", "AP75")], [wanted, 1, 51 / 101])
    np.testing.assert_allclose(
        [summary["AR1"], summary["AR10"], summary["APmedium"]], [0.5, (3 + 7 * 0.5) / 10, wanted]
    )
    assert np.isnan(summary["APsmall"]) and np.isnan(summary["ARlarge"])
    assert found.ground_truth.tolist() == [2, 0] and found.detections.tolist() == [2, 1]
    assert found.precision[0].tolist() == [1.0] * 101 and len(found.precision[1]) == 0


def test_the_area_is_that_of_the_mask():
    mask = np.zeros((1, 100, 100), bool)
    mask[0, :10, :10] = True  # small, in a medium box
    thing = FrameRecord("a", boxes=np.array([[0, 0, 49, 49]], "f4"), classes=("bed",), masks=lambda: mask)
    judge = CocoAverage(("bed",))
    judge.process(thing, [np.array([[0, 0, 49, 49, 1]], "f4")])
    found = judge.evaluate().summary
    assert found["APsmall"] == 1 and np.isnan(found["APmedium"])


def test_nothing():
    found = CocoAverage(CLASSES).evaluate()
    assert np.isnan(found.ap).all() and np.isnan(found.mean) and np.isnan(found.summary["AP"])
    none = np.zeros((0, 5), "f4")
    judge = CocoAverage(CLASSES)
    judge.process(FrameRecord("a", boxes=np.array([[0, 0, 9, 9]], "f4"), classes=("bed",)), [none] * 3)
    found = judge.evaluate()
    np.testing.assert_allclose(found.ap, [0, np.nan, np.nan], equal_nan=True)
    judge.reset()
    assert judge.evaluate().images == 0


def test_no_more_than_a_hundred_of_a_class_in_an_image():
    rows = np.tile(np.array([[50, 0, 59, 9, 0.9]], "f4"), (101, 1))
    rows[-1] = [0, 0, 9, 9, 0.1]
    judge = CocoAverage(("bed",))
    judge.process(FrameRecord("a", boxes=np.array([[0, 0, 9, 9]], "f4"), classes=("bed",)), [rows])
    found = judge.evaluate()
    assert found.ap.tolist() == [0.0] and found.detections.tolist() == [101]


def test_areas_that_a_record_states():
    """COCO's annotations state areas; those of masks (if nobody stated any) and of boxes differ."""
    box = np.array([[0, 0, 39, 39]], np.float32)
    mask = np.zeros((1, 100, 100), bool)
    mask[0, :20, :20] = True
    found = [np.array([[0, 0, 39, 39, 0.9]], np.float32)] + [np.zeros((0, 5), np.float32)] * (len(CLASSES) - 1)
    for more, seen in (({}, "medium"), ({"masks": lambda: mask}, "small"), ({"areas": np.array([1e5])}, "large")):
        judge = CocoAverage(CLASSES)
        judge.process(FrameRecord("a", size=(100, 100), boxes=box, classes=CLASSES[:1], **more), found)
        summary = judge.evaluate().summary
        assert [name for name in ("small", "medium", "large") if summary[f"AR{name}"] == 1] == [seen]
