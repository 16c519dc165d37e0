"""Commands as several processes: the same results as one, each part done once, what failed told once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands.test_infer_onnx import NET
from flow.clips import moved, write_frames
from forked import ranked
from onnx_nets import make_net
from PIL import Image
from program import ROOT, call
from small_detectors import picture
from tools.test_data_tools import content
from waiting import LIMIT, wait_for

from caffe_compat import load_net
from caffe_compat.deploy.journal import Journal
from caffe_compat.ranks import here

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
CAMERA = ["--camera", "30,30,12,9", "--units-per-metre", "1000", "--quiet"]


def everything(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def depth(seed: int, nearest: int = 1500) -> np.ndarray:
    """uint16 millimetres [18, 24] of a sloping floor with a hole."""
    rows = np.linspace(4000, nearest, 18)[:, None] + np.random.default_rng(seed).normal(0, 5, (18, 24))
    rows[3:5, 4:6] = 0
    return rows.astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for seed in range(7):
        Image.fromarray(depth(seed, 300 if seed == 4 else 1500)).save(tmp_path / "in" / f"{seed}.png")
    Image.fromarray(np.zeros((18, 24), np.uint16)).save(tmp_path / "in" / "bad.png")
    return tmp_path


@pytest.mark.parametrize(("command", "world"), [("make_hha", 3), ("make_disparity", 2)])
def test_depth_images(folder: Path, command: str, world: int) -> None:
    settings = CAMERA if command == "make_hha" else CAMERA[2:]
    alone = call(command, folder / "in", "-o", folder / "alone", *settings)
    done = ranked(world, command, folder / "in", "-o", folder / "out", *settings, folder=folder)
    assert done[0].stdout == alone.stdout.replace("/alone/", "/out/"), done
    assert "7 written, 0 already there, 1 failed" in done[0].stdout and "clip" in done[0].stdout
    assert [one.status for one in done] == [alone.status, *[0] * (world - 1)] == [1, *[0] * (world - 1)]
    counts = [one.stdout.splitlines()[-1] for one in done[1:]]
    assert counts == [f"rank {rank} of {world}: {text}" for rank, text in enumerate(_counts(world), 1)]
    assert everything(folder / "out") == everything(folder / "alone")
    assert sorted(os.listdir(folder)) == ["alone", "in", "out"]


def _counts(world: int) -> list[str]:
    """Of 8 frames the last is bad."""
    shares = [len(range(rank, 8, world)) for rank in range(world)]
    bad = 7 % world
    return [f"{n - (r == bad)} written, 0 already there, {int(r == bad)} failed" for r, n in enumerate(shares)][1:]


def test_depth_images_go_on_with_workers_too(folder: Path) -> None:
    (folder / "in" / "bad.png").unlink()
    call("make_hha", folder / "in" / "0.png", folder / "in" / "3.png", "-o", folder / "out", *CAMERA)
    done = ranked(2, "make_hha", folder / "in", "-o", folder / "out", *CAMERA, folder=folder)
    assert done[0].stdout.endswith("5 written, 2 already there, 0 failed\n"), done
    assert sorted(everything(folder / "out")) == [f"{number}.png" for number in range(7)]


def test_more_processes_than_frames(folder: Path) -> None:
    done = ranked(3, "make_hha", *(folder / "in" / f"{n}.png" for n in (0, 1)), "-o", folder / "o", *CAMERA,
                  folder=folder)  # fmt: skip
    assert [one.status for one in done] == [2, 0, 0]
    assert done[0].stderr == "error: there are more processes (3) than frames (2)\n"
    assert not done[1].stderr + done[2].stderr and not (folder / "o").exists()


STEPS = [(3, -2), (-4, 1), (0, 0), (2, 2)]


@pytest.mark.parametrize("clips", [1, 5])
def test_flow(tmp_path: Path, clips: int) -> None:
    for clip in range(clips):
        write_frames(tmp_path / "in" / f"v_{clip}" if clips > 1 else tmp_path / "in", moved(STEPS[: 4 - clip % 2]))
    bad = tmp_path / "in" / ("v_3" if clips > 1 else ".") / "00003.png"
    bad.write_bytes(bad.read_bytes()[:200])
    words = [tmp_path / "in", "--preset", "ultrafast", "--quiet"]
    alone = call("make_flow", *words, "-o", tmp_path / "alone", "--flo", tmp_path / "flo")
    truth = ["--truth", tmp_path / "flo"] if clips == 1 else []
    told = call("make_flow", *words, "-o", tmp_path / "alone", *truth)
    done = ranked(3, "make_flow", *words, "-o", tmp_path / "out", *truth, folder=tmp_path)
    assert [one.status for one in done] == [1, 0, 0], done
    assert everything(tmp_path / "out") == everything(tmp_path / "alone")
    mine = done[0].stdout.replace("written", "already there").replace(", 0 already there", "")
    assert mine.splitlines()[:-1] == told.stdout.splitlines()[:-1]
    assert done[0].stdout.splitlines()[-1] == alone.stdout.splitlines()[-1]
    assert (f"mean of {len(STEPS) - 2} frames" in done[0].stdout) == (clips == 1)
    assert all(one.stdout.startswith("rank ") and " written, " in one.stdout for one in done[1:])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight pictures, of which one is broken, a net, and its weights."""
    (tmp_path / "pictures").mkdir()
    for seed in range(8):
        cv2.imwrite(str(tmp_path / "pictures" / f"{seed}.png"), picture(seed, 24 + seed, 30))
    (tmp_path / "pictures" / "5.png").write_bytes((tmp_path / "pictures" / "5.png").read_bytes()[:300])
    (tmp_path / "n.prototxt").write_text(NET)
    make_net(NET).save(tmp_path / "n.caffemodel")
    return tmp_path


PREDICT = (
    "--model",
    "n.prototxt",
    "--weights",
    "n.caffemodel",
    "--mean",
    "104,117,123",
    "pictures",
    "--quiet",
    "--batch",
    "1",
)


@pytest.mark.parametrize(("world", "batch"), [(2, 1), (3, 2)])
def test_predict(pictures: Path, monkeypatch: pytest.MonkeyPatch, world: int, batch: int) -> None:
    monkeypatch.chdir(pictures)
    words = [*PREDICT, "--batch", batch]

    def results(name: str) -> list[object]:
        return ["--json", f"{name}.json", "--npz", f"{name}.npz", "--h5", f"{name}.h5", "--sheet", f"{name}.png"]

    bad = int(batch == 1)  # behind a picture that cannot be used one process cuts its batches elsewhere
    if not bad:
        (pictures / "pictures" / "5.png").unlink()
    alone = call("predict", *words, *results("alone"))
    done = ranked(world, "predict", *words, *results("out"), folder=pictures)
    assert [one.status for one in done] == [bad, *[0] * (world - 1)], done
    assert done[0].stdout == alone.stdout.replace("alone.", "out.")
    assert f"7 pictures done, {bad} failed" in done[0].stdout
    assert all(one.stdout.startswith(f"rank {rank} of {world}: ") for rank, one in enumerate(done) if rank)
    for end in ("json", "png"):
        assert (pictures / f"out.{end}").read_bytes() == (pictures / f"alone.{end}").read_bytes()
    assert (pictures / "out.h5").read_bytes() == (pictures / "alone.h5").read_bytes()
    mine, theirs = np.load("out.npz"), np.load("alone.npz")
    assert mine.files == theirs.files
    for name in mine.files:
        np.testing.assert_array_equal(mine[name], theirs[name])
    assert not list(pictures.glob("*.part*")) and not list(pictures.glob("*.ranks"))
    again = ranked(world, "predict", *words, *results("out"), folder=pictures)
    assert again[0].stdout.count("is there already") == 1 and not again[1].stdout, again


def test_predict_goes_on_with_another_number_of_processes(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    (pictures / "pictures" / "5.png").unlink()
    append = Journal.append

    def dies(journal: Journal, *given: object) -> None:
        append(journal, *given)  # type: ignore[arg-type]
        if here().rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", dies)
        done = ranked(3, "predict", *PREDICT, "--json", "out.json", folder=pictures)
    assert done[0].status == 2 and "rank 2 of 3 has died" in done[0].stderr and done[2].status == -signal.SIGKILL
    left = sorted(path.name for path in pictures.glob("out*"))
    assert left == ["out.json.part", "out.json.part1", "out.json.part2"]
    alone = call("predict", *PREDICT, "--json", "alone.json")
    done = ranked(2, "predict", *PREDICT, "--json", "out.json", folder=pictures)
    assert " of an earlier run), 0 failed" in done[0].stdout, done
    assert (pictures / "out.json").read_bytes() == (pictures / "alone.json").read_bytes(), alone
    assert sorted(path.name for path in pictures.glob("out*")) == ["out.json"]


def test_predict_without_files(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    alone = call("predict", *PREDICT)
    done = ranked(2, "predict", *PREDICT, folder=pictures)
    lines = [line for one in done for line in one.stdout.splitlines()]
    scored = sorted(line for line in lines if line.startswith("pictures/"))
    assert scored == sorted(line for line in alone.stdout.splitlines() if line.startswith("pictures/"))
    assert lines.count("7 pictures done, 1 failed") == 1
    refused = ranked(3, "predict", *PREDICT, "--batch", 4, folder=pictures)
    assert "there are more processes (3) than batches of 4 pictures (2)" in refused[0].stderr
    refused = ranked(2, "predict", *PREDICT, "--sheet", "s.png", folder=pictures)
    assert "--sheet goes with --json, --npz or --h5 where several" in refused[0].stderr


FEATURES = """name: "n"
layer { name: "data" type: "ImageData" top: "data" top: "label" transform_param { mean_value: 100 }
  image_data_param { source: "list.txt" batch_size: 2 new_height: 20 new_width: 20 shuffle: true } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3
  weight_filler { type: "gaussian" std: 0.01 } } }
"""


def test_features(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five batches of two of seven pictures, shuffled, so that they begin again."""
    monkeypatch.chdir(pictures)
    names = [f"pictures/{number}.png" for number in range(8) if number != 5]
    (pictures / "list.txt").write_text("".join(f"{pictures}/{name} {n}\n" for n, name in enumerate(names)))
    (pictures / "features.prototxt").write_text(FEATURES)
    load_net("features.prototxt").save("features.caffemodel")
    words = ["extract_features", "features.caffemodel", "features.prototxt", "data,ip"]
    alone = ranked(1, *words, "a_data,a_ip", 5, "lmdb", folder=pictures)[0]
    assert alone.status == 0, alone.stderr
    done = ranked(3, *words, "b_data,b_ip", 5, "lmdb", folder=pictures)
    assert [one.status for one in done] == [0, 0, 0], done
    told = [line.split("] ")[1] for line in alone.stderr.splitlines() if "Extracted" in line]
    assert [line.split("] ")[1] for line in done[0].stderr.splitlines() if "Extracted" in line] == told
    assert "Extracted features of 10 query images for feature blob ip" in told
    assert "rank 2 of 3: extracted features of 2 images" in done[2].stderr
    for name in ("data", "ip"):
        mine, theirs = (content(pictures / f"{one}_{name}") for one in "ba")
        assert mine == theirs and len(mine) == 10
    assert not list(pictures.glob("*.ranks"))
    refused = ranked(3, *words, "c,d", 2, "lmdb", folder=pictures)
    assert "there are more processes (3) than batches (2)" in refused[0].stderr
    refused = ranked(2, *words, "a_data,a_ip", 5, "lmdb", folder=pictures)
    assert "a_data: exists already" in refused[0].stderr and refused[0].status == 2
    assert "error" not in refused[1].stderr


def torchrun(name: str, *words: object) -> subprocess.Popen[str]:
    """Start a command by torchrun, as two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*command, str(ROOT / "tools" / f"{name}.py"), *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["make_hha", "make_flow", "predict"])
def test_torchrun(folder: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(pictures)
    (folder / "in" / "bad.png").unlink()
    (pictures / "pictures" / "5.png").unlink()
    write_frames(folder / "clip", moved(STEPS))
    words: dict[str, tuple[object, ...]] = {
        "make_hha": ("in", *CAMERA, "-o", "OUT"),
        "make_flow": ("clip", "--quiet", "-o", "OUT"),
        "predict": (*PREDICT, "--json", "OUT"),
    }
    alone, several = ([str(word).replace("OUT", out) for word in words[name]] for out in ("alone", "out"))
    expected = call(name, *alone)
    process = torchrun(name, *several)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    assert set(expected.stdout.replace("alone", "out").splitlines()) <= set(out.splitlines())
    assert "rank 1 of 2: " in out
    if name == "predict":
        assert Path("out").read_bytes() == Path("alone").read_bytes()
    else:
        assert everything(folder / "out") == everything(folder / "alone")


@pytest.mark.slow
def test_torchrun_of_which_one_process_is_killed(folder: Path) -> None:
    for number in range(300):
        shutil.copy(folder / "in" / "0.png", folder / "in" / f"more{number}.png")
    process = torchrun("make_hha", folder / "in", "-o", folder / "out", *CAMERA)
    lock = folder / "out.ranks" / "1.lock"
    wait_for(lambda: lock.exists() and (folder / "out").exists() and lock.read_text().isdecimal(), process)
    os.kill(int(lock.read_text()), signal.SIGKILL)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and "goes on from what is done" in told[0], err
    assert not (folder / "out.ranks").exists()
    for path in (folder / "out").glob("*.png"):
        Image.open(path).load()
    again = torchrun("make_hha", folder / "in", "-o", folder / "out", *CAMERA)
    out, err = again.communicate(timeout=LIMIT)
    assert "307 already there" not in out and " 1 failed" in out, err
