"""A whole test: which boxes are kept, and what an interrupted one has kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from caffe_compat.config import load_config
from caffe_compat.datasets import FrameRecord, ImageDatabase, find_imdb
from caffe_compat.detection.partial import PartialResults
from caffe_compat.detection.testing import (
    BestScores,
    Progress,
    TestRun,
    detect_all,
    detect_share,
    put_together,
    run_name,
)
from caffe_compat.errors import DataError, MissingFileError, NetError
from caffe_compat.ranks import Ranks

TREE = Path(__file__).resolve().parents[1] / "data" / "golden_fork" / "detection" / "tree"


class Table:
    """Answers with numbers that depend on the region, rounded so that many are equal, and counts the questions."""

    several = False

    def __init__(self, labels=20):
        self.labels, self.asked = labels, []

    def __call__(self, question):
        self.asked.append(question)
        rng = [np.random.default_rng(int(abs(roi[1:]).sum() * 10)) for roi in question.blobs["rois"]]
        scores = np.array([one.uniform(size=self.labels).round(2) for one in rng], np.float32).reshape(-1, self.labels)
        deltas = np.array([one.normal(0, 0.1, 4 * self.labels) for one in rng], np.float32)
        return scores, deltas.reshape(-1, 4 * self.labels)


def slow_test(answers, per_image, per_set):
    """``test_net`` of the branch, on scores [N, L] and boxes [N, 4 L] of each image, with stable orders."""
    labels = answers[0][0].shape[1]
    thresh, top = [-np.inf] * labels, [[] for _ in range(labels)]
    boxes = [[None] * len(answers) for _ in range(labels)]
    for i, (scores, moved) in enumerate(answers):
        for j in range(1, labels):
            inds = [k for k in range(len(scores)) if scores[k, j] > thresh[j]]
            inds = sorted(inds, key=lambda k: -scores[k, j])[:per_image]
            for k in inds:
                top[j].append(scores[k, j])
            if len(top[j]) > per_set:
                top[j] = sorted(top[j])[-per_set:]
                thresh[j] = top[j][0]
            boxes[j][i] = [[*moved[k, 4 * j : 4 * j + 4], scores[k, j]] for k in inds]
    return [[[row for row in found if row[4] > thresh[j]] for found in boxes[j]] for j in range(1, labels)]


@pytest.mark.parametrize(("per_image", "per_set"), [(3, 2), (10, 4), (100, 40), (5, 100), (1, 1)])
def test_best_scores_as_the_loops_do(per_image, per_set):
    rng = np.random.default_rng(1)
    answers = []
    for _ in range(7):
        count = int(rng.integers(0, 40))
        answers.append((rng.uniform(size=(count, 4)).round(1).astype(np.float32), rng.uniform(0, 99, (count, 16))))
    config = load_config(pairs=["TEST.MAX_PER_IMAGE", str(per_image), "TEST.MAX_PER_SET_F", str(per_set)])
    keeper, boxes = BestScores(3, len(answers), config), [[], [], []]
    for scores, moved in answers:
        found = keeper.best(scores, moved)
        keeper.add(found)
        for row, part in zip(boxes, found, strict=True):
            row.append(part)
    wanted = slow_test(answers, per_image, per_set * len(answers))
    for row, other in zip(keeper.left(boxes), wanted, strict=True):
        for mine, theirs in zip(row, other, strict=True):
            np.testing.assert_array_equal(mine, np.array(theirs, np.float32).reshape(-1, 5))


def test_scores_below_a_threshold_are_never_kept():
    keeper = BestScores(1, 1, load_config(pairs=["TEST.SCORE_THRESH", "0.5"]))
    scores = np.array([[0, 0.4], [0, 0.5], [0, 0.6]], np.float32)
    assert keeper.best(scores, np.zeros((3, 8)))[0][:, 4].tolist() == [np.float32(0.6)]


def run_on_tree(root=TREE, parity=False, table=None, name="nyud2_hha_2015_test", **options):
    pairs = ["TEST.SCALES", "(96,)", "TEST.MAX_SIZE", "2000", "TEST.MAX_PER_IMAGE", "20", "TEST.MAX_PER_SET_F", "5"]
    config = load_config(pairs=pairs + [word for item in options.items() for word in map(str, item)], parity=parity)
    return TestRun(find_imdb(name, root), table or Table(), config)


def test_ground_truth_is_never_asked_for():
    run = run_on_tree(DEDUP_BOXES=0.0)
    detect_all(run)
    branch = run_on_tree(parity=True, DEDUP_BOXES=0.0)
    detect_all(branch)
    for number, record in enumerate(run.imdb.records):
        proposals = run.imdb.proposals(record)
        counts = [len(table.asked[number].boxes) for table in (run.detector, branch.detector)]
        with_extent = int((proposals[:, 2:] > proposals[:, :2]).all(1).sum())
        assert counts == [with_extent, len(proposals) + len(record.boxes)]


def test_all_modalities_and_the_first_proposals():
    run = run_on_tree(name="nyud2_images+hha_2015_test", **{"TEST.PROPOSAL_TOP_K": 7})
    seen = []
    found = detect_all(run, on_image=seen.append)
    assert list(run.detector.asked[0].blobs) == ["data", "data_1", "rois"]
    assert max(len(question.boxes) for question in run.detector.asked) == 7
    assert [one.done for one in seen] == [1, 2, 3, 4]
    assert (len(found.boxes), found.images) == (19, tuple(record.name for record in run.imdb.records))
    assert str(Progress(3, 654, 0.1234, 0.01)) == "im_detect: 3/654 0.123s 0.010s"


def assert_same(one, other):
    assert (one.classes, one.images) == (other.classes, other.images)
    for row, other_row in zip(one.boxes, other.boxes, strict=True):
        for mine, theirs in zip(row, other_row, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("per_set", [1, 2, 5, 1000])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_several_processes_find_what_one_finds(tmp_path, world, per_set):
    options = {"TEST.MAX_PER_SET_F": per_set, "TEST.MAX_PER_IMAGE": 7}
    whole = detect_all(run_on_tree(**options))
    assert per_set != 1000 or len(whole) > 4 * 100
    parts = [PartialResults(tmp_path / f"{rank}", {}, 19) for rank in range(world)]
    for rank, part in enumerate(parts):
        run, seen = run_on_tree(**options), []
        detect_share(run, Ranks(rank, world), part, seen.append)
        assert len(run.detector.asked) == len(part) == len(seen) == len(range(rank, 4, world))
    parts = [PartialResults(tmp_path / f"{rank}", {}, 19) for rank in range(world)]
    assert_same(put_together(run_on_tree(**options), parts), whole)
    with pytest.raises(DataError, match="0: holds 0 images, expected"):
        put_together(run_on_tree(), [PartialResults(tmp_path / "0", {"other": 1}, 19), *parts[1:]])


class Stopped(Exception):
    pass


def stopped_after(count):
    def on_image(progress):
        if progress.done == count:
            raise Stopped

    return on_image


@pytest.mark.parametrize("cut", [0, 1, -1, -7, -1000])
def test_a_test_that_was_cut_off_goes_on(tmp_path, cut):
    whole, path = detect_all(run_on_tree()), tmp_path / "x.part"
    with pytest.raises(Stopped):
        detect_all(run_on_tree(), PartialResults(path, {"a": 1}, 19), stopped_after(3))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) + cut] if cut < 0 else data + b"\1" * cut)  # as a kill may leave it
    run = run_on_tree()
    partial = PartialResults(path, {"a": 1}, 19)
    assert_same(detect_all(run, partial), whole)
    assert len(run.detector.asked) == {0: 1, 1: 1, -1: 2, -7: 2, -1000: 2}[cut]
    again = run_on_tree()
    assert_same(detect_all(again, PartialResults(path, {"a": 1}, 19)), whole)
    assert again.detector.asked == []
    partial.remove()
    assert not path.exists()


def test_other_settings_start_anew(tmp_path):
    path = tmp_path / "x.part"
    detect_all(run_on_tree(), PartialResults(path, {"a": 1}, 19))
    run = run_on_tree()
    detect_all(run, PartialResults(path, {"a": 2}, 19))
    assert len(run.detector.asked) == 4
    assert len(PartialResults(path, {"a": 2}, 19)) == 4
    assert len(PartialResults(path, {"a": 1}, 19)) == 0


def test_from_the_first_image_that_changed_on_all_is_done_again(tmp_path):
    root, path = tmp_path / "tree", tmp_path / "x.part"
    shutil.copytree(TREE, root)
    detect_all(run_on_tree(root), PartialResults(path, {}, 19))
    picture = Path(run_on_tree(root).imdb.records[1].paths["hha"])
    shutil.copyfile(run_on_tree(root).imdb.records[0].paths["hha"], picture)
    run = run_on_tree(root)
    assert_same(detect_all(run, PartialResults(path, {}, 19)), detect_all(run_on_tree(root)))
    assert len(run.detector.asked) == 3
    fewer = run_on_tree(root, **{"TEST.PROPOSAL_TOP_K": 60})
    detect_all(fewer, PartialResults(path, {}, 19))
    assert len(fewer.detector.asked) == 4


def test_damage_anywhere_is_found(tmp_path):
    whole, path = detect_all(run_on_tree()), tmp_path / "x.part"
    detect_all(run_on_tree(), PartialResults(path, {}, 19))
    data = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(data), 12):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        assert_same(detect_all(run_on_tree(), PartialResults(path, {}, 19)), whole)


def test_what_is_refused(tmp_path):
    run = run_on_tree()
    none = ImageDatabase("empty", ("bed",), ("images",), ())
    with pytest.raises(DataError, match="empty: has no images"):
        detect_all(TestRun(none, Table(), run.config))
    lonely = ImageDatabase("mine", ("bed",), ("images",), run.imdb.records)
    with pytest.raises(DataError, match="mine: has no proposals"):
        detect_all(TestRun(lonely, Table(2), run.config))
    gone = FrameRecord("gone", {"hha": str(tmp_path / "gone.png")}, size=(10, 10))
    missing = ImageDatabase("mine", ("bed",), ("hha",), (run.imdb.records[0], gone), lambda record: np.zeros((0, 4)))
    with pytest.raises(MissingFileError, match="gone.png"):
        detect_all(TestRun(missing, Table(2), run.config))

    def broken(question):
        raise NetError("blob 'cls_prob' is NaN")

    with pytest.raises(NetError, match="nyud2_hha_2015_test: image img_5020: blob 'cls_prob' is NaN"):
        detect_all(run_on_tree(table=broken))
    outside = TestRun(run.imdb, Table(), run.config, lambda record: np.array([[0, 0, 5000, 5]], np.float32))
    with pytest.raises(DataError, match="image img_5020: proposal 1 is"):
        detect_all(outside)


def test_names_of_runs():
    assert run_name(["a/fast_rcnn_iter_40000.caffemodel"]) == "fast_rcnn_iter_40000"
    assert run_name(["a/rgb.v2.caffemodel", "hha.caffemodel.h5"]) == "rgb.v2+hha"
