"""Processes that put their parts together by files."""

import contextlib
import os
import signal
import sys
import time

import pytest
from forked import together
from program import Done

from caffe_compat import gathering
from caffe_compat.errors import CaffeCompatError, UsageError
from caffe_compat.gathering import Gathering, Stopped, ToldElsewhere
from caffe_compat.locks import hold, is_held
from caffe_compat.ranks import Ranks

NAMES = [f"frame{number}" for number in range(700)]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(folder, *works, world=None):
    """What processes print, each doing ``work(gathering)``."""

    def of(rank, work):
        def inside():
            ranks = Ranks(rank, world or len(works), rank)
            try:
                with Gathering(folder / "out", ranks, NAMES, "frames") as others:
                    return Done(0, str(work(others)), "")
            except (CaffeCompatError, Stopped) as error:
                return Done(2, "", str(error))
            except ToldElsewhere as error:
                return Done(int(str(error)), "", "told elsewhere")

        return inside

    return together([of(rank, work) for rank, work in enumerate(works)], folder)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(gathering, "PATIENCE", 60)
    monkeypatch.setattr(gathering, "LINGER", 20)


def come(others):
    """Rank 0 waits until the other is there."""
    while not (others.folder / "1.here").exists():
        time.sleep(0.01)


def hand_over(others):
    return others.gather({"rank": others.ranks.rank, "half": 0.1})


def test_rank_0_gets_all_parts_in_order(tmp_path):
    def late(others):
        time.sleep(0.2)
        return hand_over(others)

    done = run(tmp_path, hand_over, late, hand_over)
    assert [one.status for one in done] == [0, 0, 0], done
    assert done[0].stdout == str([{"rank": rank, "half": 0.1} for rank in range(3)])
    assert done[1].stdout == done[2].stdout == "None"
    assert os.listdir(tmp_path) == []


def test_several_parts_after_each_other(tmp_path):
    def often(others):
        return [others.gather(number * 10 + others.ranks.rank) for number in range(5)]

    done = run(tmp_path, often, often)
    assert done[0].stdout == str([[number * 10, number * 10 + 1] for number in range(5)])


def test_one_process_alone_writes_nothing(tmp_path):
    with Gathering(tmp_path / "out", Ranks(), [], "frames") as others:
        assert others.gather(5) == [5]
        assert os.listdir(tmp_path) == []


def test_a_failure_is_told_by_rank_0(tmp_path):
    def fail(others):
        raise CaffeCompatError("a.png: is broken")

    done = run(tmp_path, hand_over, hand_over, fail)
    assert [one.status for one in done] == [2, 0, 2]
    assert done[0].stderr.startswith("rank 2 of 3: a.png: is broken; nothing was put together")
    assert done[2].stderr == "told elsewhere"
    assert os.listdir(tmp_path) == []


def test_a_process_that_is_killed_is_noticed(tmp_path):
    def die(others):
        os.kill(os.getpid(), signal.SIGKILL)

    done = run(tmp_path, hand_over, die)
    assert done[1].status == -signal.SIGKILL
    assert done[0].stderr.startswith("rank 1 of 2 has died (killed? out of memory?); nothing was put together")


def test_rank_0_stops_at_once_when_another_fails(tmp_path, monkeypatch):
    """It has work for a minute; errors in it are taken for the work's own, an interrupt is not."""
    monkeypatch.setattr(gathering, "BEAT", 0.05)

    def work(others):
        begin = time.monotonic()
        while time.monotonic() - begin < 60:
            with contextlib.suppress(Exception):
                time.sleep(0.01)
        return "done"

    def fail(others):
        raise CaffeCompatError("a.png: is broken")

    def die(others):
        os.kill(os.getpid(), signal.SIGKILL)

    for wrong, words in ((fail, "a.png: is broken"), (die, "has died (killed? out of memory?)")):
        first, _ = run(tmp_path, work, wrong)
        assert first.status == 2 and first.stderr.startswith("error: rank 1 of 2") and words in first.stderr, first


def test_what_killed_runs_left_does_not_count(tmp_path):
    def die(others):
        if not others.ranks.is_first:
            others.gather("old")
            return "old"
        while not (others.folder / "1.part0").exists():
            time.sleep(0.01)
        return os.kill(os.getpid(), signal.SIGKILL)

    run(tmp_path, die, die)
    assert sorted(os.listdir(tmp_path / "out.ranks")) == ["0.here", "0.lock", "1.here", "1.part0"]
    done = run(tmp_path, hand_over, hand_over)
    assert "old" not in done[0].stdout and [one.status for one in done] == [0, 0]

    def late(others):
        time.sleep(0.3)
        return hand_over(others)

    run(tmp_path, die, die)
    assert [one.status for one in run(tmp_path, late, hand_over)] == [0, 0]
    assert os.listdir(tmp_path) == []


def test_rank_0_that_failed_takes_no_part(tmp_path):
    def fail(others):
        come(others)
        raise CaffeCompatError("no")

    def late(others):
        while others.folder.exists():
            time.sleep(0.01)
        return hand_over(others)

    first, second = run(tmp_path, fail, late)
    assert (first.status, first.stderr) == (2, "no")
    assert (second.status, second.stderr) == (2, "told elsewhere")


def test_rank_0_that_failed_at_once_is_not_waited_for(tmp_path):
    def fail(others):
        raise CaffeCompatError("no")

    first, second = run(tmp_path, fail, hand_over)
    assert (first.status, first.stderr) == (2, "no")
    assert (second.status, second.stderr) in ((2, "told elsewhere"), (0, ""))  # it came before rank 0 had gone


def test_rank_0_that_was_killed_is_told_by_the_others(tmp_path):
    def die(others):
        come(others)
        os.kill(os.getpid(), signal.SIGKILL)

    def late(others):
        while is_held(others.folder / "0.lock"):
            time.sleep(0.01)
        return hand_over(others)

    _, second = run(tmp_path, die, late)
    assert second.status == 2 and "rank 1 of 2: rank 0 has ended before it took this part" in second.stderr


def test_processes_that_see_other_names(tmp_path):
    def of(rank, names):
        def inside():
            try:
                with Gathering(tmp_path / "out", Ranks(rank, 2), names, "frames") as others:
                    return Done(0, str(hand_over(others)), "")
            except CaffeCompatError as error:
                return Done(2, "", str(error))
            except ToldElsewhere as error:
                return Done(int(str(error)), "", "told elsewhere")

        return inside

    other = [*NAMES[:300], "odd", *NAMES[301:]]
    for names, where in ((other, 700), (NAMES[:300], 300), ([*NAMES, "more"], 701)):
        done = together([of(0, NAMES), of(1, names)], tmp_path)
        told = f"rank 1 of 2: sees {where} frames, rank 0 sees 700: expected the same in all processes; they differ "
        assert [one.status for one in done] == [2, 2]
        assert done[0].stderr.startswith(f"{told}from number {256 if where < 701 else 512} on, here 'frame"), done
        assert done[1].stderr == "told elsewhere"


def test_more_processes_than_names(tmp_path):
    with pytest.raises(UsageError, match=r"more processes \(3\) than frames \(2\)"):
        Gathering(tmp_path / "out", Ranks(0, 3), ["a", "b"], "frames")
    with pytest.raises(ToldElsewhere) as caught:
        Gathering(tmp_path / "out", Ranks(1, 3), ["a", "b"], "frames")
    assert caught.value.code == 0


def test_processes_that_do_not_come(tmp_path, monkeypatch):
    monkeypatch.setattr(gathering, "PATIENCE", 0.2)
    monkeypatch.setattr(gathering, "LINGER", 0.2)
    with (
        pytest.raises(CaffeCompatError, match=r"rank 1 of 2 has not come within 0\.2 s; nothing"),
        Gathering(tmp_path / "out", Ranks(0, 2), NAMES, "frames") as others,
    ):
        others.gather(1)
    with (
        pytest.raises(CaffeCompatError, match=r"rank 1 of 2: rank 0 has not come within 0\.2 s; all 2 processes"),
        Gathering(tmp_path / "out", Ranks(1, 2), NAMES, "frames"),
    ):
        pass


def test_processes_of_other_machines_show_themselves_by_their_files(tmp_path, monkeypatch):
    """Without locks: nothing but the time of a file tells that a process lives."""
    monkeypatch.setattr(gathering, "is_held", lambda path: None)
    monkeypatch.setattr(gathering, "BEAT", 0.05)
    assert [one.status for one in run(tmp_path, hand_over, hand_over)] == [0, 0]

    def die(others):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(gathering, "SILENCE", 0.5)
    assert "rank 1 of 2 has died" in run(tmp_path, hand_over, die)[0].stderr


def test_rank_0_ends_in_order_by_sigterm(tmp_path):
    def wait(others):
        come(others)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    first, _ = run(tmp_path, wait, hand_over)
    assert first.status == 2
    assert "stopped by SIGTERM, as torchrun does when one of its 2 processes has died" in first.stderr
    assert os.listdir(tmp_path) == []


def test_one_place_takes_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(gathering, "LOOK", 0.001)
    with (
        Gathering(tmp_path / "out", Ranks(0, 2), NAMES, "frames"),
        pytest.raises(CaffeCompatError, match="is doing the part of rank 0 of 2 and holds"),
        Gathering(tmp_path / "out", Ranks(0, 2), NAMES, "frames"),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_who_holds_a_lock_is_seen(tmp_path):
    path = tmp_path / "lock"
    assert is_held(path) is False
    with hold(path, "x", "y", UsageError):
        assert is_held(path) is True
    path.write_text("left")
    assert is_held(path) is False
