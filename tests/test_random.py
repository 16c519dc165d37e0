"""Streams of random numbers: repeatable, one per user, drawn again where a pass is computed again."""

from __future__ import annotations

import threading

import torch

from caffe_compat import random
from caffe_compat.random import Draw, Stream

CPU = torch.device("cpu")


def seeds(stream: Stream, count: int = 3) -> list[int]:
    return [stream.next_seed() for _ in range(count)]


def test_a_stream_is_a_function_of_its_seed_and_chapter() -> None:
    one, other = Stream(5), Stream(5)
    assert seeds(one) == seeds(other) and len(set(seeds(one))) == 3
    assert seeds(Stream(6)) != seeds(Stream(5))
    one.turn_to(3)
    seeds(other, 10)
    other.turn_to(3)
    third = seeds(one)
    assert third == seeds(other)
    one.turn_to(4)
    assert seeds(one) != third
    assert all(0 <= seed < 2**63 for seed in third)


def test_without_a_stream_torchs_seed_decides() -> None:
    torch.manual_seed(8)
    first = random.next_seed()
    assert random.initial_seed() == 8 and random.generator(CPU) is None
    assert random.next_seed() != first
    torch.manual_seed(8)
    assert random.next_seed() == first


def test_a_stream_without_a_seed_comes_from_the_stream_in_use() -> None:
    torch.manual_seed(8)
    first, second = Stream(), Stream()
    assert first.initial_seed == second.initial_seed == 8
    drawn = [seeds(first), seeds(second)]
    assert drawn[0] != drawn[1]
    torch.manual_seed(8)
    assert [seeds(Stream()), seeds(Stream())] == drawn
    with Stream(3).use():
        inner = Stream()
    with Stream(3).use():
        assert inner.initial_seed == 3 and seeds(inner) == seeds(Stream())


def test_threads_do_not_share_a_stream() -> None:
    seen: list[torch.Generator | None] = []
    with Stream(3).use():
        thread = threading.Thread(target=lambda: seen.append(random.generator(CPU)))
        thread.start()
        thread.join()
        assert random.generator(CPU) is not None
    assert seen == [None] and random.generator(CPU) is None


def test_a_thread_with_a_seed_has_a_stream_of_its_own() -> None:
    found: list[list[int]] = []

    def draw() -> None:
        random.seed_thread(4)
        assert random.initial_seed() == 4
        found.append([random.next_seed() for _ in range(3)])

    torch.manual_seed(8)
    expected = torch.rand(3)
    torch.manual_seed(8)
    for _ in range(2):
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join()
    assert found == [seeds(Stream(4))] * 2
    assert random.initial_seed() == 8 and torch.rand(3).equal(expected)
    random.seed_thread(8)
    assert torch.rand(3).equal(expected)


def test_a_draw_is_repeated() -> None:
    draw = Draw()

    def numbers() -> torch.Tensor:
        return torch.empty(4).uniform_(generator=draw.generator(CPU))

    with Stream(1).use():
        first, second = numbers(), numbers()
        with random.repeating():
            again, once_more = numbers(), numbers()
        third = numbers()
    assert not first.equal(second) and not second.equal(third)
    assert again.equal(second) and once_more.equal(second)
    with random.repeating():
        assert Draw().generator(CPU) is not None  # nothing to repeat: a new one
    assert draw.generator(torch.device("meta")) is None
