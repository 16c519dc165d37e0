"""Tables of rows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from caffe_compat.errors import DataError
from caffe_compat.experiments.declarations import read_experiment, read_setting
from caffe_compat.experiments.stages import Stage
from caffe_compat.experiments.tables import Found, RowResult, read_result, render, summary

ROWS = [
    RowResult(
        "1A",
        "no initialisation",
        22.7,
        {1: Found(10.0, {"x": 10.0}, {"pool5": 0.2}), 2: Found(14.0, {"x": 14.0}, {"pool5": 0.3}, ("s",))},
        61.2,
    ),
    RowResult("1B", "copied", 25.1, {1: Found(20.04, {"x": math.nan})}, 5.0),
    RowResult("2C", "from VGG*", None, reason="no VGG16 here"),
]


def test_text() -> None:
    setting = read_setting("scenes")
    text = render(read_experiment("table1"), setting, ROWS)
    lines = text.splitlines()
    assert lines[0].endswith(f"; ours on: {setting.title}")
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        *("row", "what it is", "paper, NYUD2", "ours, mean", "least to greatest", "deviation", "seeds"),
        *("explained variance", "seconds"),
    ]
    assert [cell.strip() for cell in lines[4].split("|")[1:-1]] == [
        *("1A", "no initialisation", "22.7", "12.0", "10.0 to 14.0", "2.8", "2", "0.25", "61"),
    ]
    assert [cell.strip() for cell in lines[5].split("|")[1:-1]][3:7] == ["20.0", "20.0 to 20.0", "", "1"]
    assert [cell.strip() for cell in lines[6].split("|")[1:-1]][2:] == ["", "-", "", "", "0", "", ""]
    assert "2C: no VGG16 here" in lines and len({len(line) for line in lines[2:7]}) == 1
    timing = setting.schedules["finetune"]
    assert lines[-2] == setting.about.strip() and f"finetune {timing.iters} at {timing.base_lr:g}" in lines[-1]


def test_a_table_says_whose_figures_the_paper_s_are_and_on_what_ours() -> None:
    table7, clips = read_experiment("table7"), read_setting("clips")
    row = RowResult("transfer", "t", 35.7, {1: Found(10.0, {"left": 10.0})})
    lines = render(table7, clips, [row]).splitlines()
    assert (
        lines[0].endswith("; ours on: drawn clips (7 ways of moving, 128 x 96 pixels)")
        and "| paper, JHMDB |" in lines[2]
    )
    found = summary(table7, clips, [row])
    assert (found["paper_data"], found["data"]) == ("JHMDB", clips.title)
    assert summary(read_experiment("table1"), clips, [])["paper_data"] == "NYUD2"


def test_numbers() -> None:
    found = json.loads(json.dumps(summary(read_experiment("table1"), read_setting("scenes"), ROWS), allow_nan=False))
    first, second, third = found["rows"]
    assert (first["mean"], first["least"], first["greatest"], first["deviation"]) == (12.0, 10.0, 14.0, 2.828)
    assert first["seeds"]["2"] == {
        "mean": 14.0,
        "classes": {"x": 14.0},
        "explained_variance": {"pool5": 0.3},
        "stages": ["s"],
    }
    assert second["deviation"] is None and second["seeds"]["1"]["classes"] == {"x": None}
    assert third["mean"] is None and third["reason"] == "no VGG16 here" and third["seeds"] == {}


def test_results_are_read_from_the_evaluation(tmp_path: Path) -> None:
    stage = Stage("test", "a", str(tmp_path), ())
    with pytest.raises(DataError, match="0 evaluations, expected one"):
        read_result(stage)
    folder = Path(stage.folder) / "imdb/net"
    folder.mkdir(parents=True)
    classes = {"bed": {"ap": 0.5}, "sofa": {"ap": 0.25}, "lamp": {"ap": None}}
    (folder / "eval.json").write_text(json.dumps({"mean": 0.375, "classes": classes}))
    found = read_result(stage)
    assert found.mean == 37.5 and found.classes["sofa"] == 25.0 and math.isnan(found.classes["lamp"])
    assert found.variance == {} and found.folders == (stage.folder,)
    assert read_result(stage, ["sofa"]).mean == 25.0
    with pytest.raises(DataError, match="no class 'couch', it has bed, sofa, lamp"):
        read_result(stage, ["couch"])


def test_explained_variance_is_that_of_the_transfer_s_last_test(tmp_path: Path) -> None:
    transfer = Stage("transfer", "t", str(tmp_path), ())
    test = Stage("test", "a", str(tmp_path), (), after=(transfer,))
    folder = Path(test.folder) / "imdb/net"
    folder.mkdir(parents=True)
    (folder / "eval.json").write_text(json.dumps({"mean": 0.5, "classes": {"bed": {"ap": 0.5}}}))
    metrics = Path(transfer.folder) / "transfer_metrics.jsonl"
    metrics.parent.mkdir()
    lines = [{"phase": "start", "iteration": 0}]
    for iteration, value in ((0, -0.5), (10, 0.125)):
        scores = {"explained_variance_pool5": value, "dead_units_pool5": 0.0}
        lines.append({"phase": "test", "iteration": iteration, "net": 0, "loss": 1.0, "scores": scores, "seconds": 1.0})
    metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = read_result(test)
    assert found.variance == {"pool5": 0.125} and found.folders == (transfer.folder, test.folder)


def test_regions_at_their_overlap(tmp_path: Path) -> None:
    stage = Stage("test", "masks", tmp_path.as_posix(), ())
    folder = Path(stage.folder) / "imdb" / "net"
    folder.mkdir(parents=True)
    entries = [
        {"threshold": threshold, "mean": mean, "classes": {"x": {"ap": mean}}}
        for threshold, mean in ((0.5, 0.4), (0.7, 0.25))
    ]
    (folder / "segm_eval.json").write_text(json.dumps({"skipped": [], "thresholds": entries}))
    assert [read_result(stage, overlap=overlap).mean for overlap in (0.5, 0.7)] == [40.0, 25.0]
    assert read_result(stage, ["x"], 0.7).classes == {"x": 25.0}
    with pytest.raises(DataError, match=r"no overlap 0\.6, it has 0\.5, 0\.7"):
        read_result(stage, overlap=0.6)
    with pytest.raises(DataError, match="0 evaluations"):
        read_result(stage)
