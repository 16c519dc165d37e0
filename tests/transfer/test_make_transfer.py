"""tools/make_transfer.py: what the written nets are, and that they train and deploy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transfer.tiny_nets import write_nets, write_pairs, write_teacher

from caffe_compat.commands import make_transfer, measure_scale, net_surgery
from caffe_compat.errors import DataError, UsageError, WeightsError
from caffe_compat.media import Preprocessing, read_preprocessing, write_preprocessing
from caffe_compat.net import load_net
from caffe_compat.net.weights import blobs_in
from caffe_compat.proto import caffe_pb2, read_net, read_solver
from caffe_compat.solver.rules import solver_class

BASE = ["--teacher", "teacher.prototxt", "--student", "student.prototxt", "--output", "out"]
DATA = ["--source", "pairs/train_pairs.txt", "--val-source", "pairs/val_pairs.txt", "--image-size", "40", "48"]
USUAL = [*BASE, *DATA, "--layer", "pool1", "--student-layer", "c2"]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_nets(tmp_path)
    write_pairs(tmp_path / "pairs")
    write_teacher(tmp_path)


def make(*arguments: str) -> dict[str, Any]:
    """Run the tool; layers of train_val.prototxt by name."""
    assert make_transfer.main(list(arguments)) == 0
    return {layer.name: layer for layer in read_net("out/train_val.prototxt").layer}


def test_the_teacher_is_frozen_and_the_student_learns() -> None:
    layers = make(*USUAL)
    assert [(p.lr_mult, p.decay_mult) for p in layers["conv1"].param] == [(0, 0), (0, 0)]
    assert [(p.lr_mult, p.decay_mult) for p in layers["bn1"].param] == [(0, 0)] * 3
    assert layers["drop1"].phase == layers["bn1"].phase == caffe_pb2.TEST
    assert "norm1" not in layers and "fc2" not in layers and "da_c3" not in layers
    for name in ("da_c1", "da_c2", "adapt_pool1"):
        assert [(p.lr_mult, p.decay_mult) for p in layers[name].param] == [(1, 1), (2, 0)]
    for phase in ("TRAIN", "TEST"):
        net = load_net("out/train_val.prototxt", "teacher.caffemodel", phase)
        learning = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
        assert learning == {"da_c1", "da_c2", "adapt_pool1"}
        backward = {node.name for node in net.nodes if node.needs_backward}
        assert not backward & {"conv1", "relu1", "bn1", "pool1", "drop1"}
    assert net.output_names == (
        ["dead_units_pool1", "explained_variance_pool1", "loss_pool1"] if phase == "TEST" else ["loss_pool1"]
    )


def test_missing_fillers_become_msra_and_say_so() -> None:
    layers = make(*USUAL)
    assert layers["da_c2"].convolution_param.weight_filler.type == "msra"
    assert layers["da_c1"].convolution_param.weight_filler.type == "gaussian"
    assert layers["adapt_pool1"].convolution_param.weight_filler.std == pytest.approx(0.01)
    assert "names no weight filler" in Path("out/train_val.prototxt").read_text()
    layers = make(*USUAL, "--filler", "xavier")
    assert {layers[n].convolution_param.weight_filler.type for n in ("da_c1", "da_c2", "adapt_pool1")} == {"xavier"}


def test_adaptation_stands_also_between_equal_widths_and_scale_is_on_the_teacher() -> None:
    layers = make(*BASE, *DATA, "--student", "teacher.prototxt", "--layer", "pool1", "--scale", "0.5")
    assert layers["adapt_pool1"].convolution_param.num_output == 8
    assert (list(layers["scale_pool1"].bottom), layers["scale_pool1"].power_param.scale) == (["pool1"], 0.5)
    assert list(layers["loss_pool1"].bottom) == ["adapt_pool1", "scale_pool1"]
    assert "align_pool1" not in layers, "nets of one architecture have maps of one size"
    assert [(p.lr_mult, p.decay_mult) for p in layers["da_bn1"].param] == [(0, 0)] * 3


def test_batchnorm_of_a_student_learns_from_batches_and_that_of_the_teacher_keeps_its_statistics() -> None:
    text = Path("teacher.prototxt").read_text()
    for said in ("true", "false"):  # whatever the prototxts say
        param = f'bottom: "conv1" top: "bn1" batch_norm_param {{ use_global_stats: {said} }}'
        Path("bn.prototxt").write_text(text.replace('bottom: "conv1" top: "bn1"', param))
        make("--teacher", "bn.prototxt", "--student", "bn.prototxt", "--output", "out", *DATA, "--layer", "pool1")
        solver = read_solver("out/solver.prototxt")
        assert not solver.test_initialization, "there are no statistics yet"
        net = load_net("out/train_val.prototxt", "teacher.caffemodel", "TRAIN")
        kept = [blob.clone() for blob in net.layer("bn1").blobs]
        with torch.no_grad():
            blobs = net(blobs=["da_bn1", "da_conv1", "bn1"])
        assert all(map(torch.equal, kept, net.layer("bn1").blobs))
        da = blobs["da_bn1"]
        torch.testing.assert_close(da.mean((0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
        torch.testing.assert_close(net.layer("da_bn1").blob(0), blobs["da_conv1"].mean((0, 2, 3)))
        param = net.layer("da_bn1").params.section("batch_norm_param")
        assert param.moving_average_fraction == pytest.approx(0.99)
    make(*USUAL)
    assert read_solver("out/solver.prototxt").test_initialization


def test_random_teachers_with_batchnorm_have_statistics() -> None:
    given = ["--teacher", "teacher.prototxt", "--student", "student.prototxt", "--student-layer", "c2", "--sweep", "0"]
    make(*given, "--output", "out", *DATA, "--layer", "pool1", "--teacher-weights", "random")
    net = load_net("out/train_val.prototxt", "out/random_teacher.caffemodel", "TRAIN")
    with torch.no_grad():
        feature = net(blobs=["bn1"])["bn1"]
    assert 0.1 < float(feature.std()) < 10


def test_maps_are_aligned_where_their_sizes_can_differ() -> None:
    for arguments in ([], ["--crop", "37", "37"]):  # whole frames may have any size; 37 gives 10 and 9
        assert list(make(*USUAL, *arguments)["align_pool1"].bottom) == ["adapt_pool1", "pool1"]
    for arguments in (["--crop", "40", "40"], ["--multiple-of", "4"]):
        assert "align_pool1" not in make(*USUAL, *arguments)


def test_loss_weight_is_one_over_locations_and_norm() -> None:
    assert make(*USUAL)["loss_pool1"].loss_weight == [pytest.approx(1 / (10 * 12), rel=1e-5)]
    weights = make(*USUAL, "--mean-norm", "4", "--scale", "3")["loss_pool1"].loss_weight
    assert weights == [pytest.approx(1 / (10 * 12 * 12), rel=1e-5)]
    assert make(*USUAL, "--loss-weight", "1")["loss_pool1"].loss_weight == [1]


def test_the_measured_norm_goes_into_the_loss_weight_and_the_header(capsys: pytest.CaptureFixture[str]) -> None:
    measure = ["--teacher-weights", "teacher.caffemodel", "--measure", "pairs/train_pairs.txt"]
    weight = make(*USUAL, *measure)["loss_pool1"].loss_weight[0]
    printed = capsys.readouterr().out
    norm = float(printed.split("mean norm ")[1].split(",")[0])
    assert weight == pytest.approx(1 / (10 * 12 * 10), rel=1e-2), "scaled to a norm of 10"
    header = Path("out/solver.prototxt").read_text()
    assert f"--mean-norm {norm:g} " in header and f"--scale {10 / norm:.3g} " in header and "--measure" not in header
    assert read_solver("out/solver.prototxt").clip_gradients == 1
    assert list(read_solver("out/solver.prototxt").weights) == ["teacher.caffemodel"]


def test_the_header_command_writes_the_same_files_again() -> None:
    import shlex

    make(*USUAL, "--scale", "0.25", "--mean-norm", "3.5", "--mean-second", "1", "2", "3.25", "--max-iter", "70")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    words = shlex.split(Path("out/train_val.prototxt").read_text().splitlines()[1].lstrip("# "))
    assert words[0] == "tools/make_transfer.py"
    make(*words[1:])
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_a_modality_says_mean_and_mirroring_and_stands_beside_the_nets() -> None:
    layers = make(*USUAL, "--modality", "normals_255")
    data = layers["pairs"].paired_image_data_param
    assert (list(data.mean_value_1), data.negate_x_channel, data.negate_about) == ([127.5] * 3, 2, 127.5)
    assert read_preprocessing("out/preprocessing.json") == Preprocessing("normals_255")
    layers = make(*USUAL, "--modality", "thermal", "--mean-second", "100", "--short-side", "40")
    assert list(layers["pairs"].paired_image_data_param.mean_value_1) == [100]
    assert read_preprocessing("out/preprocessing.json") == Preprocessing("thermal", mean=(100.0,), short_side=40)
    with pytest.raises(UsageError, match=r"modality 'termal' \(did you mean 'thermal'\?\)"):
        make(*USUAL, "--modality", "termal")


def test_several_features() -> None:
    layers = make(*BASE, *DATA, "--layer", "conv1", "pool1", "--student-layer", "c1", "c2", "--mean-norm", "2", "5")
    assert layers["loss_conv1"].loss_weight[0] / layers["loss_pool1"].loss_weight[0] == pytest.approx(
        10 * 12 * 5 / (19 * 23 * 2), rel=1e-4
    )
    net = load_net("out/train_val.prototxt", "teacher.caffemodel", "TEST")
    assert "explained_variance_conv1" in net.output_names and "explained_variance_pool1" in net.output_names
    assert not Path("out/franken_deploy.prototxt").exists()
    assert set(load_net("out/student_deploy.prototxt").output_names) == {"adapt_conv1", "adapt_pool1"}


def test_the_sigmoid_loss_sees_the_adaptation_before_its_relu() -> None:
    make(*USUAL, "--loss", "sigmoid", "--alpha", "2", "--tau", "0.25")
    net = load_net("out/train_val.prototxt", "teacher.caffemodel", "TRAIN")
    names = ["adapt_pool1_logit", "pool1"]
    blobs = net(blobs=names)
    found, target = blobs[names[0]], blobs["pool1"]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        2 * found, (target > 0.25).float(), reduction="sum"
    ) / len(found)
    assert 0.1 < float((target > 0.25).float().mean()) < 0.9
    assert float(blobs["loss_pool1"].detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_the_l2_loss_is_half_the_squared_distance() -> None:
    make(*USUAL, "--scale", "0.5")
    net = load_net("out/train_val.prototxt", "teacher.caffemodel", "TRAIN")
    blobs = net(blobs=["adapt_pool1", "pool1"])
    distance = blobs["adapt_pool1"] - 0.5 * blobs["pool1"]
    assert float(blobs["adapt_pool1"].detach().min()) >= 0
    assert float(blobs["loss_pool1"].detach()) == pytest.approx(float(distance.square().sum().detach()) / 4, rel=1e-4)


def test_fully_connected_features_need_images_of_one_size() -> None:
    with pytest.raises(UsageError, match="takes images of 32 x 32 only, not 40 x 48; use --crop 32 32"):
        make(*BASE, *DATA, "--student", "teacher.prototxt", "--layer", "fc2")
    layers = make(*BASE, *DATA, "--student", "teacher.prototxt", "--layer", "fc2", "--crop", "32", "32")
    assert layers["adapt_fc2"].type == "InnerProduct" and layers["loss_fc2"].loss_weight == [1]
    load_net("out/train_val.prototxt", "teacher.caffemodel", "TRAIN")()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [*BASE, "--layer", "pool1", "--student-layer", "c3"],
            r"strides of 4 and 8 pixels .* maps of 120 x 160 and 59 x 79, expected equal strides.*"
            r"'pool1' fits 'c2' \(120 x 160\) of student.prototxt; 'c3' fits nothing of teacher.prototxt",
        ),
        ([*BASE[:4], "--layer", "pool1"], "--output is missing"),
        (BASE, "which feature of teacher.prototxt"),
        ([*BASE, "--layer", "conv1", "--student-layer", "c2"], "strides of 2 and 4 pixels"),
        ([*BASE, "--layer", "pool1"], "student.prototxt: the net has no blob 'pool1'"),
        (
            [*BASE, "--layer", "fc2", "--student-layer", "c2", "--crop", "32", "32"],
            "expected both N x C x H x W or both",
        ),
        ([*USUAL, "--prefix", "conv"], "layer .* prefix|share the names"),
        ([*USUAL, "--scale", "0"], "--scale is 0, expected a positive number"),
        ([*USUAL, "--mean-norm", "1", "2"], "--mean-norm has 2 entries, --layer 1"),
        ([*USUAL, "--mean", "1", "2"], "--mean has 2 numbers"),
        ([*USUAL, "--loss-weight", "much"], "--loss-weight is 'much'"),
        ([*USUAL, "--max-iter", "0"], "--max-iter is 0"),
        ([*USUAL, "--loss", "sigmoid", "--tau", "median"], "--tau median is measured: give --teacher-weights"),
        ([*USUAL, "--loss", "sigmoid", "--tau", "mean"], "--tau is mean, expected numbers, or median"),
        ([*USUAL, "--loss", "sigmoid", "--alpha", "4/sigma"], "--alpha 4/sigma is measured: give --teacher-weights"),
        ([*USUAL, "--loss", "sigmoid", "--alpha", "-1"], "--alpha is -1, expected a positive number"),
        ([*USUAL, "--measure", "pairs/train_pairs.txt"], "--measure needs --teacher-weights"),
        ([*USUAL, "--layer", "pool1", "pool1"], "expected one or more different blobs"),
    ],
)
def test_impossible_recipes_are_refused_and_write_nothing(arguments: list[str], message: str) -> None:
    if "--prefix" in arguments:
        arguments = [*arguments[: arguments.index("--student-layer")], "--student", "teacher.prototxt", *arguments[-2:]]
    with pytest.raises(UsageError, match=message):
        make(*arguments)
    assert not Path("out").exists()


def test_a_transfer_of_train_val_files_has_a_franken_net_too() -> None:
    make(*USUAL, "--teacher", "teacher_train_val.prototxt")
    franken = read_net("out/franken_deploy.prototxt")
    assert [layer.name for layer in franken.layer][-1] == "fc2"  # accuracy and loss need labels
    assert json.loads(Path("out/surgery.json").read_text())[1]["prototxt"] == "out/franken_deploy.prototxt"


def test_training_raises_explained_variance_and_the_franken_net_is_the_sum_of_its_parts() -> None:
    common = ["--teacher-weights", "teacher.caffemodel", "--measure", "pairs/train_pairs.txt", "--scale", "0.5"]
    make(*USUAL, *common, "--max-iter", "60", "--test-iter", "4", "--test-interval", "60")
    param = read_solver("out/solver.prototxt")
    assert list(param.stepvalue) == [18, 36, 54] and param.momentum == pytest.approx(0.9)
    Path(param.snapshot_prefix).parent.mkdir(parents=True, exist_ok=True)
    solver = solver_class(param)(param)
    before = _explained_variance(solver)
    teacher = solver.net.layer("conv1").blobs[0].detach().clone()
    solver.solve()
    assert _explained_variance(solver) > max(before, 0) + 0.2
    assert torch.equal(solver.net.layer("conv1").blobs[0], teacher)

    arguments = ["--out_net_def", "out/franken_deploy.prototxt", "--net_surgery_json", "out/surgery.json"]
    assert net_surgery.main([*arguments, "--out_net_file", "franken.caffemodel"]) == 0
    franken = load_net("out/franken_deploy.prototxt", "franken.caffemodel")
    student = load_net("out/student_deploy.prototxt", f"{param.snapshot_prefix}_iter_60.caffemodel")
    images = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (2, 3, *_size(franken))).astype(np.float32))
    with torch.no_grad():
        prob = franken(da_data=images)["prob"]
        feature = student(da_data=images)["adapt_pool1"] / 0.5
        upper = load_net("teacher.prototxt", "teacher.caffemodel")
        norm = upper.layer("norm1")(feature)
        expected = torch.softmax(upper.layer("fc2")(norm), 1)
    torch.testing.assert_close(prob, expected, rtol=1e-4, atol=1e-6)


def _size(net: Any) -> tuple[int, int]:
    return net.blob_shapes["da_data"][2:]


def _explained_variance(solver: Any) -> float:
    for node in solver.test_nets[0].nodes:
        if node.type == "ExplainedVariance":
            node.layer.start_over()
    with torch.no_grad():
        for _ in range(4):
            result = solver.test_nets[0]()
    return float(result["explained_variance_pool1"])


def test_measure_scale_is_the_mean_over_locations_of_the_channel_norm(capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    arguments = ["--model", "teacher.prototxt", "--weights", "teacher.caffemodel", "--images", "pairs/train_pairs.txt"]
    reference = ["--reference-model", "teacher.prototxt", "--reference-weights", "teacher.caffemodel"]
    assert measure_scale.main([*arguments, "--blob", "pool1", "--quiet", *reference, "--reference-blob", "conv1"]) == 0
    printed = capsys.readouterr().out
    net = load_net("teacher.prototxt", "teacher.caffemodel")
    norms: dict[str, list[np.ndarray]] = {"pool1": [], "conv1": []}
    for index in range(4):
        image = cv2.imread(f"pairs/a{index}.png").astype(np.float32) - np.float32([102.9801, 115.9465, 122.7717])
        value = torch.from_numpy(image.transpose(2, 0, 1)[None])
        for name in ("conv1", "relu1", "bn1", "pool1"):
            value = net.layer(name)(value)
            if name in ("relu1", "pool1"):
                blob = "conv1" if name == "relu1" else name
                norms[blob].append(value.detach().numpy().astype(np.float64))
    means = {k: np.mean([np.sqrt((x**2).sum(1)).mean() for x in v]) for k, v in norms.items()}
    assert float(printed.split("--mean-norm ")[1].split()[0]) == pytest.approx(means["pool1"], rel=1e-4)
    assert float(printed.split("--scale ")[1].split()[0]) == pytest.approx(means["conv1"] / means["pool1"], rel=1e-4)


def test_measure_scale_refuses_the_weights_of_another_net() -> None:
    (Path.cwd() / "student.prototxt").write_text(Path("student.prototxt").read_text())
    load_net("student.prototxt").save("student.caffemodel")
    arguments = ["--model", "teacher.prototxt", "--weights", "student.caffemodel", "--images", "pairs/train_pairs.txt"]
    with pytest.raises(WeightsError, match="no layer of this file fits net"):
        measure_scale.main([*arguments, "--blob", "pool1", "--quiet"])


def test_measure_scale_refuses_nan() -> None:
    net = load_net("teacher.prototxt", "teacher.caffemodel")
    with torch.no_grad():
        net.layer("conv1").blob(0)[0] = math.nan
    net.save("nan.caffemodel")
    arguments = ["--model", "teacher.prototxt", "--weights", "nan.caffemodel", "--images", "pairs/train_pairs.txt"]
    with pytest.raises(DataError, match="blob 'conv1' is NaN or infinite at .* locations of .*a0.png"):
        measure_scale.main([*arguments, "--blob", "conv1", "--quiet"])


def test_images_that_cannot_be_used_are_all_named_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("pairs/a1.png").write_bytes(b"no image")
    Path("pairs/a3.png").unlink()
    with pytest.raises(
        DataError, match=r"train_pairs.txt: 2 of 4 pairs cannot be used: line 2: .*a1.png.*line 4: .*a3"
    ):
        make(*USUAL, "--teacher-weights", "teacher.caffemodel")
    assert "mean norm" not in capsys.readouterr().out
    Path("pairs/val_pairs.txt").write_text("a0.png b0.png\na2.png none.png\n")
    with pytest.raises(DataError, match=r"train_pairs.txt: 2 of 4 .*; pairs/val_pairs.txt, line 2: .*none.png"):
        make(*USUAL)


def test_frames_smaller_than_the_crop_are_all_named_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As they are after resizing: 40 x 48 becomes 30 x 36."""
    small = ["--crop", "30", "40", "--short-side", "30", "--teacher-weights", "teacher.caffemodel"]
    with pytest.raises(
        DataError, match=r"line 1: .*: is 36x30 with --short-side 30, too small for --crop 30 40 .*line 2"
    ):
        make(*USUAL, *small)
    assert "mean norm" not in capsys.readouterr().out and not Path("out").exists()


def test_an_empty_validation_list_is_refused() -> None:
    Path("pairs/val_pairs.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val_pairs.txt: the list is empty"):
        make(*USUAL)


def test_a_test_is_as_long_as_its_list() -> None:
    make(*USUAL)
    assert list(read_solver("out/solver.prototxt").test_iter) == [4]
    with pytest.raises(UsageError, match="--test-iter is 5, but pairs/val_pairs.txt has 4 pairs; leave it out for 4"):
        make(*USUAL, "--test-iter", "5")
    make(*USUAL, "--val-source", "nowhere.txt")
    assert list(read_solver("out/solver.prototxt").test_iter) == [100]


def test_the_list_of_features_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_transfer.main([*BASE[:4], "--list", "--image-size", "40", "48"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "features of teacher.prototxt and student.prototxt that fit, for images of 40 x 48:",
        "stride 2, 20 x 24",
        "  teacher: conv1 (8), bn1 (8)",
        "  student: c1 (6); 19 x 23",
        "stride 4, 10 x 12",
        "  teacher: pool1 (8), norm1 (8)",
        "  student: c2 (7)",
    ]
    assert not Path("out").exists()


def test_a_teacher_that_is_zero_everywhere_is_refused() -> None:
    net = load_net("teacher.prototxt", "teacher.caffemodel")
    for blob in net.layer("conv1").blobs:
        blob.data.zero_()
    net.layer("bn1").blobs[0].data.zero_()
    net.save("zero.caffemodel")
    with pytest.raises(UsageError, match="'pool1' of teacher.prototxt is zero everywhere; are these its weights"):
        make(*USUAL, "--teacher-weights", "zero.caffemodel")


def test_no_unit_of_the_adaptation_starts_dead_where_nothing_is_known() -> None:
    biases = [
        make(*USUAL, *given)["adapt_pool1"].convolution_param.bias_filler.value
        for given in ([], ["--mean-norm", "4"], ["--adapt-bias", "0.25"], ["--loss", "sigmoid"])
    ]
    assert biases == [1, 0, 0.25, 0]
    make(*USUAL)
    net = load_net("out/train_val.prototxt", "teacher.caffemodel", "TEST")
    assert float(net()["dead_units_pool1"]) == 0


def test_the_mean_of_a_teacher_stands_beside_its_weights(capsys: pytest.CaptureFixture[str]) -> None:
    write_preprocessing("teacher.preprocessing.json", Preprocessing(mean=(103.5, 116.25, 123.75)))
    given = [*USUAL, "--teacher-weights", "teacher.caffemodel", "--no-measure"]
    assert list(make(*given)["pairs"].paired_image_data_param.mean_value) == [103.5, 116.25, 123.75]
    assert "mean 103.5 116.25 123.75 (blue, green, red), as teacher.preprocessing.json says" in capsys.readouterr().out
    assert "--mean 103.5 116.25 123.75" in Path("out/solver.prototxt").read_text().splitlines()[1]
    assert list(make(*given, "--mean", "128")["pairs"].paired_image_data_param.mean_value) == [128]
    write_preprocessing("teacher.preprocessing.json", Preprocessing("hha"))
    with pytest.raises(UsageError, match="teacher.preprocessing.json: pairs are blue, green and red"):
        make(*given)


def test_gradients_are_clipped_unless_somebody_says_no() -> None:
    make(*USUAL)
    assert read_solver("out/solver.prototxt").clip_gradients == 1
    head = Path("out/solver.prototxt").read_text()
    assert "--clip-gradients 1" in head and "# Nothing was measured: scale, first weights" in head
    for given in ([], ["--teacher-weights", "teacher.caffemodel", "--sweep", "12"]):
        make(*USUAL, *given, "--clip-gradients", "0")
        assert not read_solver("out/solver.prototxt").HasField("clip_gradients")
        assert "--clip-gradients 0" in Path("out/solver.prototxt").read_text()
    assert "Nothing was measured" not in Path("out/solver.prototxt").read_text()
    with pytest.raises(UsageError, match="--clip-gradients is -1"):
        make(*USUAL, "--clip-gradients", "-1")


def test_random_weights_of_a_teacher_are_asked_for_by_name() -> None:
    make(*USUAL, "--teacher-weights", "random", "--sweep", "0")
    assert list(read_solver("out/solver.prototxt").weights) == ["out/random_teacher.caffemodel"]
    first = load_net("out/train_val.prototxt", "out/random_teacher.caffemodel", "TRAIN").layer("conv1").blob(0)
    assert float(first.detach().std()) == pytest.approx(math.sqrt(2 / 27), rel=0.2)
    kept = Path("out/random_teacher.caffemodel").read_bytes()
    make(*USUAL, "--teacher-weights", "random", "--no-measure")
    assert Path("out/random_teacher.caffemodel").read_bytes() == kept
    make(*USUAL, "--teacher-weights", "random", "--no-measure", "--teacher-seed", "5")
    assert Path("out/random_teacher.caffemodel").read_bytes() != kept


def test_the_size_of_the_frames_is_that_of_the_list() -> None:
    lists = DATA[:4]
    known = ["--layer", "pool1", "--student-layer", "c2", "--mean-norm", "1"]
    assert make(*BASE, *lists, *known)["loss_pool1"].loss_weight == [pytest.approx(1 / (10 * 12), rel=1e-5)]
    assert "--image-size 40 48" in Path("out/solver.prototxt").read_text()
    small = make(*BASE, *lists, *known, "--short-side", "20")["loss_pool1"].loss_weight
    assert small == [pytest.approx(1 / (5 * 6), rel=1e-5)]
    make(*BASE, "--source", "nowhere.txt", "--val-source", "nowhere.txt", *known)
    assert "--image-size" not in Path("out/solver.prototxt").read_text()


def test_measuring_needs_pairs() -> None:
    with pytest.raises(UsageError, match="--source nowhere.txt: there are no pairs to measure on; --no-measure"):
        make(*USUAL, "--source", "nowhere.txt", "--teacher-weights", "teacher.caffemodel")
    with pytest.raises(UsageError, match="--val-source nowhere.txt: there is no such list; transfer.py --pairs makes"):
        make(*USUAL, "--val-source", "nowhere.txt", "--teacher-weights", "teacher.caffemodel")


def test_alpha_and_tau_of_the_sigmoid_loss_are_measured() -> None:
    """Against sorted lists and a loop over all units."""
    sigmoid = ["--loss", "sigmoid", "--alpha", "4/sigma", "--tau", "median"]
    layers = make(*USUAL, *sigmoid, "--teacher-weights", "teacher.caffemodel", "--batch-size", "1")
    nets = load_net("out/train_val.prototxt", "teacher.caffemodel", "TEST")  # all four pairs, in order
    numbers, features = [], []
    with torch.no_grad():
        for _ in range(4):
            blobs = nets(blobs=["scale_pool1", "adapt_pool1_logit", "loss_pool1"])
            features.append((blobs["scale_pool1"], blobs["adapt_pool1_logit"], float(blobs["loss_pool1"])))
            numbers += blobs["scale_pool1"].flatten().tolist()
    mean = sum(numbers) / len(numbers)
    sigma = math.sqrt(sum((number - mean) ** 2 for number in numbers) / len(numbers))
    positive = sorted(number for number in numbers if number > 0)
    tau, alpha = layers["positive_pool1"].threshold_param.threshold, layers["logit_pool1"].power_param.scale
    assert alpha == pytest.approx(4 / sigma, rel=0.1), "measured on mirrored pictures too"
    assert tau == pytest.approx(positive[len(positive) // 2], rel=0.1)

    loss = 0.0
    target, logit = (value[0].flatten().tolist() for value in features[0][:2])
    for y, x in zip(target, logit, strict=True):
        p = 1 / (1 + math.exp(-alpha * x))
        loss -= math.log(p if y > tau else 1 - p)
    assert features[0][2] == pytest.approx(loss, rel=1e-4)
    param = read_solver("out/solver.prototxt")
    param.max_iter = 12
    solver = solver_class(param)(param)
    solver.solve()
    found = solver.net.layer("adapt_pool1").blob(0)
    assert bool(found.isfinite().all()) and Path("out/transfer_iter_12.caffemodel").exists()
    assert "dead_units_pool1" not in layers, "before the ReLU there is a gradient below 0 too"
    bias = layers["adapt_pool1"].convolution_param.bias_filler.value
    assert 1 / (1 + math.exp(-alpha * bias)) == pytest.approx(sum(n > tau for n in numbers) / len(numbers), rel=0.1)
    header = Path("out/solver.prototxt").read_text().splitlines()[1]
    assert f"--alpha {alpha:g} --tau {tau:g}" in header and " --sweep" not in header


def save_student(path: str, deviation: float) -> None:
    """Weights of student.prototxt, gaussian; biases are 0."""
    net = load_net("student.prototxt")
    for name in ("c1", "c2", "c3"):
        net.layer(name).blob(0).data.normal_(std=deviation, generator=torch.manual_seed(4))
    net.save(path)


def test_a_student_starts_from_trained_weights() -> None:
    save_student("own.caffemodel", 0.05)
    own = load_net("student.prototxt", "own.caffemodel")
    layers = make(*USUAL, "--teacher-weights", "teacher.caffemodel", "--student-weights", "own.caffemodel")
    solver = read_solver("out/solver.prototxt")
    assert list(solver.weights) == ["teacher.caffemodel", "out/student_start.caffemodel"]
    assert "--student-weights own.caffemodel" in Path("out/solver.prototxt").read_text()
    assert layers["da_c1"].convolution_param.weight_filler.std == pytest.approx(0.05)  # no smaller first weights
    trained = solver_class(solver)(solver, list(solver.weights), torch.device("cpu"))
    for name in ("c1", "c2"):
        for index in (0, 1):
            assert torch.equal(trained.net.layer(f"da_{name}").blob(index), own.layer(name).blob(index))
    before = load_net("out/train_val.prototxt", "out/student_start.caffemodel", "TRAIN")
    before.save("earlier.caffemodel")  # of a student that has the prefix already
    make(*USUAL, "--teacher-weights", "teacher.caffemodel", "--student-weights", "earlier.caffemodel", "--sweep", "0")
    assert blobs_in(["out/student_start.caffemodel"]) == {"da_c1": {0, 1}, "da_c2": {0, 1}}


def test_the_start_is_measured_with_the_students_weights(capsys: pytest.CaptureFixture[str]) -> None:
    save_student("zero.caffemodel", 0.0)
    with pytest.raises(
        UsageError, match=r"'c2' of student.prototxt with out/student_start.caffemodel has the mean norm 0"
    ):
        make(*USUAL, "--teacher-weights", "teacher.caffemodel", "--student-weights", "zero.caffemodel")
    assert not Path("out/train_val.prototxt").exists()


def test_a_students_weights_without_the_teachers_are_given_to_train_net(capsys: pytest.CaptureFixture[str]) -> None:
    save_student("own.caffemodel", 0.05)
    make(*USUAL, "--student-weights", "own.caffemodel")
    assert "--weights TEACHER.caffemodel,out/student_start.caffemodel" in capsys.readouterr().out
    assert not read_solver("out/solver.prototxt").weights


def test_weights_that_are_not_the_students_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"teacher.caffemodel: no layer of this file fits net 'student'"):
        make(*USUAL, "--student-weights", "teacher.caffemodel")
