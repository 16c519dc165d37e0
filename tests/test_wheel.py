"""The wheel is the product: commands, prototxts, experiments and licence are in it, and it works without a checkout."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_string
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from page_material import recording
from program import end
from sources import nodes_of

from caffe_compat.commands import COMMANDS, GROUPS, about
from caffe_compat.resources import SHORT
from caffe_compat.version import __version__

TOP = ("caffe_compat", "prototxt", "experiments", "docs", "tools")
INFO = f"caffe_compat-{__version__}.dist-info"
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "faster_coco_eval": "faster-coco-eval",
    "google": "protobuf",
    "onnxruntime": "onnxruntime-gpu",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
"""What installs a module, where its name is another."""
ON_DEMAND = {"pydot", "plyvel", "sklearn", "timm", "safetensors"}
"""Modules of extras."""
QUIET = shutil.ignore_patterns("__pycache__", "*.pyc", "share")


def run(*words: object, folder: Path, **settings: str) -> str:
    """What a program says; it must end well.  It knows nothing of this checkout."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [str(word) for word in words],
        cwd=folder,
        env={**known, "OMP_NUM_THREADS": "1", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    done = end(process)
    assert done.status == 0, done.stderr
    return done.stdout


def required(wheel: Path) -> list[str]:
    """The requirements of a wheel without those of extras."""
    with zipfile.ZipFile(wheel) as archive:
        lines = message_from_string(archive.read(f"{INFO}/METADATA").decode()).get_all("Requires-Dist", [])
    return [line for line in lines if "extra ==" not in line]


def imported() -> set[str]:
    """Modules of others that the package imports, at the top of a file or inside functions."""
    found = set()
    for path in (ROOT / "caffe_compat").rglob("*.py"):
        for node in nodes_of(path):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            found |= {name.split(".")[0] for name in names}
    return found - set(sys.stdlib_module_names) - ON_DEMAND - {"caffe_compat", "caffe"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with an sdist of this checkout, and the wheel made from that."""
    work, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in TOP:
        shutil.copytree(ROOT / name, work / name, ignore=QUIET)
    (work / "data").mkdir()
    for path in [*ROOT.glob("*.*"), ROOT / "LICENSE", ROOT / "Makefile", *(ROOT / "data").glob("*.py")]:
        if path.is_file() and path.name != ".gitignore":
            shutil.copyfile(path, work / path.relative_to(ROOT))
    sdist = f"from setuptools.build_meta import build_sdist; build_sdist({str(out)!r})"
    run(sys.executable, "-c", sdist, folder=work)
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        archive.extractall(work / "unpacked", filter="data")
    (unpacked,) = (work / "unpacked").iterdir()
    wheel = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    run(sys.executable, "-c", wheel, folder=unpacked)
    return out


def test_what_the_wheel_holds(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about_it = message_from_string(archive.read(f"{INFO}/METADATA").decode())
        entry_points = archive.read(f"{INFO}/entry_points.txt").decode()
        licence = archive.read(f"{INFO}/licenses/LICENSE").decode()
    assert "caffe-compat = caffe_compat.__main__:program" in entry_points
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8") and licence.startswith("BSD 2-Clause")
    assert about_it["Version"] == __version__ and "BSD-2-Clause" in (
        about_it["License-Expression"],
        about_it["License"],
    )
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "caffe_compat").rglob("*.py")}
    assert not modules - names
    for folder in ("prototxt", "experiments"):
        files = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {f"caffe_compat/share/{name}" for name in files} == {
            name for name in names if name.startswith(f"caffe_compat/share/{folder}/")
        }
    assert "caffe_compat/py.typed" in names and "caffe_compat/proto/caffe_pb2.pyi" in names
    assert {name.split("/")[0] for name in names} == {"caffe_compat", INFO}


def test_what_the_sdist_holds(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py")}
    wanted |= {"LICENSE", "CITATION.cff", "README.md", "setup.py", "data/fetch.py", "experiments/table1.yml"}
    assert not wanted - names
    assert not any("__pycache__" in name for name in names)


def test_requirements_are_what_is_imported(built: Path) -> None:
    """Of all that the package imports at the top of a module, nothing is missing among the requirements."""
    (wheel,) = built.glob("*.whl")
    base = {re.split(r"[^\w.-]", line)[0].lower() for line in required(wheel)}
    missing = {DISTRIBUTIONS.get(module, module) for module in imported()} - base
    assert not missing, missing
    with zipfile.ZipFile(wheel) as archive:
        extras = message_from_string(archive.read(f"{INFO}/METADATA").decode()).get_all("Provides-Extra", [])
    assert {"gpu", "leveldb", "draw", "coco", "teachers", "svm", "dev"} <= set(extras)


def test_only_torch_wants_cuda(built: Path) -> None:
    """Where PyTorch's CPU build is there already, no requirement, nor what it requires, pulls CUDA."""
    (wheel,) = built.glob("*.whl")
    waiting = [line for line in required(wheel) if not line.startswith("torch")]
    seen: set[str] = set()
    while waiting:
        name = re.split(r"[^\w.-]", waiting.pop())[0]
        if name in seen:
            continue
        seen.add(name)
        with contextlib.suppress(metadata.PackageNotFoundError):
            waiting += [line for line in metadata.requires(name) or [] if "extra ==" not in line]
    assert len(seen) > 15
    assert not [name for name in seen if name.startswith(("nvidia", "cuda", "triton", "torch"))]


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment in which the wheel is installed.

    What it needs is found where this Python has it, which spares the network.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=os.name != "nt")
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    (wheel,) = built.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "--python", programs / "python", "install", "-q", "--no-deps", "--no-index", wheel, folder=home)
    (packages,) = [path.parent for path in home.rglob("caffe_compat") if path.parent.name == "site-packages"]
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in others), encoding="utf-8")
    return programs


def test_installed_commands_in_another_folder(installed: Path, tmp_path: Path) -> None:
    command = installed / "caffe-compat"
    for words in ([command], [installed / "python", "-m", "caffe_compat"]):
        shown = run(*words, folder=tmp_path)
        assert all(about(name)[:40] in shown for name in COMMANDS)
    assert run(command, "--version", folder=tmp_path) == f"caffe_compat {__version__}\n"
    where = run(command, "zoo", "caffenet/deploy", folder=tmp_path).strip()
    assert where.endswith(os.path.join("caffe_compat", "share", "prototxt", "caffenet", "deploy.prototxt"))
    assert Path(where).is_file() and not where.startswith(str(ROOT))
    assert "60,965,224" in run(command, "describe", "zoo:caffenet", folder=tmp_path)
    assert "table1" in run(command, "experiment", "--list", folder=tmp_path)
    shown = run(command, "export", "--help", folder=tmp_path)
    assert "caffe-compat export --model deploy.prototxt" in shown and ".py" not in shown
    assert not list(tmp_path.iterdir()), "these commands write nothing"


def test_an_installed_solver_finds_its_net(installed: Path, tmp_path: Path) -> None:
    """Solvers name their net from the top of a checkout, which is not here."""
    code = (
        "from caffe_compat.proto import read_net, read_solver\n"
        "solver = read_solver('zoo:demo/teacher/solver')\n"
        "print(solver.net, len(read_net(solver.net).layer))"
    )
    net, layers = run(installed / "python", "-c", code, folder=tmp_path).split()
    assert net == "prototxt/demo/teacher/train_val.prototxt" and int(layers) > 10


def test_an_installed_predict(installed: Path, tmp_path: Path) -> None:
    """An own caffemodel on an own folder, from anywhere."""
    (tmp_path / "pictures").mkdir()
    code = (
        "import caffe_compat, cv2, numpy as np\n"
        "caffe_compat.load_net('n.prototxt').save('n.caffemodel')\n"
        "for k in range(2): cv2.imwrite(f'pictures/{k}.png', np.full((20, 24, 3), 60 * k, np.uint8))"
    )
    (tmp_path / "n.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }'
        ' layer { name: "f" type: "InnerProduct" bottom: "data" top: "f" inner_product_param { num_output: 3'
        ' weight_filler { type: "xavier" } } } layer { name: "prob" type: "Softmax" bottom: "f" top: "prob" }'
    )
    run(installed / "python", "-c", code, folder=tmp_path)
    words = ("--model", "n.prototxt", "--weights", "n.caffemodel", "--mean", "104,117,123", "pictures")
    shown = run(installed / "caffe-compat", "predict", *words, "--sheet", "best.png", folder=tmp_path)
    assert "pictures/1.png: " in shown and "2 pictures done, 0 failed" in shown
    assert (tmp_path / "best.png").stat().st_size > 1000


@pytest.mark.slow
def test_three_commands_from_a_recording_to_a_student(installed: Path, tmp_path: Path) -> None:
    """Of a RealSense: folders of colour and depth; the teacher's weights are random here, which is enough to run."""
    recording(tmp_path, 10)
    command = installed / "caffe-compat"
    weights = "import caffe_compat; caffe_compat.load_net('zoo:small').save('teacher.caffemodel')"
    run(installed / "python", "-c", weights, folder=tmp_path)
    shown = run(command, "index", "color", "depth", "-o", "index.json", "--camera", "D435", folder=tmp_path)
    assert "10 frames" in shown and "caffe-compat hha --index" in shown
    run(command, "hha", "--index", "index.json", "-o", "hha", "--hold-out", 5, folder=tmp_path)
    words = ("--source", "hha/train_pairs.txt", "--val-source", "hha/val_pairs.txt", "--teacher", "zoo:small")
    words += ("--teacher-weights", "teacher.caffemodel", "--student", "zoo:small", "--layer", "pool5")
    small = ("--short-side", 96, "--crop", 96, 96, "--max-iter", 4, "--sweep", 2, "--measure-count", 2)
    shown = run(command, "transfer", *words, *small, "--output", "student", folder=tmp_path)
    made = {path.name for path in (tmp_path / "student").iterdir()}
    assert {"report.html", "student.onnx", "franken.onnx", "franken.caffemodel", "transfer_iter_4.caffemodel"} <= made
    words = ("franken.onnx", tmp_path / "hha" / "hha", "--json", "labels.json")
    shown = run(command, "infer", *words, folder=tmp_path / "student")
    assert "10 pictures done, 0 failed" in shown


@pytest.mark.slow
def test_the_small_demo_runs_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    shown = run(installed / "caffe-compat", "demo", "--small", folder=tmp_path)
    assert "franken net, zero-shot" in shown and "caffe-compat surgery" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"data", "output"}
    output = tmp_path / "output" / "demo_small"
    assert (output / "franken.onnx").stat().st_size > 1e6 and (output / "conv1.png").exists()


def test_names_of_commands() -> None:
    assert sum(map(len, GROUPS.values())) == len(set(COMMANDS)), "a command stands in two groups"
    assert set(SHORT.values()) <= set(COMMANDS) and not set(SHORT) & set(COMMANDS)
    for name in COMMANDS:
        assert about(name).endswith((".", ":")) and len(about(name)) > 20, name


def test_citation_agrees() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == __version__ and cited["license"] == "BSD-2-Clause"
    assert cited["preferred-citation"]["title"] == "Cross Modal Distillation for Supervision Transfer"
