"""Runs read back, their curves, and the report: of one tiny run, and of several over each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from transfer.tiny_nets import write_nets, write_pairs, write_teacher

from caffe_compat.commands import make_transfer, report, train_net
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.proto import caffe_pb2, format_text, read_net
from caffe_compat.transfer.curves import Group, Point, curve, group_runs, names_of_scores, rising
from caffe_compat.transfer.report import contents
from caffe_compat.transfer.report_page import page
from caffe_compat.transfer.report_plot import draw_runs
from caffe_compat.transfer.runs import read_run

EV = "explained_variance_pool1"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.log.to_stderr", lambda: None)
    write_nets(tmp_path)
    write_pairs(tmp_path / "pairs", count=6)
    write_teacher(tmp_path)


def made(folder: str, *more: str) -> None:
    words = [
        "--teacher",
        "teacher.prototxt",
        "--student",
        "student.prototxt",
        "--layer",
        "pool1",
        "--student-layer",
        "c2",
    ]
    words += ["--teacher-weights", "teacher.caffemodel", "--source", "pairs/train_pairs.txt"]
    words += ["--val-source", "pairs/val_pairs.txt", "--max-iter", "6", "--snapshot", "4", "--test-interval", "2"]
    words += ["--display", "2", "--image-size", "40", "48", "--output", folder]
    assert make_transfer.main([*words, *(more or ("--no-measure", "--mean-norm", "1"))]) == 0


def trained(folder: str, *more: str) -> None:
    made(folder, *more)
    assert train_net.main(["--solver", f"{folder}/solver.prototxt"]) == 0


def lines(folder: str, scores: list[float | None], seed: int = 1, **start: Any) -> Path:
    """A run of which only the metrics are there."""
    records: list[dict[str, Any]] = [{"phase": "start", "iteration": 0, "random_seed": seed, **start}]
    for number, score in enumerate(scores):
        train = {"phase": "train", "iteration": 10 * number, "loss": 1.0 / (1 + number), "lr": 0.01, "seconds": number}
        test = {
            "phase": "test",
            "iteration": 10 * number,
            "net": 0,
            "scores": {EV: score},
            "loss": 1.0,
            "seconds": number,
        }
        records += [test, train, {**test, "net": 1, "scores": {EV: 99.0}}]
    path = Path(folder, "x_metrics.jsonl")
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_tiny_run_gives_a_report_of_all_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    trained("out", "--random-seed", "5", "--sweep", "12")
    (command,) = (line for line in capsys.readouterr().out.splitlines() if "report" in line)
    assert command.split()[0] == "tools/report.py" and report.main(command.split()[1:]) == 0
    said = json.loads(Path("out/report.json").read_text())
    (group,) = said["groups"]
    (run,) = group["runs"]
    assert said["score"] == EV and (run["seed"], run["iterations"], run["max_iter"]) == (5, 6, 6)
    assert [point["iteration"] for point in group["curves"][EV]] == [0, 2, 4, 6]
    assert [point["iteration"] for point in group["curves"]["lr"]] == [0, 2, 4]
    assert group["lists"] == [
        {"phase": "TRAIN", "path": "pairs/train_pairs.txt", "pairs": 6},
        {"phase": "TEST", "path": "pairs/val_pairs.txt", "pairs": 6},
    ]
    measured = json.loads(Path("out/measured.json").read_text())
    assert run["measured"] == measured and run["base_lr"] == pytest.approx(measured["base_lr"], rel=1e-6)
    scale = {layer.name: layer for layer in read_net("out/train_val.prototxt").layer}["scale_pool1"].power_param.scale
    assert measured["features"][0]["scale"] == pytest.approx(scale, rel=1e-6)
    assert measured["rates"][-1]["rate"] == measured["base_lr"] and measured["rates"][-1]["reason"] == ""
    names = {Path(file["path"]).name: file["bytes"] for file in run["files"]}
    assert names["transfer_iter_6.caffemodel"] == Path("out/transfer_iter_6.caffemodel").stat().st_size
    text = Path("out/report.md").read_text()
    last = read_run("out").tests[-1]["scores"][EV]
    for part in (
        f"to {last:.3f} at 6", "| 6 | ", "tools/make_transfer.py --teacher", "| TEST | `pairs/val_pairs.txt` | 6 |",
        "stable", torch.__version__, "transfer_iter_6.caffemodel", "tools/export_onnx.py --model out/student_deploy",
    ):  # fmt: skip
        assert part in text, part
    picture = cv2.imread("out/curve.png")
    assert picture.shape[0] > 300 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_nets_that_are_made_again_without_measuring_forget_what_was_measured() -> None:
    made("out", "--sweep", "0")
    assert Path("out/measured.json").exists()
    made("out", "--no-measure")
    assert not Path("out/measured.json").exists()


def test_runs_that_differ_by_their_seed_are_one_group_and_others_are_not() -> None:
    trained("one", "--random-seed", "1")
    trained("two", "--random-seed", "2", "--display", "3")
    trained("three", "--random-seed", "3", "--batch-size", "3")
    shutil.copytree("pairs", "elsewhere")
    trained("four", "--random-seed", "4", "--source", "elsewhere/train_pairs.txt")
    runs = [read_run(name) for name in ("one", "two", "three", "four")]
    groups = group_runs(runs)
    assert [[run.name for run in group.runs] for group in groups] == [["one", "two"], ["three"], ["four"]]
    (first, last) = (groups[0].points(EV)[index] for index in (0, -1))
    values = [curve(run, EV)[6] for run in runs[:2]]
    assert (first.iteration, last.iteration, last.count) == (0, 6, 2)
    assert last.mean == pytest.approx(np.mean(values)) and last.std == pytest.approx(np.std(values, ddof=1))
    assert (last.low, last.high) == (min(values), max(values))
    assert report.main(["one", "two", "three", "--output", "all"]) == 0
    text = Path("all/report.md").read_text()
    assert f"{last.mean:.3f} ± {last.std:.3f} at 6 (mean and standard deviation of 2 runs)" in text
    assert "## one and 1 more" in text and "## three" in text and "## Files" not in text


def test_what_was_measured_does_not_separate_seeds_but_a_rate_that_was_given_does() -> None:
    for seed in ("1", "2"):
        trained(f"swept{seed}", "--sweep", "12", "--random-seed", seed)
        trained(f"given{seed}", "--sweep", "0", "--base-lr", f"0.00{seed}", "--random-seed", seed)
    runs = [read_run(name) for name in ("swept1", "swept2", "given1", "given2")]
    assert runs[0].measured["features"] != runs[1].measured["features"]
    assert [len(group.runs) for group in group_runs(runs)] == [2, 1, 1]


def test_curves_leave_out_what_is_not_finite_and_other_test_nets() -> None:
    run = read_run(lines("a", [0.1, None, 0.3]))
    assert curve(run, EV) == {0: 0.1, 20: 0.3} and curve(run, "lr") == {0: 0.01, 10: 0.01, 20: 0.01}
    assert names_of_scores([run]) == [EV] and run.seconds == 2 and run.iterations == 20
    other = read_run(lines("b", [0.2, 0.3]))
    assert [point.iteration for point in Group((run, other)).points(EV)] == [0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 0.7, 0.8, 0.9, 1.0], True),
        ([0, 0.9, 0.99, 0.995, 0.998, 1.0], False),  # one per cent of the rise in the last fifth
        ([0, 0.5, 0.7, 0.8, 1.0, 0.9], False),
        ([0, 1], False),
        ([0.3, 0.3, 0.3, 0.3], False),
    ],
)
def test_whether_a_curve_was_still_rising(values: list[float], expected: bool) -> None:
    points = [Point(10 * number, value, None, value, value, 1) for number, value in enumerate(values)]
    assert rising(points) is expected


def test_the_drawing_has_a_band_for_several_runs_and_a_name_for_each_group() -> None:
    paths = [lines(name, [0.1 * number, 0.2, 0.4], number) for number, name in enumerate("abc")]
    runs = [read_run(path) for path in paths]
    figure = draw_runs([Group(tuple(runs[:2])), Group(tuple(runs[2:]))])
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:2] == ["explained variance on held-out pairs", "loss"] and "learning rate" in titles
    first = figure.axes[0]
    assert len(first.collections) == 1 and len(first.lines) == 1 + 2 + 1
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["a and 1 more", "c"]
    np.testing.assert_allclose(first.lines[0].get_ydata(), [0.05, 0.2, 0.4])


def test_a_page_says_where_it_rises_and_has_at_most_twelve_rows_of_a_curve() -> None:
    run = read_run(lines("a", [0.01 * number for number in range(40)]))
    text = page(contents([Group((run,))], "tools/transfer.py --x", ["tools/y.py"]))
    rows = [line for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == 12 and rows[0].startswith("| 0 |") and rows[-1].startswith("| 390 |")
    assert "still rising" in text and "tools/transfer.py --x" in text and "tools/y.py" in text


def test_a_training_that_is_no_transfer_is_reported_too() -> None:
    records = [{"phase": "test", "iteration": 5 * i, "net": 0, "scores": {"accuracy": 0.1 * i, "each": [1, 2]}}
               for i in range(3)]  # fmt: skip
    Path("m").mkdir()
    Path("m/lenet_metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert report.main(["m"]) == 0
    assert "accuracy goes from 0.000 at iteration 0 to 0.200 at 10" in Path("m/report.md").read_text()


def test_what_cannot_be_reported_is_named() -> None:
    with pytest.raises(MissingFileError, match=r"pairs.*expected one file \*_metrics.jsonl, .*found none"):
        report.main(["pairs"])
    with pytest.raises(MissingFileError, match="nowhere"):
        report.main(["nowhere"])
    lines("a", [0.1])
    shutil.copy("a/x_metrics.jsonl", "a/y_metrics.jsonl")
    with pytest.raises(MissingFileError, match="found x_metrics.jsonl, y_metrics.jsonl; name one"):
        report.main(["a"])
    with pytest.raises(UsageError, match="expected --output"):
        report.main(["a/x_metrics.jsonl", "a/y_metrics.jsonl"])
    with pytest.raises(UsageError, match="named twice"):
        report.main(["a/x_metrics.jsonl", "./a/x_metrics.jsonl", "--output", "o"])
    Path("a/x_metrics.jsonl").write_text('{"phase": "start", "iteration": 0}\n')
    with pytest.raises(DataError, match="holds no iteration and no test yet"):
        report.main(["a/x_metrics.jsonl"])
    trained("out")
    for text in (
        "[]",
        '{"features": 3}',
        '{"rates": [{"rate": [1]}]}',
        '{"base_lr": {}}',
        '{"rates": [{"rate": 1e999}]}',
    ):
        Path("out/measured.json").write_text(text)
        with pytest.raises(DataError, match=r"out/measured.json: expected an object"):
            report.main(["out"])
    Path("out/measured.json").write_text('{"features": [{"scale": 1}]}')
    with pytest.raises(DataError, match=r"out/measured.json: 'features': expected a 'layer'"):
        report.main(["out"])


def test_a_report_of_a_solver_whose_net_is_gone() -> None:
    """It is a group of its own only as far as its solver says."""
    trained("out")
    Path("out/train_val.prototxt").unlink()
    run = read_run("out")
    assert run.lists == () and run.setting and run.solver.max_iter == 6
    shutil.move("out/solver.prototxt", "gone.prototxt")
    assert read_run("out").setting == "" and report.main(["out"]) == 0
    assert format_text(run.solver) == format_text(caffe_pb2.SolverParameter.FromString(run.solver.SerializeToString()))
