"""The check of the branch's evaluations itself: it sees what is wrong, and allows only what the branch leaves open."""

import shutil

import numpy as np
import pytest
from golden_fork.detection_evaluation import check
from program import ROOT

from caffe_compat.evaluation.tables import branch_text

GOLDEN = ROOT / "tests" / "data" / "golden_fork" / "detection"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "golden")
    return tmp_path / "golden"


def change(folder, file="fastrcnn.npz", **changed):
    """Replace arrays (None: leave them out); ``__`` stands for ``/``."""
    with np.load(folder / file, allow_pickle=False) as stored:
        held = {name: stored[name] for name in stored.files}
    held |= {name.replace("__", "/"): value for name, value in changed.items()}
    np.savez(folder / file, **{name: value for name, value in held.items() if value is not None})


def wrong(folder):
    return sorted(name for name, problem in check(folder) if problem)


def test_the_public_folder(folder):
    names = [name for name, problem in check(folder)]
    assert not wrong(folder) and len(names) == len(set(names)) > 500


def test_what_is_wrong_is_seen(folder):
    with np.load(folder / "fastrcnn.npz", allow_pickle=False) as stored:
        ap, rec, text = stored["test/ap/1"], stored["eval/3/rec"], str(stored["test/eval_txt"])
    change(folder, eval__3__rec=rec * 1.001)
    assert wrong(folder) == ["eval/3/rec"]
    change(folder, eval__3__rec=rec, test__eval_txt=np.array(text.replace("bed ", "beds")))
    assert wrong(folder) == ["test/eval_txt"]
    change(folder, test__eval_txt=np.array(text), test__ap__1=ap + 0.01)
    assert wrong(folder) == ["test/ap/1", "test/eval_txt"]
    change(folder, test__ap__1=np.array(np.nan))
    assert wrong(folder) == ["test/ap/1", "test/eval_txt"]
    change(folder, test__ap__1=ap, test__rec__2=rec)
    assert wrong(folder) == ["test/rec/2"]


def test_classes_without_detections(folder):
    """With objects their average precision is 0; without, the branch's sum over nothing is 0 as well."""
    with np.load(folder / "fastrcnn.npz", allow_pickle=False) as stored:
        aps = [float(stored[f"test/ap/{k}"]) for k in range(1, 20)]
        names = [line[:20].strip() for line in str(stored["test/eval_txt"]).splitlines()][:-1]
        boxes = [name for name in stored.files if name.startswith(("test/nms_boxes/1/", "test/nms_boxes/6/"))]
    assert not np.isnan(aps[0]) and np.isnan(aps[5])
    aps[0] = aps[5] = 0.0
    none = {f"test__{kind}__{k}": np.zeros(0) for kind in ("prec", "rec") for k in (1, 6)}
    change(
        folder,
        **dict.fromkeys(boxes),
        **none,
        test__ap__1=np.array(0.0),
        test__ap__6=np.array(0.0),
        test__eval_txt=np.array(branch_text(names, np.array(aps), np.nan)),
    )
    assert not wrong(folder)


def test_equal_scores_may_stand_in_any_order(folder):
    """One image, two objects, three detections of one score: right, wrong, right."""
    dets = np.array([[0, 0, 9, 9, 0.5], [40, 0, 49, 9, 0.5], [20, 0, 29, 9, 0.5]], "f4")
    case = {
        "eval__0__images": np.array(1),
        "eval__0__0__dets": dets,
        "eval__0__0__gt": np.array([[0, 0, 9, 9], [20, 0, 29, 9]], float),
    }
    for hits in ((1, 1, 0), (1, 0, 1), (0, 1, 1)):
        rec, prec = np.cumsum(hits) / 2, np.cumsum(hits) / (1, 2, 3)
        envelope = np.maximum.accumulate(prec[::-1])[::-1]
        ap = np.array(sum(envelope[np.array(hits) == 1]) / 2)
        change(folder, **case, eval__0__rec=rec, eval__0__prec=prec, eval__0__ap=ap)
        assert not [name for name in wrong(folder) if name.startswith("eval/0/")], hits
    change(folder, eval__0__ap=np.array(0.5), eval__0__rec=np.array([0.5, 1, 0.5]))
    assert {"eval/0/ap", "eval/0/rec"} <= set(wrong(folder))
