"""Starting processes, digests, devices of ranks: without torch.distributed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from caffe_compat.commands import processes
from caffe_compat.commands.processes import launched, seen
from caffe_compat.devices import own_device
from caffe_compat.distributed import launch as launching
from caffe_compat.distributed.launch import launch
from caffe_compat.distributed.same import digest
from caffe_compat.errors import UsageError
from caffe_compat.proto import caffe_pb2
from caffe_compat.ranks import Ranks

TELL = """
import json, os, sys
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
open(f"{sys.argv[1]}/{os.environ['RANK']}.json", "w").write(json.dumps({n: os.environ[n] for n in names}))
sys.exit(5 if os.environ["RANK"] in sys.argv[2:] else 0)
"""


def test_processes_get_the_variables(tmp_path: Path) -> None:
    assert launch([sys.executable, "-c", TELL, str(tmp_path)], 3) == 0
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    assert [(one["RANK"], one["WORLD_SIZE"], one["LOCAL_RANK"]) for one in said] == [
        (str(rank), "3", str(rank)) for rank in range(3)
    ]
    assert len({(one["MASTER_ADDR"], one["MASTER_PORT"]) for one in said}) == 1


def test_the_status_is_that_of_the_first_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch([sys.executable, "-c", TELL, str(tmp_path), "1"], 2) == 5
    killed = "import os, signal\nif os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
    assert launch([sys.executable, "-c", killed], 2) == 128 + 9
    monkeypatch.setattr(launching, "GRACE", 0.1)  # the others do not end by themselves
    hangs = "import os, sys, time\nsys.exit(3) if os.environ['RANK'] == '1' else time.sleep(10000)"
    assert launch([sys.executable, "-c", hangs], 2) == 3


def test_what_asks_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], int]] = []
    monkeypatch.setattr(processes, "launch", lambda words, count: asked.append((list(words), count)) or 7)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for gpu, number in (("", None), ("0", None), ("-1", None), ("", 1), ("cpu", 1)):
        assert launched("train_net", ["--solver", "s"], gpu, number) is None
    assert launched("train_net", ["--solver", "s"], "0,2", None) == 7
    assert launched("caffe", ["train"], "all", None) == 7
    assert launched("train_net", [], "-1", 3) == 7
    assert [count for _, count in asked] == [2, 4, 3]
    assert asked[0][0] == [sys.executable, "-m", "caffe_compat", "train_net", "--solver", "s"]
    for gpu, number, said in (
        ("0,4", None, "there is no CUDA device 4, this machine has 4"),
        ("0,1", 3, "--processes is 3, but --gpu 0,1 names 2 devices"),
        ("", 0, "--processes is 0, expected 1 or more"),
    ):
        with pytest.raises(UsageError, match=said):
            launched("train_net", [], gpu, number)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched("train_net", [], "0,1", None) is None  # it is one of them


def test_every_rank_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    second = Ranks(5, 8, 1)
    assert own_device("all", second) == torch.device("cuda", 1)
    assert own_device("3,2", second) == torch.device("cuda", 2)
    assert own_device("-1", second) == own_device("cpu", second) == torch.device("cpu")
    assert own_device("3", Ranks()) == torch.device("cuda", 3)
    with pytest.raises(UsageError, match="--gpu 3 names 1 devices, but this is process 2 of its machine"):
        own_device("3", second)
    with pytest.raises(UsageError, match="--gpu all: there is no CUDA device 4, this machine has 4"):
        own_device("all", Ranks(4, 5, 4))


def test_digests(tmp_path: Path) -> None:
    file, folder = tmp_path / "a", tmp_path / "folder"
    file.write_bytes(b"one")
    folder.mkdir()
    (folder / "data.mdb").write_bytes(b"12345")
    before, inside = digest(file), digest(folder)
    assert before.startswith("3 bytes, ") and inside.startswith("1 files, ")
    file.write_bytes(b"two")
    (folder / "lock.mdb").write_bytes(b"whoever reads")
    assert digest(file) != before and digest(folder) == inside
    (folder / "data.mdb").write_bytes(b"123456")
    assert digest(folder) != inside
    assert digest(tmp_path / "none") == "missing"
    param = caffe_pb2.SolverParameter(net=str(file), max_iter=3)
    one = dict(seen(param, [str(file)], None, None))
    param.max_iter = 4
    other = dict(seen(param, [str(file)], None, None))
    assert [name for name in one if one[name] != other[name]] == ["solver"]
    assert one[f"file {file}"] == digest(file)
