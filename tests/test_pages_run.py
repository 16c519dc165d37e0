"""The shell blocks of README.md and docs/ run, line by line, in a folder of drawn data under the names they use.

Sizes are cut (``instead``, ``more``), and what cannot run here is named with a reason (``NOT_RUN``); a line that is
neither run nor named, and an entry of these tables that meets no line, fail.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import page_material as material
import pytest
from forked import ranked
from program import ROOT, call

from caffe_compat.__main__ import main as overview
from caffe_compat.commands import COMMANDS
from caffe_compat.media import Preparation, Preprocessing, write_preparation
from caffe_compat.resources import SHORT

CALLED = re.compile(r"(?:python |torchrun .*?)?(?:(?:tools|data)/(\w+)\.py|caffe-compat(?: ([\w-]+))?)(?:\s+(.*))?$")
DATA = "needs a data set that is not here"
NETWORK = "needs the network"
LARGE = "num_output: 96 kernel_size: 11"
"""As many filters of as many pixels as AlexNet's."""
ELSEWHERE = "another test runs it"
LONG = "takes hours; the tests of experiments run small forms"


@dataclass(frozen=True)
class Page:
    """How the blocks of a page are run.

    Attributes:
        prepare: draws what it speaks of.
        instead: texts of lines, and what stands there in their place.
        more: options that are added to a command, by its name.
        after: what is done once a line that begins so has run.
        not_run: reasons, by beginnings of lines.
    """

    prepare: Callable[[Path], None] = lambda folder: None
    instead: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)


FRANKEN = (
    "--model", "franken_deploy.prototxt", "--weights", "franken.caffemodel", "--output", "franken.onnx", "--dynamic",
)  # fmt: skip
TRANSFER = "--max-iter 2 --batch-size 1 --sweep 2 --measure-count 2 --test-iter 1 --gpu -1 --crop 96 96 --short-side 96"


def readme(folder: Path) -> None:
    material.recording(folder)
    material.pictures(folder / "hha", 6, material.SIDES)
    material.own_net(folder)
    material.franken_net(folder)
    material.weights("zoo:squeezenet/deploy", folder / "squeezenet_v1.0.caffemodel")
    shutil.copytree(folder / "depth", folder / "frames")
    shutil.copy(folder / "depth" / "0000.png", folder / "depth.png")


def afresh(name: str) -> Callable[[Path], None]:
    """Folders that two parts of a page mean differently."""
    return lambda folder: shutil.rmtree(folder / name)


def deployment(folder: Path) -> None:
    readme(folder)
    wanted = Preprocessing(mean=(104.0, 117.0, 123.0), resize=(32, 32), classes=("cat", "dog", "bird"))
    write_preparation(folder / "net.preprocessing.json", Preparation({"data": wanted}))
    assert call("export_onnx", *FRANKEN, folder=folder).status == 0


def depth(folder: Path) -> None:
    material.recording(folder, 3)
    shutil.copytree(folder / "depth", folder / "frames")
    shutil.copy(folder / "depth" / "0000.png", folder / "depth.png")


def detection(folder: Path) -> None:
    material.coco(folder)
    material.weights("zoo:squeezenet/deploy", folder / "squeezenet_v1.0.caffemodel")


def rgbd(folder: Path) -> None:
    material.recording(folder)
    shutil.copytree(folder / "color", folder / "recording" / "color")
    shutil.copytree(folder / "depth", folder / "recording" / "depth")
    material.calibrations(folder)


def processes(folder: Path) -> None:
    depth(folder)
    material.own_net(folder)
    material.pictures(folder / "pictures", 6, material.SIDES)


def training(folder: Path) -> None:
    material.own_net(folder)
    sizes = ("--train", 8, "--pairs", 1, "--val", 2, "--test", 2)
    assert call("make_scenes", "--out", "data/demo", *sizes, folder=folder).status == 0


def transfer(folder: Path) -> None:
    readme(folder)
    for name in ("visible", "infrared"):
        material.pictures(folder / name, 6, material.SIDES)
    (folder / "RGBD").mkdir()
    shutil.copytree(folder / "color", folder / "RGBD" / "color")
    shutil.copytree(folder / "depth", folder / "RGBD" / "depth")
    assert call("index", "RGBD", "-o", "RGBD/index.json", "--camera", "D435", folder=folder).status == 0
    lines = "".join(f"color/{number:04d}.png hha/{number:04d}.png\n" for number in range(6))
    for name in ("train_pairs.txt", "val_pairs.txt"):
        (folder / name).write_text(lines)


def nets_of_figures(folder: Path) -> None:
    """What the filters of a figure are of."""
    for name, layer in (("alexnet", "conv1"), ("hha", "da_conv1")):
        (folder / name).mkdir(exist_ok=True)
        text = material.DEPLOY.replace("conv1", layer).replace("num_output: 8 kernel_size: 5", LARGE)
        for file in ("deploy.prototxt", "test.prototxt"):
            (folder / name / file).write_text(text)
        material.weights(folder / name / "deploy.prototxt", folder / f"{name}.caffemodel")
    shutil.copy(folder / "hha.caffemodel", folder / "copied.caffemodel")


PAGES: Mapping[str, Page] = {
    "README.md": Page(
        readme,
        more={"transfer": TRANSFER, "train_net": "--iters 2 --gpu -1"},
        after={"tools/transfer.py": afresh("hha"), "tools/show_depth.py": afresh("hha")},
        not_run={
            "pip install": NETWORK,
            "caffe-compat demo --small": ELSEWHERE,
            "make ": "it makes an environment from the network",
            "tools/experiment.py table1": LONG,
        },
    ),
    "docs/deployment.md": Page(
        deployment,
        instead={" --gpu 0": ""},
        not_run={
            "pip install": NETWORK,
            "tools/infer_onnx.py detector.onnx": ELSEWHERE,
            "capi=": ELSEWHERE,
            "mkdir -p lib": ELSEWHERE,
            "ln -sf": ELSEWHERE,
            "g++": ELSEWHERE,
            "convert a.jpg": ELSEWHERE,
        },
    ),
    "docs/depth.md": Page(
        depth,
        not_run={
            "tools/make_hha.py nyu_depth_v2_labeled.mat": DATA,
            "tools/make_hha.py raw/": DATA,
            "tools/make_hha.py SUNRGBD/": DATA,
            "tools/prepare_nyud2.py": DATA,
        },
    ),
    "docs/detection.md": Page(
        detection,
        instead={
            "525,525,319.5,239.5": "131.25,131.25,79.5,59.5",
            "--scales 320": "--scales 96",
            "--iters 800 --stepsize 600": "--iters 4 --stepsize 2",
            "--iters 800": "--iters 4",
            "_iter_800": "_iter_4",
            "/IMDB/": "/work_set_images_train/",
        },
        more={"train_net": "--gpu -1", "test_net": "--gpu -1", "detect": "--gpu -1"},
    ),
    "docs/experiments.md": Page(
        not_run={"tools/experiment.py table1 --on scenes": LONG, "tools/experiment.py table1 table4 --on mosd": DATA}
    ),
    "docs/flow.md": Page(
        material.clips,
        after={"tools/make_flow.py a.png": afresh("flow")},
        not_run={
            "tools/make_flow.py frames/ -o flow/ --method raft": DATA,
            "tools/make_flow.py middlebury/": DATA,
            "tools/make_flow.py tvl1/": DATA,
            "tools/make_flow.py data/jhmdb": DATA,
            "tools/prepare_ucf101.py": DATA,
            "tools/train_net.py": DATA,
            "tools/experiment.py table7": LONG,
            "data/fetch.py": NETWORK,
            "tools/imdb.py jhmdb": DATA,
            "tools/make_proposals.py --imdb jhmdb": DATA,
            "tools/reval.py": DATA,
            "tools/average_splits.py": DATA,
        },
    ),
    "docs/processes.md": Page(
        processes,
        not_run={
            "torchrun --nproc-per-node 8 tools/test_net.py": ELSEWHERE,
            "torchrun --nproc-per-node 2 tools/extract_features.py": ELSEWHERE,
        },
    ),
    "docs/rgbd.md": Page(
        rgbd,
        after={
            "tools/index.py color/ depth/ -o index.json --calibration": material.half_depth,
            "tools/index.py color/ depth/ -o index.json --camera color.yaml": material.stamped,
        },
    ),
    "docs/segmentation.md": Page(
        not_run={
            "tools/make_sds.py": ELSEWHERE,
            "tools/train_net.py": ELSEWHERE,
            "tools/test_net.py": ELSEWHERE,
            "tools/save_sds.py": ELSEWHERE,
            "tools/caffe.py": DATA,
        },
    ),
    "docs/training.md": Page(
        training,
        instead={"x_iter_1000": "x_iter_2"},
        more={"train_net": "--iters 4 --gpu -1"},
        not_run={
            "tools/caffe.py train --solver=S.prototxt --gpu=all": "needs a GPU",
            "tools/train_net.py --solver S.prototxt --processes": ELSEWHERE,
            "torchrun --nproc-per-node 8 tools/train_net.py": ELSEWHERE,
            "torchrun --nnodes 2": "needs two machines",
        },
    ),
    "docs/transfer.md": Page(
        transfer,
        instead={
            "--crop 224 288 --short-side 240": "--crop 96 96 --short-side 96",
            "--teacher-weights VGG16.caffemodel": "--teacher-weights squeezenet_v1.0.caffemodel --no-measure",
            "--layer pool5 --output output/my_transfer": "--layer pool5 --output output/nets",
            "--weights transfer_iter_1000": "--weights output/my_transfer/transfer_iter_2",
            "_iter_100000": "_iter_2",
            "--teacher-blob pool5": "--teacher-blob pool8",
            "out/": "output/my_transfer/",
        },
        more={
            "transfer": TRANSFER.replace(" --crop 96 96 --short-side 96", ""),
            "train_net": "--iters 1 --gpu -1",
        },
        after={"tools/report.py": nets_of_figures},
        not_run={
            "tools/transfer.py --folders output/rgbd/color": ELSEWHERE,
            "tools/train_net.py --solver prototxt/detection/caffenet_hha": DATA,
        },
    ),
}


def lines(page: str) -> list[str]:
    """Lines of the shell blocks of a page, continued ones joined, without remarks."""
    found: list[str] = []
    fence = ""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("```"):
            fence = "" if fence else line.strip()
        elif fence == "```" and line.strip():
            found.append(line)
    return found


def blocks_of_output(line: str) -> bool:
    """Whether a line is what a command says."""
    return not re.match(
        r"(tools/|data/|torchrun |pip |make |caffe-compat|python |capi=|mkdir |ln |g\+\+ |convert )", line
    )


def run(line: str, more: Mapping[str, str], folder: Path) -> None:
    called = CALLED.match(line.partition(" #")[0].strip())
    assert called is not None, f"who runs {line}?"
    short = (called[2] or "").replace("-", "_")
    name = called[1] or SHORT.get(short, short)
    if not name:
        assert overview([]) == 0
        return
    assert name in COMMANDS, name
    words = [*shlex.split(called[3] or ""), *shlex.split(more.get(name, ""))]
    world = re.match(r"torchrun --nproc-per-node (\d+) ", line)
    with contextlib.chdir(folder):
        done = ranked(int(world[1]), name, *words, folder=folder) if world else [call(name, *words)]
    assert not any(one.status for one in done), f"{line}\n{done}"


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_blocks_run(name: str, tmp_path: Path) -> None:
    page, folder = PAGES[name], tmp_path / "work"
    folder.mkdir()
    material.checkout(folder)
    page.prepare(folder)
    met: set[str] = set()
    for line in lines(name):
        if blocks_of_output(line):
            continue
        skipped = [start for start in page.not_run if line.startswith(start)]
        met.update(skipped)
        if skipped:
            continue
        changed = line
        for old, new in page.instead.items():
            if old in changed:
                met.add(old)
                changed = changed.replace(old, new)
        print(changed)
        run(changed, page.more, folder)
        for start, then in page.after.items():
            if line.startswith(start):
                met.add(start)
                then(folder)
    assert set(page.not_run) | set(page.instead) | set(page.after) == met, "entries that meet no line"


@pytest.mark.slow
def test_every_page_with_commands_is_run() -> None:
    pages = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
    assert set(PAGES) == {page for page in pages if any(not blocks_of_output(line) for line in lines(page))}
