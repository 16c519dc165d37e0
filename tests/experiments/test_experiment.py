"""The command ``experiment``: lists, dry runs, and a small run from beginning to end."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest
from experiments.tiny import tiny_setting
from program import call, end, start
from waiting import wait_for

from caffe_compat.experiments.declarations import read_experiment


def test_list(tmp_path: Path) -> None:
    done = call("experiment", "--list", "--on", "nyud2", folder=tmp_path)
    assert done.status == 0, done.stderr
    assert "1D" in done.stdout and "paper 30.5" in done.stdout
    assert "needs splits (missing), boxes (missing), caffenet (missing)" in done.stdout
    assert "splits: missing: data/nyud2/benchmarkData/metadata/nyusplits.mat\n    from data/fetch.py" in done.stdout
    for name in ("table1", "table4", "table5", "table6", "disparity", "loss_variant", "longer"):
        assert f"\n{name}: {read_experiment(name).title}" in done.stdout


def test_list_names_rows_that_cannot_run(tmp_path: Path) -> None:
    done = call("experiment", "--list", "table1", "--on", "scenes", folder=tmp_path)
    line = next(line for line in done.stdout.splitlines() if line.split()[0:1] == ["2C"])
    assert "cannot run: no VGG16 here" in line and "needs nothing" in done.stdout


def test_a_setting_is_chosen_by_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_COMPAT_SHARED", str(tmp_path / "nowhere"))
    done = call("experiment", "table1", "--dry-run", "--rows", "3A", folder=tmp_path)
    assert done.status == 0 and "(--on scenes)" in done.stdout.splitlines()[0]
    assert not list(tmp_path.iterdir())


def test_dry_run_shows_commands(tmp_path: Path) -> None:
    words = ["--rows", "3A", "--seeds", "1", "2", "--on", "scenes", "--dry-run"]
    done = call("experiment", "table1", *words, folder=tmp_path)
    commands = [line for line in done.stdout.splitlines() if line.startswith("$ ")]
    assert [line.split()[1] for line in commands].count("make_scenes") == 4  # two data sets a seed
    assert [line.split()[1] for line in commands].count("test_net") == 2 and "@" not in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("table8",), "no experiment 'table8'"),
        (("table1", "table7"), "table1 runs on nyud2, mosd, scenes, table7 on jhmdb, clips: say --on"),
        (("table1", "--on", "nyu2"), "expected one of clips, jhmdb, mosd, nyud2, scenes (did you mean 'nyud2'?)"),
        (("table1", "--rows", "1E"), "--rows: no row '1E'; there are 1A, 1B"),
        (("table1", "--output", "elsewhere"), "--output elsewhere: expected a folder below output/"),
        (("table1", "--jobs", "0"), "--jobs is 0, expected 1 or more"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = call("experiment", *words, folder=tmp_path)
    assert done.status == 2 and message in done.stderr


def test_rows_that_cannot_run_are_in_the_table(tmp_path: Path) -> None:
    done = call("experiment", "table1", "--on", "scenes", "--rows", "2D", folder=tmp_path)
    assert done.status == 1 and "2D: no VGG16 here" in done.stdout
    (row,) = json.loads((tmp_path / "output/experiments/scenes/table1/table.json").read_text())["rows"]
    assert row["paper"] == 33.6 and row["mean"] is None and row["reason"].startswith("no VGG16 here")


def test_flow_runs_on_drawn_clips_where_its_data_are_not_there(tmp_path: Path) -> None:
    done = call("experiment", "table7", "--dry-run", "--rows", "random", folder=tmp_path)
    assert done.status == 0 and "(--on clips)" in done.stdout.splitlines()[0]
    shown = call("experiment", "--list", "table7", folder=tmp_path).stdout
    assert shown.startswith("on drawn clips") and re.search(r"  transfer +flow, transfer at pool5 from colour", shown)


@pytest.mark.slow
def test_a_table_from_beginning_to_end(tmp_path: Path) -> None:
    """Stopped on the way, it goes on; a second time nothing is left to do."""
    setting = tiny_setting(tmp_path).name
    words = ["table1", "table5", "--on", setting, "--rows", "1D", "3A", "3C", "D", "RGB+D", "--jobs", "2"]
    process = start("experiment", *words, folder=tmp_path)
    stages = tmp_path / "output/experiments/tiny/stages"
    wait_for(lambda: any(stages.glob("detector-*")), process)
    process.send_signal(signal.SIGTERM)
    stopped = end(process)
    assert stopped.status == 143, stopped.stdout + stopped.stderr
    assert "the same command goes on" in stopped.stderr
    done = end(start("experiment", *words, folder=tmp_path))
    assert done.status == 0, done.stdout + done.stderr
    found = {}
    for name in ("table1", "table5"):
        table = json.loads((tmp_path / f"output/experiments/tiny/{name}/table.json").read_text())
        found |= {row["row"]: row["mean"] for row in table["rows"]}
    assert list(found) == ["1D", "3A", "3C", "D", "RGB+D"] and all(value is not None for value in found.values())
    began = time.monotonic()
    again = end(start("experiment", *words, folder=tmp_path))
    assert again.status == 0 and "making" not in again.stdout and "$ " not in again.stdout
    assert time.monotonic() - began < 60
