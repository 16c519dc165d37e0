"""N processes train as one with N times the iter_size does; whoever dies is named, and its last snapshot goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from distributed.small_pairs import NET, RULES, arrays, assert_alike, make, solver
from program import call
from ranked import Running, run_ranks, start_ranks
from waiting import LIMIT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("together"))


def records(folder: Path, name: str, phase: str) -> list[dict]:
    lines = map(json.loads, (folder / "out" / f"{name}_metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["phase"] == phase]


def alone(folder: Path, file: str, *words: object) -> None:
    done = call("train_net", "--solver", file, "--no-tensorboard", *words, folder=folder)
    assert done.status == 0, done.stderr


def together(folder: Path, world: int, file: str, *words: object) -> str:
    """Train; what rank 0 logs.  The others say nothing."""
    found = run_ranks(world, "train_net", "--solver", file, "--no-tensorboard", *words, folders=folder)
    assert [done.status for done in found] == [0] * world, [done.stderr[-2000:] for done in found]
    assert not any(done.stdout or done.stderr for done in found[1:]), found[1].stderr
    return found[0].stderr


@pytest.mark.parametrize(
    "rule", [rule if rule in ("SGD", "Adam") else pytest.param(rule, marks=pytest.mark.slow) for rule in RULES]
)
def test_two_processes_are_one_of_twice_the_iter_size(folder: Path, rule: str) -> None:
    alone(folder, solver(folder, f"one_{rule}", rule, iter_size=2))
    together(folder, 2, solver(folder, f"two_{rule}", rule))
    assert_alike(folder, f"one_{rule}", f"two_{rule}", 4)
    assert_alike(folder, f"one_{rule}", f"two_{rule}", 8)


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision(folder: Path, amp: str) -> None:
    alone(folder, solver(folder, f"one_{amp}", iter_size=2, base_lr=0.001), "--amp", amp)
    together(folder, 2, solver(folder, f"two_{amp}", base_lr=0.001), "--amp", amp)
    assert_alike(folder, f"one_{amp}", f"two_{amp}", rest=1e-3)


def test_three_processes_with_passes_of_their_own_and_clipping(folder: Path) -> None:
    """Caffe compares the mean over processes with clip_gradients, but the sum over the passes of one."""
    alone(folder, solver(folder, "one_3", iter_size=6, clip_gradients=3.0))
    log = together(folder, 3, solver(folder, "three", iter_size=2, clip_gradients=1.0))
    assert_alike(folder, "one_3", "three")
    assert "Gradient clipping: scaling down" in log and "mean over 3 processes" in log
    assert "an iteration of 3 processes takes 12 samples, there are 13" not in log
    losses = [[line["loss"] for line in records(folder, name, "train")] for name in ("one_3", "three")]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert records(folder, "three", "start")[0]["processes"] == 3
    (folder / "out" / "three_iter_8.solverstate").unlink()
    together(folder, 3, "three.prototxt", "--resume")  # from iteration 4
    assert_alike(folder, "one_3", "three")


def test_tests_are_those_of_one_process(folder: Path) -> None:
    """Without statistics of its own a process tests as one does that has all batches, in parts of 2, 2 and 1."""
    (folder / "plain.prototxt").write_text(
        re.sub(r'layer { name: "norm".*\n.*\n', "", NET).replace('"norm"', '"first"')
    )
    alone(folder, solver(folder, "one_test", iter_size=3, net='"plain.prototxt"', base_lr=0.001))
    together(folder, 3, solver(folder, "three_tests", net='"plain.prototxt"', base_lr=0.001))
    assert_alike(folder, "one_test", "three_tests")
    found = [records(folder, name, "test") for name in ("one_test", "three_tests")]
    assert len(found[0]) == 3 and [line["iteration"] for line in found[0]] == [0, 4, 8]
    for one, other in zip(*found, strict=True):
        assert sorted(one["scores"]) == sorted(other["scores"]) == ["ev", "loss"]
        np.testing.assert_allclose([*one["scores"].values()], [*other["scores"].values()], rtol=1e-5)


def test_another_number_of_processes_goes_on(folder: Path) -> None:
    together(folder, 2, solver(folder, "first", iter_size=3), "--iters", 4)
    alone(folder, solver(folder, "second", iter_size=6), "--snapshot", "out/first_iter_4.solverstate")
    together(folder, 3, solver(folder, "third", iter_size=2), "--snapshot", "out/first_iter_4.solverstate")
    alone(folder, solver(folder, "whole", iter_size=6))
    assert_alike(folder, "whole", "second")
    assert_alike(folder, "whole", "third")


def test_an_error_of_one_is_told_once(folder: Path, tmp_path: Path) -> None:
    """A picture that only one of them reads cannot be decoded."""
    whole = (folder / "rgb3.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.txt").write_text((folder / "pairs.txt").read_text().replace("rgb3.png", "cut.png"))
    (folder / "cut.prototxt").write_text(NET.replace("pairs.txt", "cut.txt"))
    file = solver(folder, "cut_run", net='"cut.prototxt"', test_interval=1000, test_initialization="false")
    found = run_ranks(3, "train_net", "--solver", file, "--no-tensorboard", folders=folder)
    assert [done.status for done in found] == [2, 2, 2], [done.stderr[-500:] for done in found]
    errors = [line for done in found for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "cut.png" in errors[0], errors
    assert not any(done.stderr for done in found[1:]), found[1].stderr


def wait_for_snapshot(running: Running, path: Path) -> None:
    end = time.monotonic() + LIMIT
    while not path.exists():
        assert running.alive() and time.monotonic() < end, [done.stderr[-2000:] for done in running.end()]
        time.sleep(0.02)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_is_named_and_the_snapshot_goes_on(folder: Path, victim: int) -> None:
    name = f"dies_{victim}"
    file = solver(folder, name, max_iter=10**6, test_interval=10**6)
    running = start_ranks(3, "train_net", "--solver", file, "--no-tensorboard", folders=folder)
    wait_for_snapshot(running, folder / "out" / f"{name}_iter_8.solverstate")
    os.kill(running.processes[victim].pid or 0, signal.SIGKILL)
    found = running.end()
    teller = 1 if victim == 0 else 0
    quiet = 3 - victim - teller
    assert found[victim].status == -9
    assert [found[rank].status for rank in (teller, quiet)] == [2, 2]
    said = found[teller].stderr.splitlines()[-1]
    assert re.search(rf"error: .*rank {victim} of 3 \(process \d+ on .*\) has ended without a word; the last", said), (
        said
    )
    assert not found[quiet].stderr
    last = re.search(r"the last snapshot is (\S+)", said)
    assert last and (folder / last[1]).exists()
    newest = max(int(re.findall(r"\d+", path.name)[-1]) for path in (folder / "out").glob(f"{name}*.solverstate"))
    log = together(folder, 2, file, "--resume", "--iters", newest + 1)
    assert f"Resuming from out/{name}_iter_{newest}.solverstate" in log
    assert arrays(folder, name, newest + 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_stops_all_with_one_snapshot(folder: Path, number: int) -> None:
    name = f"stopped_{number}"
    file = solver(folder, name, max_iter=10**6, snapshot=4, test_interval=10**6)
    running = start_ranks(2, "train_net", "--solver", file, "--no-tensorboard", folders=folder)
    wait_for_snapshot(running, folder / "out" / f"{name}_iter_4.solverstate")
    os.kill(running.processes[1].pid or 0, number)
    first, second = running.end()
    assert (first.status, second.status) == (128 + number, 128 + number)
    assert not second.stderr and not second.stdout
    at = re.search(r"Stopped at iteration (\d+); go on with --snapshot (\S+)", first.stderr)
    assert at and (folder / at[2]).exists() and f"_iter_{at[1]}." in at[2]
    assert "--processes 2" in first.stdout.splitlines()[-1]


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    """One error, of rank 0, that says which rank sees what."""
    file = solver(folder, "refused")
    other = make(tmp_path / "other")
    (other / file).write_text((folder / file).read_text())

    def refused(said: str, *words: object, world: int = 2) -> None:
        where = [folder] + [other] * (world - 1)
        found = run_ranks(world, "train_net", "--solver", file, "--no-tensorboard", *words, folders=where)
        assert [done.status for done in found] == [2] * world, [done.stderr for done in found]
        assert re.search(said, found[0].stderr.splitlines()[-1]), found[0].stderr
        assert not any(done.stderr or done.stdout for done in found[1:]), found[1].stderr

    lines = (other / "pairs.txt").read_text().splitlines(keepends=True)
    (other / "pairs.txt").write_text("".join(lines[:-1]))
    refused("error: refused.prototxt: rank 1 of 3 has another file pairs.txt than rank 0: .* bytes", world=3)
    (other / "net.prototxt").write_text(NET.replace("kernel_size: 3 pad: 1", "kernel_size: 5 pad: 2"))
    refused("error: rank 1 of 2 has another file net.prototxt than rank 0")
    (other / file).write_text((folder / file).read_text() + " power: 2")
    refused("error: rank 1 of 2 has another solver than rank 0")
    (other / file).unlink()
    refused(r"error: rank 1 of 2: .*refused\.prototxt")
    refused("error: ranks 1 and 2 of 3: ", world=3)
    refused("no option --nonsense", "--nonsense", "1")


def test_more_processes_than_samples_and_devices_that_are_not_there(folder: Path) -> None:
    (folder / "two.txt").write_text("".join((folder / "pairs.txt").read_text().splitlines(keepends=True)[:2]))
    (folder / "few.prototxt").write_text(NET.replace("pairs.txt", "two.txt"))
    for file, words, said in (
        (
            solver(folder, "few_run", net='"few.prototxt"'),
            [],
            r"layer 'pairs' .*more processes \(3\) than samples \(2\)",
        ),
        (solver(folder, "gpu_run"), ["--gpu", "0,1,2"], "torch sees no CUDA device"),
        ("gpu_run.prototxt", ["--processes", "2"], "--processes is 2, but torchrun has started 3"),
    ):
        found = run_ranks(3, "train_net", "--solver", file, *words, folders=folder, CUDA_VISIBLE_DEVICES="")
        assert [done.status for done in found] == [2, 2, 2], [done.stderr for done in found]
        assert re.search(said, found[0].stderr.splitlines()[-1]), found[0].stderr
        assert not any(done.stderr for done in found[1:]), found[1].stderr
