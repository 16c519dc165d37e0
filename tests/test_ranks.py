"""Ranks: what torchrun's variables mean, and how work is shared."""

from __future__ import annotations

import subprocess
import sys

import pytest

from caffe_compat.commands import main_of
from caffe_compat.errors import UsageError
from caffe_compat.ranks import Ranks, Turns, here, require_alone, told_by_first


def test_one_process_where_nobody_says_otherwise() -> None:
    assert here({}) == Ranks(0, 1, 0)
    assert here({"RANK": "", "WORLD_SIZE": ""}) == Ranks()
    assert here({}).is_first and not here({}).several
    assert here({"LOCAL_RANK": "3"}) == Ranks()  # left over from something else: it says nothing alone


def test_the_variables_of_torchrun() -> None:
    second = here({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"})
    assert second == Ranks(5, 8, 1)
    assert second.several and not second.is_first
    assert str(second) == "rank 5 of 8"
    assert here({"RANK": "2", "WORLD_SIZE": "3"}).local == 2  # by hand, on one machine


def test_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    assert here() == Ranks(1, 2, 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"RANK": "0"}, "RANK=0 and no WORLD_SIZE"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 and no RANK"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2, expected 0 to 1, as WORLD_SIZE is 2"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK=-1, expected 0 to 1"),
        ({"RANK": "a", "WORLD_SIZE": "2"}, "RANK=a, expected"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE=0, expected a whole number from 1"),
        ({"RANK": "0", "WORLD_SIZE": "1.5"}, "WORLD_SIZE=1.5, expected"),
        ({"RANK": "0", "WORLD_SIZE": "٣"}, "expected a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "2"}, "LOCAL_RANK=2, expected 0 to 1"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "x"}, "LOCAL_RANK=x"),
    ],
)
def test_what_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        here(given)
    assert said in str(error.value)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 12])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_are_disjoint_and_cover_everything(count: int, world: int) -> None:
    items = [f"item {number}" for number in range(count)]
    shares = [Ranks(rank, world).share(items) for rank in range(world)]
    assert sorted(sum(shares, [])) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for rank in range(world):
        ranks = Ranks(rank, world)
        assert [items[number] for number in ranks.share(count)] == shares[rank]
        assert all(number % world == rank for number in ranks.share(count))
        assert list(ranks.of(items)) == list(zip(ranks.share(count), shares[rank], strict=True))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_turns_cover_all_batches_once(world: int) -> None:
    taken = [[Turns(rank, world).batch(place) for place in range(4)] for rank in range(world)]
    assert sorted(sum(taken, [])) == list(range(4 * world))
    for session in (1, 2, 5):
        parts = [Turns(rank, world, session) for rank in range(world)]
        assert sum(part.own() for part in parts) == session
        taken = [[part.batch(place) for place in range(3 * part.own())] for part in parts]
        assert sorted(sum(taken, [])) == list(range(3 * session))
        assert all(number % session % world == rank for rank, part in enumerate(taken) for number in part)


def test_what_is_the_work_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    require_alone("demo")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="demo is the work of one process, start it without torchrun"):
        require_alone("demo")
    with pytest.raises(UsageError, match="wrong"), told_by_first():
        raise UsageError("wrong")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        require_alone("demo")
    assert ended.value.code == 2
    for command in ("demo", "transfer", "experiment"):
        with pytest.raises(SystemExit):
            main_of(command)([])


def test_it_needs_no_torch() -> None:
    code = "import sys, caffe_compat.ranks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
