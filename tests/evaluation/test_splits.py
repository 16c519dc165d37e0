"""The mean of evaluations over splits."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from evaluation.test_action import CLASSES, make_set
from program import call

from caffe_compat.errors import DataError, UsageError
from caffe_compat.evaluation.database import evaluate_database
from caffe_compat.evaluation.reports import write_reports
from caffe_compat.evaluation.result import Evaluation
from caffe_compat.evaluation.splits import mean_over_splits, splits_table, write_splits


def make_runs(root: Path, clips: tuple[int, ...] = (9, 9, 9)) -> tuple[list[Path], list[Evaluation]]:
    """As test_net lays them out: IMDB/NET/eval.json."""
    folders, found = [], []
    for number, count in enumerate(clips, start=1):
        folders.append(root / f"jhmdb_flow_split{number}_test" / "net")
        folders[-1].mkdir(parents=True)
        found.append(evaluate_database(*make_set(number, count)))
        write_reports(folders[-1], found[-1])
    return folders, found


def test_the_mean_of_three_splits(tmp_path: Path) -> None:
    folders, evaluations = make_runs(tmp_path)
    found = mean_over_splits(folders)
    assert found.names == tuple(f"jhmdb_flow_split{k}_test" for k in (1, 2, 3)) and found.classes == CLASSES
    assert found.mean == pytest.approx(sum(one.ap.mean() for one in evaluations) / 3)
    np.testing.assert_allclose(found.class_means, np.mean([one.ap for one in evaluations], 0))
    areas = [one.video.area_of_mean for one in evaluations if one.video is not None]
    np.testing.assert_allclose(found.video, areas)
    lines = splits_table(found).splitlines()
    assert lines[0] == "split 1: jhmdb_flow_split1_test"
    shown = {line.split()[0]: line.split()[1:] for line in lines[4:8]}
    for c, name in enumerate(CLASSES):
        values = [*(one.ap[c] for one in evaluations), found.class_means[c]]
        assert shown[name] == [f"{100 * value:.2f}" for value in values]
    assert shown["mean"] == [f"{100 * value:.2f}" for value in (*found.means, found.mean)]
    assert lines[12].startswith("video AUC from 0.5") and lines[12].endswith(f"{100 * np.mean(areas, 0)[4]:.2f}")


def test_files(tmp_path: Path) -> None:
    folders, evaluations = make_runs(tmp_path)
    done = call("average_splits", *folders[:2], folders[2] / "eval.json", "--output", tmp_path / "new" / "table7")
    assert done.status == 0 and "mean of the splits" in done.stdout, done.stderr
    content = json.loads((tmp_path / "new/table7.json").read_text())
    expected = float(np.mean([one.mean for one in evaluations]))
    assert content["mean"] == pytest.approx(expected) and len(content["video"]["0.5"]["auc"]) == 3
    rows = list(csv.reader((tmp_path / "new/table7.csv").open()))
    assert rows[0][1:] == [*(f"jhmdb_flow_split{k}_test" for k in (1, 2, 3)), "mean"]
    assert [row[0] for row in rows[1:]] == [*CLASSES, "mean"]
    assert float(rows[-1][-1]) == pytest.approx(expected, rel=1e-5)
    assert (tmp_path / "new/table7.png").read_bytes()[:4] == b"\x89PNG"


def test_a_class_that_a_split_lacks(tmp_path: Path) -> None:
    """Its mean is over the others; that of a split is over the classes that it has."""
    folders, evaluations = make_runs(tmp_path, (9, 2))
    found = mean_over_splits(folders)
    assert np.isnan(found.ap[1, 2]) and found.class_means[2] == evaluations[0].ap[2]
    assert found.mean == pytest.approx((evaluations[0].mean + evaluations[1].mean) / 2)
    assert splits_table(found).splitlines()[5].split()[2] == "-"
    write_splits(tmp_path / "m", found)
    assert json.loads((tmp_path / "m.json").read_text())["classes"]["wave"]["ap"][1] is None


def test_what_is_refused(tmp_path: Path) -> None:
    folders, _ = make_runs(tmp_path, (3, 3))
    for runs, told in ((folders[:1], "1 evaluation, expected"), ([*folders, folders[0]], "is there more than once")):
        with pytest.raises(UsageError, match=told):
            mean_over_splits(runs)
    file = folders[1] / "eval.json"
    good = json.loads(file.read_text())
    for change, told in (
        ({"metric": "voc"}, r"metric voc, in .* action: expected one rule"),
        ({"threshold": 0.7}, r"threshold 0\.7, in .* 0\.5"),
        ({"classes": {"run": {"ap": 0.5}}}, "classes run, in .* jump, run, wave"),
        ({"classes": {"run": {}}}, "no evaluation that test_net or reval writes: KeyError"),
        ({"classes": {}}, "without classes"),
        ({"mean": 1.5}, "1.5 is no part of 1"),
        ({"mean": "high"}, "no evaluation"),
        ({"video": {"thresholds": [0.5], "mean_curve": []}}, "not one figure for each threshold"),
    ):
        file.write_text(json.dumps(good | change))
        with pytest.raises(DataError, match=rf"eval\.json: .*{told}"):
            mean_over_splits(folders)
    file.write_text(json.dumps({name: value for name, value in good.items() if name != "video"}))
    assert mean_over_splits(folders).video.shape == (2, 0)
    file.write_text("[]")
    done = call("average_splits", *folders)
    assert done.status == 2 and "eval.json" in done.stderr
