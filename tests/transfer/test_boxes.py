"""Features over boxes: what the nets are, their numbers against slow ones, and what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from transfer.boxed_nets import write_boxed_nets, write_proposals
from transfer.tiny_nets import write_nets, write_pairs

from caffe_compat.commands import make_transfer, net_surgery
from caffe_compat.datasets.proposal_file import ProposalFile, read_proposal_file, write_proposal_file
from caffe_compat.errors import DataError, MissingFileError, UsageError
from caffe_compat.figures.pair import PairNames, open_pair
from caffe_compat.figures.sources import Feeding
from caffe_compat.net import load_net
from caffe_compat.proto import read_net, read_solver
from caffe_compat.solver.rules import solver_class
from caffe_compat.transfer.boxes import read_boxes_branch
from caffe_compat.transfer.pairs import box_features

NETS = ["--teacher", "boxed_teacher.prototxt", "--student", "boxed_student.prototxt", "--output", "out"]
DATA = ["--source", "pairs/train_pairs.txt", "--val-source", "pairs/val_pairs.txt"]
BOXES = ["--proposals", "boxes.npz", "--boxes-per-image", "12"]
WEIGHTS = ["--teacher-weights", "boxed_teacher.caffemodel"]
USUAL = [*NETS, *DATA, *BOXES]
DETECTION = ROOT / "prototxt" / "detection"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_nets(tmp_path)
    write_boxed_nets(tmp_path)
    write_pairs(tmp_path / "pairs")
    write_proposals(tmp_path / "boxes.npz")


def make(*arguments: str) -> dict[str, Any]:
    """Run the tool; layers of train_val.prototxt by name."""
    assert make_transfer.main(list(arguments)) == 0
    return {layer.name: layer for layer in read_net("out/train_val.prototxt").layer}


def test_regions_are_pooled_in_place_of_the_last_pooling() -> None:
    layers = make(*USUAL, "--layer", "fc7")
    for prefix in ("", "da_"):
        roi = layers[f"{prefix}roi_pool2"]
        assert (roi.type, list(roi.bottom)) == ("ROIPooling", [f"{prefix}conv2", "rois"])
        param = roi.roi_pooling_param
        assert (param.pooled_h, param.pooled_w, param.spatial_scale) == (3, 3, 0.25)
        assert list(layers[f"{prefix}fc6"].bottom) == list(roi.top) and f"{prefix}pool2" not in layers
    assert list(layers["pairs"].top) == ["data", "da_data", "rois"]
    data = layers["pairs"].paired_image_data_param
    assert (data.proposals, data.rois_per_image, data.top_k) == ("boxes.npz", 12, 2000)
    assert layers["adapt_fc7"].type == "InnerProduct" and layers["loss_fc7"].loss_weight == [1]
    shapes = load_net("out/train_val.prototxt", "boxed_teacher.caffemodel", "TRAIN").blob_shapes
    assert shapes["fc7"] == shapes["adapt_fc7"] == (24, 16) and shapes["da_fc7"] == (24, 18)


@pytest.mark.parametrize(("net", "grid"), [("caffenet", 6), ("alexnet", 6), ("vgg16", 7)])
def test_bins_and_strides_of_the_nets_of_the_product(net: str, grid: int) -> None:
    branch = read_boxes_branch(ROOT / "prototxt" / net / "deploy.prototxt", ["fc7"], "TEST")
    (roi,) = (layer for layer in branch.layers if layer.type == "ROIPooling")
    param = roi.roi_pooling_param
    assert (param.pooled_h, param.pooled_w, param.spatial_scale) == (grid, grid, 1 / 16)
    assert not branch.fixed and branch.shapes(branch.plan((240, 320)), (240, 320))["fc7"] == (1, 4096)


def test_a_detector_is_taken_as_it_is() -> None:
    teacher, student = (
        ROOT / f"prototxt/detection/{name}.prototxt" for name in ("alexnet_rgb/test", "caffenet_hha/train")
    )
    layers = make("--teacher", str(teacher), "--student", str(student), *USUAL[4:], "--layer", "fc6")
    assert "roi_pool5" in layers and list(layers["da_roi_pool5"].bottom) == ["da_conv5", "rois"]
    assert layers["da_fc6"].inner_product_param.weight_filler.std == pytest.approx(0.005)
    franken = {layer.name: layer for layer in read_net("out/franken_deploy.prototxt").layer}
    assert list(franken["fc7"].bottom) == ["adapt_fc6"] and "cls_prob" in franken
    assert sum("rois" in layer.top for layer in franken.values()) == 1


def round_away(value: float) -> int:
    return int(math.floor(abs(value) + 0.5)) * (1 if value >= 0 else -1)


def pool(feature: np.ndarray, rois: np.ndarray, scale: float, bins: int) -> tuple[np.ndarray, list[Any]]:
    """Maxima over bins (R, C, bins, bins), and for each where its maximum stands: image, channel, y, x."""
    top, places = np.zeros((len(rois), feature.shape[1], bins, bins)), []
    for r, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (round_away(np.float32(value) * np.float32(scale)) for value in corners)
        height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for c, i, j in np.ndindex(feature.shape[1], bins, bins):
            rows = range(max(y1 + i * height // bins, 0), min(y1 - (-(i + 1) * height // bins), feature.shape[2]))
            columns = range(max(x1 + j * width // bins, 0), min(x1 - (-(j + 1) * width // bins), feature.shape[3]))
            cells = [(feature[int(image), c, y, x], -y, -x) for y in rows for x in columns]
            if cells:
                value, y, x = max(cells)
                top[r, c, i, j] = value
                places.append(((r, c, i, j), (int(image), c, -y, -x)))
    return top, places


def test_loss_and_gradients_against_loops() -> None:
    make(*USUAL, "--layer", "fc7", "--mean-norm", "2.5", "--scale", "0.5")
    torch.manual_seed(3)
    net = load_net("out/train_val.prototxt", "boxed_teacher.caffemodel", "TRAIN")
    names = ["rois", "conv2", "fc6", "fc7", "da_pool1", "da_conv2", "da_fc6", "da_fc7", "adapt_fc7", "loss_fc7"]
    blobs = net(blobs=names)
    weight = 1 / (2.5 * 0.5)
    (weight * blobs["loss_fc7"]).backward()
    found = {name: blobs[name].detach().double().numpy() for name in names}
    assert len(found["rois"]) == 24

    def layer(name: str) -> tuple[np.ndarray, np.ndarray]:
        return tuple(blob.detach().double().numpy() for blob in net.layer(name).blobs)  # type: ignore[return-value]

    def grown(values: np.ndarray, name: str) -> np.ndarray:
        matrix, bias = layer(name)
        return np.maximum(values @ matrix.T + bias, 0)

    # the teacher: after its ReLU, without dropout
    pooled, _ = pool(found["conv2"], found["rois"], 0.25, 3)
    target = grown(grown(pooled.reshape(24, -1), "fc6"), "fc7")
    np.testing.assert_allclose(found["fc7"], target, rtol=1e-4, atol=1e-5)

    # the student: with dropout, whose masks its blobs tell
    below, places = pool(found["da_conv2"], found["rois"], 0.25, 3)
    below = below.reshape(24, -1)
    six = grown(below, "da_fc6")
    mask6 = np.where(six > 1e-6, found["da_fc6"] / np.maximum(six, 1e-9), 0)
    seven = grown(found["da_fc6"], "da_fc7")
    mask7 = np.where(seven > 1e-6, found["da_fc7"] / np.maximum(seven, 1e-9), 0)
    for mask in (mask6, mask7):
        assert {0.0, 2.0} == set(np.round(mask, 3).ravel().tolist())
    adapted = grown(found["da_fc7"], "adapt_fc7")
    np.testing.assert_allclose(found["adapt_fc7"], adapted, rtol=1e-4, atol=1e-5)

    off = adapted - 0.5 * target
    assert found["loss_fc7"] == pytest.approx(np.mean([0.5 * (row**2).sum() for row in off]), rel=1e-4)
    step = weight * off / 24 * (adapted > 0)
    steps = {"adapt_fc7": (step, found["da_fc7"])}
    step = step @ layer("adapt_fc7")[0] * mask7 * (seven > 0)
    steps["da_fc7"] = (step, found["da_fc6"])
    step = step @ layer("da_fc7")[0] * mask6 * (six > 0)
    steps["da_fc6"] = (step, below)
    for name, (rows, bottom) in steps.items():
        gradients = [blob.grad.double().numpy() for blob in net.layer(name).blobs]  # type: ignore[union-attr]
        np.testing.assert_allclose(gradients[0], rows.T @ bottom, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(gradients[1], rows.sum(0), rtol=1e-3, atol=1e-6)
    rows = (step @ layer("da_fc6")[0]).reshape(24, 7, 3, 3)
    on_map = np.zeros_like(found["da_conv2"])
    for bin_, cell in places:
        on_map[cell] += rows[bin_]
    on_map *= found["da_conv2"] > 0
    padded = np.pad(found["da_pool1"], ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = on_map.shape[2:]
    want = np.zeros((7, 5, 3, 3))
    for i, j in np.ndindex(3, 3):
        want[:, :, i, j] = np.einsum("noyx,ncyx->oc", on_map, padded[:, :, i : i + height, j : j + width])
    gradient = net.layer("da_conv2").blobs[0].grad
    assert gradient is not None and np.abs(want).max() > 1e-3
    np.testing.assert_allclose(gradient.double().numpy(), want, rtol=2e-3, atol=1e-5)
    assert net.layer("conv2").blobs[0].grad is None and net.layer("fc7").blobs[0].grad is None


def test_two_points_weigh_alike_after_each_is_divided_by_its_norm() -> None:
    layers = make(*USUAL, "--layer", "conv2", "fc7", "--mean-norm", "4", "2", "--image-size", "40", "48")
    assert layers["loss_conv2"].loss_weight == [pytest.approx(1 / (10 * 12 * 4), rel=1e-5)]
    assert layers["loss_fc7"].loss_weight == [pytest.approx(1 / 2)]
    assert layers["adapt_conv2"].type == "Convolution" and "pool2" not in layers
    net = load_net("out/train_val.prototxt", "boxed_teacher.caffemodel", "TEST")
    assert {"explained_variance_conv2", "explained_variance_fc7"} <= set(net.output_names)
    assert net.blob_shapes["conv2"][:2] == (1, 8) and net.blob_shapes["fc7"] == (12, 16)


def test_what_is_measured_works_over_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path("boxed_student.prototxt").read_text().splitlines()
    Path("steady.prototxt").write_text("\n".join(line for line in lines if "Dropout" not in line))
    short = ["--student", "steady.prototxt", "--batch-size", "1", "--max-iter", "150", "--test-interval", "150"]
    make(*USUAL, *WEIGHTS, "--layer", "conv2", "fc7", *short)
    printed = capsys.readouterr().out
    assert re.search(r"fc7: mean norm [\d.]+, standard deviation [\d.]+ over 48 boxes, .* of 4 images", printed)
    assert re.search(r"conv2: mean norm .* over 480 locations, .* of 4 images", printed) and "stable" in printed
    solver = solver_class(read_solver("out/solver.prototxt"))(read_solver("out/solver.prototxt"))
    losses: list[float] = []
    solver.on_iteration = lambda iteration, loss: losses.append(loss)
    solver.solve()
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8]), losses
    tested = solver.test_nets[0]
    for node in tested.nodes:
        node.layer.start_over()
    found = [tested() for _ in range(4)][-1]
    assert float(found["explained_variance_fc7"]) > 0.2 and float(found["dead_units_fc7"]) < 0.5


def test_the_mean_norm_is_that_of_the_vectors_of_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    make(*USUAL, *WEIGHTS, "--layer", "fc6", "--sweep", "0")
    printed = capsys.readouterr().out
    torch.manual_seed(read_solver("out/solver.prototxt").random_seed)
    net = load_net("out/train_val.prototxt", "boxed_teacher.caffemodel", "TRAIN")
    norms = []
    for _ in range(2):
        norms += [float(np.linalg.norm(row)) for row in net(blobs=["fc6"])["fc6"].numpy()]
    assert f"over {len(norms)} boxes" in printed
    assert float(printed.split("mean norm ")[1].split(",")[0]) == pytest.approx(np.mean(norms), rel=1e-4)
    assert f"--mean-norm {np.mean(norms):.3g}" in Path("out/solver.prototxt").read_text()
    with pytest.raises(UsageError, match="--measure: features over boxes are measured on the training pairs"):
        make(*USUAL, *WEIGHTS, "--layer", "fc6", "--measure", "pairs/train_pairs.txt")


def test_the_franken_net_is_the_student_below_and_the_teacher_above_on_boxes() -> None:
    make(*USUAL, *WEIGHTS, "--layer", "fc6", "--scale", "0.5", "--max-iter", "1", "--sweep", "0")
    param = read_solver("out/solver.prototxt")
    solver_class(param)(param).solve()
    surgery = ["--out_net_def", "out/franken_deploy.prototxt", "--net_surgery_json", "out/surgery.json"]
    assert net_surgery.main([*surgery, "--out_net_file", "franken.caffemodel"]) == 0
    franken = load_net("out/franken_deploy.prototxt", "franken.caffemodel")
    student = load_net("out/student_deploy.prototxt", "out/transfer_iter_1.caffemodel")
    teacher = load_net("boxed_teacher.prototxt", "boxed_teacher.caffemodel")
    images = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (2, 3, 40, 48)).astype(np.float32))
    rois = torch.tensor([[0.0, 3, 4, 30, 30], [1, 0, 0, 47, 39], [1, 20, 8, 40, 20]])
    with torch.no_grad():
        prob = franken(da_data=images, rois=rois)["prob"]
        feature = student(da_data=images, rois=rois)["adapt_fc6"] / 0.5
        expected = teacher.layer("fc8")(teacher.layer("fc7")(feature).clamp(min=0)).softmax(1)
    torch.testing.assert_close(prob, expected, rtol=1e-4, atol=1e-6)


def test_the_list_shows_what_fits_over_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_transfer.main([*NETS[:4], "--list", "--image-size", "40", "48"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "over boxes (--proposals)",
        "  teacher: fc6 (20), fc7 (16), fc8 (4), prob (4)",
        "  student: fc6 (24), fc7 (18), fc8 (4), prob (4)",
    ]
    assert not box_features("teacher.prototxt", "TEST"), "its fc2 comes after a normalisation"


def test_built_in_proposals_are_computed_once_and_stay_with_the_nets() -> None:
    make(*NETS, *DATA, "--proposals", "builtin", "--layer", "fc6")
    content = read_proposal_file("out/proposals.npz")
    assert content.images == tuple(f"pairs/a{number}" for number in range(4)) and min(map(len, content.boxes)) > 5
    before = Path("out/proposals.npz").stat().st_mtime_ns
    layers = make(*NETS, *DATA, "--proposals", "builtin", "--layer", "fc7")
    assert Path("out/proposals.npz").stat().st_mtime_ns == before and not Path("out/proposals.npz.parts").exists()
    assert layers["pairs"].paired_image_data_param.proposals == "out/proposals.npz"
    assert "--proposals builtin" in Path("out/solver.prototxt").read_text()
    write_pairs(Path("pairs"), count=5)
    make(*NETS, *DATA, "--proposals", "builtin", "--layer", "fc7")
    assert len(read_proposal_file("out/proposals.npz").images) == 5
    net = load_net("out/train_val.prototxt", "boxed_teacher.caffemodel", "TRAIN")
    assert net(blobs=["rois"])["rois"].shape[1] == 5


def test_a_franken_net_without_weights_for_its_upper_part_is_not_made(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("boxed_teacher.prototxt").read_text()
    Path("trunk.prototxt").write_text(text[: text.index('layer { name: "fc8"')])
    load_net("trunk.prototxt", "boxed_teacher.caffemodel").save("trunk.caffemodel")
    make(*USUAL, "--teacher-weights", "trunk.caffemodel", "--layer", "fc7", "--no-measure")
    assert "no franken net: trunk.caffemodel has no weights for fc8" in capsys.readouterr().out
    assert not Path("out/franken_deploy.prototxt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [*NETS, *DATA, "--layer", "fc6"],
            r"'fc6' comes after an InnerProduct layer.*use --crop 24 24, or --proposals FILE \(or builtin\)",
        ),
        ([*USUAL, "--layer", "conv2"], "--proposals, but conv2 come"),
        ([*USUAL, "--layer", "fc6", "--boxes-per-image", "0"], "--boxes-per-image must be positive"),
        ([*USUAL, "--layer", "fc6", "--student-layer", "conv2"], "boxed_student.prototxt: --proposals, but conv2"),
        (
            [*USUAL, "--layer", "conv2", "fc6", "--student-layer", "fc6", "conv2"],
            "are features over images and over boxes, expected alike",
        ),
        (
            [*USUAL, "--teacher", "teacher.prototxt", "--layer", "fc2"],
            r"'fc2' comes after 'norm1' \(LRN\), expected a max",
        ),
        (
            [*USUAL, "--teacher", "teacher_train_val.prototxt", "--layer", "fc6"],
            "teacher_train_val.prototxt: the net has no blob 'fc6'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_written(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(*arguments)
    assert not Path("out").exists()


def test_a_detector_without_boxes_says_what_to_give() -> None:
    teacher = str(ROOT / "prototxt/detection/alexnet_rgb/test.prototxt")
    with pytest.raises(
        UsageError, match=r"'fc6' is a feature over boxes; give --proposals FILE .* or --proposals builtin"
    ):
        make("--teacher", teacher, "--student", teacher, *NETS[4:], *DATA, "--layer", "fc6")


def test_pairs_without_proposals_are_named_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    content = read_proposal_file("boxes.npz")
    write_proposal_file("boxes.npz", ProposalFile(content.images[:2], content.boxes[:2]))
    with pytest.raises(DataError, match=r"no proposals in it for 2 pictures: \S*a2.png, \S*a3.png"):
        make(*USUAL, *WEIGHTS, "--layer", "fc6")
    with pytest.raises(MissingFileError, match="none.npz"):
        make(*NETS, *DATA, *WEIGHTS, "--proposals", "none.npz", "--layer", "fc6")
    assert "rates tried" not in capsys.readouterr().out


def test_pictures_of_a_feature_over_boxes_are_refused() -> None:
    make(*USUAL, "--layer", "fc7")
    load_net("out/train_val.prototxt", phase="TEST").save("both.caffemodel")
    names = PairNames(("out/train_val.prototxt",), ("both.caffemodel",), "fc7")
    with pytest.raises(UsageError, match="'fc7' is a feature over boxes, expected one of whole images"):
        open_pair(names, Feeding())
