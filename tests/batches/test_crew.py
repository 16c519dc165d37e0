"""Worker processes, and the memory that they share with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import gone, wait_until
from waiting import LIMIT

from caffe_compat.batches import reader as reader_module
from caffe_compat.batches.crew import Crew, parse_workers
from caffe_compat.batches.kept import Kept
from caffe_compat.batches.reader import new_array
from caffe_compat.batches.slots import Mapped, Slots, can_share
from caffe_compat.errors import UsageError

pytestmark = pytest.mark.skipif(not can_share(), reason="only Linux has what workers need")

READER = """
import os, signal, sys
import numpy as np
from caffe_compat.batches.reader import Reader


class Filled(Reader):
    who = "the test"

    def read(self, job, new):
        if job == "exit":
            os._exit(3)
        if job == "odd":
            raise Odd(1, 2)
        if job == "where":
            return (np.frombuffer(os.getcwd().encode(), np.uint8),)
        if job == "torch":
            return (np.array(["torch" in sys.modules, "caffe_compat.batches" in sys.modules], np.uint8),)
        data = new((job, 3))
        data[...] = job
        return data, np.arange(job), new((0, 5))


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"odd {one} {two}")
"""


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Crew, object]]:
    """Two workers, and a reader of a module that only these tests can import."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "filled_reader.py").write_text(READER)
    sys.path.insert(0, str(folder))
    try:
        from filled_reader import Filled

        held = Crew(2)
        yield held, Filled()
        held.close()
    finally:
        sys.path.remove(str(folder))


def test_arrays_come_in_shared_memory_which_is_used_again(crew: tuple[Crew, object]) -> None:
    crew_, reader = crew
    client = crew_.client(reader)  # type: ignore[arg-type]
    addresses = set()
    for count in (5, 3, 2000, 7, 1, 2000, 40):
        data, numbers, none = client.read(count)
        assert data.shape == (count, 3) and data.dtype == np.float32 and (data == count).all()
        assert numbers.dtype == np.int64 and (numbers == np.arange(count)).all() and none.shape == (0, 5)
        assert data.flags.writeable
        addresses.add(data.ctypes.data)
        kept = data[-1]  # a view keeps the memory
        del data, numbers, none
        again = client.read(count)
        assert not np.shares_memory(kept, again[0]) and (kept == count).all()
        del kept, again
    assert len(addresses) <= 4


def test_errors_travel_and_workers_live_on(crew: tuple[Crew, object], tmp_path: Path, monkeypatch) -> None:
    crew_, reader = crew
    client = crew_.client(reader)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="Odd: odd 1 2"):
        client.read("odd")
    pids = crew_.pids
    with pytest.raises(TypeError) as caught:
        client.read(None)
    assert "filled_reader.py" in "".join(caught.value.__notes__)
    with pytest.raises((TypeError, AttributeError), match="pickle"):
        client.read(lambda: 0)
    assert client.read(2)[0].sum() == 12 and crew_.pids == pids
    monkeypatch.chdir(tmp_path)
    assert client.read("where")[0].tobytes().decode() == str(tmp_path)
    assert client.read("torch")[0].tolist() == [0, 1], "a worker that needs no torch has loaded it"


def test_a_process_that_ends_is_named_and_replaced(crew: tuple[Crew, object]) -> None:
    crew_, reader = crew
    client = crew_.client(reader)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"a worker process ended \(status 3\)"):
        client.read("exit")
    assert client.read(4)[0].sum() == 48


PARENT = """
import os, signal, sys
from caffe_compat.batches.crew import Crew
from filled_reader import Filled

crew = Crew(2)
client = crew.client(Filled())
data = client.read(5)
print(*crew.pids, flush=True)
if sys.argv[1] == "raise":
    raise ValueError
if sys.argv[1] == "wait":
    signal.pause()
"""


@pytest.mark.parametrize(("how", "status"), [("end", 0), ("raise", 1), ("SIGINT", 130), ("SIGKILL", -9)])
def test_no_worker_outlives_its_parent(tmp_path: Path, how: str, status: int) -> None:
    """However that ends; and a script without ``if __name__ == "__main__":`` is run once."""
    (tmp_path / "filled_reader.py").write_text(READER)
    (tmp_path / "parent.py").write_text(PARENT)
    paths = os.pathsep.join([str(tmp_path), str(Path(reader_module.__file__).parents[2])])
    word = "wait" if how.startswith("SIG") else how
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), word],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 1  # the other was not needed yet
    if word == "wait":
        os.killpg(process.pid, getattr(signal, how))  # as a terminal does: the parent and what is in its group
    output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == status or (how == "SIGINT" and process.returncode == -signal.SIGINT), errors
    assert output == ""
    wait_until(lambda: all(map(gone, pids)))


def test_slots_grow_and_are_released_with_their_last_array() -> None:
    slots, mapped = Slots(), Mapped()
    with slots.batch() as first:
        array = slots.new((3, 4))
        array[...] = 1
        large = slots.new((100_000,), np.uint8)  # the first array stays where it is
        large[...] = 7
        placed = [slots.place(array), slots.place(large), slots.place(np.arange(3))]
    assert slots.grown and array.sum() == 12
    file, size = slots.file()
    mapped.map(first, os.dup(file), size)
    one, two, three = mapped.arrays(first, placed)
    assert (one == 1).all() and one.shape == (3, 4) and (two == 7).all() and three.tolist() == [0, 1, 2]
    view = two[:5]
    del one, two, three
    assert mapped.released() == []
    del view
    assert mapped.released() == [first] and mapped.released() == []
    with slots.batch() as second:
        pass
    assert second != first
    slots.release([first])
    with pytest.raises(ValueError, match="x"), slots.batch() as third:
        raise ValueError("x")
    with slots.batch() as fourth:
        slots.new((3, 4))
    assert third == fourth == first and not slots.grown


def test_memory_in_this_process() -> None:
    assert new_array((2, 3)).dtype == np.float32 and new_array((2,), np.uint8).shape == (2,)


def test_pictures_kept_by_workers_share_the_limit() -> None:
    part = Kept(limit=100).one_of(4)
    calls: list[int] = []

    def make() -> tuple[np.ndarray]:
        calls.append(1)
        return (np.zeros(26, np.uint8),)

    part.get("a", make)
    part.get("a", make)
    assert len(calls) == 2, "26 bytes are more than a quarter of 100"


def test_numbers_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [parse_workers(text) for text in ("0", "3", "007")] == [0, 3, 7]
    monkeypatch.setattr("caffe_compat.batches.crew.cores", lambda: 16)
    assert parse_workers("auto") == 15
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert parse_workers("auto") == 3
    for text in ("", "-1", "many", "٣"):
        with pytest.raises(UsageError, match="--workers is"):
            parse_workers(text)
