"""Detectors, mask nets and nets with layers in Python in several processes; starting them by --processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detection.small_run import write_run
from program import ROOT, call, end, start
from ranked import run_ranks
from segmentation import small_masks
from waiting import wait_for

from caffe_compat.proto import caffe_pb2

OUT = "output/small/run/nyud2_hha_2015_trainval"


def weights(path: Path) -> dict[str, list[np.ndarray]]:
    net = caffe_pb2.NetParameter.FromString(path.read_bytes())
    return {layer.name: [np.array(blob.data, np.float32) for blob in layer.blobs] for layer in net.layer}


def assert_alike(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert sorted(ours) == sorted(theirs)
    for layer in ours:
        for mine, yours in zip(ours[layer], theirs[layer], strict=True):
            np.testing.assert_allclose(mine, yours, rtol=2e-5, atol=2e-5 * np.abs(yours).max(), err_msg=layer)


def together(folder: Path, world: int, *words: object) -> str:
    found = run_ranks(world, "train_net", *words, folders=folder)
    assert [done.status for done in found] == [0] * world, [done.stderr[-2000:] for done in found]
    assert not any(done.stderr or done.stdout for done in found[1:]), found[1].stderr
    return found[0].stderr + found[0].stdout


def test_a_detector(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        words = write_run(folder)
    (two / "solver.prototxt").write_text((two / "solver.prototxt").read_text().replace("iter_size: 2", "iter_size: 1"))
    done = call("train_net", *words, "--iters", 4, folder=one)
    assert done.status == 0, done.stderr
    log = together(two, 2, *words, "--iters", 4)
    assert "] Iteration 3 (" in log
    assert_alike(one / OUT / "fast_rcnn_iter_4.caffemodel", two / OUT / "fast_rcnn_iter_4.caffemodel")
    together(two, 2, *words, "--iters", 5, "--resume")
    assert (two / OUT / "fast_rcnn_iter_5.regression.npz").exists()
    drawn = together(two, 2, *words, "--iters", 1, "--rand")
    assert len(re.findall(r"RNG_SEED \d+ was drawn", drawn)) == 1
    for folder in (two, two / OUT):
        assert not [path.name for path in folder.iterdir() if path.name.endswith((".tmp", ".lock"))]


@pytest.mark.slow
def test_a_mask_net(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    small_masks.write_scenes(made)
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        small_masks.write_run(folder, made)
    solver = two / "masks" / "solver.prototxt"
    size = re.search(r"iter_size: (\d+)", solver.read_text())
    count = int(size[1]) if size else 1
    solver.write_text(re.sub(r"iter_size: \d+", "", solver.read_text()) + f" iter_size: {count}")
    text = (one / "masks" / "solver.prototxt").read_text()
    (one / "masks" / "solver.prototxt").write_text(re.sub(r"iter_size: \d+", "", text) + f" iter_size: {2 * count}")
    assert call("train_net", *small_masks.TRAINING, "--iters", 2, folder=one).status == 0
    together(two, 2, *small_masks.TRAINING, "--iters", 2)
    name = "inst_segm_iter_2.caffemodel"
    assert_alike(one / small_masks.OUT / name, two / small_masks.OUT / name)


PYTHON = '''
import caffe
import numpy as np

class Source(caffe.Layer):
    """Batch n holds n."""

    def setup(self, bottom, top):
        self.next = 0

    def reshape(self, bottom, top):
        top[0].reshape(1, 2)

    def forward(self, bottom, top):
        top[0].data[...] = (self.next % 11) * np.array([1.0, 0.5]) / 11
        self.next += 1

    def backward(self, top, propagate_down, bottom):
        pass

class Seeking(Source):
    def seek(self, batches):
        self.next = batches

class Turning(Source):
    def take_turns(self, turns):
        self.turns = turns

    def forward(self, bottom, top):
        assert (caffe.solver_rank(), caffe.solver_count()) == (self.turns.rank, self.turns.world)
        place, self.next = self.next, self.turns.batch(self.next)
        super().forward(bottom, top)
        self.next = place + 1

    def seek(self, batches):
        self.next = batches
'''
NET = """
name: "python"
layer { name: "data" type: "Python" top: "data" python_param { module: "sources_of_a_test" layer: "KIND" } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "data" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.5 max_iter: 5 random_seed: 3 display: 1
iter_size: {size} snapshot_prefix: "{name}" snapshot: 2"""


def test_layers_in_python(tmp_path: Path) -> None:
    (tmp_path / "sources_of_a_test.py").write_text(PYTHON)
    (tmp_path / "net.prototxt").write_text(NET.replace("KIND", "Seeking"))
    for name, size in (("one", 2), ("two", 1)):
        (tmp_path / f"{name}.prototxt").write_text(SOLVER.format(size=size, name=name))
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    process = start("caffe", "train", "--solver=one.prototxt", folder=tmp_path, PYTHONPATH=path)
    assert end(process).status == 0
    for kind in ("Seeking", "Turning", "Source"):
        (tmp_path / "net.prototxt").write_text(NET.replace("KIND", kind))
        found = run_python(tmp_path)
        if kind == "Source":
            assert [status for status, _ in found] == [2, 2]
            assert "neither seek(batches) nor take_turns(turns)" in found[0][1] and not found[1][1]
            continue
        assert [status for status, _ in found] == [0, 0], found[0][1]
        for iteration in (2, 4, 5):
            assert_alike(tmp_path / f"one_iter_{iteration}.caffemodel", tmp_path / f"two_iter_{iteration}.caffemodel")


def run_python(folder: Path) -> list[tuple[int, str]]:
    found = run_ranks(2, "caffe", "train", "--solver=two.prototxt", folders=folder)
    return [(done.status, done.stderr) for done in found]


@pytest.mark.slow
def test_started_by_processes_and_by_torchrun(tmp_path: Path) -> None:
    """Both give the weights of one process; Ctrl-C reaches all."""
    (tmp_path / "sources_of_a_test.py").write_text(PYTHON)
    (tmp_path / "net.prototxt").write_text(NET.replace("KIND", "Seeking"))
    for name, size in (("one", 2), ("own", 1), ("run", 1), ("long", 1)):
        (tmp_path / f"{name}.prototxt").write_text(SOLVER.format(size=size, name=name))
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    assert end(start("train_net", "--solver", "one.prototxt", folder=tmp_path, **path)).status == 0
    done = end(start("train_net", "--solver", "own.prototxt", "--processes", 2, folder=tmp_path, **path))
    assert done.status == 0, done.stderr
    torchrun = shutil.which("torchrun", path=str(Path(sys.executable).parent))
    assert torchrun
    words = ["--nproc-per-node", "2", str(ROOT / "tools" / "caffe.py"), "train", "--solver=run.prototxt"]
    run = subprocess.run(
        [torchrun, *words], cwd=tmp_path, env={**os.environ, **path}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    for name in ("own", "run"):
        assert_alike(tmp_path / "one_iter_5.caffemodel", tmp_path / f"{name}_iter_5.caffemodel")
    long = ["--solver", "long.prototxt", "--processes", 2, "--iters", 10**6]
    process = start("train_net", *long, folder=tmp_path, **path)
    wait_for(lambda: (tmp_path / "long_iter_2.solverstate").exists(), process)
    process.send_signal(signal.SIGINT)
    done = end(process)
    assert done.status == 130, done.stderr
    assert "Stopped at iteration" in done.stderr and "--processes 2" in done.stdout
