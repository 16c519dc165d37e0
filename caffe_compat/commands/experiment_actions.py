"""What ``experiment`` does."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tqdm import tqdm

from caffe_compat.errors import UsageError, nearest, printable
from caffe_compat.experiments.declarations import (
    Experiment,
    Need,
    Setting,
    experiment_names,
    read_experiment,
    read_setting,
    setting_names,
)
from caffe_compat.experiments.planning import Planner
from caffe_compat.experiments.running import Outcome, Runner, finished, last_line, seconds_of
from caffe_compat.experiments.stages import Stage, in_order
from caffe_compat.experiments.tables import Found, RowResult, read_result, render, summary
from caffe_compat.experiments.workplace import Unavailable
from caffe_compat.files import write_file

__all__ = ["choose_setting", "list_experiments", "run_experiments", "write_table"]

QUIET = 30.0
"""Seconds between lines on progress where nobody looks at a terminal."""


@dataclass(frozen=True)
class _Row:
    """A row that was asked for: its tests by seed, or why there are none."""

    experiment: Experiment
    name: str
    tests: dict[int, Stage]
    reason: str = ""
    test_set: str = ""
    overlap: float = 0.0


def run_experiments(args: argparse.Namespace) -> int:
    """Run what the arguments say.

    Returns:
        0; 1 if a row could not be made; 128 and the signal's number when stopped.

    Raises:
        CaffeCompatError: a declaration that is wrong, or a folder that cannot be used.
    """
    folder = _below_output(args.output)
    experiments = [read_experiment(name) for name in args.names]
    setting = choose_setting(args.on, experiments)
    print(printable(f"on {setting.title} (--on {setting.name})"), flush=True)
    rows = _rows(args, experiments, setting, folder / setting.name / "stages")
    tests = [test for row in rows for test in row.tests.values()]
    if args.dry_run:
        print("\n".join(_commands(tests)))
        print("\n".join(printable(f"{row.name}: {row.reason}") for row in rows if row.reason))
        return 0
    with _Watch(len(in_order(tests))) as watch:
        outcome = Runner(args.jobs, args.gpu, watch.tell, watch.look).run(tests)
    complete = True
    means = {name: found.mean for name, found in setting.sets.items()}
    for experiment in experiments:
        results = [_result(row, outcome, means) for row in rows if row.experiment is experiment]
        complete &= all(result.values for result in results)
        write_table(folder / setting.name / experiment.name, experiment, setting, results)
    if outcome.stopped_by:
        print("stopped; the same command goes on", file=sys.stderr)
        return 128 + outcome.stopped_by
    return 0 if complete else 1


def choose_setting(name: str | None, experiments: Sequence[Experiment]) -> Setting:
    """The setting of a name; of None the first of the experiments' that has all that it needs.

    Raises:
        UsageError: the experiments run on other settings than each other.
    """
    if name is not None:
        return read_setting(name)
    first = experiments[0]
    for other in experiments[1:]:
        if other.settings != first.settings:
            first_on, other_on = (", ".join(one.settings) for one in (first, other))
            raise UsageError(f"{first.name} runs on {first_on}, {other.name} on {other_on}: say --on, or run one")
    known = setting_names()
    settings = [read_setting(word) for word in first.settings if word in known]
    return next((one for one in settings if not _missing(one.needs.values())), settings[-1])


def _missing(needs: Iterable[Need]) -> list[Need]:
    return [need for need in needs if not Path(need.path).exists()]


def _below_output(path: Path) -> Path:
    """The folder as the detectors' commands reach it: they write below ``output/``."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    if path.parts[:1] != ("output",) or len(path.parts) < 2 or ".." in path.parts:
        raise UsageError(f"--output {path}: expected a folder below output/, where train_net and test_net write")
    return path


def _rows(args: argparse.Namespace, experiments: Sequence[Experiment], setting: Setting, folder: Path) -> list[_Row]:
    """All rows that are asked for, with their stages."""
    known = [name for experiment in experiments for name in experiment.rows]
    for name in args.rows:
        if name not in known:
            raise UsageError(f"--rows: no row '{name}'{nearest(name, known)}; there are {', '.join(known)}")
    find = cache(read_experiment)
    planners = [Planner(setting, seed, folder.as_posix(), find) for seed in dict.fromkeys(args.seeds)]
    return [
        _row(planners, experiment, name)
        for experiment in experiments
        for name in experiment.rows
        if not args.rows or name in args.rows
    ]


def _row(planners: Sequence[Planner], experiment: Experiment, name: str) -> _Row:
    try:
        tests = {planner.seed: planner.test(experiment, name) for planner in planners}
    except Unavailable as error:
        return _Row(experiment, name, {}, str(error))
    missing = _missing(need for stage in in_order(tests.values()) for need in stage.needs)
    if missing:
        return _Row(experiment, name, {}, f"{missing[0].path} is missing; it comes from {missing[0].comes_from}")
    row = planners[0].row(experiment, name)[2]
    return _Row(experiment, name, tests, test_set=row.test, overlap=row.masks.overlap if row.masks else 0.0)


def _commands(tests: Sequence[Stage]) -> Iterator[str]:
    for stage in in_order(tests):
        yield f"# {stage.folder}" + (" (finished)" if finished(stage) else "")
        yield from ("$ " + " ".join(stage.filled(word) for word in words) for words in stage.commands)


def _result(row: _Row, outcome: Outcome, means: Mapping[str, Sequence[str]]) -> RowResult:
    entry = row.experiment.rows[row.name]
    found: dict[int, Found] = {}
    reasons, seconds = [row.reason] if row.reason else [], []
    for seed, test in row.tests.items():
        if test.name in outcome.failed or not finished(test):
            reasons.append(f"seed {seed}: {outcome.failed.get(test.name, 'not finished')}")
            continue
        found[seed] = read_result(test, means[row.test_set], row.overlap)
        seconds.append(sum(seconds_of(stage) for stage in in_order([test])))
    mean = sum(seconds) / len(seconds) if seconds else 0.0
    return RowResult(row.name, entry.what, entry.paper, found, mean, "; ".join(reasons))


def write_table(folder: Path, experiment: Experiment, setting: Setting, results: list[RowResult]) -> None:
    """Print a table, and write it as ``table.md`` and ``table.json``.

    Raises:
        WriteError: one cannot be written.
    """
    text = render(experiment, setting, results)
    write_file(folder / "table.md", text)
    write_file(folder / "table.json", json.dumps(summary(experiment, setting, results), indent=1) + "\n")
    print(printable(f"\n{text}\nwrote {folder / 'table.md'} and {folder / 'table.json'}"), flush=True)


def _latest(stage: Stage) -> str:
    """What a stage said last, without what a log puts before it; of a command that says nothing its name."""
    line = last_line(f"{stage.folder}/stage.log", details=False)
    return f"{line[2:].split()[0]} runs" if line.startswith("$ ") else line.rpartition("] ")[2]


class _Watch:
    """Says what goes on: a bar where there is a terminal, else a line now and then."""

    def __init__(self, stages: int) -> None:
        self._seen = 0.0
        self._since: dict[str, float] = {}
        self._bar = tqdm(total=stages, unit="stage", disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def tell(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        self._bar.write(printable(line))
        sys.stdout.flush()

    def look(self, running: Sequence[Stage], done: int) -> None:
        """Show how far the stages are that run, and how many are done."""
        pause = QUIET if self._bar.disable else 0.5
        if time.monotonic() - self._seen < pause:
            return
        self._seen = time.monotonic()
        self._since = {stage.name: self._since.get(stage.name, self._seen) for stage in running}
        latest = {stage.name: _latest(stage) for stage in running}
        if self._bar.disable:
            for name, line in latest.items():
                self.tell(f"  {self._seen - self._since[name]:5.0f} s  {name}: {line}")
            return
        self._bar.n = done
        self._bar.set_postfix_str(printable(" | ".join(line[:60] for line in latest.values())))


def list_experiments(args: argparse.Namespace) -> int:
    """Print every row of the experiments, what they need, and whether that is there."""
    groups: dict[str, list[Experiment]] = {}
    for experiment in map(read_experiment, args.names or experiment_names()):
        groups.setdefault(args.on or choose_setting(None, [experiment]).name, []).append(experiment)
    texts = ["\n".join(_listed(experiments, read_setting(name), args)) for name, experiments in groups.items()]
    print(printable("\n\n".join(texts)))
    return 0


def _listed(experiments: Sequence[Experiment], setting: Setting, args: argparse.Namespace) -> Iterator[str]:
    """Lines on rows, then on what the setting needs."""
    folder = (args.output / setting.name / "stages").as_posix()
    planner = Planner(setting, args.seeds[0], folder, cache(read_experiment))
    yield f"on {setting.title} (--on {setting.name}; others: {', '.join(set(setting_names()) - {setting.name})})"
    for experiment in experiments:
        width = max(map(len, experiment.rows))
        longest = max(len(row.what) for row in experiment.rows.values())
        yield f"\n{experiment.name}: {experiment.title}"
        for name, row in experiment.rows.items():
            paper = "-" if row.paper is None else f"{row.paper:.1f}"
            state = _state(planner, experiment, name)
            yield f"  {name:<{width}}  {row.what:<{longest}}  paper {paper:>4}  {state}"
    yield "\nneeds:" if setting.needs else "\nneeds nothing: all data and weights are made"
    for title, need in setting.needs.items():
        there = "yes" if Path(need.path).exists() else "missing"
        yield f"  {title}: {there}: {need.path}\n    from {need.comes_from}"
    yield from _made(setting)


def _state(planner: Planner, experiment: Experiment, name: str) -> str:
    """Whether a row can run, and what it needs."""
    try:
        stages = in_order([planner.test(experiment, name)])
    except Unavailable as error:
        return f"cannot run: {error}"
    titles = {need.path: title for title, need in planner.setting.needs.items()}
    needs = {need.path: need for stage in stages for need in stage.needs}
    words = [f"{titles[path]} ({'missing' if _missing([need]) else 'yes'})" for path, need in needs.items()]
    done = sum(map(finished, stages))
    return f"{done}/{len(stages)} stages done; needs {', '.join(words) or 'nothing'}"


def _made(setting: Setting) -> Iterator[str]:
    """What the setting makes itself, and how."""
    if setting.prepare:
        yield "made here:"
    for title, entry in setting.prepare.items():
        for command in entry.run:
            yield f"  {title:<14} {command}"
