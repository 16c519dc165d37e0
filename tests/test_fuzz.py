"""Mutated files of every kind, some of each; ``python tests/fuzzing.py`` runs many more."""

from __future__ import annotations

from collections.abc import Iterator

import fuzzing
import pytest

from caffe_compat.errors import DataError

COUNT = 40


@pytest.fixture(scope="module")
def server() -> Iterator[fuzzing.Server]:
    """The process that has imported what all mutants need."""
    with fuzzing.Server() as started:
        yield started


@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_mutants_are_refused_or_read(kind, tmp_path, server):
    found = fuzzing.run(kind, COUNT, tmp_path, server)
    assert not found, "\n".join(f"mutant {number}: {what}" for number, what in found[:10])


def test_mutants_are_the_same_every_time_and_truncate_everywhere():
    kind = fuzzing.KINDS["solver"]
    seeds = kind.seeds()
    assert all(
        fuzzing.mutant(kind, "solver", n, seeds) == fuzzing.mutant(kind, "solver", n, seeds) for n in range(0, 300, 7)
    )
    short = [seeds[0][:100], seeds[1][:60]]
    cut = {fuzzing.mutant(kind, "solver", n, short) for n in range(0, 3 * 160, 3)}
    assert cut == {seed[:end] for seed in short for end in range(len(seed))}


def test_the_judge_knows_good_from_bad(tmp_path):
    def fails(error: Exception):
        def use(path: str) -> None:
            raise error

        return use

    assert fuzzing.judge(lambda path: None, "x") == ""
    assert fuzzing.judge(fails(DataError("x.h5: is broken")), "x.h5") == ""
    assert "does not name the file" in fuzzing.judge(fails(DataError("it is broken")), "x.h5")
    assert fuzzing.judge(fails(ValueError("x.h5")), "x.h5").startswith("ValueError")


@pytest.mark.slow
def test_a_crash_a_hang_and_a_blow_up_are_findings(tmp_path):
    script = tmp_path / "bad.py"
    script.write_text(
        "import os, time, fuzzing\n"
        "def use(path):\n"
        "    number = int(open('progress').read())\n"
        "    if number == 2: os.abort()\n"
        "    while number == 5: time.sleep(1)\n"
        "    if number == 7: b'x' * (2 * fuzzing.MEMORY)\n"
        "fuzzing.KINDS['bad'] = fuzzing.Kind('.bin', lambda: [b'abc'], lambda: use)\n"
        "fuzzing.main()\n"
    )
    with fuzzing.Server(script) as server:
        found = fuzzing.run("bad", 8, tmp_path, server)
    assert [number for number, _ in found] == [2, 5, 7]
    assert "status -6" in found[0][1] and "Timeout" in found[1][1] and "peak of memory" in found[2][1]
