"""Running stages, with processes that are none: order, what is skipped, what goes on, what is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from caffe_compat.errors import DataError, UsageError
from caffe_compat.experiments.declarations import Need
from caffe_compat.experiments.running import Process, Runner, finished, last_line, seconds_of
from caffe_compat.experiments.stages import CORES, HERE, Stage, in_order, longest_first
from caffe_compat.locks import hold


@dataclass
class FakeProcess:
    """Ends at the second look, with a status."""

    status: int
    pid: int = 0
    looks: int = 0
    signals: list[int] = field(default_factory=list)

    def poll(self) -> int | None:
        self.looks += 1
        return self.status if self.looks > 1 else None

    def send_signal(self, number: int) -> None:
        self.signals.append(number)
        self.status = 128 + number


@dataclass
class Fakes:
    """Starts fake processes and remembers them; ``fails``: status by word."""

    fails: dict[str, int] = field(default_factory=dict)
    started: list[list[str]] = field(default_factory=list)
    running: list[FakeProcess] = field(default_factory=list)
    most: int = 0
    then: Callable[[Sequence[str]], None] = lambda words: None

    def __call__(self, words: Sequence[str], log: IO[bytes]) -> Process:
        self.started.append(list(words))
        log.write(f"{words[1]} says so\n".encode())
        self.running = [process for process in self.running if process.looks < 2]
        process = FakeProcess(self.fails.get(words[1], 0))
        self.running.append(process)
        self.most = max(self.most, len(self.running))
        self.then(words)
        return process

    @property
    def words(self) -> list[str]:
        return [words[1] for words in self.started]


def stage(label: str, *after: Stage, words: Sequence[str] = ("one",), **others: object) -> Stage:
    commands = tuple(("test_net", f"{label}.{word}") for word in words)
    return Stage("prepare", label, "output/s", commands, after=after, **others)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe_compat.experiments.running.POLL", 0.0)


def diamond() -> list[Stage]:
    a = stage("a")
    b, c = stage("b", a), stage("c", a)
    return [a, b, c, stage("d", b, c)]


def test_each_once_after_what_it_depends_on() -> None:
    fakes, stages = Fakes(), diamond()
    outcome = Runner(start=fakes).run([stages[3], stages[1]])
    assert fakes.words == ["a.one", "b.one", "c.one", "d.one"] and not outcome.failed
    assert all(map(finished, stages)) and seconds_of(stages[3]) >= 0
    assert Runner(start=fakes).run(stages).failed == {} and len(fakes.started) == 4


def test_several_at_once() -> None:
    fakes = Fakes()
    Runner(jobs=3, start=fakes).run([diamond()[3], stage("e")])
    assert fakes.most == 2 and fakes.words[:2] == ["a.one", "e.one"]
    with pytest.raises(UsageError, match="--jobs is 0"):
        Runner(jobs=0)


def test_a_failure_keeps_only_dependents_from_running_and_is_gone_on_from() -> None:
    a = stage("a", words=("one", "two"))
    b, c = stage("b", a), stage("c")
    fakes, told = Fakes({"a.two": 2}), list[str]()
    outcome = Runner(start=fakes, tell=told.append).run([b, c])
    assert fakes.words == ["a.one", "a.two", "c.one"]
    assert outcome.failed[b.name] == outcome.failed[a.name]
    assert "a.two says so (status 2; see output/s/prepare-a-" in outcome.failed[a.name]
    assert finished(c) and not finished(a)
    again = Fakes()
    assert not Runner(start=again, tell=told.append).run([b, c]).failed
    assert again.words == ["a.two", "b.one"], "the command that had ended well is not run again"
    assert any(line.startswith("going on with") for line in told)


def test_what_a_stage_is_made_of() -> None:
    found = stage("a", words=("x",), files={"n.prototxt": f'net: "{HERE}/n"'})
    Runner(gpu=0, start=(fakes := Fakes())).run([found])
    assert fakes.started == [["test_net", "--gpu", "0", "a.x"]]
    assert (Path(found.folder) / "n.prototxt").read_text() == f'net: "{found.folder}/n"'
    assert (Path(found.folder) / "stage.log").read_text().startswith("$ test_net --gpu 0 a.x\n")


def test_stars_stand_for_the_one_file_that_fits() -> None:
    made = stage("a")
    user = Stage("test", "b", "output/s", (("test_net", f"{made.folder}/*/m.caffemodel"),), after=(made,))
    fakes = Fakes()
    outcome = Runner(start=fakes).run([user])
    assert "0 files are so called, expected one" in outcome.failed[user.name]
    file = Path(made.folder) / "x/m.caffemodel"
    file.parent.mkdir()
    file.touch()
    assert not Runner(start=fakes).run([user]).failed and fakes.words[-1] == str(file)


def test_what_is_missing_is_named() -> None:
    found = stage("a", needs=(Need("data/x", "data/fetch.py x"),))
    outcome = Runner(start=(fakes := Fakes())).run([found])
    assert outcome.failed == {found.name: "data/x is missing; it comes from data/fetch.py x"} and not fakes.started


def test_a_changed_declaration_is_another_stage_and_a_folder_of_another_is_refused() -> None:
    one, other = stage("a"), stage("a", words=("else",))
    assert one.name != other.name
    Runner(start=(fakes := Fakes())).run([one])
    Runner(start=fakes).run([other])
    assert fakes.words == ["a.one", "a.else"]
    (Path(one.folder) / "stage.json").write_text((Path(other.folder) / "stage.json").read_text())
    with pytest.raises(DataError, match="was made with commands = .*remove it to make it anew"):
        Runner(start=fakes).run([one])
    (Path(one.folder) / "stage.json").unlink()
    with pytest.raises(DataError, match="does not say how it was made"):
        Runner(start=fakes).run([one])


def test_two_runs_do_not_make_one_stage() -> None:
    found = stage("a")
    with (
        hold(Path(found.folder) / "stage.lock", "being tested", "wait", UsageError),
        pytest.raises(UsageError, match="is running .* and holds .*stage.lock"),
    ):
        Runner(start=Fakes()).run([found])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_what_runs_and_the_next_run_goes_on(number: int) -> None:
    a = stage("a", words=("one", "two"))
    b = stage("b", a)

    def then(words: Sequence[str]) -> None:
        if words[1] == "a.two":
            os.kill(os.getpid(), number)

    fakes, before = Fakes(then=then), signal.getsignal(number)
    outcome = Runner(start=fakes).run([b])
    assert outcome.stopped_by == number and signal.getsignal(number) is before
    assert fakes.running[-1].signals == [number] and fakes.words == ["a.one", "a.two"]
    assert outcome.failed[a.name] == "stopped"
    again = Fakes()
    assert Runner(start=again).run([b]).stopped_by == 0 and again.words == ["a.two", "b.one"]


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert last_line(path) == ""
    path.write_bytes(b"first\n 10%|#\r 20%|##\r\n\n")
    assert last_line(path) == "20%|##"
    path.write_text("I a.cpp:1] Iteration 20, lr = 0.1\nI a.cpp:2]     Waited 0.2 % of the time for data\n\n")
    assert last_line(path).endswith("Waited 0.2 % of the time for data")
    assert last_line(path, details=False) == "I a.cpp:1] Iteration 20, lr = 0.1"


def test_order_holds_every_stage_once() -> None:
    assert [found.label for found in in_order(diamond()[::-1])] == ["a", "b", "c", "d"]


def test_cores_are_no_part_of_what_a_stage_is() -> None:
    found = stage("a", words=(f"{CORES}",))
    Runner(start=(fakes := Fakes())).run([found])
    assert fakes.words == [f"a.{len(os.sched_getaffinity(0))}"]
    assert CORES in str(found.declaration)


def test_chains_that_are_longest_begin_first() -> None:
    alone, a = stage("alone"), stage("a")
    chain = stage("c", stage("b", a))
    assert [found.label for found in longest_first(in_order([alone, chain]))] == ["a", "b", "alone", "c"]
