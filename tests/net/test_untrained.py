"""A net that is run without weights says so once; warnings reach a user who has set up nothing."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from program import ROOT

from caffe_compat import log
from caffe_compat.net import BlobNet, Net, load_net
from caffe_compat.pycaffe import TEST
from caffe_compat.pycaffe import Net as PycaffeNet

DATA = 'name: "n" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }'
DRAWN = 'weight_filler { type: "gaussian" std: 1 }'
NO_MEANING = {"gaussian": DRAWN, "no filler": ""}
MEANING = {"a constant": 'weight_filler { type: "constant" value: 1 }'}


def write(folder: Path, filler: str = DRAWN) -> Path:
    path = folder / "net.prototxt"
    path.write_text(
        f'{DATA} layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {{ '
        f"num_output: 3 bias_term: false {filler} }} }}"
    )
    return path


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "random weights" in message]


@pytest.mark.parametrize("filler", NO_MEANING.values(), ids=NO_MEANING)
def test_a_net_without_weights_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, filler: str) -> None:
    path = write(tmp_path, filler)
    net = load_net(path)
    assert not told(caplog)  # not before it is run
    for _ in range(2):
        net(data=torch.ones(1, 3))
    (line,) = told(caplog)
    assert line.startswith(f"{path}: net 'n' runs with random weights: none were loaded")
    engine = BlobNet(load_net(path))
    engine.forward()
    engine.forward()
    assert len(told(caplog)) == 2  # of another net


def _loads(net: Net, folder: Path) -> None:
    load_net(write(folder)).save(folder / "w.caffemodel")
    net.copy_from(folder / "w.caffemodel")


def _shares(net: Net, folder: Path) -> None:
    net.share_with(load_net(write(folder)))


def _writes(net: Net, folder: Path) -> None:
    net.layer("ip").blobs[0].detach().numpy()[0, 0] += 1  # no counter of torch sees that


def _state(net: Net, folder: Path) -> None:
    net.load_state_dict(load_net(write(folder)).state_dict())


@pytest.mark.parametrize("give", [_loads, _shares, _writes, _state])
def test_weights_by_whatever_way_are_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture, give: object) -> None:
    net = load_net(write(tmp_path))
    give(net, tmp_path)  # type: ignore[operator]
    net(data=torch.ones(1, 3))
    assert not told(caplog)


def test_nets_that_need_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_net(write(tmp_path, *MEANING.values()))(data=torch.ones(1, 3))
    load_net(write(tmp_path), phase="TRAIN")(data=torch.ones(1, 3))
    net = load_net(write(tmp_path)).train()
    net(data=torch.ones(1, 3))
    assert not told(caplog)


def test_the_null_device_is_no_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = load_net(write(tmp_path), "/dev/null")
    net.copy_from("/dev/null")
    net(data=torch.ones(1, 3))
    assert len(told(caplog)) == 1


def test_pycaffe_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = PycaffeNet(str(write(tmp_path)), TEST)
    net.forward()
    net.forward()
    assert len(told(caplog)) == 1
    caplog.clear()
    net = PycaffeNet(str(tmp_path / "net.prototxt"), TEST)
    net.params["ip"][0].data[...] = np.eye(3)
    net.forward()
    assert not told(caplog)


PROGRAM = """
import os, sys, logging, torch
import caffe_compat.net
from caffe_compat import load_net
for setting in sys.argv[2:]:  # each in a process of its own, which finds the log as it is after the imports
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        continue
    os.dup2(os.open(f"{setting}.err", os.O_WRONLY | os.O_CREAT), 2)
    if setting == "basic": logging.basicConfig(format="mine: %(message)s")
    if setting == "silent": logging.getLogger("caffe_compat").setLevel("ERROR")
    if setting == "tool":
        from caffe_compat import log
        log.to_stderr()
    load_net(sys.argv[1])(data=torch.ones(1, 3))
    sys.stdout.flush()
    os._exit(0)  # torch's threads, which a copy does not have, would be waited for
"""


def test_warnings_reach_a_user_who_has_set_up_nothing(tmp_path: Path) -> None:
    heads = {"nothing": "warning: ", "basic": "mine: ", "tool": "W", "silent": None}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(write(tmp_path)), *heads],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for setting, head in heads.items():
        said = (tmp_path / f"{setting}.err").read_text().splitlines()
        lines = [line for line in said if "random weights" in line]
        assert len(lines) == (head is not None) and all(line.startswith(head or "") for line in lines), setting


def test_infos_do_not(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = logging.getLogger("caffe_compat")
    monkeypatch.setattr(ours, "handlers", [one for one in ours.handlers if type(one).__name__ == "_Unasked"])
    monkeypatch.setattr(ours, "level", logging.NOTSET)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log.info("of no concern", "net.cpp:1")
    log.warning("of some concern", "net.cpp:1")
    assert capsys.readouterr().err == "warning: of some concern\n"
