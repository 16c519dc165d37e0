"""The committed transfer recipes: tools/make_transfer.py writes the same files, and both phases build."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT

from caffe_compat.commands import make_transfer
from caffe_compat.datasets.proposal_file import ProposalFile, write_proposal_file
from caffe_compat.media import read_preprocessing
from caffe_compat.media.modalities import FORK_MEAN, MODALITIES
from caffe_compat.net import load_net
from caffe_compat.proto import read_net, read_solver

TRANSFER = ROOT / "prototxt" / "transfer"
OWN = {"squeezenet_to_alexnet_hha": 8, "squeezenet_to_alexnet_thermal": 4}
"""Recipes that are not the paper's, for pairs that can be had, with their pairs per iteration."""
FOLDERS = sorted(path.parent.relative_to(TRANSFER) for path in TRANSFER.rglob("solver.prototxt"))


def test_the_recipes_of_the_paper_are_there() -> None:
    names = {folder.as_posix() for folder in FOLDERS}
    expected = {"alexnet_to_alexnet_hha", "vgg16_to_alexnet_hha", "vgg16_to_vgg16_hha", "caffenet_to_caffenet_hha"}
    points = ("pool1", "pool2", "conv3", "conv4", "conv3+pool5", "fc6", "fc7", "conv3+fc7")
    expected |= {f"caffenet_to_caffenet_hha/{layer}" for layer in points}
    expected |= {"alexnet_to_alexnet_flow", "caffenet_to_caffenet_flow"}
    assert expected | set(OWN) <= names


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_the_tool_writes_the_committed_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed = {path.name: path.read_text() for path in (TRANSFER / folder).iterdir() if path.is_file()}
    words = shlex.split(committed["solver.prototxt"].splitlines()[1].lstrip("# "))
    shutil.copytree(ROOT / "prototxt", tmp_path / "prototxt", ignore=shutil.ignore_patterns("transfer", "demo"))
    monkeypatch.chdir(tmp_path)
    assert make_transfer.main(words[1:]) == 0
    written = tmp_path / "prototxt" / "transfer" / folder
    assert {path.name: path.read_text() for path in written.iterdir()} == committed


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame of 480 x 640 where the recipes expect their lists."""
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "output" / name for name in ("rgbd", "thermal")):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("teacher", "student"):
            cv2.imwrite(str(folder / f"{name}.png"), np.zeros((480, 640, 3), np.uint8))
        for name in ("train", "val"):
            (folder / f"{name}_pairs.txt").write_text("teacher.png student.png\n")
        boxes = np.array([(4 * n, 2 * n, 4 * n + 99, 2 * n + 80) for n in range(80)], np.float32)
        write_proposal_file(folder / "proposals.npz", ProposalFile(["teacher"], [boxes]))
    lists = tmp_path / "data" / "ucf101" / "pairs" / "lists"
    shutil.copytree(tmp_path / "output" / "rgbd", lists)
    for name in ("train", "val"):
        (lists / f"{name}_pairs.txt").rename(lists / f"split1_pairs_{name}.txt")


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("folder", FOLDERS, ids=str)
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_every_net_builds_and_its_maps_agree(folder: Path, phase: str) -> None:
    net = load_net(TRANSFER / folder / "train_val.prototxt", phase=phase)
    shapes = net.blob_shapes
    losses = [node for node in net.nodes if node.type == "EuclideanLoss"]
    assert losses
    batch = OWN.get(folder.name, 2)
    for node in losses:
        first, second = (shapes[name] for name in node.description.bottoms)
        items = (batch if phase == "TRAIN" else 1) * (64 if node.name in ("loss_fc6", "loss_fc7") else 1)
        assert first == second and first[0] == items
    for node in net.nodes:
        student = node.name.startswith(("da_", "adapt_"))
        assert all(p.requires_grad == student for p in node.layer.blobs), node.name
    assert any(name.startswith("explained_variance_") for name in net.output_names) == (phase == "TEST")


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_solver_and_surgery_belong_to_the_nets(folder: Path) -> None:
    solver = read_solver(TRANSFER / folder / "solver.prototxt")
    assert solver.net == f"prototxt/transfer/{folder.as_posix()}/train_val.prototxt"
    assert solver.random_seed >= 0 and solver.snapshot > 0 and solver.lr_policy == "multistep"
    assert solver.clip_gradients > 0, "features are as large as they are, and no weights may be at hand to measure them"
    head = (TRANSFER / folder / "solver.prototxt").read_text()
    assert f" --clip-gradients {solver.clip_gradients:g}" in head
    assert ("Nothing was measured" in head) == ("--mean-norm" not in head)
    drops = [0.6, 0.85] if folder.name in OWN else [0.3, 0.6, 0.9]
    assert [round(step / solver.max_iter, 3) for step in solver.stepvalue] == drops
    surgery = TRANSFER / folder / "surgery.json"
    if surgery.exists():
        student, teacher = json.loads(surgery.read_text())
        assert student["model"] == f"{solver.snapshot_prefix}_iter_{solver.max_iter}.caffemodel"
        layers = {layer.name for layer in read_net(surgery.with_name("franken_deploy.prototxt")).layer}
        for entry in (student, teacher):
            known = {layer.name for layer in read_net(ROOT / entry["prototxt"]).layer}
            assert set(entry["copy_ops"]["source"]) <= known and set(entry["copy_ops"]["dest"]) <= layers


def test_the_vgg16_transfer_is_scaled_aligned_and_longer() -> None:
    layers = {layer.name: layer for layer in read_net(TRANSFER / "vgg16_to_alexnet_hha" / "train_val.prototxt").layer}
    assert layers["scale_pool5"].type == "Power" and layers["align_pool5"].type == "AlignMaps"
    assert list(layers["da_conv1"].convolution_param.pad) == [7]
    assert layers["adapt_pool5"].convolution_param.num_output == 512
    assert read_solver(TRANSFER / "vgg16_to_alexnet_hha" / "solver.prototxt").max_iter == 150_000
    assert read_solver(TRANSFER / "alexnet_to_alexnet_hha" / "solver.prototxt").max_iter == 100_000


@pytest.mark.parametrize("folder", ["alexnet_to_alexnet_flow", "caffenet_to_caffenet_flow"])
def test_recipes_of_flow_subtract_128_and_turn_x_in_a_mirror(folder: str) -> None:
    wanted, kind = read_preprocessing(TRANSFER / folder / "preprocessing.json"), MODALITIES["flow"]
    assert (wanted.modality, wanted.mean, wanted.negated) == ("flow", (128.0,) * 3, kind.negated) and wanted.flip
    train, test = read_net(TRANSFER / folder / "train_val.prototxt").layer[:2]
    for layer in (train, test):
        param = layer.paired_image_data_param
        assert list(param.mean_value_1) == [128] * 3 and list(param.mean_value) == pytest.approx(FORK_MEAN)
        assert (param.negate_x_channel, param.negate_about, param.short_side) == (2, 128, wanted.short_side)
    assert train.paired_image_data_param.mirror and not test.paired_image_data_param.mirror


@pytest.mark.usefixtures("pairs")
def test_a_mirrored_pair_of_flow_is_fed_as_flow_to_the_other_side() -> None:
    """What the recipe's own data layer makes of flow of 3 pixels to the right, and of 8 to the left."""
    for name, x in (("teacher", 7), ("student", 128 + 48)):
        picture = np.full((480, 640, 3), 128, np.uint8)
        picture[:, :320, 2], picture[:, 320:, 2] = x, 0
        cv2.imwrite(f"data/ucf101/pairs/lists/{name}.png", picture)
    net = load_net(TRANSFER / "alexnet_to_alexnet_flow" / "train_val.prototxt", phase="TRAIN")
    data = net.layer("pairs")
    seen = set()
    for _ in range(12):
        second = data()[1]
        seen |= {(float(one[2, 0, 0]), float(one[2, 0, -1])) for one in second}
    assert seen == {(48.0, -128.0), (127.0, -48.0)}


def test_the_thermal_recipe_says_what_its_student_sees() -> None:
    folder = TRANSFER / "squeezenet_to_alexnet_thermal"
    wanted, kind = read_preprocessing(folder / "preprocessing.json"), MODALITIES["thermal"]
    assert (wanted.modality, wanted.mean, wanted.scale) == ("thermal", kind.mean, kind.scale) and not wanted.negated
    for layer in read_net(folder / "train_val.prototxt").layer[:2]:
        param = layer.paired_image_data_param
        assert list(param.mean_value_1) == list(kind.mean) and list(param.mean_value) == pytest.approx(FORK_MEAN)
        assert param.short_side == wanted.short_side and param.negate_x_channel == -1
