"""The committed detectors: make_detection.py writes the same files; they are the branch's nets, and they build."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

from caffe_compat.commands import make_detection
from caffe_compat.config import load_config
from caffe_compat.description import State, describe_net
from caffe_compat.media.modalities import FORK_MEAN
from caffe_compat.net import Net
from caffe_compat.proto import caffe_pb2, read_net, read_solver

DETECTION = ROOT / "prototxt" / "detection"
FOLDERS = sorted(path.name for path in DETECTION.iterdir())
TRAINED = sorted(path.parent.name for path in DETECTION.glob("*/train.prototxt"))
FUSED = {
    "alexnet_rgb_alexnet_hha": ("alexnet_rgb", "alexnet_hha"),
    "vgg16_rgb_alexnet_hha": ("vgg16_rgb", "alexnet_hha"),
    "alexnet_rgb_caffenet_hha": ("alexnet_rgb", "caffenet_hha"),
    "squeezenet_rgb_alexnet_hha": ("squeezenet_rgb", "alexnet_hha"),
    "jhmdb_caffenet_caffenet_flow": ("jhmdb_caffenet", "jhmdb_caffenet_flow"),
}
PADS = {"alexnet_hha": (7, 0), "caffenet_hha": (5, 1), "alexnet_rgb": (5, 1), "coco_caffenet": (5, 1)}
HEIGHT, WIDTH, REGIONS = 688, 917, 64


def layers(folder: str, file: str) -> dict[str, Any]:
    """By name; of two layers of one name the last."""
    return {layer.name: layer for layer in read_net(DETECTION / folder / file).layer}


def learned(message: Any) -> list[Any]:
    return [layer for layer in message.layer if layer.type in ("Convolution", "InnerProduct")]


def labels_of(folder: str) -> int:
    if folder.startswith("jhmdb"):
        return 22
    return 81 if "coco" in folder or "franken" in folder else 20


def built(message: Any) -> Net:
    """The net on the meta device, for whole images and many regions."""
    for layer in message.layer:
        if layer.type == "Input":
            shape = (1, 3, HEIGHT, WIDTH) if layer.name.startswith("data") else (REGIONS, 5)
            layer.input_param.shape[0].dim[:] = shape
    with torch.device("meta"):
        return Net(describe_net(message, State("TEST")))


def test_the_nets_of_the_paper_are_there() -> None:
    assert set(FOLDERS) >= {*FUSED, "alexnet_hha_no_init", "alexnet_hha_ft_fc", "caffenet_hha_no_init", "franken"}
    assert set(FOLDERS) >= {"caffenet_hha_ft_fc", "coco_vgg16", "coco_caffenet", "vgg16_hha", "coco_caffenet_franken"}
    assert set(FOLDERS) >= {"jhmdb_caffenet_flow", "jhmdb_caffenet_flow_no_init", "jhmdb_actiontubes_flow"}
    assert set(FOLDERS) - set(TRAINED) == {"franken", "coco_caffenet_franken"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_tool_writes_the_committed_files(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed = {path.name: path.read_text() for path in (DETECTION / folder).iterdir()}
    words = shlex.split(committed["config.yml"].splitlines()[1].lstrip("# "))
    monkeypatch.chdir(tmp_path)
    assert make_detection.main(words[1:]) == 0
    assert {path.name: path.read_text() for path in Path("prototxt", "detection", folder).iterdir()} == committed


@pytest.mark.parametrize("folder", FOLDERS)
def test_test_nets_score_whole_images(folder: str) -> None:
    net = built(read_net(DETECTION / folder / "test.prototxt"))
    labels, shapes = labels_of(folder), net.blob_shapes
    assert net.output_names == ["bbox_pred", "cls_prob"]
    assert shapes["cls_prob"] == (REGIONS, labels) and shapes["bbox_pred"] == (REGIONS, 4 * labels)
    sums = [node for node in net.nodes if node.name == "sum"]
    assert [node.description.tops for node in sums] == [("bbox_pred",), ("cls_score",)]
    assert all(list(node.description.message.eltwise_param.coeff) == [0.5, 0.5] for node in sums)
    with torch.device("meta"):
        inputs = {name: torch.zeros(shapes[name]) for name in net.input_names}
    assert net(**inputs)["cls_prob"].shape == (REGIONS, labels)


@pytest.mark.parametrize("folder", TRAINED)
def test_training_nets_have_two_losses_and_agree_with_their_test_nets(folder: str) -> None:
    message = read_net(DETECTION / folder / "train.prototxt")
    labels = labels_of(folder)
    data = message.layer[0]
    count = len(data.top) - 4
    assert (data.python_param.module, data.python_param.layer) == ("roi_data_layer.layer_pi", "RoIDataLayerPi")
    assert data.python_param.param_str == f"--num_classes {labels} --num_data {count}"
    shapes = {"rois": (REGIONS, 5), "labels": (REGIONS,)}
    shapes |= {"bbox_targets": (REGIONS, 4 * labels), "bbox_loss_weights": (REGIONS, 4 * labels)}
    inputs = [caffe_pb2.LayerParameter(name=top, type="Input", top=[top]) for top in data.top]
    for layer in inputs:
        layer.input_param.shape.add(dim=shapes.get(layer.name, (1, 3, HEIGHT, WIDTH)))
    del message.layer[0]
    rest = list(message.layer)
    del message.layer[:]
    message.layer.extend([*inputs, *rest])
    with torch.device("meta"):
        net = Net(describe_net(message, State("TRAIN")))
    assert net.output_names == ["loss_bbox", "loss_cls"]
    weight = 1 if folder.startswith("coco") else 0.5
    assert sorted(net.plan.losses.values()) == [weight, weight]
    test = built(read_net(DETECTION / folder / "test.prototxt"))
    ours, theirs = (
        [(node.name, node.layer.blob_shapes) for node in one.nodes if node.layer.blobs] for one in (net, test)
    )
    assert ours == theirs


@pytest.mark.parametrize("folder", TRAINED)
def test_learning_rates(folder: str) -> None:
    frozen = {"coco_vgg16": ("conv1_1", "conv1_2", "conv2_1", "conv2_2"), "coco_caffenet": ("conv1",)}.get(folder, ())
    for layer in learned(read_net(DETECTION / folder / "train.prototxt")):
        held = layer.name in frozen or (folder.endswith("ft_fc") and layer.type == "Convolution")
        expected = [(0, 0), (0, 0)] if held else [(1, 1), (2, 0)]
        assert [(spec.lr_mult, spec.decay_mult) for spec in layer.param] == expected, layer.name


@pytest.mark.parametrize("folder", FOLDERS)
def test_pads_are_those_of_the_branch(folder: str) -> None:
    for file in ("train.prototxt", "test.prototxt"):
        if not (DETECTION / folder / file).exists():
            continue
        found = layers(folder, file)
        for name, layer in found.items():
            stage = name.removeprefix("da_")
            if "actiontubes" in folder or ("squeezenet" in folder and not name.startswith("da_")):
                continue
            if stage == "conv1":
                part = "alexnet_hha" if name.startswith("da_") and "alexnet_hha" in folder else "caffenet_hha"
                pads = PADS[part]
                pools = [found[name.replace("conv1", pool)].pooling_param for pool in ("pool1", "pool2")]
                assert list(layer.convolution_param.pad) == [pads[0]]
                assert [pool.pad for pool in pools] == [pads[1]] * 2
                assert list(layer.convolution_param.kernel_size) == [11] and list(layer.convolution_param.stride) == [4]
            groups = 2 if stage in ("conv2", "conv4", "conv5") else 1
            if layer.type == "Convolution":
                assert layer.convolution_param.group == groups, name
            if layer.type == "ROIPooling":
                grid = 7 if "conv5_3" in layer.bottom or "da_conv5_3" in layer.bottom else 6
                param = layer.roi_pooling_param
                assert (param.pooled_h, param.pooled_w, param.spatial_scale) == (grid, grid, 0.0625)
            if layer.type == "Dropout":
                assert layer.dropout_param.dropout_ratio == 0.5


def test_fillers_are_those_of_the_branch() -> None:
    def fillers(layer: Any) -> tuple[Any, ...]:
        param = layer.convolution_param if layer.type == "Convolution" else layer.inner_product_param
        if not param.HasField("weight_filler"):
            return ()
        return param.weight_filler.type, round(param.weight_filler.std, 6), param.bias_filler.value

    for folder in ("alexnet_hha", "alexnet_hha_no_init", "alexnet_hha_ft_fc", "caffenet_hha_no_init"):
        found = [fillers(layer) for layer in learned(read_net(DETECTION / folder / "train.prototxt"))]
        assert found == [
            *[("gaussian", 0.01, bias) for bias in (0, 1, 0, 1, 1)],
            *[("gaussian", 0.005, 1)] * 2,
            ("gaussian", 0.01, 0),
            ("gaussian", 0.001, 0),
        ]
    for folder in ("alexnet_rgb", "vgg16_rgb", "coco_vgg16", "coco_caffenet"):
        found = [fillers(layer) for layer in learned(read_net(DETECTION / folder / "train.prototxt"))]
        assert found[-2:] == [("gaussian", 0.01, 0), ("gaussian", 0.001, 0)] and not any(found[:-2])


def test_blobs_and_layers_have_the_names_of_the_branch() -> None:
    hha, rgb = (layers(folder, "train.prototxt") for folder in ("alexnet_hha", "alexnet_rgb"))
    assert hha["da_cls_score"].top == ["cls_score_1"] and hha["da_bbox_pred"].top == ["bbox_pred_1"]
    assert rgb["cls_score"].top == ["cls_score_0"] and rgb["bbox_pred"].top == ["bbox_pred_0"]
    assert hha["da_conv1"].bottom == rgb["conv1"].bottom == ["data"]
    names = [layer.type for layer in read_net(DETECTION / "alexnet_rgb" / "test.prototxt").layer][2:6]
    assert names == ["Convolution", "ReLU", "Pooling", "LRN"]
    single = read_net(DETECTION / "alexnet_hha" / "test.prototxt").layer
    assert [layer.bottom for layer in single if layer.name == "sum"] == [["bbox_pred_1"] * 2, ["cls_score_1"] * 2]


@pytest.mark.parametrize("folder", [*FUSED, "coco_caffenet_franken", "franken"])
def test_surgery_fills_every_layer_once(folder: str) -> None:
    target = learned(read_net(DETECTION / folder / "test.prototxt"))
    entries = json.loads((DETECTION / folder / "init_weights.json").read_text())
    written = [name for entry in entries for name in entry["copy_ops"]["dest"]]
    assert sorted(written) == sorted(layer.name for layer in target)
    by_name = {layer.name: layer for layer in target}
    for entry in entries:
        assert set(entry["copy_ops"]["reshape"]) == {0}
        sources = {layer.name: layer for layer in learned(read_net(ROOT / entry["prototxt"]))}
        for source, dest in zip(entry["copy_ops"]["source"], entry["copy_ops"]["dest"], strict=True):
            ours, theirs = by_name[dest], sources[source]
            for name in ("num_output", "kernel_size", "pad", "stride", "group"):  # a pad is where its weights are
                assert getattr(ours.convolution_param, name) == getattr(theirs.convolution_param, name), (dest, name)
            assert ours.inner_product_param.num_output == theirs.inner_product_param.num_output
    if folder in FUSED:
        assert [Path(entry["prototxt"]).parent.name for entry in entries] == list(FUSED[folder])
        for entry, part in zip(entries, FUSED[folder], strict=True):
            assert f"output/{load_config(DETECTION / part / 'config.yml').exp_dir}/" in entry["model"]


@pytest.mark.parametrize("folder", TRAINED)
def test_solvers(folder: str) -> None:
    solver = read_solver(DETECTION / folder / "solver.prototxt")
    assert solver.train_net == f"prototxt/detection/{folder}/train.prototxt"
    rate, step = 0.001, 30_000
    if folder.endswith("no_init"):
        rate = 0.01
    step = {"coco_vgg16": 160_000, "coco_caffenet": 200_000}.get(folder, step)
    assert (round(solver.base_lr, 6), solver.stepsize, solver.lr_policy) == (rate, step, "step")
    assert (solver.display, solver.average_loss, solver.snapshot, solver.snapshot_prefix) == (20, 100, 0, "fast_rcnn")
    assert [round(value, 6) for value in (solver.gamma, solver.momentum, solver.weight_decay)] == [0.1, 0.9, 0.0005]


@pytest.mark.parametrize("folder", FOLDERS)
def test_configurations(folder: str) -> None:
    config = load_config(DETECTION / folder / "config.yml")
    coco = folder in ("coco_vgg16", "coco_caffenet")
    short = coco or folder.startswith("jhmdb")
    scale = 600 if short or folder == "vgg16_rgb" else 688
    assert config.exp_dir == folder
    assert config.train.scales == config.test.scales == (scale,)
    assert config.train.max_size == config.test.max_size == (1000 if short else 2000)
    assert config.train.bg_thresh_lo == (0.1 if coco else 0)
    names = {layer.name for layer in learned(read_net(DETECTION / folder / "test.prototxt"))}
    assert set(config.train.bbox_pred_param_names) == {name for name in names if name.endswith("bbox_pred")}
    assert config.train.snapshot_iters == (20_000 if coco else 10_000)
    flow, color = (128.0,) * 3, FORK_MEAN
    means = {"jhmdb_caffenet_caffenet_flow": [color, flow]}.get(folder, [flow if "flow" in folder else color])
    assert [config.means_of(place) for place in range(len(means))] == means


def test_dropout_is_gone_from_coco_nets_only() -> None:
    for folder in TRAINED:
        found = [name for name, layer in layers(folder, "train.prototxt").items() if layer.type == "Dropout"]
        heads = 2 if folder in FUSED else 1
        assert len(found) == (0 if folder.startswith("coco") else 2 * heads)


@pytest.mark.parametrize(
    ("folder", "classifier"), [("squeezenet_rgb", "squeezenet"), ("jhmdb_actiontubes_flow", "actiontubes")]
)
def test_padded_detectors_take_the_weights_of_the_classifier(folder: str, classifier: str) -> None:
    """All convolutions are layers of the classifier, of the same shapes; unit i is centred on pixel 16 i."""
    known = {layer.name: layer for layer in learned(read_net(ROOT / "prototxt" / classifier / "deploy.prototxt"))}
    shift, stride = 0.0, 1
    for layer in read_net(DETECTION / folder / "test.prototxt").layer:
        if layer.type == "Convolution":
            ours, theirs = layer.convolution_param, known[layer.name.removeprefix("da_")].convolution_param
            for name in ("num_output", "kernel_size", "stride", "group"):
                assert getattr(ours, name) == getattr(theirs, name), (layer.name, name)
        if layer.type in ("Convolution", "Pooling"):
            param = layer.convolution_param if layer.type == "Convolution" else layer.pooling_param
            kernel, pad, step = (
                (value[0] if value else default) if not isinstance(value, int) else value
                for value, default in ((param.kernel_size, 1), (param.pad, 0), (param.stride, 1))
            )
            shift += stride * ((kernel - 1) / 2 - pad)
            stride *= step
            assert shift == 0, layer.name
    assert stride == 16
